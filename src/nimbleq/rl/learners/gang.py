"""The processes of a data-parallel learner: one generation, which lives and dies together [1706.02677].

The process that trains is rank 0. Ray starts the others; batches and TD errors go between them by gloo, gradients by
gloo or, on GPUs, by NCCL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from nimbleq.rl.cluster import load_ray
from nimbleq.rl.learners.lost import LearnersLostError
from nimbleq.types import Array

_ANSWER = timedelta(minutes=5)  # rank 0 waits so long for the others
_FOREVER = timedelta(days=365)  # the others wait for rank 0, which may be busy; its end they notice at once


@contextmanager
def together() -> Iterator[None]:
    """Around collective calls.

    Raises:
        LearnersLostError: another process is gone.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo's and NCCL's errors are RuntimeErrors
        reason = str(error).splitlines()[0]
        raise LearnersLostError(f"a learner process was lost ({reason})") from None


class Layout(NamedTuple):
    """Shapes and types of the arrays of a message, which is one flat buffer of bytes."""

    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Layout:
        """The one of these arrays."""
        return cls(tuple(array.shape for array in arrays), tuple(array.dtype.str for array in arrays))

    @property
    def sizes(self) -> list[int]:
        """Bytes of each array."""
        kinds = zip(self.shapes, self.types, strict=True)
        return [int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize for shape, kind in kinds]

    def buffer(self) -> torch.Tensor:
        """An empty message."""
        return torch.zeros(sum(self.sizes), dtype=torch.uint8)

    def packed(self, arrays: Sequence[Array]) -> torch.Tensor:
        """The message of ``arrays``."""
        body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        return torch.frombuffer(bytearray(body), dtype=torch.uint8)

    def unpacked(self, message: torch.Tensor) -> list[Array]:
        """The arrays of a message."""
        body, arrays, start = message.numpy().tobytes(), list[Array](), 0
        for size, shape, kind in zip(self.sizes, self.shapes, self.types, strict=True):
            arrays.append(np.frombuffer(body[start : start + size], kind).reshape(shape).copy())
            start += size
        return arrays


class Gang:
    """Rank 0's end.

    Args:
        rank_class: a class whose method ``serve(address, rank, size, cuda, *work)`` is what the other ranks do.
        size: processes, this one included.
        layout: of the messages to each.
        device: where gradients are.
        work: what ``serve`` gets.

    Raises:
        LearnersLostError: they did not come together.
    """

    def __init__(self, rank_class: type, size: int, layout: Layout, device: torch.device, *work: Any) -> None:
        self.size, self.layout, self.device = size, layout, device
        self._ray = load_ray()
        host = self._ray.util.get_node_ip_address()
        store = TCPStore(host, 0, size, is_master=True, wait_for_workers=False, timeout=_ANSWER)
        cuda = device.type == "cuda"
        options = {"num_cpus": 1, "num_gpus": int(cuda), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        remote = self._ray.remote(**options)(rank_class)
        self._ranks = [remote.remote() for _ in range(1, size)]
        address = (host, store.port)
        self._working = [
            each.serve.remote(address, rank + 1, size, cuda, *work) for rank, each in enumerate(self._ranks)
        ]
        try:
            with together():
                self.gradients = join(store, 0, size, cuda, _ANSWER)
        except LearnersLostError:
            self._end()
            raise

    def send(self, parts: Sequence[Sequence[Array]]) -> None:
        """A message to each rank; the first part is this one's own."""
        messages = [self.layout.packed(part) for part in parts]
        with together():
            dist.scatter(self.layout.buffer(), messages, src=0)

    def gather(self, own: Array) -> Array:
        """``float32[B/M]`` of every rank, end to end."""
        mine = torch.from_numpy(own)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with together():
            dist.gather(mine, parts, dst=0)
        return torch.cat(parts).numpy()

    def close(self) -> None:
        """End the others, and leave the group."""
        self._end()
        dist.destroy_process_group()

    def _end(self) -> None:
        for rank in self._ranks:
            self._ray.kill(rank)


def join(store: Store, rank: int, size: int, cuda: bool, timeout: timedelta) -> dist.ProcessGroup:
    """Enter the group of all ranks; the group for gradients."""
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    group = dist.new_group(backend="nccl") if cuda else dist.group.WORLD
    assert group is not None, "this process is in the group that it has just entered"
    return group


def joined(address: tuple[str, int], rank: int, size: int, cuda: bool) -> dist.ProcessGroup:
    """`join` of a rank above 0."""
    store = TCPStore(address[0], address[1], size, is_master=False, timeout=_ANSWER)
    return join(store, rank, size, cuda, _FOREVER)


def averaged(parameters: Sequence[torch.nn.Parameter], group: dist.ProcessGroup) -> None:
    """Replace gradients by their mean over the ranks of ``group``, in one flat buffer."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with together():
        dist.all_reduce(flat, group=group)
    flat /= dist.get_world_size(group)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
