"""WebAssembly: no imports, the same integers in Node and wasmtime, and a page whose policy plays."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from nimbleq.deploy.export import export
from nimbleq.deploy.footprint import footprint
from nimbleq.deploy.identity import marks
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.wasm.parts import FOLDER
from nimbleq.deploy.targets.wasm.target import WasmOptions
from nimbleq.deploy.verify import verify
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interface import Interface
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.space import Box, Dict, Discrete, MultiBinary
from nimbleq.graph.tensor import TensorType
from tests.deploy.c.test_raw import linear
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

WASM = TARGETS["wasm"]
if why := WASM.cannot_open():
    pytest.skip(why, allow_module_level=True)
CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)


def balancer() -> Graph:
    """CartPole by hand: push to the side to which the pole falls."""
    weights = {"w": np.array([[0, 0, 0, 0], [0.05, 0.3, 1, 0.7]], np.float32)}
    nodes = (Node(ops.Linear("w"), ("obs",), "q"), Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": TensorType((4,))}, nodes, ("q", "action"), weights)


@pytest.mark.parametrize(
    "graph", [with_mask(int_mlp(4, 40, 3)), mlp(3, 17, 5), int_conv(5)], ids=["int", "float", "image"]
)
def test_it_gives_the_same_answers_and_imports_nothing(graph: Graph, tmp_path: Path) -> None:
    files = WASM.emit(Source(graph), "net", WasmOptions())
    runs = WASM.open(Source(graph), files, "net", tmp_path)
    golden = make_golden(graph, random_obs(np.random.default_rng(0), graph, 40))
    result = verify(graph, golden, runs, observations=500)
    assert result.checked == 540 * len(runs) > 0
    assert result.mismatches == 0, result
    assert b"env" not in files["wasm/net.wasm"][:200]


def test_it_names_its_artefact_and_is_measured(tmp_path: Path) -> None:
    graph = int_mlp(4, 8, 3)
    save_artefact(tmp_path / "small", graph, np.zeros((9, 4), np.float32), {})
    export(tmp_path / "small", ("wasm",), tmp_path / "build")
    data = (tmp_path / "build" / "wasm" / "policy.wasm").read_bytes()
    [found] = marks(data)
    assert load_artefact(tmp_path / "small").digest.startswith(found)
    measured = footprint("wasm", graph, np.zeros((9, 4), np.float32))
    assert len(data) == measured.text_bytes < 2500
    if measured.instructions is not None:
        assert 4 * 8 + 8 * 3 < measured.instructions < 5000


SENSED = Interface(
    Dict((
        ("gear", Discrete(3, -1)), ("speed", Box((2,), "float64", -9, 9, offset=(0.5, 0.0))),
        ("bits", MultiBinary((3,))), ("action_mask", MultiBinary((4,))),
    )),
    4, commands=np.array([[-1.5, 0.25], [0.0, 1.0], [2.0, -3.0], [0.5, 0.5]]), mask="obs:action_mask",
)  # fmt: skip
SCRIPT = """
import { readFileSync } from "node:fs";
import { load } from "./net.mjs";
const policy = await load(readFileSync("net.wasm")), found = [];
for (const seen of JSON.parse(process.argv[1])) {
  try { policy.reset(); const taken = policy.actRaw(seen); found.push(taken && Array.from(taken)); }
  catch (error) { found.push(error.message); }
}
console.log(JSON.stringify(found));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_javascript_gives_what_the_environment_gives(tmp_path: Path) -> None:
    source = Source(linear(SENSED), interface=SENSED)
    for name, data in WASM.emit(source, "net", WasmOptions()).items():
        (tmp_path / Path(name).name).write_bytes(data)
    good = {"gear": 1, "speed": [0.25, -3.5], "bits": [1, 0, 1], "action_mask": [1, 1, 0, 1]}
    bad = [{"gear": 2}, {"bits": [1, 0, 300]}, {"speed": [1]}, {"gear": 2.5}, {"action_mask": [0, 0, 0, 0]}]
    seen = [good, *(good | changed for changed in bad)]
    words = ["node", "--input-type=module", "-e", SCRIPT, json.dumps(seen)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    taken, outside, too_large, short, broken, none = json.loads(done.stdout)
    action = Runtime(source.graph, "numpy", interface=SENSED).act(good, np.array(good["action_mask"]))
    assert taken == list(action)
    assert outside is none is None
    assert (short, too_large[:8], broken[:8]) == ("speed: 1 values, not 2", "bits[2] ", "gear[0] ")


def test_a_page_of_another_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a page of cartpole needs .* 4 numbers and 2 actions, this one .*page none"):
        WASM.emit(Source(int_mlp(8, 4)), "net", WasmOptions(page="cartpole"))


STEPPED = """
const [first, actions] = JSON.parse(process.argv[2]);
let state = first;
const rows = [[environment.observe(state), 0, false]];
for (const action of actions) {
  const after = environment.next(state, action);
  state = after.state;
  rows.push([environment.observe(state), after.reward, after.over]);
}
console.log(JSON.stringify([rows, environment.limit]));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize(
    ("name", "id_"), [("cartpole", "CartPole-v1"), ("mountaincar", "MountainCar-v0"), ("acrobot", "Acrobot-v1")]
)
def test_what_is_played_in_a_page_is_gymnasiums(name: str, id_: str, tmp_path: Path) -> None:
    env = gymnasium.make(id_)
    actions, rows = [], []
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=1)
    first = np.asarray(env.unwrapped.state, float).tolist()  # type: ignore[attr-defined]
    rows.append([obs.tolist(), 0.0, False])
    for time in range(190):
        held = int(rng.integers(env.action_space.n)) if time % 3 == 0 else actions[-1]  # type: ignore[attr-defined]
        actions.append(held)
        obs, reward, over, _, _ = env.step(held)
        rows.append([obs.tolist(), float(reward), bool(over)])
        if over:
            break
    (tmp_path / "play.cjs").write_text((FOLDER / f"{name}.js").read_text() + STEPPED)
    command = ["node", str(tmp_path / "play.cjs"), json.dumps([first, actions])]
    ours, limit = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert limit == env.spec.max_episode_steps  # type: ignore[union-attr]
    assert len(rows) >= 10
    for mine, theirs in zip(ours, rows, strict=True):
        assert mine[0] == pytest.approx(theirs[0], abs=1e-5)
        assert mine[1:] == theirs[1:]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_policy_plays_in_a_page(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(WASM.emit(Source(balancer()), "net", WasmOptions("cartpole"))["wasm/net.html"])
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    command += ["--virtual-time-budget=30000", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    shown = dict(re.findall(r'<td id="(\w+)"[^>]*>([^<]*)</td>', done.stdout))
    assert shown["action"] in ("left", "right")
    returns = [int(word) for word in shown["returns"].split(", ")]
    assert 3 <= len(returns) <= 8
    assert min(returns) > 150  # random play lasts 20 steps
