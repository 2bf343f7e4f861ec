"""The state of a learner in PyTorch as named arrays, and back: what checkpoints hold, whatever the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nimbleq.config import NetworkConfig
from nimbleq.graph.graph import Graph
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import ObsNorm, QNetwork, initial_network
from nimbleq.rl.nets.torsos.mixed import MixedTorso
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


def as_array(tensor: Tensor) -> Array:
    """A copy on the host."""
    array: Array = np.array(tensor.detach().cpu().numpy(), order="C")
    return array


def named_arrays(network: QNetwork, prefix: str = "") -> dict[str, Array]:
    """Copies of a network's parameters and buffers, by ``<prefix><name>``."""
    return {f"{prefix}{name}": as_array(value) for name, value in network.state_dict().items()}


def load_network(network: QNetwork, arrays: Mapping[str, Array], prefix: str = "") -> None:
    """The way back from `named_arrays`."""
    network.load_state_dict({name: torch.from_numpy(arrays[f"{prefix}{name}"]) for name in network.state_dict()})


def network_with(weights: Mapping[str, Array], spec: EnvSpec, config: NetworkConfig) -> QNetwork:
    """The network of these settings with ``weights``, named as in `QNetwork.state_dict`.

    Raises:
        RuntimeError: a weight is missing, too many, or of another shape.
    """
    network = initial_network(spec, config)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return network.eval()


class Weights:
    """What `nimbleq.rl.learners.learner.Learner` asks about weights, of a learner whose online network is PyTorch's."""

    online: QNetwork
    spec: EnvSpec

    def weights(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, by name."""
        return named_arrays(self.online)

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Put ``weights`` into the online network."""
        load_network(self.online, weights)

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """The greedy policy as a layer graph, with ``weights`` (None: the online network's)."""
        return network_graph(self.spec, self.online.config, self.weights() if weights is None else weights)

    def parameters(self) -> Array:
        """A copy of the parameters end to end, ``float32[P]``; a device is waited for."""
        return as_array(torch.cat([parameter.detach().reshape(-1) for parameter in self.online.parameters()]))

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """`weights` with ``parameters: float32[P]`` in place of the network's."""
        named, start = self.weights(), 0
        for name, parameter in self.online.named_parameters():
            named[name] = parameters[start : start + parameter.numel()].reshape(parameter.shape).copy()
            start += parameter.numel()
        return named

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """The way back from `unpack`; buffers are left out."""
        return np.concatenate([weights[name].reshape(-1) for name, _ in self.online.named_parameters()])


def start_moments(optimizer: torch.optim.Optimizer, step_on_device: bool) -> None:
    """Make the state of Adam or RAdam exist from the start, so that saving and loading never meet a half-made one."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if step_on_device else None),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def moment_arrays(network: QNetwork, optimizer: torch.optim.Optimizer) -> dict[str, Array]:
    """``adam_m.<name>`` and ``adam_v.<name>`` of every parameter."""
    state = {}
    for name, parameter in network.named_parameters():
        state[f"adam_m.{name}"] = as_array(optimizer.state[parameter]["exp_avg"])
        state[f"adam_v.{name}"] = as_array(optimizer.state[parameter]["exp_avg_sq"])
    return state


def load_moments(
    network: QNetwork, optimizer: torch.optim.Optimizer, arrays: Mapping[str, Array], updates: int
) -> None:
    """The way back from `moment_arrays`."""
    for name, parameter in network.named_parameters():
        moments = optimizer.state[parameter]
        moments["step"].fill_(updates)
        moments["exp_avg"].copy_(torch.from_numpy(np.array(arrays[f"adam_m.{name}"])))
        moments["exp_avg_sq"].copy_(torch.from_numpy(np.array(arrays[f"adam_v.{name}"])))


def obs_norm(network: QNetwork) -> ObsNorm | None:
    """What normalises the numbers that a network observes, if anything does."""
    norm = network.torso.numbers if isinstance(network.torso, MixedTorso) else network.prepare
    return norm if isinstance(norm, ObsNorm) else None


def write_obs_stats(network: QNetwork, mean: Tensor, inverse_std: Tensor) -> None:
    """Let `ObsNorm` normalise with these, one for each number that it gets; ignored without it."""
    norm = obs_norm(network)
    if norm is not None:
        norm.mean.copy_(mean)
        norm.inverse_std.copy_(inverse_std)
