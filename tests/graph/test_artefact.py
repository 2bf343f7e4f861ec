"""Artefacts survive the round trip; nothing damaged, edited, newer or hostile does."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.errors import FileError
from nimbleq.files import sha256
from nimbleq.graph.artefact import attach_certificate, digest, load_artefact, save_artefact
from nimbleq.graph.artefact_files import FORMAT, sealed
from nimbleq.graph.codec import decode, encode
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from tests.bomb import Bomb
from tests.strategies import graphs_with_obs, random_graph, random_obs

FILES = ("model.json", "weights.safetensors", "golden.npz", "provenance.json", "certificate.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    graph = random_graph(rng, obs="vector")
    path = tmp_path / "artefact"
    save_artefact(path, graph, random_obs(rng, graph, 9), {"command": "nimbleq compress"}, {"certified": False})
    return path


def reseal(path: Path, name: str, data: bytes) -> None:
    """Replace a hashed file and recompute every digest, as a forger would."""
    (path / name).write_bytes(data)
    provenance = json.loads((path / "provenance.json").read_text())
    provenance["files"][name] = sha256(data)
    provenance.pop("digest")
    (path / "provenance.json").write_bytes(sealed(provenance))
    (path / "certificate.json").unlink(missing_ok=True)


def same_graph(left: Graph, right: Graph) -> bool:
    same = encode(left) == encode(right) and left.weights.keys() == right.weights.keys()
    return same and all(
        left.weights[name].dtype == array.dtype and np.array_equal(left.weights[name], array)
        for name, array in right.weights.items()
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["float", "int"]).flatmap(graphs_with_obs))
def test_codec_round_trip(case: tuple[Graph, Any]) -> None:
    graph, _ = case
    assert same_graph(decode(json.loads(json.dumps(encode(graph))), graph.weights), graph)


@pytest.mark.parametrize("numbers", ["float", "int"])
@pytest.mark.parametrize("obs", ["vector", "image"])
def test_artefact_round_trip(tmp_path: Path, numbers: Any, obs: Any) -> None:
    rng = np.random.default_rng(1)
    graph = random_graph(rng, numbers=numbers, obs=obs)
    observations = random_obs(rng, graph, 5)
    save_artefact(tmp_path / "a", graph, observations, {"parents": {"teacher": "ab"}, "command": "x"})
    loaded = load_artefact(tmp_path / "a")
    assert same_graph(loaded.graph, graph)
    expected = interpret(graph, observations)
    assert np.array_equal(loaded.golden.obs, observations)
    assert loaded.golden.obs.dtype == observations.dtype
    assert np.array_equal(loaded.golden.q, expected["q"])
    assert np.array_equal(loaded.golden.action, expected["action"])
    assert loaded.provenance["parents"] == {"teacher": "ab"}
    assert loaded.certificate is None
    assert loaded.digest == digest(tmp_path / "a")


def test_saving_twice_gives_one_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = random_graph(rng)
    obs = random_obs(rng, graph, 5)
    first = save_artefact(tmp_path / "a", graph, obs, {})
    second = save_artefact(tmp_path / "b", graph, obs, {"other": 1})
    assert first.digest == second.digest


def test_certificates_attach_and_belong_to_one_model(folder: Path, tmp_path: Path) -> None:
    assert load_artefact(folder).certificate == {"certified": False}
    assert attach_certificate(folder, {"certified": True, "keep": 0.99}).certificate == {
        "certified": True,
        "keep": 0.99,
    }
    rng = np.random.default_rng(8)
    other = random_graph(rng)
    save_artefact(tmp_path / "other", other, random_obs(rng, other, 2), {})
    (tmp_path / "other" / "certificate.json").write_bytes((folder / "certificate.json").read_bytes())
    with pytest.raises(FileError, match=r"certificate\.json belongs to another model"):
        load_artefact(tmp_path / "other")


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_found_and_named(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for at in np.linspace(0, len(data) - 1, 23).astype(int):
        changed = bytearray(data)
        changed[at] ^= 1
        (folder / name).write_bytes(bytes(changed))
        with pytest.raises(FileError, match=name):
            load_artefact(folder)


def test_a_flipped_verdict_is_found(folder: Path) -> None:
    file = folder / "certificate.json"
    file.write_text(file.read_text().replace('"certified": false', '"certified": true'))
    with pytest.raises(FileError, match=r"certificate\.json was changed"):
        load_artefact(folder)


@pytest.mark.parametrize("name", FILES[:4])
def test_missing_and_truncated_files_are_named(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match=name):
        load_artefact(folder)
    (folder / name).unlink()
    with pytest.raises(FileError, match=f"{name} is missing"):
        load_artefact(folder)
    with pytest.raises(FileError, match=name):
        attach_certificate(folder, {"certified": True})


def test_no_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such folder"):
        load_artefact(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="is not an artefact"):
        load_artefact(tmp_path / "file")


@pytest.mark.parametrize("name", ["model.json", "provenance.json", "certificate.json"])
def test_a_future_format_says_upgrade(folder: Path, name: str) -> None:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, "format": FORMAT + 1}))
    with pytest.raises(FileError, match=rf"{name} was written by a newer nimbleq .* upgrade"):
        load_artefact(folder)


def set_at(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for key in keys[:-1]:
            model = model[key]
        model[keys[-1]] = value

    return change


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


HOSTILE_MODELS: dict[str, Callable[[Any], Any]] = {
    "huge shape": set_at("inputs", 0, "shape", value=[1 << 40, 1 << 40]),
    "negative shape": set_at("inputs", 0, "shape", value=[-1]),
    "float shape": set_at("inputs", 0, "shape", value=[1.5]),
    "bool shape": set_at("inputs", 0, "shape", value=[True]),
    "many axes": set_at("inputs", 0, "shape", value=[1] * 1000),
    "shape that no weight fits": set_at("inputs", 0, "shape", value=[10_000]),
    "unknown type": set_at("inputs", 0, "type", value="float512"),
    "inputs is an object": set_at("inputs", value={}),
    "input is a number": set_at("inputs", 0, value=7),
    "unknown op": set_at("nodes", 0, "op", value="__import__"),
    "op is a list": set_at("nodes", 0, "op", value=[]),
    "unknown field": set_at("nodes", 0, "evil", value=1),
    "unknown top field": set_at("evil", value=1),
    "missing output": lambda model: model["nodes"][0].pop("output"),
    "missing nodes": lambda model: model.pop("nodes"),
    "inputs of a node is a string": set_at("nodes", 0, "inputs", value="obs"),
    "weight name is a number": set_at("nodes", -2, "weight", value=3),
    "weight is nested": set_at("nodes", -2, "weight", value=nested(500)),
    "missing weight": set_at("nodes", -2, "weight", value="nowhere"),
    "too many inputs": set_at("nodes", 0, "inputs", value=["obs"] * 50),
    "output twice": set_at("outputs", value=["q", "q", "action"]),
    "no outputs": set_at("outputs", value=[]),
    "q is the observation": set_at("nodes", -1, "output", value="x"),
    "too many nodes": lambda model: model.update(nodes=model["nodes"] * 20_000),
    "null": lambda model: model.update(nodes=None),
}


@pytest.mark.parametrize("change", HOSTILE_MODELS.values(), ids=HOSTILE_MODELS)
def test_hostile_models_give_one_error(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, obs="vector", dueling=False)
    save_artefact(tmp_path / "a", graph, random_obs(rng, graph, 2), {})
    model = json.loads((tmp_path / "a" / "model.json").read_text())
    change(model)
    reseal(tmp_path / "a", "model.json", json.dumps(model).encode())
    with pytest.raises(FileError, match=r"model\.json"):
        load_artefact(tmp_path / "a")


@pytest.mark.parametrize(
    ("field", "value"),
    [("stride", [0, 1]), ("stride", [1]), ("padding", [-1, 0]), ("padding", [2**40, 0]), ("groups", 0),
     ("groups", 2**70), ("pad_value", 9), ("pad_value", 1.0), ("weight", None)],
)  # fmt: skip
def test_hostile_convolutions_give_one_error(tmp_path: Path, field: str, value: Any) -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, obs="image")
    save_artefact(tmp_path / "a", graph, random_obs(rng, graph, 2), {})
    model = json.loads((tmp_path / "a" / "model.json").read_text())
    next(node for node in model["nodes"] if node["op"] == "Conv2d")[field] = value
    reseal(tmp_path / "a", "model.json", json.dumps(model).encode())
    with pytest.raises(FileError, match=r"model\.json"):
        load_artefact(tmp_path / "a")


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "[" * 100_000, '{"format": NaN}', '{"format": "1"}', '{"format": true}', "1" * 10_000,
     "\xff", '{"format": 1, "inputs": [], "nodes": [], "outputs": [Infinity]}'],
    ids=range(11),
)  # fmt: skip
def test_hostile_json_gives_one_error(folder: Path, text: str) -> None:
    reseal(folder, "model.json", text.encode("latin-1"))
    with pytest.raises(FileError, match=r"model\.json"):
        load_artefact(folder)


def weights_with(folder: Path, array: Any) -> bytes:
    weights = safetensors.numpy.load((folder / "weights.safetensors").read_bytes())
    weights[sorted(weights)[0]] = array
    return safetensors.numpy.save(weights)


@pytest.mark.parametrize(
    "array",
    [np.zeros(3, np.float64), np.zeros(3, np.float16), np.zeros(3, np.uint8), np.array([np.nan], np.float32),
     np.array([np.inf], np.float32)],
    ids=["float64", "float16", "uint8", "nan", "infinity"],
)  # fmt: skip
def test_unexpected_weights_give_one_error(folder: Path, array: Any) -> None:
    reseal(folder, "weights.safetensors", weights_with(folder, array))
    with pytest.raises(FileError, match=r"weights\.safetensors: weight"):
        load_artefact(folder)


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}" + b"x" * 9, b'\x08\0\0\0\0\0\0\0{"a":{}}'])
def test_damaged_weights_give_one_error(folder: Path, data: bytes) -> None:
    reseal(folder, "weights.safetensors", data)
    with pytest.raises(FileError, match=r"weights\.safetensors"):
        load_artefact(folder)


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npy_header(text: str) -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def hostile_members(good: dict[str, bytes], mark: Path) -> dict[str, bytes]:
    """Golden files that must not load; ``good`` is one that does."""
    pickled = npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (9,), }") + pickle.dumps(
        [Bomb(Path.touch, mark)]
    )
    return {
        "pickled objects": npz(**{**good, "q": pickled}),
        "numpy's pickled objects": npz(**{**good, "q": npy(np.array([Bomb(Path.touch, mark)], dtype=object))}),
        "not a zip": b"PK\x03\x04 but no more",
        "missing member": npz(obs=good["obs"], q=good["q"]),
        "announces more than it holds": npz(
            **{**good, "q": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 2), }")}
        ),
        "negative extents": npz(
            **{**good, "q": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }") + bytes(4)}
        ),
        "header is code": npz(**{**good, "q": npy_header("__import__('os').system('true')")}),
        "header is deep": npz(**{**good, "q": npy_header("-" * 9000 + "1")}),
        "header is unclosed": npz(**{**good, "q": npy_header("{'descr': (((")}),
        "huge header": npz(**{**good, "q": npy_header("{" + " " * 60_000 + "}")}),
        "doubles": npz(**{**good, "q": npy(np.zeros((9, 2)))}),
        "strings": npz(**{**good, "q": npy(np.array(["a"]))}),
        "nan": npz(**{**good, "q": npy(np.full(np.load(io.BytesIO(good["q"])).shape, np.nan, np.float32))}),
        "no such action": npz(**{**good, "action": npy(np.full(9, 99, np.int32))}),
        "fewer answers": npz(**{**good, "action": npy(np.zeros(8, np.int32))}),
        "no observations": npz(**{**good, "obs": npy(np.zeros((0, 4), np.float32))}),
        "a number": npz(**{**good, "obs": npy(np.float32(1))}),
    }


def test_hostile_golden_files_give_one_error(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "golden.npz") as archive:
        good = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    reseal(folder, "golden.npz", npz(**good))
    load_artefact(folder)
    mark = tmp_path / "executed"
    for label, data in hostile_members(good, mark).items():
        reseal(folder, "golden.npz", data)
        with pytest.raises(FileError, match=r"golden\.npz"):
            load_artefact(folder)
        assert not mark.exists(), label


def test_a_zip_bomb_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nimbleq.graph.golden.MAX_BYTES", 1 << 16)
    reseal(folder, "golden.npz", npz(obs=npy(np.zeros(1 << 20, np.float32)), q=b"", action=b""))
    with pytest.raises(FileError, match="unpacks to more than"):
        load_artefact(folder)


def test_saving_refuses_what_it_could_not_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, obs="vector", dueling=False)
    obs = random_obs(rng, graph, 2)
    name = next(name for name, array in graph.weights.items() if array.dtype == np.float32)
    with pytest.raises(FileError, match="NaN"):
        save_artefact(tmp_path / "a", graph.with_weights({name: np.full_like(graph.weights[name], np.nan)}), obs, {})
    with pytest.raises(FileError, match="golden observation"):
        save_artefact(tmp_path / "a", graph, obs[:0], {})
    assert not (tmp_path / "a").exists()


def test_a_failed_save_keeps_the_old_artefact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(folder)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    rng = np.random.default_rng(4)
    graph = random_graph(rng)
    monkeypatch.setattr("nimbleq.graph.artefact.write_bytes", full)
    with pytest.raises(FileError, match="No space left"):
        save_artefact(folder, graph, random_obs(rng, graph, 3), {})
    assert digest(folder) == before
    load_artefact(folder)
