"""Records that somebody rewrote with care: every checksum fits, and what they say is nonsense.

Each reads as a model or is refused by a typed error; nothing else comes out, and nothing takes long or much memory.
"""

import contextlib
import json
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import exporter
from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.artifacts.inspection.graphs import read_graph, read_keras_2_config
from exporter.artifacts.manifest import check_integrity
from exporter.artifacts.receipt import Receipt
from exporter.errors import ArtifactError, ExporterError
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.names import MANIFEST

from .conftest import make_model, read_members, write_members

pytestmark = pytest.mark.xdist_group("safety")

BOUNDED = settings(max_examples=25, deadline=60_000, suppress_health_check=list(HealthCheck))
MEMORY = 256 << 20

Json = Any


def nest(depth: int) -> Json:
    """Makes a list of lists."""
    nested: Json = []
    for _ in range(depth):
        nested = [nested]
    return nested


NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**31, 2**63, -(2**70), 10**300, 0.5, float("nan"), float("inf"), 1e308]),
    st.sampled_from(["", " ", "=", "é\U0001f600", "../../etc/passwd", "/", "float32", "__main__", "x" * 100_000, "\0"]),
    st.sampled_from([[], {}, [None], {"": None}, {"class_name": "Dense"}, {"class_name": 3, "config": []}]),
    st.integers(2, 150).map(nest),
)


def list_places(node: Json, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Lists the way to every value of a tree."""
    yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from list_places(child, (*place, key))


def put(node: Json, place: tuple[Any, ...], value: Json) -> Json:
    """Returns a tree with another value at one place; `...` takes it out."""
    if not place:
        return None if value is ... else value
    copy = dict(node) if isinstance(node, dict) else list(node)
    if len(place) == 1 and value is ...:
        del copy[place[0]]
    else:
        copy[place[0]] = put(node[place[0]], place[1:], value)
    return copy


def change(data: st.DataObject, tree: Json) -> Json:
    """Puts nonsense into one to three places of a tree."""
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        place = data.draw(st.sampled_from(list(list_places(tree))), "place")
        tree = put(tree, place, data.draw(st.one_of(NONSENSE, st.just(...)), "value"))
    return tree


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Lets typed errors pass, and looks at the memory of Python."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(ExporterError):
            yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def load_and_inspect(path: Path) -> None:
    """Lets both readers have a file."""
    with bounded():
        exporter.load_model(path)
    with bounded(), open_artifact(path):
        pass


def seal_archive(members: Mapping[str, bytes], config: Json, state: Json) -> dict[str, bytes]:
    """Returns the members of an archive with another configuration and record, and the checksums of these."""
    metadata = json.loads(members["metadata.json"])
    checksums = Checksums.from_json(metadata["exporter"]["checksums"].encode(), "the archive")
    content = checksums.add_part("config.json", json.dumps(config).encode())
    checksums.add_part("state", json.dumps(state).encode())
    metadata["exporter"].update(state=state, checksums=checksums.to_json().decode())
    return {**members, "config.json": content, "metadata.json": json.dumps(metadata).encode()}


@pytest.mark.parametrize("part", ["configuration", "record"])
@BOUNDED
@given(data=st.data())
def test_an_archive_with_other_records(
    part: str, data: st.DataObject, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    members = read_members(originals["keras"])
    config = json.loads(members["config.json"])
    state = json.loads(members["metadata.json"])["exporter"]["state"]
    if part == "configuration":
        config = change(data, config)
    else:
        state = change(data, state)
    path = tmp_path / "model.keras"
    write_members(path, seal_archive(members, config, state))

    load_and_inspect(path)


def test_a_layer_that_was_never_built(originals: Mapping[str, Path], tmp_path: Path) -> None:
    members = read_members(originals["keras"])
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        layer["build_config"] = " "
    path = tmp_path / "model.keras"
    write_members(path, seal_archive(members, config, json.loads(members["metadata.json"])["exporter"]["state"]))

    with pytest.raises(ArtifactError, match=r"cannot be put into the rebuilt model: 'Dense' object has no attribute"):
        exporter.load_model(path)


@pytest.mark.parametrize("name", ["metadata.json", "config.json"])
@BOUNDED
@given(data=st.data())
def test_an_archive_of_keras_with_other_records(
    name: str, data: st.DataObject, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    members = read_members(originals["stock.keras"])
    changed = json.dumps(change(data, json.loads(members[name]))).encode()
    path = tmp_path / "model.keras"
    write_members(path, {**members, name: changed})

    load_and_inspect(path)


@pytest.mark.parametrize("attribute", ["model_config", "training_config"])
@BOUNDED
@given(data=st.data())
def test_an_hdf5_file_of_keras_with_other_attributes(
    attribute: str, data: st.DataObject, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    import h5py

    path = tmp_path / "model.h5"
    path.write_bytes(originals["stock.h5"].read_bytes())
    with h5py.File(path, "a") as file:
        content = json.dumps(change(data, json.loads(file.attrs[attribute])))
        if len(content) > 60_000 or "\0" in content:
            return  # HDF5 itself has no place for it
        file.attrs[attribute] = content

    load_and_inspect(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with everything that an export writes, and its receipt beside it."""
    path = tmp_path_factory.mktemp("exported") / "model"
    exporter.export(make_model(), str(path), verify={"mode": "none"})
    return path


@pytest.fixture(scope="module")
def revivable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of a model whose code is not available where it is loaded."""
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2.0

    model = keras.Sequential([keras.Input((3,)), Doubled(), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return exporter.save_model(model, tmp_path_factory.mktemp("revivable") / "model")


def read_inspected(path: Path) -> None:
    with open_artifact(path.parents[2]):
        pass


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param(MANIFEST, lambda path: check_integrity(path.parents[2]), id="manifest"),
        pytest.param("assets.extra/exporter/versions.json", read_inspected, id="versions"),
        pytest.param("assets.extra/exporter/inputs.json", read_inspected, id="inputs"),
        pytest.param("assets.extra/exporter/checksums.json", read_inspected, id="checksums"),
    ],
)
@BOUNDED
@given(data=st.data())
def test_a_record_of_a_saved_model(
    name: str, read: Callable[[Path], Any], data: st.DataObject, exported: Path, tmp_path: Path
) -> None:
    path = exported / name
    content = path.read_bytes() if path.exists() else b"[]"
    path.write_text(json.dumps(change(data, json.loads(content))))
    try:
        with bounded():
            read(path)
    finally:
        path.write_bytes(content)


@BOUNDED
@given(data=st.data())
def test_a_receipt(data: st.DataObject, exported: Path) -> None:
    receipt = json.loads(exported.with_name("model.receipt.json").read_text())
    with bounded():
        Receipt.from_json(json.dumps(change(data, receipt)))


@settings(parent=BOUNDED, max_examples=12, deadline=60_000)
@given(data=st.data())
def test_a_description_of_functions(data: st.DataObject, revivable: Path) -> None:
    ours = revivable / "assets.extra" / "exporter"
    content, sums = (ours / "functions.json").read_bytes(), (ours / "checksums.json").read_bytes()
    checksums = Checksums.from_json(sums, revivable)
    changed = json.dumps(change(data, json.loads(content))).encode()
    checksums.add_part("assets.extra/exporter/functions.json", changed)
    try:
        (ours / "functions.json").write_bytes(changed)
        (ours / "checksums.json").write_bytes(checksums.to_json())
        with bounded():
            exporter.load_model(revivable)
    finally:
        (ours / "functions.json").write_bytes(content)
        (ours / "checksums.json").write_bytes(sums)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param("saved_model.pb", read_graph, id="graph"),
        pytest.param("keras_metadata.pb", read_keras_2_config, id="metadata of Keras 2"),
    ],
)
@BOUNDED
@given(content=st.binary(max_size=400), place=st.floats(0, 1))
def test_protocol_buffers_of_strangers(
    name: str, read: Callable[[Path], Any], content: bytes, place: float, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    original = originals["graph"] / name
    whole = original.read_bytes() if original.exists() else b""
    cut = int(len(whole) * place)
    path = tmp_path / name
    path.write_bytes(whole[:cut] + content + whole[cut:])
    with contextlib.suppress(ArtifactError):
        read(path)
