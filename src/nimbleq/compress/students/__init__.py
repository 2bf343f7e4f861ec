"""Students: who can be taught. A new kind is a file beside these and a line in `STUDENTS`."""

from nimbleq.compress.students import linear, mlp
from nimbleq.compress.students.base import StudentRow

STUDENTS: dict[str, StudentRow] = {
    "mlp": mlp.ROW,
    "linear": linear.ROW,
}
"""Name → kind of student."""
