"""Errors written for the user: what is wrong, where, and what to do."""

from __future__ import annotations


class NimbleqError(Exception):
    """Bad usage or bad input. The command line prints it as one line and exits with 2."""


class ConfigError(NimbleqError):
    """A setting is out of range or contradicts another."""


class DivergedError(NimbleqError):
    """Training reached infinity or NaN."""


class EnvError(NimbleqError):
    """An environment is unknown, unsupported, or returned something unusable (NaN, wrong shape)."""


class ObservationError(NimbleqError):
    """An observation that a policy does not take: wrong entry, shape or type, a value outside its space, NaN."""


class FileError(NimbleqError):
    """A run directory, checkpoint, artefact or model file is missing, truncated, tampered with or too new."""


class GraphError(NimbleqError):
    """A layer graph breaks a rule: unknown tensor, wrong shape, wrong type."""


class UnsupportedOpError(NimbleqError):
    """A target cannot express an op.

    Args:
        op: kind of the op, e.g. ``"LayerNorm"``.
        target: what cannot express it, e.g. ``"onnx"``.
        hint: what the user can do instead.
    """

    def __init__(self, op: str, target: str, hint: str) -> None:
        super().__init__(f"{target} cannot express the op {op}: {hint}")
        self.op = op
        self.target = target
