"""Signals that ask to stop: once between two steps, twice at once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from nimbleq import stopping
from nimbleq.stopping import Stopped, deferred, terminable


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    yield
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before, "as it was before"


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_the_first_request_is_a_flag_and_the_loops_exception_says_which(number: signal.Signals) -> None:
    def loop() -> None:
        with deferred() as asked:
            assert not asked()
            os.kill(os.getpid(), number)
            assert asked()
            os.kill(os.getpid(), number)  # the same request, passed on by a wrapper
            raise KeyboardInterrupt

    with pytest.raises(Stopped) as stopped:
        loop()
    assert stopped.value.signum == number
    assert not stopped.value.at_once


def test_the_second_request_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_TWICE", 0.0)
    reached = []

    def loop() -> None:
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(2)

    with pytest.raises(Stopped) as stopped:
        loop()
    assert reached == [1]
    assert stopped.value.at_once


def test_an_interrupt_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt) as stopped, deferred():
        raise KeyboardInterrupt
    assert not isinstance(stopped.value, Stopped)


def test_sigterm_outside_of_training() -> None:
    with pytest.raises(Stopped) as stopped, terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.signum == signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)  # whoever started us wants it ignored
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with terminable(), deferred() as asked:
            seen.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
