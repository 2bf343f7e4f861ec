"""Settings: changed by name, written and read back, checked, and every one of them used."""

import ast
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from nimbleq.config import (
    EngineName,
    TrainConfig,
    VectorName,
    from_dict,
    require_same_result,
    same_settings,
    to_dict,
    validate,
    with_changes,
)
from nimbleq.config.resume import WITHOUT_EFFECT
from nimbleq.errors import ConfigError

SRC = Path(__file__).parents[1] / "src" / "nimbleq"


def leaves(kind: Any) -> set[str]:
    hints = get_type_hints(kind)
    names: set[str] = set()
    for field in fields(kind):
        names |= leaves(hints[field.name]) if is_dataclass(hints[field.name]) else {field.name}
    return names


def test_every_setting_is_read_somewhere() -> None:
    """As an attribute, outside the room that declares and checks them."""
    read = {
        node.attr
        for path in SRC.rglob("*.py")
        if path.parent.name != "config" and path.name != "presets.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert leaves(TrainConfig) - read == set()


def test_dotted_changes_reach_nested_settings() -> None:
    changed = with_changes(TrainConfig(), {"learner.lr": 0.5, "seed": 3})
    assert (changed.learner.lr, changed.seed) == (0.5, 3)
    assert TrainConfig().learner.lr != 0.5
    with pytest.raises(ConfigError, match=r"no setting 'lrr' in LearnerConfig"):
        with_changes(TrainConfig(), {"learner.lrr": 0.5})


def test_json_and_back() -> None:
    config = with_changes(
        TrainConfig(), {"network.hidden": (8, 4), "env.max_episode_steps": 7, "evaluation.stop_return": 1}
    )
    assert from_dict(TrainConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"sed": 1}, "sed"),
        ({"learner": {"lr": "fast"}}, r"learner\.lr"),
        ({"learner": {"target": "sometimes"}}, r"learner\.target"),
        ({"learner": 3}, "learner"),
        ({"envs": True}, "envs"),
    ],
)
def test_bad_json_is_named(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(TrainConfig, value)


def test_the_defaults_are_valid_and_the_impossible_is_named() -> None:
    validate(TrainConfig())
    for name, value in {
        "steps": 0,
        "update_every": 0,
        "replay.n_step": 0,
        "learner.tau": 0.0,
        "explore.end": 2.0,
        "network.hidden": (0,),
    }.items():
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            validate(with_changes(TrainConfig(), {name: value}))


def test_pqn_without_a_batch_is_named_too() -> None:
    """The batch has to divide the rollout; before that it has to be one."""
    pqn = with_changes(TrainConfig(), {"algorithm": "pqn", "learner.batch_size": 0})
    with pytest.raises(ConfigError, match=r"learner\.batch_size must be at least 1, not 0"):
        validate(pqn)


def dotted(config: Any, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        values |= dotted(value, f"{name}.") if is_dataclass(value) else {name: value}
    return values


@pytest.mark.parametrize("name", dotted(TrainConfig()))
def test_a_run_goes_on_with_other_settings_only_where_they_change_no_result(name: str) -> None:
    before = dotted(TrainConfig())[name]
    other = {bool: not before, tuple: ("other",), str: "other", type(None): 7}.get(type(before), 7)
    changed = with_changes(TrainConfig(), {name: other})
    free = name in WITHOUT_EFFECT
    assert same_settings(to_dict(TrainConfig()), changed) == free
    if free:
        require_same_result(TrainConfig(), changed, "it")
    else:
        with pytest.raises(ConfigError, match=rf"^it was started with {name} = .*, not .*: resume with the same"):
            require_same_result(TrainConfig(), changed, "it")


def test_settings_without_effect_exist() -> None:
    assert dotted(TrainConfig()).keys() >= WITHOUT_EFFECT.keys()


def test_names_of_tables_stay_such_names() -> None:
    changed = with_changes(TrainConfig(), {"learner.engine": "native", "env.engine": "envpool"})
    for config in (changed, from_dict(TrainConfig, to_dict(changed))):
        assert isinstance(config.learner.engine, EngineName), "else the command line warns about its own default"
        assert isinstance(config.env.engine, VectorName)
