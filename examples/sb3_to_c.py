"""A Stable-Baselines3 DQN → C and ONNX that choose the same actions, image preprocessing included.

    python examples/sb3_to_c.py model.zip [folder]

Nothing in the zip is unpickled. The same on the command line, with the environment's returns measured:
``nimbleq import model.zip --from sb3 --env CartPole-v1``.
"""

import sys
from pathlib import Path

from nimbleq import Runtime, emit_c
from nimbleq.bridge.checkpoints.sb3 import import_sb3
from nimbleq.deploy.targets.onnx.emit import write_onnx


def main(model: Path, folder: Path) -> None:
    imported = import_sb3(model)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in emit_c(imported.graph, "policy", source=model.name).items():
        (folder / name).write_text(text)
    write_onnx(imported.graph, folder / "policy.onnx", source=model.name)
    status = Runtime(imported.graph).status
    print(
        f"{imported.info['policy']}, observations {imported.obs.shape} {imported.obs.dtype}, {imported.actions} actions"
    )
    print(f"wrote {', '.join(sorted(file.name for file in folder.iterdir()))} in {folder}")
    print(f"engine {status.engine}, {status.latency_us:.2f} µs a decision")
    for note in imported.info["notes"]:
        print(f"note: {note}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "build/sb3"))
