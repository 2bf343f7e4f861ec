"""A measurement in a process of its own, which prints one JSON object as its last line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.case import CellError
from benchmarks.record import ROOT
from nimbleq.cli import main

STOPPED = (130, 143)
"""What ``nimbleq`` exits with after Ctrl-C and SIGTERM."""


def measure(*words: str, accepted: tuple[int, ...] = (0,), python: str = sys.executable) -> dict[str, Any]:
    """Run ``python WORDS``.

    Args:
        accepted: exit statuses after which the object counts.
        python: which one.

    Returns:
        The last line that it prints, and of the whole process ``process_seconds``, and ``processor_seconds`` of it and
        the processes that it started.

    Raises:
        CellError: another exit status, or the last line is no JSON object.
        KeyboardInterrupt: it was stopped, which is no failure.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    began, spent = time.monotonic(), _processor_seconds()
    done = subprocess.run([python, *words], capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    seconds = time.monotonic() - began
    if done.returncode in STOPPED:
        raise KeyboardInterrupt
    if done.returncode not in accepted:
        lines = done.stderr.strip().splitlines()
        raise CellError(": ".join([f"exit {done.returncode}", *lines[-1:]]))
    printed = done.stdout.strip().splitlines()
    try:
        value = json.loads(printed[-1])
    except (IndexError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise CellError(f"python {' '.join(words[:3])} … printed no JSON object at its end")
    return value | {"process_seconds": seconds, "processor_seconds": _processor_seconds() - spent}


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def nimbleq(*words: str, accepted: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """What ``nimbleq WORDS --json`` says."""
    return measure("-m", "nimbleq", *words, "--json", accepted=accepted)


def inline(*words: object, accepted: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """The same in this process: for many short commands whose time is not measured.

    Raises:
        CellError: another exit code than those accepted.
        KeyboardInterrupt: it was stopped, which is no failure.
    """
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*map(str, words), "--json"])
    said: dict[str, Any] = json.loads(out.getvalue() or "{}")
    if code in STOPPED:
        raise KeyboardInterrupt
    if code not in accepted:
        raise CellError(f"nimbleq {words[0]}: {said.get('error', f'exit {code}')}")
    return said


def curve_of(metrics: Path) -> list[list[float]]:
    """``[steps, seconds, mean return]`` of the greedy checks in a ``metrics.jsonl``."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [[line["step"], line["seconds"], line["check_return"]] for line in lines if "check_return" in line]
