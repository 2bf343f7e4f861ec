"""The command line: which verb, its arguments, and how errors reach the person.

Exit codes: 0 done; 1 what was asked does not hold (a certificate refused, a parity mismatch); 2 bad usage or bad input;
130 stopped by Ctrl-C, 143 by SIGTERM, with everything done so far kept.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.stopping import Stopped, terminable
from nimbleq.version import VERSION

VERBS: dict[str, str] = {  # verb → what it does; the code is in verbs/
    "run": "the whole line: train → compress → certify → export → verify → bench → report",
    "train": "train a deep Q-network on a Gymnasium environment",
    "tune": "search the settings of training with Optuna",
    "import": "make a run directory from a Stable-Baselines3 DQN zip",
    "compress": "search the smallest policy that keeps a share of the return",
    "certify": "re-check that share on fresh seeds, or refuse",
    "export": "write C, ONNX",
    "verify": "compare an export with the reference on golden and random observations",
    "bench": "time decisions beside ONNX Runtime and PyTorch",
    "watch": "play episodes of a policy and write them as a GIF",
    "report": "write one self-contained HTML file about a run",
    "doctor": "say what is installed and which engines work here",
}

MODULES = {"import": "import_model"}
"""Verbs whose module cannot bear their name."""

EXTRAS = {"torch": "train", "gymnasium": "train", "tensorboard": "train", "onnx": "onnx", "onnxruntime": "onnx",
    "optuna": "tune", "sqlalchemy": "tune"}  # fmt: skip
"""Optional package → the extra that installs it."""


def usage() -> str:
    """The first page of help."""
    lines = [
        f"nimbleq {VERSION}: deep Q-networks trained fast, made small, proven, and answering in microseconds",
        "",
        "usage: nimbleq VERB [OPTIONS]      (nimbleq VERB --help tells more)",
        "",
        *(f"  {verb:<10}{purpose}" for verb, purpose in VERBS.items()),
        "",
        "start here:",
        "  nimbleq run --env CartPole-v1",
        "",
        "every verb takes --json and then prints exactly one JSON object on standard output",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(VERSION)
        return 0
    verb, rest = words[0], words[1:]
    as_json = "--json" in rest
    try:
        if verb not in VERBS:
            raise ConfigError(f"there is no verb {verb!r}; choose one of {', '.join(VERBS)} (nimbleq --help)")
        with terminable():
            return _call(verb, rest, as_json)
    except NimbleqError as error:
        return _fail(str(error), as_json)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).split(".")[0])
        if extra is None:
            raise
        return _fail(f"{verb} needs {error.name}: pip install 'nimbleq[{extra}]'", as_json)
    except KeyboardInterrupt as stop:
        at_once = isinstance(stop, Stopped) and stop.at_once
        kept = "what the last checkpoint holds" if at_once else "everything done so far"
        print(f"stopped; {kept} is kept", file=sys.stderr)
        return 128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to tell anybody.
        sys.stderr.close()
        return 0


def _call(verb: str, rest: list[str], as_json: bool) -> int:
    from nimbleq.console import Console

    module = importlib.import_module(f"nimbleq.verbs.{MODULES.get(verb, verb)}")
    args = parse(module.arguments(rest) if hasattr(module, "arguments") else module.Args, verb, rest)
    console = Console(as_json)
    result, holds = module.main(args, console)
    console.result(result)
    return 0 if holds else 1


def parse(kind: Any, verb: str, words: list[str]) -> Any:
    """An ``Args`` value from words; ``kind`` is the dataclass, or an instance that carries the defaults.

    Raises:
        ConfigError: the words do not fit, in one line.
    """
    import tyro

    prog = f"nimbleq {verb}"
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            if isinstance(kind, type):
                return tyro.cli(kind, prog=prog, args=words)
            return tyro.cli(type(kind), prog=prog, args=words, default=kind)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{_one_line(errors.getvalue())} ({prog} --help)") from None


def _one_line(box: str) -> str:
    """The message inside tyro's box: its lines up to the first rule."""
    lines = [line.strip("│ \t") for line in box.splitlines() if line.strip("╭╮╰╯─ ")]
    message: list[str] = []
    for line in lines[1 if box.startswith("╭") else 0 :]:
        if set(line) <= {"─"}:
            break
        message.append(line)
    return " ".join(message) or "the arguments do not fit"


def _fail(message: str, as_json: bool) -> int:
    line = " ".join(message.split())
    print(f"nimbleq: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": line}))
    return 2
