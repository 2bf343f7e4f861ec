"""Names that settings hold. The command line takes those of rows from the tables in other rooms."""

from typing import Literal

Channels = Literal["first", "last", "flat"]
"""Where the channels of a picture are; ``flat``: it is no picture."""


class TableName(str):
    """The name of a row in a table of another room."""

    __slots__ = ()


class EngineName(TableName):
    """``auto``, or a row of `nimbleq.rl.learners.engines.ENGINES`."""

    __slots__ = ()


class HeadName(TableName):
    """A row of `nimbleq.rl.nets.heads.table.HEADS`."""

    __slots__ = ()


class VectorName(TableName):
    """A row of `nimbleq.rl.envs.vectors.VECTOR_ENGINES`."""

    __slots__ = ()


class TorsoName(TableName):
    """A row of `nimbleq.rl.nets.torsos.table.TORSOS`."""

    __slots__ = ()


AUTO, GYMNASIUM, Q, MLP = EngineName("auto"), VectorName("gymnasium"), HeadName("q"), TorsoName("mlp")
