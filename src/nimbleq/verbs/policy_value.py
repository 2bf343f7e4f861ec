"""A policy network beside the value network that taught it: how the latter judges the former."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbleq.compress.states import actions, compare, q_values, visit
from nimbleq.config import TrainConfig
from nimbleq.console import Console, size_text
from nimbleq.figures import shown
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds

if TYPE_CHECKING:
    from nimbleq.rl.training.evaluate import Evaluator
    from nimbleq.rl.training.trained import Trained

_STATES = 5_000


def judged(config: TrainConfig, trained: Trained, evaluate: Evaluator, console: Console) -> dict[str, Any]:
    """Both networks of a run beside each other, as JSON values: sizes, returns on the same seeds, regret.

    The value network plays the episodes that the policy's return was measured on. Its values are of the states that the
    policy visits: ``best_value`` is the mean of its best action there, ``policy_value`` of the policy's.
    """
    from nimbleq.rl.training.evaluate import interval95

    policy, value = trained.graph, trained.value_graph
    assert value is not None
    seeds = episode_seeds("final", config.seed, config.evaluation.final_episodes).tolist()
    returns = evaluate(GraphPolicy(value), seeds).returns
    states = visit(GraphPolicy(policy), evaluate, seeds, _STATES)
    q, chosen = q_values(value, states.obs), actions(policy, states)
    found = compare(q, chosen, states.mask)
    mean = float(q[range(len(q)), chosen].mean())
    small, large = cost(policy), cost(value)
    own = float(trained.final.returns.mean())
    console.say(
        f"policy network {size_text(small.size_bytes)}, value network {size_text(large.size_bytes)}; return "
        f"{shown(own)} and {shown(returns.mean())} on the same episodes; they agree in {found.agreement:.1%} of the "
        f"states, and by the value network the policy loses {found.regret:.3g} a decision"
    )
    return {
        "policy_network": config.policy.network,
        "format": config.policy.format,
        "collects": config.policy.collects,
        "policy_size_bytes": small.size_bytes,
        "value_size_bytes": large.size_bytes,
        "policy_macs": small.macs,
        "value_macs": large.macs,
        "policy_return_mean": own,
        "value_return_mean": float(returns.mean()),
        "value_return_ci95": list(interval95(returns)),
        "states": len(states),
        "regret": found.regret,
        "agreement": found.agreement,
        "agreement_by_gap": list(found.agreement_by_gap),
        "policy_value": mean,
        "best_value": mean + found.regret,
        "dead_actions": list(found.dead_actions),
    }
