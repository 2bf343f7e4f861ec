"""The command line: which verb, its arguments, and how errors are reported.

Exit codes: 0 done; 1 the claim does not hold (a certificate refused, a mismatch in verify); 2 bad usage or bad input;
130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.stopping import Stopped, terminable
from nimbleq.streams import prepare_streams, result_stream
from nimbleq.version import VERSION


class Verb(NamedTuple):
    """A row of the table of verbs.

    Attributes:
        purpose: what it does, for the first page of help.
        stopped: what remains after Ctrl-C or SIGTERM.
        module: its module in ``verbs/`` if that has another name.
    """

    purpose: str
    stopped: str = "nothing was changed"
    module: str = ""


VERBS = {
    "run": Verb(
        "every step: train → compress → certify → export → verify → bench → report",
        "finished steps are saved, and training up to this point; the same command goes on",
    ),
    "train": Verb("train a deep Q-network on a Gymnasium environment", "everything so far is saved: --resume goes on"),
    "tune": Verb("search the settings of training with Optuna", "everything so far is saved; the same command goes on"),
    "import": Verb("make a run directory from a Stable-Baselines3 DQN zip", module="import_model"),
    "compress": Verb(
        "find the smallest policy that keeps a share of the return",
        "every finished candidate is saved; the same command goes on with them",
    ),
    "certify": Verb(
        "certify that share, or play on where an earlier test stopped",
        "every batch played is saved; the same command plays on",
    ),
    "guard": Verb("put a guard between a policy and the machine: envelope, fallback, watchdog"),
    "export": Verb("write a policy for its targets: C, ONNX …"),
    "verify": Verb("compare an export with the reference on golden and random observations"),
    "identify": Verb("name the policy in a firmware, library or WebAssembly file, and its certificate"),
    "robust": Verb("prove in which boxes of observations the action stays as it is"),
    "bench": Verb("time decisions beside ONNX Runtime and PyTorch"),
    "loop": Verb("sense, decide and act at a fixed rate with deadlines", "the loop stopped"),
    "serve": Verb("answer decisions over HTTP, gRPC and shared memory", "what was let in was answered"),
    "watch": Verb("play episodes of a policy and write them as a GIF"),
    "report": Verb("write one self-contained HTML file about a run"),
    "zoo": Verb("list trained policies that come with nimbleq, or copy one as a run directory"),
    "doctor": Verb("show what is installed and which engines work here"),
}

EXTRAS = {
    "torch": "train", "gymnasium": "train", "tensorboard": "train", "onnx": "onnx", "onnxruntime": "onnx",
    "optuna": "tune", "sqlalchemy": "tune", "kserve": "serve", "fastapi": "serve", "grpc": "serve",
    "grpc_interceptor": "serve", "prometheus_client": "serve", "uvicorn": "serve", "uvloop": "serve",
    "watchfiles": "serve", "iceoryx2": "shm", "ray": "ray", "jax": "xla", "openvino": "openvino",
    "wandb": "wandb", "PIL": "watch", "ale_py": "atari", "google": "onnx",
}  # fmt: skip
"""Optional package → the extra that installs it."""

TRACEBACK = "NIMBLEQ_TRACEBACK"
"""Environment variable: if it is set, an unexpected error is raised with its traceback."""


class Outcome(NamedTuple):
    """How a command ended: the exit code, and its JSON object (None: print nothing)."""

    code: int
    result: dict[str, Any] | None = None


def usage() -> str:
    """The first page of help."""
    lines = [
        f"nimbleq {VERSION}: deep Q-networks trained fast, made small, proven, and answering in microseconds",
        "",
        "usage: nimbleq VERB [OPTIONS]      (more: nimbleq VERB --help)",
        "",
        *(f"  {name:<10}{verb.purpose}" for name, verb in VERBS.items()),
        "",
        "start here:",
        "  nimbleq run --env CartPole-v1",
        "",
        "every verb takes --json and then prints exactly one JSON object on standard output",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "--version"):
        with contextlib.suppress(BrokenPipeError):
            print(VERSION if words and words[0] == "--version" else usage(), flush=True)
        return 0 if words else 2
    if "--json" not in words or {"-h", "--help"} & set(words):
        return _outcome(words, as_json=False).code
    with contextlib.suppress(BrokenPipeError), result_stream() as out:
        outcome = _outcome(words, as_json=True)
        if outcome.result is not None:
            print(json.dumps(outcome.result), file=out, flush=True)
    return outcome.code


def _outcome(words: Sequence[str], as_json: bool) -> Outcome:
    """Run the command; every error is one line on standard error."""
    name = words[0]
    try:
        if name not in VERBS:
            raise ConfigError(f"there is no verb {name!r}; choose one of {', '.join(VERBS)} (nimbleq --help)")
        with terminable():
            return _call(name, list(words[1:]), as_json)
    except NimbleqError as error:
        return _failed(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).split(".")[0])
        return _failed(f"{name} needs {error.name}: pip install 'nimbleq[{extra}]'") if extra else _unforeseen(error)
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        return _failed(f"not enough memory{why}: a smaller replay.capacity, network or batch needs less")
    except KeyboardInterrupt as stop:
        return _stopped(VERBS[name], stop)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nobody would see a message.
        sys.stderr.close()
        return Outcome(0)
    except Exception as error:  # noqa: BLE001 (one line for a person, and the JSON object; see TRACEBACK)
        return _unforeseen(error)


def _call(name: str, rest: list[str], as_json: bool) -> Outcome:
    from nimbleq.console import Console
    from nimbleq.verbs.ranges import check_ranges

    module = importlib.import_module(f"nimbleq.verbs.{VERBS[name].module or name}")
    args = parse(module.arguments(rest) if hasattr(module, "arguments") else module.Args, name, rest)
    check_ranges(args)
    result, holds = module.main(args, Console(as_json))
    json.dumps(result, allow_nan=False)  # fail here, not where the object is printed
    return Outcome(0 if holds else 1, result)


def parse(kind: Any, verb: str, words: list[str]) -> Any:
    """An ``Args`` value from the command line; ``kind`` is the dataclass, or an instance with the defaults.

    Raises:
        ConfigError: the arguments do not fit, in one line.
    """
    import tyro

    from nimbleq.verbs.arguments import registry

    prog = f"nimbleq {verb}"
    plain = bool(os.environ.get("NO_COLOR"))  # tyro ignores it on a terminal
    page, errors = io.StringIO(), io.StringIO()
    options: dict[str, Any] = {"prog": prog, "args": words, "registry": registry()}
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(page if plain else sys.stdout):
            if isinstance(kind, type):
                return tyro.cli(kind, **options)
            return tyro.cli(type(kind), default=kind, **options)
    except SystemExit as stop:
        if not stop.code:
            print(page.getvalue(), end="")
            raise
        raise ConfigError(f"{_one_line(errors.getvalue())} ({prog} --help)") from None


def _one_line(box: str) -> str:
    """The message of tyro's page: after its title, up to the next rule, and its suggestions."""
    lines = [line for raw in box.splitlines() if (line := raw.strip("│╭╮╰╯ \t"))]
    rules = [set(line) <= set("─-") for line in lines]
    start = 1 if box.startswith("╭") else 2 if True in rules[1:2] else 0  # a rule is under a title without a box
    end = rules.index(True, start) if True in rules[start:] else len(lines)
    message = lines[start:end]
    text = " ".join(message) or "the arguments do not fit"
    if "Perhaps you meant:" not in lines:
        return text
    after = lines[lines.index("Perhaps you meant:") + 1 :]
    found = [[word.rstrip(",") for word in line.split() if word.startswith("--")] for line in after if line[:2] == "--"]
    meant = [max(names, key=len) for names in found]  # an option in full, not by its short name
    return f"{text}; did you mean {' or '.join(dict.fromkeys(meant[:3]))}?" if meant else text


def _failed(message: str, code: int = 2, mark: str = "nimbleq: ") -> Outcome:
    line = " ".join(message.split())
    with contextlib.suppress(BrokenPipeError):
        print(f"{mark}{line}", file=sys.stderr, flush=True)
    return Outcome(code, {"error": line, "exit": code})


def _stopped(verb: Verb, stop: KeyboardInterrupt) -> Outcome:
    at_once = isinstance(stop, Stopped) and stop.at_once
    state = "the last checkpoint is intact" if at_once else verb.stopped
    code = 128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT)
    return _failed(f"stopped; {state}", code, mark="")


def _unforeseen(error: Exception) -> Outcome:
    if os.environ.get(TRACEBACK):
        raise error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return _failed(
        f"this is a bug in nimbleq: {type(error).__name__}: {error} ({where}); {TRACEBACK}=1 shows the traceback; "
        "please report it"
    )
