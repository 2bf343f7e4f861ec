"""Functions that several verbs share."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nimbleq.config import EnvConfig, LearnerConfig, TrainConfig, from_dict, to_dict
from nimbleq.console import Console
from nimbleq.errors import ConfigError, FileError
from nimbleq.figures import shown
from nimbleq.files import read_bytes, read_json, sha256
from nimbleq.graph.artefact import Artefact, load_artefact, save_artefact
from nimbleq.graph.artefact_files import MODEL
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.rundir import RunDir, open_run
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Policy
from nimbleq.version import VERSION

if TYPE_CHECKING:
    from nimbleq.rl.training.evaluate import Evaluator

RUN_FORMAT = 1
"""Version of ``config.json``."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options that every verb has.

    Attributes:
        json: print exactly one JSON object on standard output.
    """

    json: bool = False


def provenance(parents: Mapping[str, str], **facts: Any) -> dict[str, Any]:
    """Where an artefact comes from: the command, versions, and the digests of its parents."""
    packages = ("numpy", "safetensors", "torch", "gymnasium")
    versions = {"nimbleq": VERSION, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    command = shlex.join(["nimbleq", *sys.argv[1:]])
    return {"command": command, "versions": versions, "parents": dict(parents), **facts}


def _read_config(run: RunDir) -> dict[str, Any]:
    config = read_json(run.config)
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise FileError(f"{run.config} is not a nimbleq run configuration: it has no format number")
    if config["format"] > RUN_FORMAT:
        raise FileError(f"{run.config} has format {config['format']}, newer than this nimbleq {VERSION}: upgrade it")
    return config


def run_env(run: RunDir) -> EnvConfig:
    """The environment a run belongs to.

    Raises:
        FileError: ``config.json`` is damaged or newer than this nimbleq.
    """
    config = _read_config(run)
    if "train" in config:
        return saved_config(run).env
    return cast(EnvConfig, _from_file(EnvConfig, config.get("env"), run))


def saved_config(run: RunDir) -> TrainConfig:
    """The settings a run was started with.

    Raises:
        FileError: it was imported, not trained, or its ``config.json`` is damaged.
    """
    saved = trained_config(run)
    if saved is None:
        raise FileError(f"{run.path} was imported, not trained: there is nothing to resume")
    return saved


def trained_config(run: RunDir) -> TrainConfig | None:
    """The settings a run was trained with; None: it was imported.

    Raises:
        FileError: its ``config.json`` is damaged.
    """
    saved = _read_config(run).get("train")
    return None if saved is None else cast(TrainConfig, _from_file(TrainConfig, saved, run))


def _from_file(kind: type, value: Any, run: RunDir) -> Any:
    try:
        return from_dict(kind, value)
    except ConfigError as error:
        raise FileError(f"{run.config}: {error}") from None


def read_settings(path: Path) -> TrainConfig:
    """The settings in the ``config.json`` of a run, or in the ``best.json`` of `nimbleq tune`.

    Raises:
        FileError: it is missing, damaged, or has no such settings.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "train" not in content:
        raise FileError(f"{path} has no training settings: give the config.json of a run, or a best.json")
    try:
        return cast(TrainConfig, from_dict(TrainConfig, content["train"]))
    except ConfigError as error:
        raise FileError(f"{path}: {error}") from None


def teacher_words(run: RunDir) -> str:
    """Which network the teacher of a certificate in ``run`` is, in words; empty where the run has only one."""
    if "train" not in _read_config(run) or not saved_config(run).policy.network:
        return ""
    return (
        "the teacher of this certificate is the run's policy network, not the value network that taught it: what is "
        "certified is that the policy keeps its own return"
    )


def run_seed(run: RunDir) -> int:
    """The seed a run was started with; 0 for an imported one."""
    return saved_config(run).seed if "train" in _read_config(run) else 0


def load_teacher(run: RunDir) -> Artefact:
    """The artefact that compression starts from; for an unfinished run, the best network so far.

    Raises:
        FileError: there was no greedy check yet, or the artefact is damaged.
    """
    renew_teacher(run)
    if not run.teacher.exists():
        raise FileError(f"{run.path} has no trained policy yet: finish it with nimbleq train --resume --out {run.path}")
    return load_artefact(run.teacher)


def renew_teacher(run: RunDir) -> None:
    """For an unfinished run: make the teacher from the best network of the last checkpoint, if that is new.

    Raises:
        FileError: a file of the run is damaged.
    """
    if run.load_result("train") is not None or not run.best.exists():
        return
    best = sha256(read_bytes(run.best))
    if run.teacher.exists() and load_artefact(run.teacher).provenance.get("best") == best:
        return
    from nimbleq.rl.training.best import best_graphs
    from nimbleq.rl.training.evaluate import Evaluator

    config = saved_config(run)
    with Evaluator(config.env) as evaluate:
        graphs = best_graphs(config, evaluate.spec, run.best)
        save_teacher(run, config, graphs.policy, graphs.value, evaluate, best=best)


def save_teacher(
    run: RunDir, config: TrainConfig, graph: Graph, value: Graph | None, evaluate: Evaluator, **facts: Any
) -> Artefact:
    """Save a trained policy as ``artefacts/teacher``, with ``facts`` about where it comes from.

    If the environment has masks, the policy takes them, too. The ``value`` network beside a policy network is saved
    first, as ``value-network``.
    """
    seeds = episode_seeds("distill", config.seed, 8, start=1 << 20)
    if evaluate.spec.masked:
        graph, value = with_mask(graph), None if value is None else with_mask(value)
    obs = golden_observations(evaluate, GraphPolicy(graph), seeds)
    facts = {"seed": config.seed, "env": to_dict(config.env), "q_meaning": q_meaning(config.learner), **facts}
    parents = {}
    if value is not None:
        judge = save_artefact(run.value, value, obs, provenance({}, **facts), interface=evaluate.spec.interface)
        parents = {"value network": judge.digest}
        facts |= {"q_meaning": POLICY_MEANING}
    return save_artefact(run.teacher, graph, obs, provenance(parents, **facts), interface=evaluate.spec.interface)


POLICY_MEANING = "logits of a policy network: only their order counts; the value network that taught it is not in here"
"""What the action values of a policy network mean."""


def q_meaning(learner: LearnerConfig) -> str:
    """What the action values of a trained network mean, for the C header."""
    cut = f" of rewards clipped to +-{learner.reward_clip:g}" if learner.reward_clip else ""
    cut += f" times {learner.reward_scale:g}" if learner.reward_scale != 1 else ""
    soft = ", with the bonus that Munchausen DQN adds" if learner.munchausen else ""
    return f"expected discounted return{cut}, discount {learner.gamma:g} per step{soft}"


EVOLVED_MEANING = (
    "only order the actions: a direct search of the last layer on returns has moved the discounted returns that were "
    "learnt"
)
"""What the action values mean after `nimbleq.rl.training.evolve`."""


COMPRESSED_MEANING = (
    "only order the actions: compression may have moved all values of a state by the same amount, and the "
    "teacher's discounted returns are only imitated"
)
"""What the action values of a compressed network mean."""


def say_unread_masks(env: EnvConfig, console: Console) -> None:
    """Say which methods may name the legal actions and are not called: what is measured then is play without masks."""
    from nimbleq.rl.envs.remarks import unread_masks

    for remark in unread_masks(env):
        console.say(remark)


_RANDOM_EPISODES = 100


def require_better_than_random(run: RunDir, workers: int = 1) -> None:
    """Refuse to compress a policy that has learnt nothing.

    Raises:
        ConfigError: random play averages as much as the teacher; names both figures.
        FileError: there is no teacher yet.
    """
    from nimbleq.compress.certify.stream import random_player
    from nimbleq.rl.envs.engines import useful_workers
    from nimbleq.rl.training.evaluate import Evaluator

    teacher, seed = load_teacher(run), run_seed(run)
    env = run_env(run)
    with Evaluator(env, workers=useful_workers(env, workers)) as evaluate:
        seeds = episode_seeds("select", seed, _RANDOM_EPISODES)
        own = float(evaluate(GraphPolicy(teacher.graph), seeds.tolist()).returns.mean())
        rand = float(random_player(evaluate)(seeds).mean())
    if own <= rand:
        raise ConfigError(
            f"the policy of {run.path} (return {shown(own, rand)}) is no better than random play ({shown(rand, own)}): "
            "train it longer or with other settings, there is nothing to compress yet"
        )


def artefact_and_run(path: Path) -> tuple[Path, RunDir | None]:
    """An artefact folder, and its run if it is inside one.

    Args:
        path: an artefact's folder, or a run directory with exactly one compressed artefact.

    Raises:
        FileError: there is no such artefact.
        ConfigError: the run has several.
    """
    whole = Path(os.path.normpath(path.absolute()))  # "." and ".." get names, too
    if (path / MODEL).exists() or whole.parent.name == "artefacts":
        if not path.is_dir():
            raise FileError(f"{path} is not an artefact: there is no such folder")
        shown = path if path.name == whole.name else whole
        run = RunDir((shown if shown.parent.name == "artefacts" else whole).parent.parent)
        return shown, run if whole.parent.name == "artefacts" and run.config.exists() else None
    run = open_run(path)
    names = run.artefacts()
    if len(names) == 1:
        return run.artefact(names[0]), run
    if not names:
        raise FileError(f"{path} has no compressed artefact yet: make one with nimbleq compress {path}")
    raise ConfigError(
        f"{path} has several artefacts: name one, e.g. {run.artefact(names[0])} (there are {', '.join(names)})"
    )


def artefact_of_run(path: Path, why: str) -> tuple[Path, RunDir]:
    """As `artefact_and_run`, for a verb that needs the run; ``why`` says what is missing without it.

    Raises:
        FileError: the artefact is not in a run.
    """
    artefact, run = artefact_and_run(path)
    if run is None:
        raise FileError(
            f"{path} is an artefact outside of a run directory: {why}; put it into one as RUN/artefacts/NAME (make RUN "
            "with nimbleq train or nimbleq import)"
        )
    return artefact, run


def keep_result(run: RunDir | None, verb: str, result: Mapping[str, Any], console: Console) -> None:
    """Save the result of ``verb`` in its run; if that fails, print one line and go on."""
    if run is None:
        return
    try:
        run.save_result(verb, result)
    except FileError as error:
        console.say(f"not saved for the report: {error}")


def golden_observations(evaluate: Evaluate, policy: Policy, seeds: Array, count: int = 256) -> Array:
    """``[count, *O]`` observations met by ``policy`` with a little noise: the artefact's golden inputs."""
    episodes = evaluate(policy, seeds.tolist(), epsilon=0.05, keep_obs=count)
    assert episodes.obs is not None
    return episodes.obs
