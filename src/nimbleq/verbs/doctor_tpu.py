"""``nimbleq doctor --tpu``: what the compiler of a TPU says of a training, without the TPU."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nimbleq.config import EnvConfig, with_changes
from nimbleq.console import Console

if TYPE_CHECKING:
    from nimbleq.rl.learners.xla.ahead import Compiled

_KIB = 1024


def for_tpu(
    topology: str, env: str, preset: str, hidden: tuple[int, ...] | None, batch: int | None, console: Console
) -> tuple[dict[str, Any], bool]:
    """Compile the programs of a training for ``topology`` and list what they need; True if all of them fit.

    Raises:
        ConfigError: no such topology, no compiler, or nothing that the engine xla trains.
    """
    from nimbleq.rl.envs.engines import spec_of
    from nimbleq.rl.learners.engines import engine_for
    from nimbleq.rl.learners.xla.ahead import compile_ahead
    from nimbleq.rl.rules import check_settings
    from nimbleq.verbs.train import preset_for

    changes = {"learner.engine": "xla", "network.hidden": hidden, "learner.batch_size": batch}
    config = with_changes(
        preset_for(EnvConfig(env), preset), {name: value for name, value in changes.items() if value is not None}
    )
    check_settings(config)
    spec = spec_of(config.env)
    engine_for(config, spec)
    found = []
    with console.progress(f"compile for {topology}") as tick:
        for compiled in compile_ahead(topology, config, spec):
            found.append(compiled)
            tick(len(found), 4, compiled.program)
    title = f"{env}, preset {preset}: as the compiler for {topology} says; no TPU was used"
    console.table(
        title,
        ("program", "chips", "fits", "code", "data", "temporary", "estimate", "between chips"),
        [_row(each) for each in found],
    )
    return {"topology": topology, "env": env, "preset": preset, "programs": [asdict(each) for each in found]}, all(
        each.fits for each in found
    )


def _row(compiled: Compiled) -> list[str]:
    if not compiled.fits:
        return [compiled.program, str(compiled.chips), "no", compiled.refusal, "", "", "", ""]
    sizes = compiled.code_bytes, compiled.argument_bytes, compiled.temporary_bytes
    estimate = "none" if compiled.estimate_us is None else f"{compiled.estimate_us:.1f} µs"
    exchanges = ", ".join(f"{count} {kind}" for kind, count in (compiled.collectives or {}).items()) or "nothing"
    kib = [f"{size / _KIB:,.0f} KiB" for size in sizes]
    return [compiled.program, str(compiled.chips), "yes", *kib, estimate, exchanges]
