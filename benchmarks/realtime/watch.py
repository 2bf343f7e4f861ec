"""Runs `benchmarks.realtime.engines` under strace, and on a core of its own beside a busy one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.realtime.measure import CannotMeasureError, preload
from nimbleq.types import Array

_MODULE = ("-m", "benchmarks.realtime.engines")


def audited(engine: str, decisions: int, folder: Path) -> dict[str, int]:
    """Allocations, locks and system calls of so many decisions (those of every thread).

    Raises:
        CannotMeasureError: strace is missing.
    """
    if shutil.which("strace") is None:
        raise CannotMeasureError("strace is missing: apt install strace")
    trace = folder / "trace.txt"
    command = ["strace", "-f", "-o", str(trace), sys.executable, *_MODULE, engine, "audit", str(decisions)]
    env = {**os.environ, "LD_PRELOAD": str(preload(folder))}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        raise CannotMeasureError(f"{engine}: {done.stderr.strip()[-200:]}")
    allocations, locks = (int(word) for word in done.stdout.split())
    lines = trace.read_text().splitlines()
    first, last = (index for index, line in enumerate(lines) if " getppid(" in line)
    return {"allocations": allocations, "locks": locks, "system_calls": last - first - 1}


def timed(engine: str, decisions: int) -> Array:
    """``float64[decisions]`` nanoseconds."""
    command = [sys.executable, *_MODULE, engine, "time", str(decisions)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise CannotMeasureError(f"{engine}: {done.stderr.decode().strip()[-200:]}")
    return np.frombuffer(done.stdout)


@contextlib.contextmanager
def beside_a_busy_core() -> Iterator[bool]:
    """This process and its children stay on one core, and another one is busy; yields False where there is one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield False
        return
    program = f"import os\nos.nice(19)\nos.sched_setaffinity(0, {{{cores[1]}}})\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)  # not of this group of processes
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield True
    finally:
        os.sched_setaffinity(0, set(cores))
        busy.kill()
        busy.wait()
