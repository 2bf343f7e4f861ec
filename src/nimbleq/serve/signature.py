"""Which tensors a policy takes and gives: its `Interface`, in the words of the Open Inference Protocol.

Every entry of the observation is an input, named by its path (``arm.joints[2]``; ``obs`` where the observation is one
array). A masked policy has the input ``mask`` too, unless the mask is an entry of the observation. Outputs are
``action``, as the environment takes it, and ``q``; and behind a guard ``faults``, bits of `nimbleq.graph.guard.FAULTS`,
0 where the policy acted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box, Dict, Leaf, MultiBinary, Space, Tuple, leaves, named
from nimbleq.serve.refusal import RefusedError, Why
from nimbleq.types import Array

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
"""numpy's name → the protocol's."""
OBS, MASK, ACTION, Q, FAULTS = "obs", "mask", "action", "q", "faults"


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: see the module.
        dtype: numpy's name.
        shape: of one observation or answer.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As the metadata of the protocol have it; the first axis counts the observations of a request."""
        return {"name": self.name, "datatype": DATATYPES[self.dtype], "shape": [-1, *self.shape]}


@dataclass(frozen=True)
class Signature:
    """Attributes:
    interface: of the policy.
    inputs: the entries of the observation, then the mask where it is an input of its own.
    outputs: ``action`` and ``q``, and ``faults`` of a guarded policy.
    own_mask: whether the last input is the mask.
    """

    interface: Interface
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    own_mask: bool

    @classmethod
    def of(cls, interface: Interface, masked: bool, guarded: bool = False) -> Signature:
        """Of a policy, which takes a mask or not, behind a guard or not."""
        entries = tuple(
            Tensor(named(path) or OBS, _dtype(leaf), _shape(leaf)) for path, leaf in leaves(interface.space)
        )
        own = masked and not (interface.mask or "").startswith("obs:")
        mask = (Tensor(MASK, "bool", (interface.actions,)),) if own else ()
        commands = interface.commands
        action = "int64" if commands is None else str(commands.dtype), interface.action_shape
        outputs = (Tensor(ACTION, *action), Tensor(Q, "float32", (interface.actions,)))
        faults = (Tensor(FAULTS, "int64", ()),) if guarded else ()
        return cls(interface, entries + mask, outputs + faults, own)

    def rows(self, given: Mapping[str, Array]) -> Iterator[tuple[Any, Array | None]]:
        """One observation after the other, as the environment gives it, and its mask.

        Args:
            given: name → ``[*shape]``, or ``[N, *shape]`` of N observations.

        Raises:
            RefusedError: an input is missing, unknown or of another shape.
        """
        self._check_names(given)
        arrays = [_batched(given[tensor.name], tensor) for tensor in self.inputs]
        counts = {len(array) for array in arrays}
        if len(counts) > 1:
            raise RefusedError(Why.INVALID, f"the inputs hold {', '.join(map(str, sorted(counts)))} observations")
        masks = arrays.pop() if self.own_mask else None
        for index in range(counts.pop()):
            parts = iter([array[index, ...] for array in arrays])  # an array, too, where it is one number
            yield _nested(self.interface.space, parts), None if masks is None else masks[index]

    def _check_names(self, given: Mapping[str, Array]) -> None:
        known = [tensor.name for tensor in self.inputs]
        if self.own_mask and MASK not in given:
            count = self.interface.actions
            text = f"this policy needs the mask of the legal actions: add the input {MASK!r}, BOOL [{count}]"
            raise RefusedError(Why.INVALID, text)
        for name in known:
            if name not in given:
                raise RefusedError(Why.INVALID, f"the input {name!r} is missing: it takes {', '.join(known)}")
        for name in given:
            if name not in known:
                raise RefusedError(Why.INVALID, f"there is no input {name!r}: it takes {', '.join(known)}")


def _batched(array: Array, tensor: Tensor) -> Array:
    if array.shape == tensor.shape:
        return array[None]
    if array.shape[1:] == tensor.shape and array.ndim == len(tensor.shape) + 1 and len(array):
        return array
    sides = ", ".join(map(str, tensor.shape))
    text = (
        f"{tensor.name} has the shape {list(array.shape)}: it must be [{sides}], or [N{', ' if sides else ''}{sides}]"
    )
    raise RefusedError(Why.INVALID, text)


def _dtype(leaf: Leaf) -> str:
    if isinstance(leaf, Box):
        return leaf.dtype
    return "bool" if isinstance(leaf, MultiBinary) else "int64"


def _shape(leaf: Leaf) -> tuple[int, ...]:
    shape: tuple[int, ...] = getattr(leaf, "shape", ())
    return shape


def _nested(space: Space, parts: Iterator[Array]) -> Any:
    """The leaves as Dict and Tuple, as the environment gives them."""
    if isinstance(space, Dict):
        return {name: _nested(part, parts) for name, part in space.entries}
    if isinstance(space, Tuple):
        return tuple(_nested(part, parts) for part in space.entries)
    return next(parts)
