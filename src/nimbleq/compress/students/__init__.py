"""Students: who can be taught. A new kind is a file beside these and a line in `STUDENTS`."""

from nimbleq.compress.students import cnn, linear, mlp, tree
from nimbleq.compress.students.base import StudentRow

STUDENTS: dict[str, StudentRow] = {
    "mlp": mlp.ROW,
    "linear": linear.ROW,
    "tree": tree.OBLIQUE,
    "axis-tree": tree.AXIS,
    "mobilenet": cnn.MOBILENET,
    "shufflenet": cnn.SHUFFLENET,
}
"""Name → kind of student."""
