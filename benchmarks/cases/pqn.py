"""PQN on MinAtar beside rejax's: steps a second in turns, and what 10⁷ steps of its published recipe come to.

Both learn with the same settings and the same network (one convolution of 16 channels, 128 units with LayerNorm), ours
with PyTorch on MinAtar's own games, rejax as one JAX program on gymnax's, both on all cores; sticky actions are off, as
gymnax has none, and episodes end after 1,000 steps. Returns are of 100 episodes: ours greedy, rejax's greedy but for
ε = 0.005, each in the game that it was trained on. A speed is the median over interleaved pairs of the seconds of the
same number of steps, compiling left out. A run of 10⁷ steps goes on where it was stopped: ask for its cell again until
it is finished. rejax has an environment of its own, whose Python is ``NIMBLEQ_REJAX_PYTHON``; gymnax 0.0.9, whose games
it plays, has no Seaquest, so ours stands alone there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.pqn_recipe import EPISODES, LIMIT, PQN
from benchmarks.process import measure as in_process
from benchmarks.record import ROOT, Record
from benchmarks.statistics import PAIRS, interleaved, interval95, mean, median, ratio
from benchmarks.tables import header, owed, quotient_text, unmeasured

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
GYMNAX = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
"""Of them, those that rejax can play."""
RUNS = ROOT / "runs" / "pqn"
PYTHON = os.environ.get("NIMBLEQ_REJAX_PYTHON", sys.executable)
MODULE = "benchmarks.peers.rejax_pqn"
FLOOR = 1.0
"""Owed: steps a second of ours over those of rejax."""
ROUNDS = 4
"""Rollouts of a block that is timed."""
SITTING = 480.0
"""Seconds after which a run is stopped, to go on later."""


def settings(game: str, steps: int, seed: int) -> Any:
    """Our side's, for a run of so many steps."""
    from nimbleq.config import with_changes
    from nimbleq.rl.presets import preset

    updates = PQN.updates(steps)
    changes = {
        "steps": steps, "seed": seed, "envs": PQN.envs, "pqn.rollout": PQN.rollout, "pqn.epochs": PQN.epochs,
        "pqn.trace_decay": PQN.trace_decay, "learner.batch_size": PQN.batch, "learner.gamma": PQN.gamma,
        "learner.lr": PQN.lr, "learner.lr_end": 0.0, "learner.lr_updates": max(1, updates),
        "learner.max_grad_norm": PQN.clip, "explore.end": PQN.epsilon,
        "explore.updates": int(PQN.exploring * updates), "evaluation.every": 10**9, "evaluation.stop_return": None,
        "evaluation.final_episodes": EPISODES,
    }  # fmt: skip
    start = preset(f"MinAtar/{game}-v1", "pqn", LIMIT, ("sticky_action_prob=0.0",))
    return with_changes(start, changes)


def speed(game: str, context: Context) -> dict[str, Any]:
    """Seconds of blocks of rollouts, ours and rejax's in turns; ours alone where gymnax has no such game."""
    rounds, pairs, numbers = 1 if context.quick else ROUNDS, 2 if context.quick else PAIRS, iter(range(100))
    sides: dict[str, Callable[[], float]] = {"nimbleq": lambda: _block(game, rounds, context, next(numbers))}
    with _rejax(game) if game in GYMNAX else nullcontext() as theirs:
        times = interleaved(sides if theirs is None else {"rejax": partial(theirs, rounds), **sides}, pairs)
    rates = {name: rounds * PQN.iteration / median(values) for name, values in times.items()}
    return {"steps_per_s": rates} | ({"ratio": ratio(times["rejax"], times["nimbleq"])} if "rejax" in times else {})


def _block(game: str, rounds: int, context: Context, number: int) -> float:
    """Seconds of our training, without what comes before and after."""
    from nimbleq.config import with_changes
    from nimbleq.rl.training.train import train
    from nimbleq.rundir import RunDir

    config = settings(game, PQN.steps, 0)
    config = with_changes(config, {"steps": rounds * PQN.iteration, "evaluation.final_episodes": 1})
    return train(config, RunDir(context.scratch / f"block{number}")).seconds


@contextmanager
def _rejax(game: str) -> Iterator[Any]:
    """Asks a process, whose program is compiled, for the seconds of so many rollouts."""
    words = [PYTHON, "-m", MODULE, "--game", game]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked(rounds: int) -> float:
            print(rounds, file=process.stdin, flush=True)
            return float(answer()["seconds"])

        def answer() -> dict[str, Any]:
            line = process.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise CellError(
                    f"rejax ended: is it installed where NIMBLEQ_REJAX_PYTHON points ({Path(PYTHON).name})?"
                )
            return dict(json.loads(line))

        try:
            answer()
            yield asked
        finally:
            process.kill()


def ours(game: str, seed: int, context: Context) -> dict[str, Any]:
    """A whole run of ours, or as much of it as fits a sitting."""
    from nimbleq.rl.training.checkpoint import has_checkpoint
    from nimbleq.rl.training.train import train
    from nimbleq.rundir import RunDir

    place, began = _place("nimbleq", game, seed, context), time.monotonic()
    steps, reached = _steps(context), 0.0

    def tick(done: float, total: float, note: str = "") -> None:
        nonlocal reached
        reached = done
        if time.monotonic() - began > SITTING:
            raise KeyboardInterrupt

    run = RunDir(place)
    try:
        trained = train(settings(game, steps, seed), run, tick, resume=has_checkpoint(run.checkpoint))
    except KeyboardInterrupt:
        raise CellError(f"{reached:,.0f} of {steps:,} steps so far: ask for it again") from None
    found = {"steps": trained.steps, "train_seconds": trained.seconds, "returns": trained.final.returns.tolist()}
    shutil.rmtree(place)
    return found


def theirs(game: str, seed: int, context: Context) -> dict[str, Any]:
    """A whole run of rejax's."""
    place, steps = _place("rejax", game, seed, context), _steps(context)
    place.parent.mkdir(parents=True, exist_ok=True)
    words = ("--game", game, "--steps", str(steps), "--seed", str(seed), "--state", str(place))
    found = in_process("-m", MODULE, *words, "--seconds", str(SITTING), python=PYTHON)
    if "returns" not in found:
        raise CellError(f"{found['steps']:,} of {steps:,} steps so far: ask for it again")
    place.unlink()
    return found


def _place(side: str, game: str, seed: int, context: Context) -> Path:
    return (context.scratch if context.quick else RUNS) / f"{side}-{game}-seed{seed}"


def _steps(context: Context) -> int:
    return 10 * PQN.iteration if context.quick else PQN.steps


SIDES = {"nimbleq": ours, "rejax": theirs}


def _sides(game: str) -> tuple[str, ...]:
    """Who can play it."""
    return tuple(SIDES) if game in GYMNAX else ("nimbleq",)


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The speeds first."""
    rates = [Cell(f"speed {game}", partial(speed, game), 120) for game in GAMES]
    runs = [
        Cell(f"{side} {game} seed{seed}", partial(measure, game, seed), 1_500)
        for seed in seeds
        for game in GAMES
        for side, measure in SIDES.items()
        if side in _sides(game)
    ]
    return [*rates, *runs]


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    lines = [
        "# PQN on MinAtar beside rejax", "", str(__doc__).partition("\n\n")[2], record.footnote(), "",
        header("game", "steps/s: nimbleq", "rejax", "nimbleq ÷ rejax", "seeds", "return (95 %): nimbleq", "rejax",
               "minutes: nimbleq", "rejax"),
    ]  # fmt: skip
    lines += [_row(record, game) for game in GAMES]
    going = [f"{name} ({record.why(name)})" for name in names if name in record.cells and not record.finished(name)]
    missing = [name for name in names if name not in record.cells]
    return "\n".join(
        [
            *lines,
            *owed(missed(record)),
            *(["", f"Not finished: {'; '.join(going)}."] if going else []),
            *unmeasured(missing),
            "",
        ]
    )


def _row(record: Record, game: str) -> str:
    rates = ["not measured yet", "", ""]
    if record.finished(f"speed {game}"):
        cell = record.cells[f"speed {game}"]
        known = cell["steps_per_s"]
        rates = [f"{known[side]:,.0f}" if side in known else "" for side in SIDES]
        rates += [quotient_text(cell["ratio"]) if "ratio" in cell else ""]
    done = {
        side: [cell for name, cell in record.cells.items() if name.startswith(f"{side} {game} ") and "returns" in cell]
        for side in SIDES
    }
    seeds = " and ".join(dict.fromkeys(str(len(found)) for found in done.values()))
    texts = ["no such game" if side not in _sides(game) else _return(found) for side, found in done.items()]
    minutes = [
        f"{mean([cell['train_seconds'] for cell in found]) / 60:.0f}" if found else "" for found in done.values()
    ]
    return "| " + " | ".join([game, *rates, seeds, *texts, *minutes]) + " |"


def _return(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return "not measured yet"
    means = [mean(cell["returns"]) for cell in found]
    low, high = interval95(means, mean)
    return f"{mean(means):.1f} ({low:.1f} to {high:.1f})"


def missed(record: Record) -> list[str]:
    """Games on which it is slower."""
    ratios = {
        game: record.cells[f"speed {game}"]["ratio"]["median"] for game in GYMNAX if record.finished(f"speed {game}")
    }
    return [f"{game} ×{value:.2f} of rejax's speed, owed ×{FLOOR:g}" for game, value in ratios.items() if value < FLOOR]


CASE = Case("pqn", cells, table, seeds=(0, 1, 2), missed=missed)
