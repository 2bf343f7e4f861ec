"""Random graphs for property tests: float and integer, vectors and images, odd shapes, strides, groups, paddings.

`random_graph` and `random_obs` need numpy only; `graphs` and `graphs_with_obs` are the hypothesis strategies over them.
Every graph takes one observation and gives ``("q", "action")``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.ops import Op
from nimbleq.graph.tensor import FLOAT32, UINT8, Float32, TensorType
from nimbleq.types import Array

Numbers = Literal["float", "int"]
Observation = Literal["vector", "image", "any"]


def random_graph(
    rng: np.random.Generator,
    *,
    numbers: Numbers = "float",
    obs: Observation = "any",
    layer_norm: bool = True,
    dueling: bool = True,
    branches: bool = True,
    max_width: int = 40,
) -> Graph:
    """A valid policy graph whose activations stay of order one (float) or spread over the integer range (int).

    Args:
        numbers: float32 throughout, or int8 weights with int32 accumulators.
        obs: vectors ``(F,)`` or images ``(C, H, W)`` (uint8; a float graph also gets float images).
        layer_norm, dueling, branches: whether a float graph may have LayerNorm, a dueling head, Concat and Add.
        max_width: largest width of a hidden layer.
    """
    if obs == "any":
        obs = "vector" if rng.random() < 0.6 else "image"
    if numbers == "int":
        return _int_graph(rng, obs, max_width)
    return _float_graph(rng, obs, layer_norm, dueling, branches, max_width)


def random_obs(rng: np.random.Generator, graph: Graph, batch: int) -> Array:
    """Observations ``[B, *O]`` in the dtype that ``graph`` takes: float32 around zero with outliers, or uint8."""
    kind = graph.obs_type
    if not isinstance(kind.qtype, Float32):
        return rng.integers(kind.qtype.low, kind.qtype.high + 1, (batch, *kind.shape)).astype(np.uint8)
    values = rng.normal(size=(batch, *kind.shape)) * rng.choice([0.1, 1.0, 5.0], size=(batch, *(1 for _ in kind.shape)))
    values[rng.random(values.shape) < 0.05] = 0.0
    return values.astype(np.float32)


def graphs(
    numbers: Numbers = "float",
    obs: Observation = "any",
    *,
    layer_norm: bool = True,
    dueling: bool = True,
    branches: bool = True,
    max_width: int = 40,
) -> st.SearchStrategy[Graph]:
    """`random_graph` as a hypothesis strategy."""
    return st.integers(0, 2**32 - 1).map(
        lambda seed: random_graph(
            np.random.default_rng(seed),
            numbers=numbers,
            obs=obs,
            layer_norm=layer_norm,
            dueling=dueling,
            branches=branches,
            max_width=max_width,
        )
    )


@st.composite
def graphs_with_obs(
    draw: st.DrawFn, numbers: Numbers = "float", obs: Observation = "any", max_batch: int = 5
) -> tuple[Graph, Array]:
    """A graph and a batch of observations for it."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, numbers=numbers, obs=obs)
    return graph, random_obs(rng, graph, draw(st.integers(1, max_batch)))


@dataclass
class Builder:
    """Grows a graph node by node and knows the type of every tensor."""

    rng: np.random.Generator
    inputs: dict[str, TensorType]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types.update(self.inputs)

    def weight(self, array: Array) -> str:
        """Store an array, give its name."""
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def add(self, op: Op, *sources: str, output: str | None = None) -> str:
        """Append a node, give the tensor it makes."""
        output = output or f"t{len(self.nodes)}"
        self.types[output] = op.infer(tuple(self.types[name] for name in sources), self.weights)
        self.nodes.append(Node(op, sources, output))
        return output

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Gaussian float32 weights."""
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def chance(self, probability: float) -> bool:
        """A coin."""
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """An integer in ``low..high``."""
        return int(self.rng.integers(low, high + 1))

    def graph(self) -> Graph:
        """The finished graph."""
        return Graph(self.inputs, tuple(self.nodes), (Q, ACTION), self.weights)


def _float_graph(
    rng: np.random.Generator, obs: Observation, layer_norm: bool, dueling: bool, branches: bool, max_width: int
) -> Graph:
    if obs == "vector":
        build = Builder(rng, {"obs": TensorType((int(rng.integers(1, 18)),))})
        x = _normalised_vector(build)
    else:
        build = Builder(rng, {"obs": TensorType(_image_shape(rng), UINT8 if rng.random() < 0.7 else FLOAT32)})
        x = _float_torso(build)
    for _ in range(build.between(0, 3)):
        x = _hidden(build, x, build.between(1, max_width), layer_norm)
        if branches and build.chance(0.15):
            x = build.add(ops.Concat(), x, _hidden(build, x, build.between(1, 9), layer_norm))
        elif branches and build.chance(0.15):
            x = build.add(ops.Add(), x, _hidden(build, x, build.types[x].size, layer_norm))
    actions = build.between(1, 9)
    if dueling and build.chance(0.4):
        streams = [x, x] if build.chance(0.5) else [_hidden(build, x, build.between(1, 12), layer_norm) for _ in "va"]
        value, advantage = _linear(build, streams[0], 1), _linear(build, streams[1], actions)
        build.add(ops.Dueling(), value, advantage, output=Q)
    elif build.chance(0.2):
        atoms = build.between(1, 9)
        support = build.weight(np.sort(build.normal(atoms, scale=2.0)))
        build.add(ops.Expectation(support), _linear(build, x, actions * atoms), output=Q)
    else:
        _linear(build, x, actions, output=Q)
    build.add(ops.ArgMax(), Q, output=ACTION)
    return build.graph()


def random_orders(rng: np.random.Generator) -> Graph:
    """A valid float policy with Affine, activations, pooling, Concat, Add, convolutions and Flatten in any order.

    Takes a uint8 or float32 vector or image. Shifts are large beside the values, windows are often padded, and some
    weights are shared or nearly constant: what a pass that moves constants about can get wrong.
    """
    shape = (int(rng.integers(1, 9)),) if rng.random() < 0.4 else tuple(int(n) for n in rng.integers(1, 8, 3))
    build = Builder(rng, {"obs": TensorType(shape, UINT8 if rng.random() < 0.6 else FLOAT32)})
    x = "obs"
    for _ in range(build.between(1, 6)):
        x = _any_step(build, x)
    if len(build.types[x].shape) > 1:
        x = build.add(ops.Flatten(), x)
    for _ in range(build.between(0, 2)):
        x = _any_step(build, x)
    actions = build.between(1, 4)
    if build.chance(0.3):
        build.add(ops.Dueling(), _linear(build, x, 1), _linear(build, x, actions), output=Q)
    else:
        _linear(build, x, actions, output=Q)
    build.add(ops.ArgMax(), Q, output=ACTION)
    return build.graph()


def _any_step(build: Builder, x: str) -> str:
    """One step of `random_orders` after ``x``."""
    kind = build.types[x]
    image, real = len(kind.shape) == 3, isinstance(kind.qtype, Float32)
    steps = ["affine", "affine", "concat", *(["flatten", "pool", "conv", "conv"] if image else ["linear", "twice"])]
    steps += ["activation", "activation", "add"] if real else []
    match build.rng.choice(steps):
        case "affine":
            return _any_affine(build, x)
        case "activation":
            return _activation(build, x)
        case "flatten":
            return build.add(ops.Flatten(), x)
        case "pool":
            window = _window(build, x, 3)
            function: Literal["max", "average"] = "max" if build.chance(0.6) or not real else "average"
            return build.add(ops.Pool(function, window.kernel, window.stride, window.padding), x)
        case "conv":
            return _any_conv(build, x)
        case "linear":
            return _activation(build, _linear(build, x, build.between(1, 6)))
        case "twice":
            return _layer_twice(build, x)
        case "concat":
            return build.add(ops.Concat(), x, _any_affine(build, x) if real else x)
        case _:
            return build.add(ops.Add(), x, _any_affine(build, x))


def _any_affine(build: Builder, x: str) -> str:
    """One number, one a channel or one a pixel; on bytes a tenth of a level to a hundredth; one scale in ten is zero or
    negative."""
    kind = build.types[x]
    shapes = [(), kind.shape, (*kind.shape[:1], *(1 for _ in kind.shape[1:]))]
    scale, shift = (shapes[build.between(0, 2)] for _ in "ab")
    values = 0.3 + build.rng.random(scale)
    if build.chance(0.2):
        values = values * build.rng.choice([1.0, 1.0, -1.0, 0.0], scale)
    unit = 1.0 if isinstance(kind.qtype, Float32) else 1 / 80
    offset = build.normal(*shift, scale=2.0) if build.chance(0.8) else np.zeros(shift)
    names = (build.weight(np.asarray(array, np.float32)) for array in (values * unit, offset))
    return build.add(ops.Affine(*names), x)


def _layer_twice(build: Builder, x: str) -> str:
    """One layer's weights on ``x`` and again on its own output, half of which is constant."""
    width = build.types[x].size
    first = _linear(build, x, width)
    shared = build.nodes[-1].op
    assert isinstance(shared, ops.Linear)
    build.weights[shared.weight][: width // 2] = 0.0
    return build.add(shared, _activation(build, first))


def _any_conv(build: Builder, x: str) -> str:
    """Often padded and depthwise; some of its channels are constant."""
    window, channels = _window(build, x, 3), build.types[x].shape[0]
    out, groups = (channels, channels) if build.chance(0.25) else (build.between(1, 4), 1)
    shape = (out, channels // groups, *window.kernel)
    weight, bias = build.normal(*shape, scale=float(np.prod(shape[1:])) ** -0.5), build.normal(out, scale=1.0)
    constant = build.rng.random(out) < 0.3
    weight[constant] = 0.0
    bias[constant & (build.rng.random(out) < 0.7)] += 2.0
    op = ops.Conv2d(build.weight(weight), build.weight(bias), window.stride, window.padding, groups)
    x = build.add(op, x)
    return _activation(build, x) if build.chance(0.6) else x


def covering_obs(rng: np.random.Generator, graph: Graph, batch: int) -> Array:
    """`random_obs` with rows of the lowest and the highest bytes among them."""
    obs = random_obs(rng, graph, batch)
    if not isinstance(graph.obs_type.qtype, Float32):
        obs[0], obs[-1] = graph.obs_type.qtype.low, graph.obs_type.qtype.high
    return obs


def _normalised_vector(build: Builder) -> str:
    x, size = "obs", build.types["obs"].size
    if build.chance(0.5):
        shape = (size,) if build.chance(0.7) else ()
        scale = build.weight(np.asarray(0.2 + build.rng.random(shape), np.float32))
        x = build.add(ops.Affine(scale, build.weight(np.asarray(build.normal(*shape)))), x)
        if build.chance(0.5):
            x = build.add(ops.Activation("clip", low=-2.5, high=3.0), x)
    return x


def _linear(build: Builder, x: str, width: int, output: str | None = None) -> str:
    fan_in = build.types[x].size
    weight = build.weight(build.normal(width, fan_in, scale=fan_in**-0.5))
    bias = build.weight(build.normal(width, scale=0.3)) if build.chance(0.85) else None
    return build.add(ops.Linear(weight, bias), x, output=output)


def _activation(build: Builder, x: str) -> str:
    choices = [
        ops.Activation("relu"),
        ops.Activation("relu"),
        ops.Activation("leaky_relu", slope=0.125),
        ops.Activation("clip", low=0.0, high=6.0),
        ops.Activation("clip", low=-1.0, high=0.75),
    ]
    return build.add(choices[build.between(0, len(choices) - 1)], x)


def _hidden(build: Builder, x: str, width: int, layer_norm: bool) -> str:
    x = _linear(build, x, width)
    if layer_norm and build.chance(0.3):
        affine = build.chance(0.5)
        weight = build.weight(1 + build.normal(width, scale=0.2)) if affine else None
        x = build.add(ops.LayerNorm(weight, build.weight(build.normal(width)) if affine else None), x)
    elif build.chance(0.1):
        scale = build.weight(1 + build.normal(width, scale=0.2))
        x = build.add(ops.Affine(scale, build.weight(build.normal(width, scale=0.2))), x)
    return _activation(build, x)


def _image_shape(rng: np.random.Generator) -> tuple[int, int, int]:
    return int(rng.integers(1, 5)), int(rng.integers(5, 20)), int(rng.integers(5, 20))


@dataclass(frozen=True)
class _Window:
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def _window(build: Builder, x: str, largest: int, padded: bool = True) -> _Window:
    """A window that fits the image ``x``, often not square."""
    kernel = tuple(build.between(1, min(largest, extent)) for extent in build.types[x].shape[1:])
    stride = tuple(build.between(1, 3) for _ in kernel)
    padding = tuple(build.between(0, size // 2) if padded and build.chance(0.5) else 0 for size in kernel)
    return _Window(kernel, stride, padding)  # type: ignore[arg-type]


def _channels(build: Builder, x: str) -> tuple[int, int]:
    """Output channels and groups that divide both sides; depthwise sometimes."""
    channels = build.types[x].shape[0]
    groups = build.between(1, channels) if build.chance(0.4) else 1
    groups = groups if channels % groups == 0 else 1
    return groups * build.between(1, max(1, 8 // groups)), groups


def _float_torso(build: Builder) -> str:
    x = "obs"
    if build.chance(0.8) or build.types[x].qtype != FLOAT32:
        channels = build.types[x].shape[0]
        shape = (channels, 1, 1) if build.chance(0.4) else ()
        unit = 1 / 255 if build.types[x].qtype == UINT8 else 0.7
        scale = build.weight(np.asarray(unit * (0.5 + build.rng.random(shape)), np.float32))
        shift = np.zeros(shape, np.float32) if build.chance(0.5) else np.asarray(build.normal(*shape, scale=0.3))
        x = build.add(ops.Affine(scale, build.weight(shift)), x)
    for _ in range(build.between(1, 3)):
        window = _window(build, x, 4)
        out, groups = _channels(build, x)
        shape = (out, build.types[x].shape[0] // groups, *window.kernel)
        weight = build.weight(build.normal(*shape, scale=float(np.prod(shape[1:])) ** -0.5))
        bias = build.weight(build.normal(out, scale=0.3)) if build.chance(0.8) else None
        x = build.add(ops.Conv2d(weight, bias, window.stride, window.padding, groups), x)
        if build.chance(0.2):
            scale = build.weight(1 + build.normal(out, 1, 1, scale=0.2))
            x = build.add(ops.Affine(scale, build.weight(build.normal(out, 1, 1, scale=0.2))), x)
        x = _activation(build, x)
        if build.chance(0.3):
            window = _window(build, x, 3)
            function: Literal["max", "average"] = "max" if build.chance(0.5) else "average"
            x = build.add(ops.Pool(function, window.kernel, window.stride, window.padding), x)
    return build.add(ops.Flatten(), x)


def _int_graph(rng: np.random.Generator, obs: Observation, max_width: int) -> Graph:
    if obs == "vector":
        build = Builder(rng, {"obs": TensorType((int(rng.integers(1, 18)),))})
        features = build.types["obs"].size if build.chance(0.7) else 1
        signed = build.chance(0.7)
        inverse_scale = build.weight((10 + 30 * rng.random(features)).astype(np.float32))
        centre = 0 if signed else 128
        zero_point = build.weight(rng.integers(centre - 20, centre + 21, features).astype(np.int32))
        x = build.add(ops.Quantize(inverse_scale, zero_point, 8, signed), "obs")
        zero = 0
    else:
        build = Builder(rng, {"obs": TensorType(_image_shape(rng), UINT8)})
        x, zero = "obs", 0
        for _ in range(build.between(1, 2)):
            x, zero = _int_conv(build, x, zero)
            if build.chance(0.4):
                window = _window(build, x, 3)
                x = build.add(ops.Pool("max", window.kernel, window.stride, window.padding), x)
        x = build.add(ops.Flatten(), x)
    for _ in range(build.between(0, 3)):
        x, _ = _requantize(build, _int_linear(build, x, build.between(1, max_width)))
    x = _int_linear(build, x, build.between(1, 9))
    scale = build.weight((1e-4 * (0.5 + rng.random(1))).astype(np.float32))
    build.add(ops.Dequantize(scale, build.weight(np.zeros(1, np.int32))), x, output=Q)
    build.add(ops.ArgMax(), x, output=ACTION)
    return build.graph()


def _int8(build: Builder, *shape: int) -> str:
    levels = build.rng.integers(-127, 128, shape)
    levels[build.rng.random(shape) < 0.1] = 0
    return build.weight(levels.astype(np.int8))


def _int_bias(build: Builder, out: int) -> str | None:
    return build.weight(build.rng.integers(-5000, 5001, out).astype(np.int32)) if build.chance(0.9) else None


def _int_linear(build: Builder, x: str, width: int) -> str:
    weight = _int8(build, width, build.types[x].size)
    return build.add(ops.Linear(weight, _int_bias(build, width)), x)


def _int_conv(build: Builder, x: str, zero: int) -> tuple[str, int]:
    window = _window(build, x, 4)
    out, groups = _channels(build, x)
    weight = _int8(build, out, build.types[x].shape[0] // groups, *window.kernel)
    conv = ops.Conv2d(weight, _int_bias(build, out), window.stride, window.padding, groups, pad_value=zero)
    return _requantize(build, build.add(conv, x))


def _requantize(build: Builder, x: str) -> tuple[str, int]:
    """A requantize of the accumulators ``x`` that neither saturates everything nor rounds everything away."""
    last = build.nodes[-1].op
    assert isinstance(last, ops.Linear | ops.Conv2d)
    fan_in = build.weights[last.weight][0].size
    channels = build.types[x].shape[0] if build.chance(0.7) else 1
    real = (0.3 + build.rng.random(channels)) * 100 / (fan_in**0.5 * 73 * 80)
    mantissa, exponent = np.frexp(real)
    multiplier = np.minimum(np.round(mantissa * 2**31), 2**31 - 1).astype(np.int32)
    shift = (31 - exponent).astype(np.int32)
    signed = build.chance(0.3)
    zero = build.between(-40, 40) if signed else build.between(0, 100)
    low, high = (-128, 127) if signed else (0, 255)
    op = ops.Requantize(
        build.weight(multiplier),
        build.weight(shift),
        zero_point=zero,
        low=zero if build.chance(0.7) else low,
        high=high if build.chance(0.8) else high - 20,
        bits=8,
        signed=signed,
    )
    return build.add(op, x), zero
