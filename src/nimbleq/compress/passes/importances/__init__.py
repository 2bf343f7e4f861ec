"""What makes a unit important. A new one is a file in this folder and a line in `IMPORTANCES`."""

from nimbleq.compress.passes.importances import ablation, bn_scale, magnitude, obd, obs, sensitivity, variance
from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated

IMPORTANCES: dict[str, ImportanceRow] = {
    "magnitude": magnitude.ROW,
    "variance": variance.ROW,
    "sensitivity": sensitivity.ROW,
    "obd": obd.ROW,
    "obs": obs.ROW,
    "bn-scale": bn_scale.ROW,
    "ablation": ablation.ROW,
}
"""Name on the command line → importance."""

__all__ = ["IMPORTANCES", "Evidence", "ImportanceRow", "Rated"]
