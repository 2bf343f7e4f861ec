"""Bad input: one clear line, exit 2, nothing lost."""

from __future__ import annotations

import importlib
import json
import resource
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nimbleq.graph.artefact import attach_certificate
from nimbleq.graph.artefact_files import FORMAT
from nimbleq.rl.training.checkpoint import load_checkpoint
from tests.e2e.support import one_line


def test_unknown_verb_option_and_value(inline: Any) -> None:
    assert "there is no verb 'tran'" in one_line(inline("tran"))
    assert "--frobnicate" in one_line(inline("train", "--frobnicate", "3"))
    assert "--learner.lr" in one_line(inline("train", "--learner.lr", "fast"))


def test_unknown_and_continuous_environments(inline: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "CartPole-v99" in one_line(inline("train", "--env", "CartPole-v99", "--out", out))
    assert "continuous" in one_line(inline("train", "--env", "Pendulum-v1", "--out", out))
    assert not out.exists(), "a run that never started leaves nothing behind"


@pytest.mark.parametrize("verb", ["compress", "report"])
def test_a_folder_that_is_no_run(inline: Any, tmp_path: Path, verb: str) -> None:
    assert "not a run directory" in one_line(inline(verb, tmp_path / "nowhere"))
    assert "not a run directory" in one_line(inline(verb, tmp_path))


@pytest.mark.parametrize("keep", ["1.5", "0", "-1", "nan"])
def test_keep_out_of_range(inline: Any, run: Path, keep: str) -> None:
    assert "keep" in one_line(inline("compress", run, "--keep", keep))


@pytest.fixture
def small(run: Path) -> Path:
    """A compressed artefact and its certificate."""
    place = run / "artefacts" / "small"
    attach_certificate(place, {"certified": True, "keep": 0.99})
    return place


@pytest.mark.parametrize(
    "name", ["model.json", "weights.safetensors", "golden.npz", "provenance.json", "certificate.json"]
)
def test_tampering_and_truncation_are_seen(inline: Any, small: Path, tmp_path: Path, name: str) -> None:
    good = (small / name).read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for damaged in (bytes(flipped), good[: len(good) // 2], b""):
        (small / name).write_bytes(damaged)
        for verb in ("certify", "export", "bench"):
            assert name in one_line(inline(verb, small, *(["--out", tmp_path / "build"] if verb == "export" else [])))
    (small / name).unlink()
    if name != "certificate.json":
        assert name in one_line(inline("certify", small))
    assert not (tmp_path / "build").exists()


def test_a_forged_certificate_is_refused(inline: Any, small: Path) -> None:
    certificate = json.loads((small / "certificate.json").read_text())
    text = json.dumps(certificate).replace('"keep": 0.99', '"keep": 1.0')
    assert text != json.dumps(certificate)
    (small / "certificate.json").write_text(text)
    assert "certificate.json" in one_line(inline("certify", small))


def test_an_artefact_from_the_future(inline: Any, small: Path, tmp_path: Path) -> None:
    model = json.loads((small / "model.json").read_text())
    model["format"] = FORMAT + 1
    (small / "model.json").write_text(json.dumps(model))
    assert "newer" in one_line(inline("export", small, "--out", tmp_path / "build"))


@pytest.mark.parametrize("place", ["obs", "reward"])
def test_nan_from_an_environment_stops_training_and_keeps_the_checkpoint(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    run = tmp_path / "run"
    done = inline("train", "--env", f"broken_envs:Nan{place.title()}-v0", "--learn-start", "200", "--out", run)
    message = one_line(done)
    assert "returned NaN in its " in message
    assert any((run / "checkpoint").iterdir())
    lines = (run / "metrics.jsonl").read_text().splitlines()
    for text in lines:
        json.loads(text)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("step", "failed in step: ZeroDivisionError: wheels have no radius (broken_envs.py, line "),
        ("reset", "failed in reset: OSError: the simulator went away (broken_envs.py, line "),
        ("exit", "failed in step: SystemExit"),
    ],
)
def test_an_environment_that_crashes_is_one_line_and_the_run_goes_on_when_it_is_mended(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, says: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    run, words = tmp_path / "run", crashing(tmp_path, how)
    broken_envs = importlib.import_module("broken_envs")
    monkeypatch.setattr(broken_envs.Crashing, "steps", 0)
    assert says in one_line(inline(*words))
    steps = steps_of(run)
    assert 2_900 < steps < 3_400, "the state of the moment before is saved"
    assert says in one_line(inline(*words, "--resume")), "it is not mended yet"
    (tmp_path / "mended").touch()
    done = inline(*words, "--resume", "--json")
    assert done.code == 0, done.err
    assert done.json["steps"] == 4_000


def crashing(tmp_path: Path, how: str) -> tuple[Any, ...]:
    words = ("--network.hidden", "8", "--evaluation.every", "100000", "--evaluation.final-episodes", "2")
    arguments = (f"how={how}", f"mended={tmp_path / 'mended'}")
    env = ("--env", "broken_envs:Crashing", "--env-kwargs", *arguments, "--max-episode-steps", "50")
    return ("train", *env, "--steps", "4000", "--learn-start", "3500", *words, "--out", tmp_path / "run")


def steps_of(run: Path) -> int:
    return int(load_checkpoint(run / "checkpoint")[1]["counters"]["steps"])


def test_an_environment_that_ends_the_process_costs_what_came_after_the_last_checkpoint(
    cli: Any, inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    words = crashing(tmp_path, "kill")
    assert cli(*words, "--checkpoint-seconds", "0").code == -signal.SIGKILL
    assert steps_of(tmp_path / "run") > 2_900
    (tmp_path / "mended").touch()
    done = inline(*words, "--resume", "--json")
    assert done.code == 0, done.err
    assert done.json["steps"] == 4_000


def test_a_factory_that_fails_is_one_line(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    line = one_line(inline("train", "--env", "broken_envs:impossible", "--out", tmp_path / "run"))
    assert "failed to make an environment: RuntimeError: no licence" in line
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line(cli: Any, inline: Any, tmp_path: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    run = tmp_path / "run"
    words = (
        "train", "--env", "CartPole-v1", "--steps", "1500", "--out", run, "--checkpoint-seconds", "0",
        "--evaluation.final-episodes", "2",
    )  # fmt: skip
    message = one_line(cli(*words, preexec_fn=small_files_only))
    assert "cannot write" in message
    assert not list(run.rglob("*.tmp"))
    assert inline(*words, "--resume", "--json").code == 0


BRIEF = (
    "--env", "CartPole-v1", "--max-episode-steps", "40", "--network.hidden", "8", "--steps", "640", "--envs", "4",
    "--learn-start", "100", "--evaluation.every", "50", "--evaluation.episodes", "2",
    "--evaluation.final-episodes", "2", "--evaluation.stop-return", "None", "--evaluation.no-beside",
)  # fmt: skip


def test_a_finished_run_is_only_read_and_what_is_damaged_is_named(inline: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    first = inline("train", *BRIEF, "--out", good, "--json")
    again = inline("train", "--resume", "--out", good, "--json")
    assert again.code == 0, again.err
    assert again.json["return_mean"] == first.json["return_mean"]
    assert again.json["steps"] == first.json["steps"]
    state, log = "checkpoint/state.safetensors", "checkpoint/replay-000000.log"
    for name, size in ((state, 99), (state, 0), (log, 99), (log, None), ("config.json", 99)):
        shutil.copytree(good, bad)
        path = bad / name
        if size is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:size])
        line = one_line(inline("train", "--resume", "--out", bad))
        assert str(path) in line, (name, size)
        shutil.rmtree(bad)
    for name, offset in ((state, -99), ("checkpoint/best.safetensors", -9), (log, 999)):
        shutil.copytree(good, bad)
        data = bytearray((bad / name).read_bytes())
        data[offset] ^= 16
        (bad / name).write_bytes(data)
        line = one_line(inline("train", "--resume", "--out", bad))
        assert str(bad / name) in line
        assert "damaged" in line
        shutil.rmtree(bad)
    for changed in (("--learner.lr", "0.5"), ("--env", "Acrobot-v1"), ("--learner.reward-clip", "1")):
        assert "was started with" in one_line(inline("train", "--resume", "--out", good, *changed))
    for changed in (("--checkpoint-seconds", "3"), ("--workers", "2"), ("--evaluation.beside",)):
        assert inline("train", "--resume", "--out", good, *changed).code == 0, changed
    assert '"checkpoint_seconds": 3.0' not in (good / "config.json").read_text(), "a run that is over is only read"
    other = tmp_path / "other.json"
    other.write_text((good / "config.json").read_text().replace('"steps": 640', '"steps": 64'))
    assert "steps = 640, not 64" in one_line(inline("train", "--resume", "--out", good, "--config", other))
    shutil.rmtree(good / "checkpoint")
    assert "is finished and its checkpoint is gone" in one_line(inline("train", "--resume", "--out", good))
    (good / "results" / "train.json").unlink()
    anew = inline("train", "--resume", "--out", good)
    assert anew.code == 0, anew.err
    assert "has no checkpoint yet: training starts from the beginning" in anew.out


def test_numbers_that_cannot_be_are_one_line(inline: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for name, value in (
        ("learner.lr", "inf"), ("learner.reward-scale", "nan"), ("evaluation.stop-return", "nan"),
        ("checkpoint-seconds", "nan"), ("seed", str(1 << 70)), ("learner.max-grad-norm", "-1"), ("learn-start", "-1"),
        ("learner.adam-eps", "-1"), ("learner.reward-scale", "0"), ("replay.beta-start", "2"),
    ):  # fmt: skip
        line = one_line(inline("train", *BRIEF, "--out", out, f"--{name}", value))
        assert f"the setting {name.replace('-', '_')} must be" in line
    assert not out.exists()
    huge = ("--replay.capacity", str(10**13))
    assert "not enough memory (Unable to allocate" in one_line(inline("train", *BRIEF, "--out", out, *huge))


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_network_that_diverges_is_one_line(inline: Any, tmp_path: Path, engine: str) -> None:
    rate = ("--learner.lr", "1e30", "--learner.lr-end", "1e30", "--learner.max-grad-norm", "0")
    line = one_line(inline("train", *BRIEF, *rate, "--learner.engine", engine, "--out", tmp_path / engine))
    assert "has diverged after " in line
    assert "lower learner.lr" in line


def test_places_that_cannot_be_written_are_one_line(inline: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "run", Path("/proc/run")):
        assert "cannot write" in one_line(inline("train", *BRIEF, "--out", out)), out


@pytest.mark.parametrize("workers", ["1", "2"])
def test_rewards_that_are_no_single_number(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    words = ("train", *BRIEF[2:], "--env", "broken_envs:Paying", "--workers", workers)
    assert inline(*words, "--env-kwargs", "count=1", "--out", tmp_path / "one").code == 0, "an array of one number"
    line = one_line(inline(*words, "--env-kwargs", "count=2", "--out", tmp_path / "two"))
    assert "as its reward: it must be one number" in line


def test_files_that_are_no_sb3_zip(inline: Any, tmp_path: Path) -> None:
    text = tmp_path / "model.zip"
    text.write_text("hello")
    words = ("import", text, "--from", "sb3", "--env", "CartPole-v1", "--out", tmp_path / "run")
    assert "zip" in one_line(inline(*words))
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("readme.txt", "not a model")
    assert "model.zip" in one_line(inline(*words))
    assert not (tmp_path / "run").exists()


def test_a_second_training_does_not_overwrite_the_first(inline: Any, run: Path) -> None:
    assert "--resume" in one_line(inline("train", "--env", "CartPole-v1", "--out", run))


def test_errors_are_json_too(cli: Any, tmp_path: Path) -> None:
    done = cli("compress", tmp_path, "--json")
    assert done.code == 2
    assert "not a run directory" in done.json["error"]
