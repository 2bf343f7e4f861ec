"""PyTorch's optimizers, made without side effects."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)


def make_optimizer(make: Callable[[], Optimizer]) -> Optimizer:
    """``make()``, with environment variables and warning filters as they were before.

    The first optimizer of a process makes PyTorch import its compiler, which sets some of both.
    """
    before = dict(os.environ)
    with warnings.catch_warnings():
        optimizer = make()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    return optimizer
