"""The torsos that the engine ``xla`` has."""

from __future__ import annotations

STRIDES = {"mlp": (), "small": (1,), "nature": (4, 2, 1)}
"""Torso → the strides of its convolutions, each followed by ReLU."""
