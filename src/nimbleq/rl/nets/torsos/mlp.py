"""The torso ``mlp``: observations as they are, flattened; the fully connected layers follow."""

from __future__ import annotations

from nimbleq.rl.nets.torsos.torso import Torso

TORSO = Torso(
    "mlp", lambda channels, config: [], lambda config: [], pictures=False, spectral_norm=True, why_not=lambda *_: None
)
