"""Compact convolutional students: what makes a Nature CNN large is its first convolution and its first linear layer.

A stem of k×k convolution with stride k (space-to-depth and a 1×1 convolution in one), blocks that mix pixels and
channels apart, and, in place of flattening into a wide layer, one learnt weight for every pixel of every channel
(global depthwise convolution [1804.07573]): pooling that still knows where things are, which a policy needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nimbleq.compress.students.base import StudentRow
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

_MAP = 10
"""The stem leaves images of about this height and width."""
_GROUPS = 2
_BOTTLENECK = 4


def mobilenet_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """Depthwise-separable blocks: 3×3 depthwise with stride 2, then 1×1 [1704.04861].

    Args:
        obs_type: an image ``(C, H, W)``.
        hidden: channels of the stem and of each block.

    Raises:
        ConfigError: the observation is no image, or there are no widths.
    """
    net = _start(obs_type, hidden, obs, rng, "mobilenet")
    for width in hidden[1:]:
        net.depthwise()
        net.relu()
        net.conv(width, 1)
        net.relu()
    return net.finish(actions)


def shufflenet_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """Blocks of a grouped 1×1 convolution to a quarter of the channels, channel shuffle, 3×3 depthwise with stride 2,
    and a grouped 1×1 convolution [1707.01083].

    See `mobilenet_student`; widths are multiples of 8.
    """
    if any(width % (_GROUPS * _BOTTLENECK) for width in hidden):
        raise ConfigError(f"a shufflenet student has widths that 8 divides, not {'-'.join(map(str, hidden))}")
    net = _start(obs_type, hidden, obs, rng, "shufflenet")
    for width in hidden[1:]:
        net.conv(width // _BOTTLENECK, 1, groups=_GROUPS)
        net.relu()
        net.add(ops.ChannelShuffle(_GROUPS))
        net.depthwise()
        net.conv(width, 1, groups=_GROUPS)
        net.relu()
    return net.finish(actions)


@dataclass
class _Net:
    """A network that grows at its end.

    Attributes:
        tensor: the last one made.
        shape: of that.
    """

    obs_type: TensorType
    rng: np.random.Generator
    tensor: str
    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def add(self, op: ops.Op, output: str = "") -> None:
        """Append ``op``."""
        made = op.infer((TensorType(self.shape),), self.weights)
        output = output or f"x{len(self.nodes)}"
        self.nodes.append(Node(op, (self.tensor,), output))
        self.tensor, self.shape = output, made.shape

    def conv(self, width: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        """Append a convolution with biases (He et al. 2015)."""
        self._conv((width, self.shape[0] // groups, kernel, kernel), stride, padding, groups)

    def depthwise(self) -> None:
        """Append a 3×3 depthwise convolution that halves the image, where it is larger than one pixel."""
        stride = 2 if min(self.shape[1:]) > 2 else 1
        self._conv((self.shape[0], 1, 3, 3), stride, 1, self.shape[0])

    def relu(self) -> None:
        """Append a ReLU."""
        self.add(ops.Activation("relu"))

    def _conv(self, shape: tuple[int, int, int, int], stride: int, padding: int, groups: int) -> None:
        name, gain = f"w{len(self.nodes)}", np.sqrt(2.0 / np.prod(shape[1:]))
        self.weights[name] = (self.rng.standard_normal(shape) * gain).astype(np.float32)
        self.weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
        self.add(ops.Conv2d(name, f"{name}.bias", (stride, stride), (padding, padding), groups))

    def finish(self, actions: int) -> Graph:
        """The policy: global depthwise convolution, then a linear head."""
        channels, height, width = self.shape
        self._conv((channels, 1, height, width), 1, 0, channels)
        self.add(ops.Flatten())
        self.weights["head"] = (self.rng.standard_normal((actions, channels)) * np.sqrt(0.1 / channels)).astype(
            np.float32
        )
        self.weights["head.bias"] = np.zeros(actions, np.float32)
        self.add(ops.Linear("head", "head.bias"), Q)
        self.nodes.append(Node(ops.ArgMax(), (Q,), ACTION))
        return Graph({"obs": self.obs_type}, tuple(self.nodes), (Q, ACTION), self.weights)


def _start(obs_type: TensorType, hidden: Sequence[int], obs: Array, rng: np.random.Generator, kind: str) -> _Net:
    """Normalisation by one scale (a raw image stays the integers that it is) and the stem."""
    if len(obs_type.shape) != 3:
        raise ConfigError(f"a {kind} student reads an image (C, H, W), not {obs_type}: use mlp")
    if not hidden:
        raise ConfigError(f"a {kind} student needs widths of its stem and blocks, e.g. 16-32")
    mean, deviation = float(obs.mean(dtype=np.float64)), max(float(obs.std(dtype=np.float64)), 1e-6)
    net = _Net(obs_type, rng, "obs", obs_type.shape)
    net.weights["scale"] = np.array(1 / deviation, np.float32)
    net.weights["shift"] = np.array(-mean / deviation, np.float32)
    net.add(ops.Affine("scale", "shift"))
    patch = max(1, round(min(obs_type.shape[1:]) / _MAP))
    net.conv(hidden[0], patch, stride=patch)
    net.relu()
    return net


MOBILENET = StudentRow(
    mobilenet_student, "a compact network for images: depthwise-separable blocks", (8, 16), image=True
)
SHUFFLENET = StudentRow(
    shufflenet_student, "a compact network for images: grouped convolutions and channel shuffle", (16, 32), image=True
)
