"""Absolute-time sleeping, real-time priority and core pinning, as Linux has them."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nimbleq.errors import ConfigError

_TIMER_ABSTIME = 1
_SET_SLACK, _GET_SLACK, _SHARP_NS = 29, 30, 1
_SLICE_NS = 100_000
"""The shortest that Linux takes."""
_GET_SET = {"x86_64": (315, 314), "aarch64": (275, 274), "riscv64": (275, 274)}
"""Machine → numbers of the system calls sched_getattr and sched_setattr."""
_SECOND = 1_000_000_000
now_ns = time.monotonic_ns
"""Nanoseconds of CLOCK_MONOTONIC."""


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class Sleeper:
    """Sleeps until a time of `now_ns`; the interpreter's lock is free meanwhile. One thread each.

    Raises:
        ConfigError: this system has no clock_nanosleep.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        if sys.platform != "linux" or not hasattr(library, "clock_nanosleep"):
            raise ConfigError("the loop needs clock_nanosleep with absolute times: run it on Linux")
        self._sleep = library.clock_nanosleep
        self._until = _Timespec()
        self._pointer = ctypes.byref(self._until)

    def __call__(self, until_ns: int) -> None:
        """Return at ``until_ns``, at once if that is past, or earlier when a signal comes."""
        self._until.tv_sec, self._until.tv_nsec = divmod(until_ns, _SECOND)
        self._sleep(time.CLOCK_MONOTONIC, _TIMER_ABSTIME, self._pointer, None)


@contextmanager
def prompt_wakes() -> Iterator[None]:
    """The calling thread's sleeps end when they are due, not up to 50 µs later as the kernel may choose by default.

    Other programs give way to it at once: it asks for short time slices (Linux 6.12 and later).
    """
    control = ctypes.CDLL(None).prctl
    control.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    before = control(_GET_SLACK, 0, 0, 0, 0)
    control(_SET_SLACK, _SHARP_NS, 0, 0, 0)
    slices = _slice(_SLICE_NS)
    try:
        yield
    finally:
        control(_SET_SLACK, before, 0, 0, 0)
        _slice(slices)


class _Attributes(ctypes.Structure):
    """``struct sched_attr``."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )  # fmt: skip


def _slice(ns: int) -> int:
    """Set the calling thread's time slice, and say what it was; nothing happens where there is none to set."""
    call, numbers, held = ctypes.CDLL(None).syscall, _GET_SET.get(os.uname().machine), _Attributes()
    if numbers is None or call(numbers[0], 0, ctypes.byref(held), ctypes.sizeof(held), 0) != 0:
        return 0
    before, held.runtime = int(held.runtime), ns
    if held.policy == os.SCHED_OTHER:
        call(numbers[1], 0, ctypes.byref(held), 0)
    return before


def take_core(core: int) -> None:
    """Run the calling thread on one core only.

    Raises:
        ConfigError: there is no such core, or it is not permitted.
    """
    have = sorted(os.sched_getaffinity(0))
    try:
        if core not in have:
            raise OSError
        os.sched_setaffinity(0, {core})
    except OSError:
        raise ConfigError(f"--core {core} cannot be had: this process may run on {', '.join(map(str, have))}") from None


def take_priority(priority: int, above: int = 0) -> None:
    """Schedule the calling thread with SCHED_FIFO, ``above`` that: its new threads inherit it.

    Raises:
        ConfigError: the priority is out of range, or it is not permitted.
    """
    low, high = (f(os.SCHED_FIFO) for f in (os.sched_get_priority_min, os.sched_get_priority_max))
    if not low <= priority < high:
        raise ConfigError(f"--priority must be {low} … {high - 1}, not {priority}: the watchdog takes one more")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority + above))
    except OSError as error:
        raise ConfigError(
            f"--priority {priority} (SCHED_FIFO) is not permitted here ({error.strerror}): run as root, give the "
            "process CAP_SYS_NICE, or raise the limit with ulimit -r"
        ) from None
