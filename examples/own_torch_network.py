"""A torch network of your own → an artefact → decisions in C, without torch.

    python examples/own_torch_network.py [folder]

Any module of supported layers will do; preprocessing that you write in ``forward`` becomes part of the artefact.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nimbleq import Runtime, emit_c, save_artefact, to_graph
from nimbleq.types import ObsSpec

FEATURES, ACTIONS = 6, 3


class Network(nn.Module):
    """A residual block and a dueling head over standardised sensors."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.linspace(-1, 1, FEATURES))
        self.register_buffer("deviation", torch.linspace(0.5, 2, FEATURES))
        self.first = nn.Linear(FEATURES, 32)
        self.block = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU())
        self.value, self.advantage = nn.Linear(32, 1), nn.Linear(32, ACTIONS)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """``obs[B, FEATURES] → q[B, ACTIONS]``."""
        x = torch.relu(self.first((obs - self.mean) / self.deviation))
        x = x + self.block(x)
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(dim=1, keepdim=True)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    network = Network().eval()  # train it as you like before this line
    graph = to_graph(network, ObsSpec((FEATURES,)))

    obs = np.random.default_rng(0).normal(size=(1000, FEATURES)).astype(np.float32)
    save_artefact(folder / "artefact", graph, obs[:64], provenance={"made by": "examples/own_torch_network.py"})
    for name, text in emit_c(graph, "policy").items():
        (folder / name).write_text(text)

    policy = Runtime(folder / "artefact")
    with torch.no_grad():
        q = network(torch.from_numpy(obs)).numpy()
    same = sum(policy.act(one) == int(best) for one, best in zip(obs, q.argmax(axis=1), strict=True))
    error = max(float(np.abs(policy.q_values(one) - values).max()) for one, values in zip(obs, q, strict=True))
    print(f"same action as torch on {same} of {len(obs)} observations, values within {error:.1e}")
    print(f"engine {policy.status.engine}, {policy.status.latency_us:.2f} µs a decision; C source in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/own_torch_network"))
