"""Compiling for a TPU that is not there: its own compiler, from the libtpu package, tells sizes and an estimate."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.engine import Beside
from nimbleq.rl.spec import EnvSpec

TOPOLOGIES = ("v5e:1x1", "v5e:2x2", "v6e:1x1", "v6e:2x2", "v5p:2x2x1")
"""Names that are known to work; the compiler knows more."""
INSTALL = "pip install 'nimbleq[tpu]'"
_COLLECTIVE = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program on each of its chips.

    Attributes:
        program: what it does.
        chips: that it runs on.
        fits: in the memory of a chip.
        code_bytes, argument_bytes, temporary_bytes: of its code, of what it is given and gives back, of what it needs
            in between.
        estimate_us: the compiler's own estimate of one step; a loop's body counts once. None: it gives none.
        collectives: instructions by which chips exchange, by kind.
        refusal: why it does not fit.
    """

    program: str
    chips: int
    fits: bool
    code_bytes: int = 0
    argument_bytes: int = 0
    temporary_bytes: int = 0
    estimate_us: float | None = None
    collectives: dict[str, int] | None = None
    refusal: str = ""


def compile_ahead(topology: str, config: TrainConfig, spec: EnvSpec) -> Iterator[Compiled]:
    """Compile the programs of a run for a slice of TPUs: the update on one chip and, where there are more, over all.

    Args:
        topology: such as ``v5e:2x2``: the kind of chip, and how many in each direction.
        config: of the run, for the engine ``xla``.
        spec: of its environment.

    Raises:
        ConfigError: JAX or the compiler is not installed, or it knows no such topology; in one line.
    """
    devices = devices_of(topology)
    import jax  # after `devices_of`, which says where it may look for hardware
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from nimbleq.rl.learners.xla.learner import initial_state
    from nimbleq.rl.learners.xla.step import td_step

    state, _ = initial_state(config, spec, seed=0)
    sample = sample_of(config, spec)
    update = partial(td_step, config)

    def over(count: int) -> Callable[..., NamedSharding]:
        mesh = Mesh(np.array(devices[:count]), ("chips",))
        return lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))

    one = over(1)
    whole = (one(), one()), (one(), one())  # of what goes in, and of what comes out
    yield _compiled(f"update of {len(sample.action):,} transitions", 1, update, (state, sample), *whole)
    program = whole_loop(config)
    if program is not None:
        run, carry = program
        rounds = jax.ShapeDtypeStruct((), np.int32)
        yield _compiled("rounds of play and updates, environments inside", 1, run, (carry, rounds), whole[0], one())
    if len(devices) == 1:
        return
    every = over(len(devices))
    parts = (every(), every("chips")), (every(), None)
    yield _compiled("update, the batch shared out", len(devices), update, (state, sample), *parts)
    first = "body.0" if config.network.hidden else "advantage"

    def rows(path: Any, leaf: Any) -> NamedSharding:
        """The first fully connected layer, with its target and moments, by rows; the rest on every chip."""
        mine = any(getattr(key, "key", "").startswith(f"{first}.") for key in path)
        return every("chips") if mine and leaf.shape[0] % len(devices) == 0 else every()

    sharded = jax.tree_util.tree_map_with_path(rows, state)
    parts = (sharded, every()), (sharded, None)
    yield _compiled("update, the first layer shared out", len(devices), update, (state, sample), *parts)


def devices_of(topology: str) -> list[Any]:
    """The chips of a topology, as JAX's devices that only a compiler may use.

    Raises:
        ConfigError: see `compile_ahead`.
    """
    if find_spec("jax") is None or find_spec("libtpu") is None:
        raise ConfigError(f"the TPU compiler is not installed: {INSTALL}")
    os.environ["JAX_PLATFORMS"] = "cpu"  # nothing runs on a TPU, also where there is one
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it would ask a cloud's metadata server
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    from jax.experimental import topologies

    alone = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}  # else a host has four
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **alone)
    except Exception as error:  # noqa: BLE001 (the compiler's errors have no common type)
        said = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"there is no TPU topology {topology!r}; for example {', '.join(TOPOLOGIES)} ({said})"
        ) from None
    return list(described.devices)


def sample_of(config: TrainConfig, spec: EnvSpec) -> Any:
    """Shapes and types of a batch."""
    import jax

    from nimbleq.rl.learners.xla.step import Sample

    batch = config.learner.batch_size
    obs = jax.ShapeDtypeStruct((batch, *spec.obs.shape), spec.obs.dtype)
    number, action = (jax.ShapeDtypeStruct((batch,), kind) for kind in (np.float32, np.int32))
    mask = jax.ShapeDtypeStruct((batch, spec.actions), np.bool_) if spec.masked else None
    return Sample(obs, action, number, number, obs, number, mask, mask)


def whole_loop(config: TrainConfig) -> tuple[Callable[..., Any], Any] | None:
    """The whole of training and what it starts from; None where the environment is not JAX's, or that is not installed,
    or the replay is prioritized."""
    from nimbleq.rl.envs.gymnax import SAME, make_gymnax

    if config.replay.prioritized and config.algorithm == "dqn":
        return None
    if config.env.id not in SAME or find_spec("gymnax") is None:
        return None
    from nimbleq.rl.learners.xla.learner import XlaLearner
    from nimbleq.rl.learners.xla.rounds import first_carry, play_and_learn

    envs = make_gymnax(config.env, config.envs, seed=0)
    learner = XlaLearner(config, envs.spec, seed=0)
    none = np.zeros(1), np.zeros(envs.spec.obs.shape), np.zeros(envs.spec.obs.shape)
    stats = dict(zip(("count", "mean", "squares"), none, strict=True)) if config.network.normalize_obs else None
    average = {"updates": np.zeros(1)} if config.evaluation.network == "average" else None
    carry = first_carry(learner.state, envs.running, Beside(stats, average))
    if config.algorithm == "dqn":
        from nimbleq.rl.learners.xla.ring import empty_ring

        carry = carry._replace(ring=empty_ring(config, envs.spec))
    return partial(play_and_learn, config, envs.advance, envs.spec.actions), carry


def _compiled(
    program: str, chips: int, function: Callable[..., Any], arguments: tuple[Any, ...], inside: Any, outside: Any
) -> Compiled:
    """Compile ``function``; its first argument is what it gives back, changed, and takes up no memory twice."""
    import jax

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    lowered = jax.jit(function, in_shardings=inside, out_shardings=outside, donate_argnums=0).lower(*shapes)
    try:
        found = lowered.compile()
    except Exception as error:
        said = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in said:
            raise
        return Compiled(program, chips, False, refusal=said[:200])
    memory, costs = found.memory_analysis(), found.cost_analysis() or {}
    seconds = costs.get("optimal_seconds")
    return Compiled(
        program,
        chips,
        True,
        memory.generated_code_size_in_bytes,
        memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        None if seconds is None or seconds <= 0 else seconds * 1e6,
        dict(Counter(_COLLECTIVE.findall(found.as_text()))),
    )
