"""``nimbleq import``: a model trained elsewhere → a run directory that every other verb takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from nimbleq.bridge.checkpoints.sources import SOURCES
from nimbleq.config import EnvConfig, to_dict
from nimbleq.console import Console
from nimbleq.errors import ConfigError
from nimbleq.figures import shown
from nimbleq.files import read_bytes, sha256, write_json
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import ObsSpec
from nimbleq.verbs.common import RUN_FORMAT, Output, golden_observations, provenance
from nimbleq.verbs.export import export_artefact
from nimbleq.version import VERSION

_NAME_IT = "give the environment it was trained on with --env"
_FILES = "which library wrote it: " + "; ".join(f"{name} ({row.files})" for name, row in SOURCES.items()) + "."
if TYPE_CHECKING:
    From = str
else:
    From = Annotated[Literal[tuple(SOURCES)], tyro.conf.arg(name="from", help=_FILES)]
"""A name in `SOURCES`: an option with these choices."""


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Make a run directory from a trained model. No code in the file runs: only tensors, JSON and numbers are read.

    Attributes:
        model: the file, e.g. a zip that Stable-Baselines3's DQN.save wrote, or NAME.cleanrl_model.
        env: the environment the model was trained on.
        out: run directory to make (default runs/ENV/imported).
        to: targets to export the policy for as well, into the run's folder build.
        divide: what bytes of pixels are divided by before the network (default: as the file or its library says).
        vecnormalize: the file that VecNormalize.save wrote, if the model was trained with one (its pickle is read, not
            run): the policy then takes the environment's own observations.
        episodes: greedy episodes that measure the model's return.
    """

    model: Annotated[Path, tyro.conf.Positional]
    source: From = "sb3"
    env: EnvConfig = field(default_factory=EnvConfig)
    out: Path | None = None
    to: tuple[str, ...] = ()
    divide: float | None = None
    vecnormalize: Path | None = None
    episodes: int = 100


_RETURN = "expected discounted return, as learnt by the imported model"


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Import, measure, save."""
    from nimbleq.bridge.checkpoints.imported import Asked
    from nimbleq.deploy.export import check_targets
    from nimbleq.graph.artefact import save_artefact
    from nimbleq.graph.interpret import GraphPolicy
    from nimbleq.graph.rewrites.mask import with_mask
    from nimbleq.rl.envs.remarks import unread_masks
    from nimbleq.rl.training.evaluate import Evaluator, interval95

    if args.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {args.episodes}")
    run = RunDir(args.out or Path("runs") / args.env.id.replace("/", "_") / "imported")
    if run.config.exists():
        raise ConfigError(f"{run.path} already holds a run: choose another --out")
    row = SOURCES[args.source]
    if args.vecnormalize is not None and not row.normalised:
        raise ConfigError(f"--vecnormalize is for --from sb3: {args.source} saves no such file")
    if args.divide is not None and not 0 < args.divide < math.inf:
        raise ConfigError(f"--divide must be a positive number, not {args.divide}")
    if args.to:
        check_targets(args.to)
    with Evaluator(args.env) as evaluate:
        spec = evaluate.spec
        imported = row.read(Asked(args.model, spec.obs, spec.actions, args.vecnormalize, args.divide))
        graph, warnings = imported.graph, [*imported.info["warnings"], *unread_masks(args.env)]
        if (spec.obs.shape, spec.obs.dtype) != (imported.obs.shape, imported.obs.dtype):
            flat = (spec.obs.dtype, imported.obs) == ("float32", ObsSpec((math.prod(spec.obs.shape),)))
            raise ConfigError(
                f"{args.model} takes observations {_shown(imported.obs)}, but {args.env.id} gives {_shown(spec.obs)}: "
                + ("--channels flat gives its pictures as numbers" if flat else _NAME_IT)
            )
        if spec.actions != imported.actions:
            raise ConfigError(
                f"{args.model} chooses among {imported.actions} actions, but {args.env.id} has {spec.actions}: "
                + _NAME_IT
            )
        if spec.masked:
            graph = with_mask(graph)
        policy = GraphPolicy(graph)
        obs = golden_observations(evaluate, policy, episode_seeds("distill", 0, 8, start=1 << 20))
        final = evaluate(policy, episode_seeds("final", 0, args.episodes).tolist())
    digest = sha256(read_bytes(args.model))
    parents = {args.model.name: digest}
    if args.vecnormalize is not None:
        parents[args.vecnormalize.name] = sha256(read_bytes(args.vecnormalize))
    facts = {"env": to_dict(args.env), "q_meaning": imported.info.get("q_meaning", _RETURN)}
    save_artefact(run.teacher, graph, obs, provenance(parents, **facts), interface=spec.interface)
    write_json(
        run.config,
        {
            "format": RUN_FORMAT,
            "nimbleq": VERSION,
            "env": to_dict(args.env),
            "imported": {"from": args.source, **imported.info},
        },
    )
    if args.to:
        export_artefact(run.teacher, args.to, run.path / "build", console)
    low, high = interval95(final.returns)
    result = {
        "run": str(run.path), "env": args.env.id, "from": args.source, "model_sha256": digest,
        "return_mean": float(final.returns.mean()), "return_ci95": [low, high], "episodes": args.episodes,
        "warnings": warnings, "notes": imported.info["notes"], "build": str(run.path / "build") if args.to else None,
    }  # fmt: skip
    run.save_result("import", result)
    console.say(
        f"imported {args.model} → {run.path}: return {shown(result['return_mean'], low, high)} "
        f"(95 % interval {shown(low, high)} to {shown(high, low)}, {args.episodes} episodes)"
    )
    for kind, lines in (("warning", warnings), ("note", imported.info["notes"])):
        for line in lines:
            console.say(f"{kind}: {line}")
    return result, True


def _shown(obs: ObsSpec) -> str:
    return f"{obs.dtype} {obs.shape}"
