"""Between the host's arrays and the device's tensors, waiting only where the data is needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nimbleq.config import LearnerConfig
from nimbleq.errors import ConfigError
from nimbleq.types import Array

_SMALL = 1 << 14  # bytes


def missing_device(config: LearnerConfig) -> str | None:
    """Why there is no device that ``config.device`` names, in one line; None where there is one."""
    if config.device != "cuda" or torch.cuda.is_available():
        return None
    return (
        f"the setting learner.device is cuda, but PyTorch {torch.__version__} sees no CUDA device on this machine; "
        "use auto or cpu"
    )


def choose_device(config: LearnerConfig) -> torch.device:
    """The device that ``config.device`` names; ``auto`` is the GPU where there is one.

    Raises:
        ConfigError: ``cuda`` was asked for and there is none.
    """
    if (reason := missing_device(config)) is not None:
        raise ConfigError(reason)
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def to_device(array: Array, device: torch.device) -> Tensor:
    """``array`` on ``device``; the caller may change ``array`` afterwards, and does not wait for the copy.

    CUDA takes small arrays into its own memory before it answers. Larger ones are copied from pinned memory, which
    PyTorch gives out again only once the copy is done.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return (tensor if tensor.nbytes <= _SMALL else tensor.pin_memory()).to(device, non_blocking=True)
    return tensor.clone().to(device)


def to_host(tensor: Tensor) -> Array:
    """A copy as an array. On CUDA this waits for what ``tensor`` depends on, and for nothing else."""
    if tensor.device.type != "cuda":
        return tensor.detach().numpy().copy()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor.detach(), non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()
    done.synchronize()
    return pinned.numpy().copy()
