"""Stop signals: Ctrl-C (SIGINT) and SIGTERM, which schedulers and service managers send."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TWICE = 1.0  # seconds within which a second request is the same one: shells and wrappers pass signals on


class Stopped(KeyboardInterrupt):
    """A signal asked to stop.

    Attributes:
        signum: which.
        at_once: it was the second request, which interrupts everything: only what is on the disk counts.
    """

    def __init__(self, signum: int, at_once: bool = False) -> None:
        super().__init__(signum)
        self.signum, self.at_once = signum, at_once


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Stopped`, as Ctrl-C raises `KeyboardInterrupt`; an existing handler of SIGTERM stays.

    Only the main thread can handle signals.
    """

    def stop(signum: int, _: Any) -> None:
        raise Stopped(signum)

    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def held_back() -> Iterator[None]:
    """Both signals wait. A process that is started meanwhile gets none before it says how it takes them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Both signals only set a flag, so that nothing is interrupted; yields the reader of the flag.

    A second request, a second or more later, does not wait: it raises `Stopped` wherever the program is, which helps
    when an environment hangs. Outside the main thread signals cannot be handled and do not arrive either.

    Raises:
        Stopped: in place of a `KeyboardInterrupt` of the body, when a signal was behind it.
    """
    asked: list[tuple[int, float]] = []

    def ask(signum: int, _: Any) -> None:
        now = time.monotonic()
        if not asked:
            asked.append((signum, now))
            with contextlib.suppress(OSError):  # whoever read our standard error may have been stopped, too
                os.write(2, b"\nstopping after this step (once more: at once, without a checkpoint)\n")
        elif now - asked[0][1] >= _TWICE:
            raise Stopped(signum, at_once=True)

    if not _in_main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: bool(asked)
    except Stopped:
        raise
    except KeyboardInterrupt:
        if asked:
            raise Stopped(asked[0][0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals() -> None:
    """Ignore SIGINT and SIGTERM, in a process that its parent ends: signals to the group are for the parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # of `held_back`: what it starts gets them again


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
