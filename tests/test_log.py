"""The metrics writer."""

import json
import resource
from pathlib import Path

import pytest

from nimbleq.errors import FileError
from nimbleq.log import MetricsLog


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_per_record_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(10, loss=0.5, return_mean=None)
        assert lines(path) == [{"step": 10, "loss": 0.5}]
        log.write(20, loss=0.25)
        assert lines(path)[1] == {"step": 20, "loss": 0.25}
        assert log.position == path.stat().st_size


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(1, x=1.0)
        position = log.position
        log.write(2, x=2.0)
    with path.open("ab") as stream:
        stream.write(b'{"step": 3, "x"')  # killed in the middle of a line
    with MetricsLog(path, keep_bytes=position) as log:
        assert log.position == position
        log.write(2, x=5.0)
    assert lines(path) == [{"step": 1, "x": 1.0}, {"step": 2, "x": 5.0}]
    with MetricsLog(path):
        pass
    assert lines(path) == []


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard") as log:
        log.write(10, loss=0.5)
        log.write(20, loss=0.25, q_mean=3.0)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("q_mean")] == [(20, 3.0)]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*metrics\.jsonl"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl")


def test_a_write_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            with pytest.raises(FileError, match=r"metrics\.jsonl: File too large"):
                log.write(1, x=1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
