"""The targets. A new one is a file beside this and a line in `TARGETS`; the faster engine comes first."""

from nimbleq.deploy.target import Target
from nimbleq.deploy.targets.arduino.target import ARDUINO
from nimbleq.deploy.targets.c.target import C
from nimbleq.deploy.targets.cross import processors
from nimbleq.deploy.targets.executorch.target import EXECUTORCH
from nimbleq.deploy.targets.litert.target import LITERT
from nimbleq.deploy.targets.onnx.target import ONNX, ONNX_QDQ
from nimbleq.deploy.targets.rust.target import RUST
from nimbleq.deploy.targets.verilog.target import VERILOG
from nimbleq.deploy.targets.wasm.target import WASM

TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        C,
        ONNX,
        ONNX_QDQ,
        EXECUTORCH,
        LITERT,
        VERILOG,
        *processors.TARGETS,
        WASM,
        RUST,
        ARDUINO,
    )
}
"""Name → target."""

STANDARD = (C.name, ONNX.name)
"""What `export` writes when nobody says which."""

__all__ = ["STANDARD", "TARGETS"]
