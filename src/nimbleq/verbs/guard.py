"""``nimbleq guard``: put a guard between a policy and the machine, as an artefact of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from nimbleq.console import Console
from nimbleq.errors import ConfigError
from nimbleq.figures import shown
from nimbleq.files import exclusive_lock
from nimbleq.graph.artefact import Artefact, load_artefact, save_artefact
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard, describe_guard
from nimbleq.graph.rewrites.mask import with_mask, without_mask
from nimbleq.rundir import check_name
from nimbleq.verbs.common import Output, artefact_and_run, artefact_of_run, keep_result, provenance, run_env, run_seed


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Attach a guard: envelope of the observations, fallback, watchdog, larger network for close decisions.

    The envelope is learnt from episodes of the policy. The guarded policy is another policy, so it is a new artefact
    beside the old one, without a certificate: nimbleq certify plays it with its guard.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        fallback: index of the action for faulty periods.
        name: of the new artefact in the run (default: that of the old one and -guarded).
        episodes: from which the envelope is learnt; as many fresh ones show what the guard does to the return.
        widen: by this share the envelope is wider than what was seen.
        hold: repeat the policy's last action for so many faulty periods, before the fallback.
        latch: after so many faulty periods in a row the fallback stays until a reset (0: never).
        forbid: indices of actions that are never taken.
        backup: artefact of the policy that acts in faulty periods, on the last good observation.
        larger: artefact of the network that takes the close decisions.
        share: of the visited states in which it is to decide; gives the margin below which it does.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    fallback: int
    name: str | None = None
    episodes: int = 200
    widen: float = 0.1
    hold: int = 0
    latch: int = 0
    forbid: tuple[int, ...] = ()
    backup: Path | None = None
    larger: Path | None = None
    share: float = 0.1


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Learn, attach, measure."""
    path, run = artefact_of_run(args.artefact, "there is no environment to learn its envelope in")
    plain = load_artefact(path)
    if plain.guard is not None:
        raise ConfigError(f"{path} has a guard already: give the artefact that it was made from")
    name = check_name(args.name or f"{path.name}-guarded")
    if name == path.name:
        raise ConfigError(f"--name {name} is the artefact itself: choose another name")
    if not 0 <= args.widen < 100:
        raise ConfigError(f"--widen must be at least 0, not {args.widen}")
    if not 0 < args.share <= 1:
        raise ConfigError(f"--share must be above 0 and at most 1, not {args.share}")
    larger, backup = (None if other is None else _other(other, plain) for other in (args.larger, args.backup))
    with exclusive_lock(run.path, read_only=True):
        result = _attach(args, plain, larger, backup, run.artefact(name), console)
    keep_result(run, "guard", result, console)
    return result, True


def _other(path: Path, plain: Artefact) -> Graph:
    other = load_artefact(artefact_and_run(path)[0])
    if other.guard is not None:
        raise ConfigError(f"{other.path} has a guard itself: give the artefact that it was made from")
    if (other.graph.obs_type, other.graph.actions) != (plain.graph.obs_type, plain.graph.actions):
        raise ConfigError(f"{other.path} and {plain.path} are not policies for the same environment")
    return with_mask(other.graph) if plain.graph.masked else without_mask(other.graph)


def _attach(
    args: Args, plain: Artefact, larger: Graph | None, backup: Graph | None, place: Path, console: Console
) -> dict[str, Any]:
    from nimbleq.compress.states import action_gap, legal_values, q_values, visit
    from nimbleq.graph.envelope import Witness
    from nimbleq.graph.guard_state import GuardedEpisodes, GuardState
    from nimbleq.graph.interpret import GraphPolicy
    from nimbleq.rl.training.evaluate import Evaluator
    from nimbleq.seeds import episode_seeds

    graph, run = plain.graph, artefact_of_run(plain.path, "")[1]
    seeds = episode_seeds("guard", run_seed(run), 2 * args.episodes)
    learning, fresh = (part.tolist() for part in (seeds[: args.episodes], seeds[args.episodes :]))
    numbers = not graph.obs_type.qtype.is_integer
    with Evaluator(run_env(run)) as evaluate:
        envelope, states, margin = None, 0, 0.0
        if numbers:
            witness = Witness(graph)
            evaluate(witness, learning)
            envelope, states = witness.envelope(args.widen), witness.states
        if larger is not None:
            met = visit(GraphPolicy(graph), evaluate, learning, _STATES)
            gaps = action_gap(legal_values(q_values(graph, met.obs), met.mask))
            margin = float(np.nextafter(np.quantile(gaps, args.share).astype(np.float32), np.float32(np.inf)))
        guard = Guard(
            args.fallback, envelope, args.hold, backup, tuple(sorted(set(args.forbid))), larger, margin, args.latch
        )
        facts = {key: plain.provenance[key] for key in _KEPT if key in plain.provenance}
        made = provenance({"policy": plain.digest}, **facts)
        saved = save_artefact(
            place, graph, plain.golden.obs, made, interface=plain.interface, golden_mask=plain.golden.mask, guard=guard
        )
        alone = evaluate(GraphPolicy(graph), fresh).returns
        playing = GuardedEpisodes(GuardState(guard, graph, args.episodes))
        guarded = evaluate(playing, fresh).returns
    counts = playing.state.counters()
    console.say("\n".join(describe_guard(guard)))
    false = counts["fallback"] / max(1, counts["decisions"])
    console.say(
        f"{plain.path} → {place}: over {args.episodes} fresh episodes {shown(guarded.mean())} with the guard, "
        f"{shown(alone.mean())} without; {counts['fallback']:,} of {counts['decisions']:,} periods got the fallback"
    )
    console.say(f"it has no certificate yet: nimbleq certify {place} plays it with its guard")
    return {
        "artefact": str(place), "artefact_digest": saved.digest, "policy": str(plain.path),
        "policy_digest": plain.digest, "guard": describe_guard(guard), "states": states, "margin": margin,
        "return_mean": float(guarded.mean()), "unguarded_return_mean": float(alone.mean()),
        "episodes": args.episodes, "false_alarms": false, "counters": counts, "certified": False,
    }  # fmt: skip


_STATES = 20_000
_KEPT = ("seed", "env", "q_meaning", "keep", "recipe")
"""Facts of an artefact that hold for it behind a guard, too."""
