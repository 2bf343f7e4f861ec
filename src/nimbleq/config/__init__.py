"""The settings of training: the dataclasses, the rules for valid ones, JSON, and which may change on resuming."""

from nimbleq.config.names import AUTO, Channels, EngineName, HeadName, TableName, TorsoName, VectorName
from nimbleq.config.plain import flat_settings, from_dict, to_dict, with_changes
from nimbleq.config.resume import require_same_result, same_settings
from nimbleq.config.rules import validate
from nimbleq.config.settings import (
    DistributedConfig,
    EnvConfig,
    EvalConfig,
    EvolveConfig,
    ExploreConfig,
    LearnerConfig,
    LogConfig,
    NetworkConfig,
    PolicyConfig,
    PqnConfig,
    ReplayConfig,
    StreamConfig,
    TrainConfig,
    TransferConfig,
)

__all__ = [
    "AUTO",
    "Channels",
    "DistributedConfig",
    "EngineName",
    "EnvConfig",
    "EvalConfig",
    "EvolveConfig",
    "ExploreConfig",
    "HeadName",
    "LearnerConfig",
    "LogConfig",
    "NetworkConfig",
    "PolicyConfig",
    "PqnConfig",
    "ReplayConfig",
    "StreamConfig",
    "TableName",
    "TorsoName",
    "TrainConfig",
    "TransferConfig",
    "VectorName",
    "flat_settings",
    "from_dict",
    "require_same_result",
    "same_settings",
    "to_dict",
    "validate",
    "with_changes",
]
