"""``nimbleq compress``: the smallest policy that provably keeps a share of the teacher's return."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nimbleq.compress.certify import Attempts, attempts_of, record, standing
from nimbleq.compress.passes.recipe import describe, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import parse_widths
from nimbleq.compress.refine.config import DirectConfig
from nimbleq.compress.search.config import SELECT_EPISODES, CompressConfig, check_config
from nimbleq.compress.search.ladder import RECIPES
from nimbleq.compress.search.limits import Limits, Measure
from nimbleq.compress.search.result import Candidate
from nimbleq.compress.search.store import Store
from nimbleq.config import EnvConfig, TransferConfig, flat_settings, to_dict, with_changes
from nimbleq.console import Console, size_text
from nimbleq.errors import ConfigError
from nimbleq.figures import shown
from nimbleq.files import exclusive_lock, sha256
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.rundir import RunDir, check_name, open_run
from nimbleq.seeds import episode_seeds
from nimbleq.types import Evaluate
from nimbleq.verbs.certify import MAX_EPISODES, range_of, say_start
from nimbleq.verbs.common import (
    COMPRESSED_MEANING,
    Output,
    load_teacher,
    provenance,
    require_better_than_random,
    run_env,
    run_seed,
    saved_config,
    say_unread_masks,
    teacher_words,
)
from nimbleq.verbs.measures import MEASURES, decision_us

_HARDLY_SMALLER = 1.5
_PURPOSES = "; ".join(f"{name}: {row.purpose}" for name, row in RECIPES.items())
if TYPE_CHECKING:
    Recipe = str
    Measured = str
else:
    Measured = Literal[tuple(MEASURES)]
    Recipe = Annotated[Literal[tuple(RECIPES)], tyro.conf.arg(help=_PURPOSES)]
"""A name in `RECIPES`: an option with these choices."""


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Search recipes and widths for the smallest policy that keeps a share of the return, and certify it (else exit 1).

    Attributes:
        run: run directory with a trained or imported policy.
        keep: share of the teacher's return (above random play) to keep, above 0 and at most 1.
        passes: in place of a recipe, the passes of the only candidate in order, e.g. fold prune=0.5 distill fold int8.
        hidden: widths of the students to try from small to large, e.g. linear 16 16-16 (default: a ladder of sizes).
        seed: of students and episodes (default: that of the run).
        name: of the artefact.
        select_episodes: paired episodes that a candidate has to pass before it may be certified.
        max_episodes: most episodes of a certificate; a candidate that needs more is refused, with the number.
        return_range: low,high between which returns lie (default: as the environment's rules say, else as wide as
            what the selection showed, and more).
        max_bytes: most bytes that the policy may have, all counted.
        max_macs: most multiply-accumulates of a decision.
        target: target whose cost --max-cost, --max-flash and --max-ram bound.
        max_cost: most that a decision may cost on the target: microseconds for c, on this machine; else instructions
            or cycles, as its emulator counts.
        max_flash: most bytes of flash on the target: code, constants and starting values.
        max_ram: most bytes of static RAM and stack there.
        scratch: also train a network of the chosen size from scratch, for comparison.
        workers: processes that play episodes.
    """

    run: Annotated[Path, tyro.conf.Positional]
    keep: float = 0.99
    recipe: Recipe = "auto"
    passes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    seed: int | None = None
    name: str = "small"
    select_episodes: int = SELECT_EPISODES
    max_episodes: int = MAX_EPISODES
    return_range: str | None = None
    max_bytes: int | None = None
    max_macs: int | None = None
    target: Measured | None = None
    max_cost: float | None = None
    max_flash: int | None = None
    max_ram: int | None = None
    scratch: bool = True
    workers: int = 2
    distill: DistillConfig = field(default_factory=DistillConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)

    def config(self, run: RunDir) -> CompressConfig:
        """What is asked of the search for ``run``.

        Raises:
            ConfigError: a setting is out of range.
        """
        if self.passes and self.recipe != "auto":
            raise ConfigError("--recipe and --passes both say what to try: leave out one of them")
        limits = Limits(self.max_bytes, self.max_macs, self.max_cost, self.max_flash, self.max_ram)
        if (self.target is None) == (limits.cost is not None or limits.of_memory):
            raise ConfigError(
                "--target and --max-cost belong together (or --max-flash, --max-ram): give both or neither"
            )
        if self.target is not None and limits.of_memory and MEASURES[self.target].memory is None:
            able = ", ".join(name for name, row in MEASURES.items() if row.memory is not None)
            raise ConfigError(f"--target {self.target} has no flash and RAM of its own: use one of {able}")
        asked = CompressConfig(
            keep=self.keep,
            recipe=parse_recipe(self.passes) if self.passes else self.recipe,
            hidden=tuple(map(parse_widths, self.hidden)) or None,
            seed=run_seed(run) if self.seed is None else self.seed,
            select_episodes=self.select_episodes,
            max_episodes=self.max_episodes,
            return_range=range_of(self.return_range, run_env(run)),
            distill=self.distill,
            direct=self.direct,
            limits=limits,
        )
        check_config(asked)
        return asked


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Compress one run."""
    check_name(args.name)
    run = open_run(args.run)
    config = args.config(run)
    with exclusive_lock(run.path):
        say_unread_masks(run_env(run), console)
        require_better_than_random(run, args.workers)
        measure = None if args.target is None else MEASURES[args.target]
        result = compress_run(run, args.name, config, console, args.scratch, args.workers, measure)
        result["options"] = options(args)
        run.save_result("compress", result)
    return result, bool(result["certified"])


def options(args: Args) -> list[str]:
    """The options that make the same search again, beside ``--keep``, ``--recipe`` and ``--name``."""
    own = ("json", "run", "keep", "recipe", "name", "workers")
    asked, usual = (flat_settings(to_dict(each)) for each in (args, Args(run=args.run)))
    words: list[str] = []
    for name, value in asked.items():
        if name in own or value == usual[name]:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return words


def compress_run(
    run: RunDir,
    name: str,
    config: CompressConfig,
    console: Console,
    scratch: bool = True,
    workers: int = 2,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Search, certify, save ``artefacts/<name>``; returns the verb's JSON object."""
    from nimbleq.compress.search.search import compress_policy
    from nimbleq.rl.envs.engines import useful_workers
    from nimbleq.rl.training.evaluate import Evaluator

    start = time.monotonic()
    teacher = load_teacher(run)
    _check_not_weaker(run.artefact(name), config.keep, teacher.digest)
    env = run_env(run)
    store = candidates_of(run, config, env, teacher.digest)
    if store.folder.exists():
        console.say("going on with the candidates that the same command had finished when it was stopped")
    with Evaluator(env, workers=useful_workers(env, workers)) as evaluate:
        with console.progress("compress") as tick:
            found = compress_policy(
                teacher.graph, evaluate, config, tick,
                on_start=lambda name, begun: say_start(begun, console, f"{name}: "),
                on_candidate=lambda candidate: _say_candidate(candidate, console),
                store=store, measure=measure, number=Attempts(run.attempts).number,
                control=control_of(run, config, env, teacher.digest),
            )  # fmt: skip
        baseline = None
        if scratch and not teacher.graph.units:
            baseline = _from_scratch(run, found.best.hidden, evaluate, console)
    path = place(run, name, certified=found.certificate.certified)
    if path != run.artefact(name):
        console.say(f"{run.artefact(name)} is certified and stays as it is: the new policy goes to {path}")
    who = teacher_words(run)
    certificate = record([found.certificate]) | {"teacher_digest": teacher.digest, **({"teacher": who} if who else {})}
    facts = {"recipe": found.best.recipe, "keep": config.keep, "seed": config.seed, "q_meaning": COMPRESSED_MEANING}
    saved = save_artefact(
        path, found.best.graph, found.golden_obs, provenance({"teacher": teacher.digest}, **facts), certificate,
        teacher.interface,
    )  # fmt: skip
    recipe = config.recipe if isinstance(config.recipe, str) else None
    result = {"artefact": str(path), "artefact_digest": saved.digest, "recipe": recipe, **found.to_dict()}
    for row, candidate in zip(result["candidates"], found.candidates, strict=True):
        row["latency_us"] = decision_us(candidate.graph, found.golden_obs, teacher.interface)
    result["teacher_latency_us"] = decision_us(teacher.graph, found.golden_obs, teacher.interface)
    result["baselines"]["scratch"] = baseline
    result["seconds"] = time.monotonic() - start
    _print_result(result, console)
    if who:
        console.say(who)
    shutil.rmtree(store.folder, ignore_errors=True)
    return result


def candidates_of(run: RunDir, config: CompressConfig, env: EnvConfig, teacher_digest: str) -> Store:
    """Where the candidates of this very search are stored until it is over: any other setting, teacher or version is
    another search."""
    recipe = config.recipe if isinstance(config.recipe, str) else describe(config.recipe)
    asked = {
        "config": to_dict(replace(config, recipe=recipe)),
        "env": to_dict(env),
        "teacher": teacher_digest,
        "versions": provenance({})["versions"],
    }
    return Store(run.candidates / sha256(json.dumps(asked, sort_keys=True).encode())[:16])


def control_of(run: RunDir, config: CompressConfig, env: EnvConfig, teacher_digest: str) -> Store:
    """Where the linear policy that every search shows beside its result is kept: no recipe and no limit changes it."""
    plain = replace(config, recipe="linear", hidden=None, limits=Limits(), direct=DirectConfig())
    folder = candidates_of(run, plain, env, teacher_digest).folder
    return Store(folder.with_name(f"control-{folder.name}"))


def certified_keep(path: Path) -> tuple[float, str] | None:
    """The keep that the artefact at ``path`` is certified for, and its teacher's digest; None if it is not certified.

    Raises:
        FileError: the artefact is damaged.
    """
    if not path.exists():
        return None
    stored = load_artefact(path).certificate
    if stored is None or "returns" not in stored:
        return None
    stands = standing(attempts_of(stored))
    return (stands.claim.keep, str(stored.get("teacher_digest"))) if stands.certified else None


def place(run: RunDir, name: str, *, certified: bool) -> Path:
    """Where a policy is saved: an uncertified one never replaces a certified one."""
    path = run.artefact(name)
    return path if certified or certified_keep(path) is None else run.artefact(f"{name}-refused")


def _check_not_weaker(path: Path, keep: float, teacher_digest: str) -> None:
    """Raise `ConfigError` if a weaker certificate would replace a stronger one for the same teacher."""
    known = certified_keep(path)
    if known is not None and known[1] == teacher_digest and keep < known[0]:
        raise ConfigError(
            f"{path} is certified at keep = {known[0]:g}, which is more than {keep:g}: "
            "choose another --name for the new one"
        )


def _say_candidate(candidate: Candidate, console: Console) -> None:
    """The frontier as it grows."""
    verdict = candidate.why or "may be certified"
    console.say(
        f"{candidate.name}: {size_text(candidate.size_bytes)}, {candidate.macs:,} multiply-accumulates, return "
        f"{shown(candidate.returns.mean())} in {len(candidate.returns):,} episodes, {verdict}"
    )


def _from_scratch(run: RunDir, hidden: tuple[int, ...], evaluate: Evaluate, console: Console) -> dict[str, Any] | None:
    """A network of the chosen size trained as the teacher was: the same settings, budget and stopping rule."""
    from nimbleq.graph.cost import cost
    from nimbleq.graph.interpret import GraphPolicy
    from nimbleq.graph.rewrite import fold
    from nimbleq.rl.policy_value.networks import LINEAR
    from nimbleq.rl.training.evaluate import interval95
    from nimbleq.rl.training.train import train

    trained = run.load_result("train")
    if trained is None:
        return None
    config = replace(saved_config(run), transfer=TransferConfig())
    size: dict[str, Any] = {"network.hidden": hidden}
    if config.policy.network:
        size = {"policy.network": "-".join(map(str, hidden)) or LINEAR}
    config = with_changes(config, {**size, "steps": max(trained["steps"], 1)})
    with tempfile.TemporaryDirectory() as folder, console.progress("same size from scratch") as tick:
        student = train(config, RunDir(Path(folder)), tick)
    graph = fold(student.graph)
    returns = evaluate(GraphPolicy(graph), episode_seeds("select", config.seed, 100).tolist()).returns
    spent = cost(graph)
    return {
        "name": "scratch", "hidden": list(hidden), "bits": 32, "size_bytes": spent.size_bytes, "macs": spent.macs,
        "episodes": len(returns), "return_mean": float(returns.mean()), "return_ci95": list(interval95(returns)),
        "train_seconds": student.seconds, "steps": student.steps,
    }  # fmt: skip


def _print_result(result: dict[str, Any], console: Console) -> None:
    rows = [
        [row["name"], str(row["bits"]), size_text(row["size_bytes"]), f"{row['macs']:,}", shown(row["return_mean"]),
         "–" if row["latency_us"] is None else f"{row['latency_us']:.3f}", row["status"], row["why"]]
        for row in result["candidates"]
    ]  # fmt: skip
    console.table("candidates", ("policy", "bits", "size", "MACs", "return", "µs", "", "why"), rows)
    smaller = result["teacher_size_bytes"] / result["size_bytes"]
    fewer = result["teacher_macs"] / max(result["macs"], 1)
    verdict = "certified" if result["certified"] else "NOT certified"
    console.say(result["reason"])
    if smaller < _HARDLY_SMALLER:
        failed = [row for row in result["candidates"] if row["why"]]
        why = f"; {failed[-1]['name']} {failed[-1]['why']} (what would help: {failed[-1]['advice']})" if failed else ""
        console.say(
            f"warning: the policy is hardly smaller than its teacher, because no smaller one was certified{why}"
        )
    console.say(
        f"{result['artefact']}: {size_text(result['size_bytes'])} (×{smaller:.0f} smaller), {result['macs']:,} "
        f"multiply-accumulates (×{fewer:.0f} fewer), {verdict} at keep = {result['keep']:g}"
    )
