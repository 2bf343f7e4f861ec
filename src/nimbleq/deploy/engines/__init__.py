"""What a `nimbleq.deploy.runtime.Runtime` can decide with: `ENGINES`. A new one is a row here and its file."""

from nimbleq.deploy.engines.numpy import NUMPY
from nimbleq.deploy.engines.openvino import OPENVINO
from nimbleq.deploy.engines.prebuilt import PREBUILT
from nimbleq.deploy.target import Engine
from nimbleq.deploy.targets.c.target import COMPILED
from nimbleq.deploy.targets.onnx.target import ONNXRUNTIME

ENGINES: dict[str, Engine] = {row.name: row for row in (COMPILED, PREBUILT, ONNXRUNTIME, OPENVINO, NUMPY)}
"""Name → engine; ``auto`` takes the first that works."""

__all__ = ["ENGINES"]
