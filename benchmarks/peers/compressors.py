"""Other people's compression of a policy: ``python -m benchmarks.peers.compressors NAME [SETTING] --run RUN …``.

Prints one JSON object: what the policy costs, and what it returns beside its teacher on the same fresh episodes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases.compress.measure import returns_facts
from benchmarks.peers.torch_layers import layers
from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.recipe import apply
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.states import ConstantPolicy, compare, q_values, visit
from nimbleq.deploy.targets.onnx.emit import emit_onnx
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import Float32
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, ObsSpec
from nimbleq.verbs.common import run_env

_CALIBRATION = 512
_NONCE = 11
_TIMED = 1_000


@dataclass(frozen=True)
class Made:
    """A policy that a peer has made.

    Attributes:
        act: ``(obs[B, *O]) → int64[B]``.
        size_bytes: weights, scales and indices as they are stored.
        macs: of a decision.
    """

    act: Callable[[Array], Array]
    size_bytes: int
    macs: int

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        return self.act(obs)


def _session(model: bytes) -> Callable[[Array], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def act(obs: Array) -> Array:
        found: Array = np.argmax(session.run([Q], {name: obs})[0], axis=1)
        return found

    return act


def _of_onnx(model: Any, teacher: Graph) -> Made:
    """Bytes are those of the initializers and constants."""
    from onnx import numpy_helper

    stored = [numpy_helper.to_array(one) for one in model.graph.initializer]
    stored += [
        numpy_helper.to_array(field.t)
        for node in model.graph.node if node.op_type == "Constant"
        for field in node.attribute if field.name == "value"
    ]  # fmt: skip
    size = sum(array.nbytes for array in stored)
    return Made(_session(model.SerializeToString()), size, cost(teacher).macs)


def ort_int8(teacher: Graph, context: Context, setting: str) -> Made:
    """ONNX Runtime's static quantization, as its documentation has it: QDQ, weights of each channel by themselves."""
    import tempfile

    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # (onnxruntime is untyped here)
        def __init__(self) -> None:
            self.rows = iter([{teacher.obs_name: obs[None]} for obs in _calibration(context)])

        def get_next(self) -> Any:
            return next(self.rows, None)

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, made = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "made.onnx"))
        source.write_bytes(emit_onnx(teacher, outputs="q"))
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return _of_onnx(onnx.load(str(made)), teacher)


def nncf_int8(teacher: Graph, context: Context, setting: str) -> Made:
    """NNCF's post-training quantization of the ONNX model."""
    import nncf
    import onnx

    model = onnx.load_from_string(emit_onnx(teacher, outputs="q"))
    data = nncf.Dataset([{teacher.obs_name: obs[None]} for obs in _calibration(context)])
    return _of_onnx(nncf.quantize(model, data, subset_size=_CALIBRATION), teacher)


def torch_pruning(teacher: Graph, context: Context, setting: str) -> Made:
    """Torch-Pruning takes this share of the channels, by the norm of their groups; then they are taught as ours are."""
    import torch
    import torch_pruning

    module = layers(teacher)
    example = torch.from_numpy(_calibration(context)[:2]).float()
    last = [part for part in module.modules() if isinstance(part, torch.nn.Linear)][-1]
    torch_pruning.pruner.MagnitudePruner(
        module, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=float(setting), ignored_layers=[last], global_pruning=False,
    ).step()  # fmt: skip
    from nimbleq.bridge.torch_graph import to_graph

    pruned = fold(to_graph(module, _spec(teacher)))
    context.made[(_given,)] = pruned
    taught = apply((_given, PASSES["distill"].make(""), PASSES["fold"].make("")), context)
    return _of_graph(taught)


def _given(graph: Graph, context: Context) -> Graph:
    """Stands for a graph that is in ``context.made``."""
    raise AssertionError("it is made already")


def torchao(teacher: Graph, context: Context, setting: str) -> Made:
    """torchao's quantization of Linear layers: int8 or int4 weights alone, or int8 with dynamic activations."""
    import torch
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerAxis,
        quantize_,
    )

    module = layers(teacher)
    configs = {
        "int8": Int8WeightOnlyConfig,
        "int8-dynamic": Int8DynamicActivationInt8WeightConfig,
        "int4": partial(
            IntxWeightOnlyConfig,
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            granularity=PerAxis(0),
        ),
    }
    quantize_(module, configs[setting]())
    size = sum(_bytes(value) for value in module.state_dict().values())

    def act(obs: Array) -> Array:
        with torch.inference_mode():
            found: Array = np.argmax(module(torch.from_numpy(obs)).numpy(), axis=1)
            return found

    return Made(act, size, cost(teacher).macs)


def _bytes(value: Any) -> int:
    """Of a tensor, or of those inside it."""
    if hasattr(value, "__tensor_flatten__") and type(value).__name__ not in ("Tensor", "Parameter"):
        return sum(_bytes(getattr(value, name)) for name in value.__tensor_flatten__()[0])
    return int(value.numel() * value.element_size())


def played(teacher: Graph, context: Context, setting: str, other: Path) -> Made:
    """The policy of another run as it is."""
    return _of_graph(fold(load_artefact(RunDir(other).teacher).graph))


COMPRESSORS: dict[str, Callable[[Graph, Context, str], Made]] = {
    "ort-int8": ort_int8,
    "nncf-int8": nncf_int8,
    "torch-pruning": torch_pruning,
    "torchao": torchao,
}
"""Name → ``(folded teacher, context, setting) → policy``."""


def _of_graph(graph: Graph) -> Made:
    spent = cost(graph)
    return Made(GraphPolicy(graph), spent.size_bytes, spent.macs)


def _spec(graph: Graph) -> ObsSpec:
    kind = graph.obs_type
    return ObsSpec(kind.shape, "float32" if isinstance(kind.qtype, Float32) else "uint8")


def _calibration(context: Context) -> Array:
    """States that the teacher visits."""
    obs = context.visited(context.teacher).obs
    return np.ascontiguousarray(obs[np.linspace(0, len(obs) - 1, _CALIBRATION).astype(int)])


def _decision_us(act: Callable[[Array], Array], obs: Array) -> float:
    """Median time of a call with one observation."""
    one = [np.ascontiguousarray(row[None]) for row in obs[:64]]
    times = []
    for number in range(_TIMED + 100):
        began = time.perf_counter_ns()
        act(one[number % len(one)])
        times.append(time.perf_counter_ns() - began)
    return float(np.median(times[100:])) / 1e3


def main(words: Sequence[str] | None = None) -> None:
    """Make, play, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*COMPRESSORS, "played"])
    parser.add_argument("setting", nargs="?", default="")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--episodes", type=int, default=300)
    fields = ("rounds", "updates", "last_updates", "batch_size", "episodes", "states", "lr")
    for field in fields:
        usual = getattr(DistillConfig(), field)
        parser.add_argument(f"--distill.{field.replace('_', '-')}", type=type(usual), default=usual, dest=f"d_{field}")
    args = parser.parse_args(words)
    config = DistillConfig(**{field: getattr(args, f"d_{field}") for field in fields})
    run = RunDir(args.run)
    teacher = load_artefact(run.teacher).graph
    with Evaluator(run_env(run)) as evaluate:
        context = Context(teacher, evaluate, config)
        began = time.monotonic()
        work = partial(played, other=args.other) if args.name == "played" else COMPRESSORS[args.name]
        made = work(fold(teacher), context, args.setting)
        seconds = time.monotonic() - began
        seeds = episode_seeds("pilot", _NONCE, args.episodes).tolist()
        student, own = (evaluate(policy, seeds).returns for policy in (made, GraphPolicy(teacher)))
        random = evaluate(ConstantPolicy(), seeds, epsilon=1.0).returns
        seen = visit(made, evaluate, episode_seeds("distill", _NONCE, 16), 4_000, config.epsilon)
        compared = compare(q_values(teacher, seen.obs), made(seen.obs))
    timed = made.act.graph if isinstance(made.act, GraphPolicy) else None
    facts = {
        "size_bytes": made.size_bytes, "macs": made.macs, "regret": compared.regret, "agreement": compared.agreement,
        "latency_us": _emitted_us(timed, seen.obs) if timed is not None else _decision_us(made.act, seen.obs),
        **returns_facts(student, own, random), "seconds": seconds,
    }  # fmt: skip
    print(json.dumps(facts))


def _emitted_us(graph: Graph, obs: Array) -> float | None:
    from nimbleq.verbs.measures import decision_us

    return decision_us(graph, obs[:256])


if __name__ == "__main__":
    main()
