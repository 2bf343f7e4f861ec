"""The benchmarks ★: a file each, and a line here."""

from __future__ import annotations

import importlib

from benchmarks.case import Case

DOMAINS = {
    "sepsis": "treating sepsis: survival computed exactly, for the small policy, too",
    "diagnosis": "ordering costly tests beside logistic regression on all of them",
    "trading": "an index day by day, walk-forward, beside buy-and-hold and momentum",
    "robot": "a Crazyflie in crazyflow beside its built-in controller, in an environment of its own",
    "driving": "roads of highway-env beside Stable-Baselines3's recipe, cars by rule and chance",
    "connect_four": "a network alone and in a tree search, beside OpenSpiel's: Elo per millisecond",
    "doudizhu": "a network that values each legal play, beside RLCard's rule player and chance",
    "minatar": "five games: a small certified policy beside chance",
    "order_book": "what a decision in a race earns by the microseconds that it takes",
}
"""Those in ``domains/``, which play the environments of ``examples/``."""
CASES = {
    "decide": "latency of one decision beside PyTorch and ONNX Runtime",
    "serve": "the decision server: HTTP, shared memory, overload",
    "kernels": "number formats, compilers and skipped zeros beside what the processor allows",
    "firmware": "flash, RAM, stack and instructions of small policies on microcontrollers",
    "sparse": "sparse kernels beside dense ones, and where they cross",
    "binary": "binary observations as bits: replay, and decisions beside dense first layers",
    "td_step": "one TD step beside PyTorch",
    "family_step": "one TD step with each option of the DQN family, beside PyTorch",
    "distill_step": "one step of distillation beside PyTorch",
    "per": "prioritised sampling beside Tianshou",
    "replay_memory": "memory and sampling rate of a replay of Atari frames",
    "checkpoint": "what a checkpoint of a full replay costs",
    "workers": "what worker processes bring",
    "distributed": "actors on environments that sleep, beside RLlib's DQN and torchrl on Ray",
    "certificate_error": "how often the certificate errs, simulated",
    "verify_targets": "every target against the interpreter: observations, mismatches",
    "realtime": "allocations, locks, system calls, instructions, stack and worst times of a decision",
    "loop": "the real-time loop at 1 kHz beside an empty one",
    "guard": "what a guard does under faults, what Simplex brings, how the field monitor errs",
    "robust": "verdicts on the policies of VNN-COMP, and maps of states",
    "family": "every preset learns",
    "pqn": "PQN on MinAtar beside rejax: steps a second, returns after 10⁷ steps",
    "xla": "PQN on CartPole in PyTorch and in JAX: the same learning result",
    "compress": "every way of compressing, on three teachers, beside other tools",
    "equal_bytes": "fewer bits or fewer units: students of as many bytes in each number format",
    "last_bytes": "the smallest linear policy that is certified, over several seeds",
    "fpga": "a certified policy and other circuits on ECP5 and iCE40: area, clocks, frequency",
    "gallery": "the policies of the zoo: picture, bytes, nanoseconds, certificate",
    "line": "train, compress, certify and export over several seeds",
    "train": "training beside Stable-Baselines3, sbx and CleanRL's recipe",
    "transfer": "six variants of a task from a trained source, beside scratch",
    "policy_value": "a small policy beside a large value network: who collects, int8",
    "gpu": "recorded graphs, speed and Pong on a CUDA device",
    **DOMAINS,
}
"""Name of the module here → what it measures."""


def load(name: str) -> Case:
    """The case: only its own packages are imported."""
    folder = "domains." if name in DOMAINS else ""
    case: Case = importlib.import_module(f"benchmarks.cases.{folder}{name}").CASE
    return case
