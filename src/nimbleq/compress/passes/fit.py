"""Fitting, the inner step of distillation: a student's action values are fitted to its teacher's on given states."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

from nimbleq.compress.passes.fit_native import native_fit, why_not_native
from nimbleq.compress.passes.fit_tree import fit_tree, tree_of
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import make_targets
from nimbleq.graph.graph import Graph
from nimbleq.types import Array, Tick, no_tick

_LOOK = 0.1
"""Seconds between progress of threads."""


def fit(
    student: Graph,
    parts: Sequence[Labelled],
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
    masks: Mapping[str, Array] | None = None,
) -> Graph:
    """``updates`` steps of Adam, the step size falling from ``lr`` to zero along a half cosine.

    The loss is ``KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ)``; a batch draws equally from ``parts``.
    Fully connected students train in C, others in PyTorch, with the same batches. A tree has no gradient: it is grown
    and refined (`fit_tree`).

    Args:
        student: float, trainable.
        parts: states with the teacher's values; the temperature τ comes from the first.
        seed: of the batches.
        tick: progress in updates.
        masks: weight → ``bool`` of its shape, False where it is 0 and stays 0; PyTorch does this.
    """
    return fit_all([student], parts, config, updates, lr, seed, tick, masks)[0]


def fit_all(
    students: Sequence[Graph],
    parts: Sequence[Labelled],
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
    masks: Mapping[str, Array] | None = None,
) -> list[Graph]:
    """`fit` of several students to the same batches; those that train in C do so side by side, one on each processor.

    Args:
        tick: progress in students.
        masks: see `fit`.
    """
    targets = make_targets(parts, config)
    native = [index for index, student in enumerate(students) if masks is None and why_not_native(student) is None]
    shares = [0.0] * len(students)
    stop = Event()

    def train(index: int) -> Graph:
        def within(done: float, total: float, note: str = "") -> None:
            if stop.is_set():
                raise _StoppedError
            shares[index] = done / total
            if index not in native or len(native) == 1:
                tick(sum(shares), len(shares))

        if index in native:
            made = native_fit(students[index], targets, config, updates, lr, seed, within)
        elif tree_of(students[index]) is not None:
            made = fit_tree(students[index], parts, seed)
        else:
            from nimbleq.compress.passes.fit_torch import torch_fit  # torch, which the native engine does without

            made = torch_fit(students[index], targets, config, updates, lr, seed, within, masks)
        shares[index] = 1.0
        return made

    if len(native) < 2:
        return [train(index) for index in range(len(students))]
    with ThreadPoolExecutor(min(len(native), os.cpu_count() or 1)) as pool:
        waiting = {index: pool.submit(train, index) for index in native}
        try:
            while wait(waiting.values(), timeout=_LOOK).not_done:
                tick(sum(shares), len(shares))
        except BaseException:  # what threads still train ends at their next look, within hundredths of a second
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [waiting[index].result() if index in waiting else train(index) for index in range(len(students))]


class _StoppedError(Exception):
    """The fit of another thread was stopped."""
