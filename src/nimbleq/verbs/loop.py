"""``nimbleq loop``: sense, decide and act at a fixed rate."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ConfigError, EnvError, NimbleqError
from nimbleq.files import write_bytes
from nimbleq.graph.artefact import Artefact, load_artefact, misfit, network_interface
from nimbleq.graph.guard import Guard, misguided
from nimbleq.rundir import RunDir
from nimbleq.stopping import SIGNALS
from nimbleq.verbs.common import Output, artefact_and_run, keep_result, run_env

if TYPE_CHECKING:
    from nimbleq.compress.certify.monitor import Monitor
    from nimbleq.serve.loop import Machine, Tally

_LIVE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Control a machine with a policy: sense, decide and act --hz times a second, until Ctrl-C.

    A decision that is not there at the deadline is replaced by the guard's fallback, never delivered late. The machine
    is yours (--io), or the environment of the run, in which every action is one step. Exit 1 when the field monitor
    has raised the alarm.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        hz: periods a second.
        io: package.module:factory; what it makes has read() → observation and write(action); see docs/loop.md.
        env: Gymnasium id in place of the environment of the run.
        fallback: index of the action that replaces late decisions, for an artefact without a guard.
        deadline_us: microseconds of a period after which a decision is late (default: half of the period).
        decisions: end after so many periods (default: at Ctrl-C).
        priority: real-time priority (SCHED_FIFO), 1 to 99.
        core: run on this processor core only.
        monitor: bet on the returns of finished episodes against the certificate, and raise an alarm when they fall
            below what was certified.
        seed: of the environment's episodes.
        svg: write the times as a picture.
        engine: what decides, as for nimbleq.Runtime.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    hz: float = 100.0
    io: str | None = None
    env: str | None = None
    fallback: int | None = None
    deadline_us: float | None = None
    decisions: int | None = None
    priority: int | None = None
    core: int | None = None
    monitor: bool = False
    seed: int = 0
    svg: Path | None = None
    engine: str = "auto"


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Run the loop and report."""
    from nimbleq.serve.loop import Settings, Tally, run_loop

    path, run = artefact_and_run(args.artefact)
    artefact = load_artefact(path)
    settings = Settings(args.hz, args.deadline_us, args.decisions, args.priority, args.core)
    settings.check()
    if args.svg is not None and args.svg.suffix.lower() != ".svg":
        raise ConfigError(f"{args.svg} is not the name of an SVG: choose one that ends in .svg")
    guard = _guard(artefact, args.fallback)
    monitor = _monitor(artefact) if args.monitor else None
    machine = _machine(args, artefact, run)
    interface = getattr(machine, "interface", artefact.interface)
    runtime = Runtime(artefact.graph, args.engine, interface=interface, guard=guard)
    tally, returns = Tally(), list[float]()

    def ended(total: float) -> None:
        returns.append(total)
        if monitor is not None and monitor.alarm is None and monitor.add(total):
            console.say(monitor.line())

    stream = runtime.stream()
    with contextlib.closing(_Closing(machine)), _stopping() as stopped, _live(tally, console):
        console.say(
            f"{path} at {args.hz:g} Hz, due after {settings.deadline_ns / 1e3:g} µs, {runtime.status.reason}; "
            "Ctrl-C stops"
        )
        try:
            run_loop(stream, machine, settings, tally, stopped, ended)
        except NimbleqError:
            raise
        except Exception as error:  # somebody else's code: one line says what it raised
            raise EnvError(
                f"the machine raised {type(error).__name__}: {error}; {tally.line(tally.ended_ns)}"
            ) from error
    result = _report(args, path, artefact, tally, stream.counters, returns, monitor, console)
    keep_result(run, "loop", {key: value for key, value in result.items() if key != "histograms"}, console)
    return result, monitor is None or monitor.alarm is None


def _guard(artefact: Artefact, fallback: int | None) -> Guard:
    """The artefact's, or one that does no more than replace what is late."""
    if artefact.guard is not None:
        if fallback is not None:
            raise ConfigError(f"{artefact.path} has a guard with a fallback of its own: leave --fallback out")
        return artefact.guard
    if fallback is None:
        raise ConfigError(
            f"{artefact.path} has no guard, so nothing could replace a late decision: give --fallback ACTION, or "
            "attach a guard with nimbleq guard"
        )
    guard = Guard(fallback)
    if fault := misguided(guard, artefact.graph):
        raise ConfigError(f"--fallback {fallback}: {fault}")
    return guard


def _monitor(artefact: Artefact) -> Monitor:
    from nimbleq.compress.certify.monitor import Monitor, Promise

    return Monitor(Promise.of(artefact.certificate or {}))


def _machine(args: Args, artefact: Artefact, run: RunDir | None) -> Machine:
    from nimbleq.serve.loop import machine_of

    if args.io is not None:
        machine = machine_of(args.io)
        place = artefact.interface.mask or ""
        if artefact.graph.masked and not place.startswith("obs:") and not hasattr(machine, "mask"):
            raise ConfigError(f"{artefact.path} needs the legal actions: --io {args.io} must have a method mask()")
        return machine
    from nimbleq.config import EnvConfig
    from nimbleq.rl.envs.machine import EnvMachine

    if run is None and args.env is None:
        raise ConfigError(f"{artefact.path} is in no run, so nothing says what to control: give --io or --env")
    own = EnvConfig() if run is None else run_env(run)
    env = EnvMachine(own if args.env is None else replace(own, id=args.env), args.seed)
    known = artefact.interface != network_interface(artefact.graph)
    if (known and env.interface != artefact.interface) or misfit(env.interface, artefact.graph):
        raise ConfigError(f"{args.env or own.id} gives or takes something else than {artefact.path}")
    return env


class _Closing:
    """Closes a machine that can be closed."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def close(self) -> None:
        getattr(self._machine, "close", lambda: None)()


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the loop, and not the program; yields whether one has come."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _live(tally: Tally, console: Console) -> Iterator[None]:
    """The state once a second: one line that is renewed on a terminal, lines elsewhere."""
    from nimbleq.serve.loop.clock import now_ns

    over = threading.Event()

    def show() -> None:
        with console.status() as say:
            while not over.wait(_LIVE_SECONDS):
                say(tally.line(now_ns()))

    thread = threading.Thread(target=show, name="live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _report(
    args: Args, path: Path, artefact: Artefact, tally: Tally, counters: dict[str, int], returns: list[float],
    monitor: Monitor | None, console: Console,
) -> dict[str, Any]:  # fmt: skip
    found = tally.to_dict()
    rows = [
        [name, *(f"{found['times_us'][key][share]:,.3g}" for share in ("p50", "p99", "p999", "worst"))]
        for key, name in (
            ("decision", "decision"), ("response", "start of the period to action"), ("wake", "late waking"),
            ("jitter", "period jitter"),
        )
    ]  # fmt: skip
    misses = f"{found['misses']:,} of {found['periods']:,} decisions missed their deadline"
    console.table(f"{found['fps']:,.1f} periods a second; {misses}", ("µs", "p50", "p99", "p99.9", "worst"), rows)
    if found["joules_per_decision"] is None:
        console.say(f"energy: not known, {found['why_no_joules']}")
    else:
        console.say(f"energy: {found['joules_per_decision'] * 1e3:.3g} mJ per decision of the whole processor package")
    guarded = artefact.guard is not None
    certified = bool((artefact.certificate or {}).get("certified"))
    acted = ", ".join(f"{count:,} {name}" for name, count in counters.items() if count)
    console.say(f"guard ({'the artefact’s' if guarded else '--fallback only'}): {acted}")
    changed = tally.misses > 0 or (not guarded and counters["fallback"] > 0)
    if certified and changed:
        console.say(
            "decisions were replaced that the certificate knows nothing of: this run was not what was certified"
        )
    if monitor is not None:
        console.say(monitor.line())
    result = {
        "artefact": str(path), "artefact_digest": artefact.digest, "hz": args.hz, "guarded": guarded,
        "certified": certified, "as_certified": certified and not changed,
        **found, "guard": counters,
        "episodes": len(returns), "return_mean": sum(returns) / len(returns) if returns else None,
        "monitor": None if monitor is None else monitor.to_dict(), "svg": args.svg and str(args.svg),
    }  # fmt: skip
    if args.svg is not None:
        from nimbleq.report.loop import loop_svg

        write_bytes(args.svg, loop_svg(result).encode())
        console.say(f"{args.svg}")
    return result
