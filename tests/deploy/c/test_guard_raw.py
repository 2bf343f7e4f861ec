"""The guard in C on observations as the environment gives them: the same actions as `Runtime` behind its guard."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.raw import emit_raw
from nimbleq.deploy.targets.c.raw_call import RawPolicy
from nimbleq.deploy.toolchain import compile_library
from nimbleq.graph.guard import Envelope, Guard
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box, Dict, Discrete
from tests.deploy.c.test_raw import COMPILER, WARNINGS, linear, pytestmark

__all__ = ["pytestmark"]
POSITION = Dict((("position", Box((2,))), ("gear", Discrete(3, start=1))))
MASKED = Dict((("position", Box((2,))), ("action_mask", Box((2,), "int8"))))
COMMANDS = np.array([[0.5, -1.0], [2.0, 3.0]])
INTERFACES = {
    "commands": (Interface(POSITION, 2, commands=COMMANDS), 5),
    "start": (Interface(POSITION, 3, action_start=-4), 5),
    "mask in the observation": (Interface(MASKED, 2, commands=COMMANDS, mask="obs:action_mask"), 2),
    "mask beside it": (Interface(POSITION, 3, mask="info:action_mask"), 5),
}


@pytest.mark.parametrize("name", INTERFACES)
def test_raw_observations_behind_a_guard(name: str, tmp_path: Path) -> None:
    interface, size = INTERFACES[name]
    graph, rng = linear(interface), np.random.default_rng(0)
    envelope = Envelope([-2.0] * size, [2.0] * size, [1.0] * size, [2] * 2 + [0] * (size - 2))
    guard = Guard(1, envelope, hold=1)
    texts = emit_c(graph, "policy", interface=interface) | emit_raw(graph, "policy", interface)
    texts |= emit_guard(graph, "policy", guard, interface)
    assert COMPILER is not None
    compile_library(texts, tmp_path / "policy.so", COMPILER, (*WARNINGS, "-O1"))
    raw_policy, runtime = (
        RawPolicy(tmp_path / "policy.so", "policy", graph, interface),
        Runtime(graph, "numpy", interface=interface, guard=guard),
    )
    library = ctypes.CDLL(str(tmp_path / "policy.so"))
    state = np.zeros(256, np.uint32)
    library.policy_guard_init(state.ctypes.data_as(ctypes.c_void_p))
    with_action = interface.commands is not None or interface.action_start != 0
    action = np.zeros(2, np.float64 if interface.commands is not None else np.int32)
    for step in range(300):
        raw: Any = {"position": rng.normal(size=2).astype(np.float32), "gear": int(rng.integers(1, 4))}
        mask = rng.random(interface.actions) < 0.7
        if "action_mask" in name or interface.mask == "obs:action_mask":
            raw["action_mask"] = mask.astype(np.int8)
        match step % 5:
            case 1:
                raw["position"][0] = np.nan
            case 2:
                raw["gear"] = 7
            case 3:
                raw = None
        beside = interface.mask == "info:action_mask"
        given = None if raw is None else raw_policy._raw(*raw_policy._members(raw))
        arguments: list[Any] = [state.ctypes.data_as(ctypes.c_void_p), raw_policy.obs.ctypes.data_as(ctypes.c_void_p)]
        arguments.append(None if given is None else ctypes.byref(given))
        flags = mask.astype(np.uint8)
        arguments += [flags.ctypes.data_as(ctypes.c_void_p)] if beside else []
        arguments += [action.ctypes.data_as(ctypes.c_void_p)] if with_action else []
        index = library.policy_guard_act_raw(*arguments)
        want = runtime.act(raw, mask) if beside else runtime.act(raw)
        got = index if not with_action else action if interface.commands is not None else int(action[0])
        np.testing.assert_array_equal(got, want, err_msg=f"{step}")
    counters = runtime.status.guard
    assert counters is not None
    assert state[: len(counters)].tolist() == list(counters.values())
    assert counters["fallback"] > 100
