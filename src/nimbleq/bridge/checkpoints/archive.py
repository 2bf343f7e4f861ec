"""Opens checkpoints of other libraries without running anything in them.

A zip of Stable-Baselines3 holds ``data`` (JSON with objects as base64 pickles and a readable copy of their attributes)
and ``policy.pth`` (tensors). The pickles are never decoded; tensors go through torch's weights-only reader, which
builds tensors, numbers and texts and nothing else. Sizes are checked before anything is unpacked.
"""

from __future__ import annotations

import io
import json
import lzma
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nimbleq.errors import FileError
from nimbleq.files import read_bytes
from nimbleq.types import Array

_MAX_BYTES: Mapping[str, int] = {"data": 256 << 20, "policy.pth": 1 << 30, "_stable_baselines3_version": 1 << 10}
"""Unpacked size allowed per member, far beyond any DQN."""
_WRAPPED = "model_weights"
"""Where some scripts of CleanRL put the tensors, beside their arguments."""
_NO_ZIP = (zipfile.BadZipFile, NotImplementedError, ValueError)
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)
_BAD_TENSORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, AttributeError, TypeError, ValueError,
    AssertionError, OverflowError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """The content of a checkpoint.

    Attributes:
        settings: plain values beside the tensors; of an SB3 zip the JSON of ``data``, where values under
            ``:serialized:`` are pickles and are not read.
        tensors: float32 arrays of the policy, by their name in torch.
        version: of Stable-Baselines3, or ``unknown``.
    """

    settings: Mapping[str, Any]
    tensors: Mapping[str, Array]
    version: str


def read_archive(path: Path) -> Archive:
    """Read the data in an SB3 zip.

    Raises:
        FileError: missing, not a zip, not SB3's, truncated, or far larger than a policy can be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            settings = _member(archive, "data", path)
            tensors = _member(archive, "policy.pth", path)
            named = "_stable_baselines3_version" in archive.namelist()
            version = _member(archive, "_stable_baselines3_version", path) if named else b"unknown"
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except _NO_ZIP as error:
        raise FileError(f"{path} is not a zip, or a damaged one ({error}): expected what DQN.save wrote") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    policy = _arrays(_loaded(tensors, "'policy.pth'", path), "'policy.pth'", path)
    return Archive(_settings(settings, path), policy, version.decode("ascii", "replace").strip())


def read_tensors(path: Path) -> Archive:
    """Read a table of tensors that ``torch.save`` wrote; plain values beside them are kept apart.

    Raises:
        FileError: missing, not such a file, truncated, or far larger than a policy can be.
    """
    data = read_bytes(path)
    if len(data) > _MAX_BYTES["policy.pth"]:
        raise FileError(f"{path} has {len(data):,} bytes, more than a policy needs")
    content = _loaded(data, "it", path)
    if isinstance(content, dict) and isinstance(content.get(_WRAPPED), dict):
        content = {**content, **content[_WRAPPED]}
    if not isinstance(content, dict):
        raise FileError(f"{path}: it is not a table of tensors")
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    settings = {str(name): value for name, value in content.items() if name not in tensors}
    return Archive(settings, _arrays(tensors, "it", path), "unknown")


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise FileError(f"{path} is not a Stable-Baselines3 model: the zip has no {name!r}") from None
    if member.file_size > _MAX_BYTES[name]:
        raise FileError(f"{path}: {name!r} unpacks to {member.file_size:,} bytes, more than a policy needs")
    try:
        return archive.read(member)
    except _DAMAGED as error:
        raise FileError(f"{path}: {name!r} is truncated or damaged ({error})") from error


def _settings(data: bytes, path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: 'data' is not JSON ({error}): not a Stable-Baselines3 model, or damaged") from error
    if not isinstance(settings, dict):
        raise FileError(f"{path}: 'data' is not a JSON object: not a Stable-Baselines3 model")
    return settings


def _loaded(data: bytes, what: str, path: Path) -> Any:
    """What ``torch.save`` wrote, if it is tensors and plain values."""
    _check_inner_size(data, what, path)
    try:
        with warnings.catch_warnings():
            # torch warns of its own older file formats, which it still reads.
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _BAD_TENSORS as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FileError(f"{path}: {what} is damaged or holds more than tensors ({reason})") from error


def _arrays(state: Any, what: str, path: Path) -> Mapping[str, Array]:
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FileError(f"{path}: {what} is not a table of tensors")
    # A tensor may claim any shape over a small storage (strides of 0), so count before copying.
    total = sum(tensor.numel() * 4 for tensor in state.values())
    if total > _MAX_BYTES["policy.pth"]:
        raise FileError(f"{path}: the tensors of {what} unpack to {total:,} bytes, more than a policy needs")
    arrays = {str(name): _array(tensor, str(name), path) for name, tensor in state.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileError(f"{path}: the tensor {name} holds NaN or infinity; the training it came from diverged")
    return arrays


def _array(tensor: torch.Tensor, name: str, path: Path) -> Array:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
        raise FileError(f"{path}: the tensor {name} is not an ordinary array of real numbers")
    return np.ascontiguousarray(tensor.detach().float().numpy())


def _check_inner_size(data: bytes, what: str, path: Path) -> None:
    """A file of torch is itself a zip, which could unpack to anything."""
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            total = sum(member.file_size for member in inner.infolist())
    except _NO_ZIP as error:
        raise FileError(f"{path}: {what} is truncated or damaged ({error})") from error
    if total > _MAX_BYTES["policy.pth"]:
        raise FileError(f"{path}: {what} unpacks to {total:,} bytes, more than a policy needs")
