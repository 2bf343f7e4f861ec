"""A made-up but plausible run directory, following the schema of the results."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.files import write_json
from nimbleq.graph import ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import TensorType
from nimbleq.rundir import RunDir

Json = dict[str, Any]


def candidate(name: str, hidden: list[int], bits: int, returns: float, status: str, rng: np.random.Generator) -> Json:
    """One candidate; size and MACs follow from widths and bits."""
    widths = [8, *hidden, 4]
    macs = sum(a * b for a, b in pairwise(widths))
    spread = max(1.5, (240 - returns) * 0.08)
    return {
        "name": name, "recipe": f"distil {hidden} → int{bits}", "hidden": hidden, "bits": bits,
        "size_bytes": macs * bits // 8 + 8 * sum(widths[1:]), "macs": macs, "episodes": 200,
        "return_mean": returns, "return_ci95": [returns - spread, returns + spread],
        "agreement": float(np.clip(0.985 - (240 - returns) / 800 + rng.normal(0, 0.004), 0, 1)),
        "regret": max(0.01, (240 - returns) / 50), "latency_us": round(0.02 + macs / 30_000, 4), "status": status,
    }  # fmt: skip


def metrics(lines: int) -> list[Json]:
    """A learning curve that rises from −200 to 240."""
    rng = np.random.default_rng(1)
    rows: list[Json] = []
    for k in range(lines):
        done = (k + 1) / lines
        level = -200 + 440 * (1 - np.exp(-4 * done))
        row: Json = {
            "step": round(220_000 * done),
            "update": round(14_000 * done),
            "seconds": 22.5 * done,
            "loss": 0.4 / (1 + k),
        }
        row |= {"epsilon": max(0.02, 1 - 4 * done), "return_mean": float(level - 30 + rng.normal(0, 22))}
        if k % max(1, lines // 14) == 0:
            row["check_return"] = float(level + rng.normal(0, 12))
        rows.append(row)
    return rows


def histogram(p50: float, rng: np.random.Generator) -> Json:
    """10⁵ latencies around ``p50`` with a long tail, as log-spaced bins."""
    sample = p50 * np.exp(np.abs(rng.normal(0, 0.09, 100_000)) - 0.06) * np.where(rng.random(100_000) < 0.008, 1.9, 1.0)
    counts, edges = np.histogram(sample, bins=np.geomspace(sample.min(), sample.max() * 1.0001, 61))
    return {"edges_us": edges.tolist(), "counts": counts.tolist()}


def certificate(*, certified: bool) -> Json:
    """A certificate of the chosen candidate."""
    lower = -3.1 if certified else -6.4
    return {
        "artefact": "runs/lander/artefacts/small", "certified": certified, "keep": 0.99,
        "episodes": 1208 if certified else 1600, "episodes_played": 1600,
        "difference_mean": -0.83 if certified else -3.9, "difference_std": 55.2,
        "difference_lower95": lower, "margin": 4.37,
        "teacher_return_mean": 243.1, "student_return_mean": 242.27, "random_return_mean": -193.9,
        "teacher_worst_decile": 121.4, "student_worst_decile": 117.9, "action_flips": 0.061,
        "dead_actions": [], "alpha": 0.04,
        "wealth": 61.5 if certified else 3.4, "wealth_needed": 25.0, "total_alpha": 0.05, "attempt": 1, "fresh": False,
        "wealth_curve": [[n, (1.1 if certified else 0.3) * n / 1000] for n in range(0, 1601, 8)],
        "return_range": [-500.0, 530.0], "return_range_source": "stated with --return-range",
        "beyond_range_frequency_at_most": 0.00187, "breach": None,
        "forecast": [{"keep": 0.99, "episodes": 870}, {"keep": 0.95, "episodes": 174}],
        "seeds": {"purpose": "certify", "nonce": 3141, "count": 1600},
        "reason": f"{'certified' if certified else 'refused'}: over 1600 paired episodes the mean return differs",
    }  # fmt: skip


def results() -> dict[str, Json]:
    """What every verb printed."""
    rng = np.random.default_rng(0)
    found = [
        candidate("256-256 int8", [256, 256], 8, 241.0, "passed", rng),
        candidate("128-128 int8", [128, 128], 8, 242.8, "passed", rng),
        candidate("64-64 int8", [64, 64], 8, 241.9, "passed", rng),
        candidate("48-48 int8", [48, 48], 8, 240.2, "passed", rng),
        candidate("32-32 int8", [32, 32], 8, 242.3, "chosen", rng),
        candidate("28-28 int8", [28, 28], 8, 240.9, "refused", rng),
        candidate("24-24 int8", [24, 24], 8, 238.0, "failed", rng),
        candidate("16-16 int8", [16, 16], 8, 221.5, "failed", rng),
        candidate("12-12 int8", [12, 12], 8, 148.0, "failed", rng),
        candidate("8-8 int8", [8, 8], 8, 35.0, "failed", rng),
    ]
    rows = []
    for engine, what, p50, p99, p999 in [
        ("nimbleq-c", "artefact", 0.046, 0.058, 0.11), ("nimbleq-python", "artefact", 0.124, 0.16, 0.41),
        ("onnxruntime", "artefact", 9.8, 13.4, 31.0), ("nimbleq-c", "teacher", 2.1, 2.6, 4.4),
        ("onnxruntime", "teacher", 10.3, 14.9, 42.0), ("torch", "teacher", 30.2, 44.0, 120.0),
        ("empty-c", "artefact", 0.021, 0.024, 0.06),
    ]:  # fmt: skip
        rows.append(
            {
                "engine": engine,
                "what": what,
                "p50_us": p50,
                "p99_us": p99,
                "p999_us": p999,
                "histogram": histogram(p50, rng),
            }
        )
    ratios = {
        row["engine"] if row["what"] == "artefact" else f"{row['engine']} ({row['what']})": row["p50_us"] / 0.046
        for row in rows
    }
    chosen = found[4]
    flash = [
        {"target": "cortex-m4", "text_bytes": 467, "data_bytes": 16, "ram_bytes": 0, "stack_bytes": 104,
         "instructions": 1681, "unit": "instructions", "compiler": "arm-none-eabi-gcc -Os"},
    ]  # fmt: skip
    return {
        "train": {
            "run": "runs/lander", "env": "LunarLander-v3", "steps": 220_000, "updates": 14_000, "train_seconds": 22.5,
            "return_mean": 243.6, "return_ci95": [236.2, 250.9], "episodes": 100, "solved": True, "learner": "torch",
        },
        "compress": {
            "artefact": "runs/lander/artefacts/small", "size_bytes": chosen["size_bytes"],
            "teacher_size_bytes": 275_984,
            "macs": chosen["macs"], "teacher_macs": 68_608, "return_mean": 242.3, "teacher_return_mean": 243.1,
            "random_return_mean": -193.9, "keep": 0.99, "certified": True, "seconds": 61.0, "candidates": found,
            "baselines": {
                "linear": candidate("linear", [], 32, -62.0, "failed", rng),
                "scratch": candidate("scratch", [32, 32], 8, 171.0, "failed", rng),
            },
        },
        "certify": certificate(certified=True),
        "verify": {
            "artefact": "runs/lander/artefacts/small", "checked": 200_512, "mismatches": 0,
            "targets": [
                {"target": "c", "observations": 100_256, "mismatches": 0, "max_q_error": 0.0},
                {"target": "onnx", "observations": 100_256, "mismatches": 0, "max_q_error": 3.1e-6},
            ],
        },
        "bench": {"artefact": "runs/lander/artefacts/small", "rows": rows, "ratios": ratios, "flash": flash},
        "robust": robustness(),
    }  # fmt: skip


def robustness() -> dict[str, Json]:
    """What ``nimbleq robust`` says of four actions at three radii, and a plane of three."""
    curve = [
        {
            "radius": radius, "states": 400, "share_proven": share,
            "by_action": [{"action": k, "states": 100, "share_proven": share * (1 - 0.1 * k)} for k in range(4)],
        }
        for radius, share in ((0.025, 0.9), (0.1, 0.6), (0.4, 0.1))
    ]  # fmt: skip
    rows = [[int(x + 0.4 * y > 12) + int(y > 16) for x in range(24)] for y in range(24)]
    return {
        "artefact": "runs/lander/artefacts/small", "states": 1000, "radius": 0.1, "share_proven": 0.61,
        "share_changes": 0.37, "share_open": 0.02, "curve": curve,
        "slice": {"features": [2, 4], "centre": [0.1, 0.2], "low": [-0.5, -0.4], "high": [0.7, 0.8],
                  "deviation": [0.2, 0.2], "action": rows},
        "teacher": {"difference_at_states": {"median": 0.01}, "difference_in_boxes": {"median": 0.3},
                    "median_gap": 0.5, "share_flip_free": 0.8},
    }  # fmt: skip


def network(hidden: int) -> Graph:
    """A float32 network 8 → hidden → hidden → 4."""
    rng = np.random.default_rng(hidden)
    widths = [8, hidden, hidden, 4]
    weights, nodes, source = {}, [], "obs"
    for k, (wide, out) in enumerate(pairwise(widths)):
        weights[f"w{k}"] = rng.normal(size=(out, wide)).astype(np.float32)
        weights[f"b{k}"] = np.zeros(out, np.float32)
        made = "q" if k == 2 else f"h{k}"
        nodes.append(Node(ops.Linear(f"w{k}", f"b{k}"), (source,), made))
        source = made
        if k < 2:
            nodes.append(Node(ops.Activation(), (made,), f"a{k}"))
            source = f"a{k}"
    nodes.append(Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": TensorType((8,))}, tuple(nodes), ("q", "action"), weights)


def add_artefacts(run: RunDir) -> None:
    """A teacher 8-256-256-4 and a child 8-32-32-4."""
    obs = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    made = {"command": ["nimbleq", "run", "--env", "LunarLander-v3"], "versions": {"numpy": np.__version__}, "seed": 3}
    save_artefact(run.teacher, network(256), obs, made)
    save_artefact(run.artefact("small"), network(32), obs, made | {"parents": {"teacher": "4f" * 32}})


def make_run(path: Path, given: dict[str, Json] | None = None, lines: int = 300) -> RunDir:
    """Write the run directory; ``given`` are the results (default: all)."""
    run = RunDir(path)
    config = {"env": {"id": "LunarLander-v3"}, "seed": 3, "evaluation": {"stop_return": 225.0}}
    write_json(run.config, {"format": 1, "nimbleq": "0.1.0", "train": config})
    for verb, value in (results() if given is None else given).items():
        run.save_result(verb, value)
    if lines:
        run.metrics.write_text("".join(json.dumps(row) + "\n" for row in metrics(lines)))
    return run
