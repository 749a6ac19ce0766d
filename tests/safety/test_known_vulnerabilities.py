"""Published faults of what loads models, by their numbers: none of them works here.

Each case is an artifact or a recipe of the published shape. It is refused by name or does no harm, whether it is
loaded, used as a source or described.
"""

import io
import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter import sources
from exporter.artifacts.inspection import artifacts
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.cli.rerunning import plan_rerun
from exporter.errors import ArtifactError, UsageError
from exporter.saving.formats import keras_archive
from exporter.saving.formats.hdf5 import reading as hdf5

from .conftest import CANARY, Attack, Change, copy, read_members, refuse, write_members
from .test_hostile_configurations import (
    change_config,
    find_layer,
    hide_lambda,
    hide_older_lambda,
    marshal_code,
    put_function,
    put_layer,
)
from .test_hostile_files import make_graph, write_canary

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),
]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._canary), "w")


# Configurations


def call(module: str, name: str, /, **arguments: Any) -> Attack:
    """Puts a Lambda layer that calls a function of some module with arguments of the file's choice."""

    def attack(path: Path, canary: Path) -> None:
        put_function({"module": module, "config": name, "registered_name": name})(path, canary)
        change_config(path, lambda config: find_layer(config, "scores")["config"].update(arguments=arguments))

    return attack


def open_with_popen(path: Path, canary: Path) -> None:
    put_layer("subprocess", "Popen", args=["touch", str(canary)])(path, canary)


def hold_pickle(path: Path, canary: Path) -> None:
    module = pickle.dumps(Payload(canary)).decode("latin-1")
    put_layer("keras.layers", "TorchModuleWrapper", module={"class_name": "__bytes__", "config": {"value": module}})(
        path, canary
    )


def name_another_model(path: Path, canary: Path) -> None:
    make_graph(lambda text: write_canary(text, str(canary)), path.parent / "graph")
    put_layer("keras.layers", "TFSMLayer", filepath=str(path.parent / "graph"))(path, canary)


def lose_guard(path: Path, canary: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        code = {"code": marshal_code(canary), "defaults": None, "closure": None}
        config["compile_config"]["loss"] = {"class_name": "__lambda__", "config": code}

    change_config(path, change)


# What happens to a file of Keras's, which file, and words of the refusal.
CONFIGURATIONS: dict[str, tuple[Attack, str, str]] = {
    # Lambda layers hold marshalled code, which ran when a model was loaded.
    "CVE-2024-3660, archive": (hide_lambda, "stock.keras", "holds a Python lambda, marshalled"),
    "CVE-2024-3660, Keras 2": (hide_older_lambda, "stock.keras", "holds a Python lambda, marshalled"),
    # `config.json` named any module and function, which were imported and called, in spite of `safe_mode`.
    "CVE-2025-1550, class": (open_with_popen, "stock.keras", "Could not locate class 'Popen'"),
    "CVE-2025-1550, function": (call("os", "system"), "stock.keras", "Could not locate function 'system'"),
    # Functions of Keras itself were called with the file's arguments: a download, another load without `safe_mode`.
    "CVE-2025-8747, download": (
        call("keras.utils", "get_file", origin="http://{server}/x", fname="x"),
        "stock.keras",
        "names keras.utils.get_file, which is no part of a model",
    ),
    "CVE-2025-8747, load": (
        call("keras.models", "load_model", safe_mode=False),
        "stock.keras",
        "names keras.models.load_model, which is no part of a model",
    ),
    # `safe_mode` was ignored for HDF5.
    "CVE-2025-9905": (hide_lambda, "stock.h5", "holds a Python lambda, marshalled"),
    "CVE-2025-9905, Keras 2": (hide_older_lambda, "stock.h5", "holds a Python lambda, marshalled"),
    # The configuration itself switched `safe_mode` off.
    "CVE-2025-9906": (
        call("keras.config", "enable_unsafe_deserialization"),
        "stock.keras",
        "names keras.config.enable_unsafe_deserialization, which is no part of a model",
    ),
    # A layer unpickled a module of PyTorch's, in spite of `safe_mode`.
    "CVE-2025-49655": (
        hold_pickle,
        "stock.keras",
        "names keras.layers.TorchModuleWrapper, which is no part of a model",
    ),
    # A lookup layer read its vocabulary from a file or an address of the file's choice.
    "CVE-2025-12058, file": (
        put_layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        "stock.keras",
        "takes its vocabulary from the file '/etc/passwd', outside of the artifact",
    ),
    "CVE-2025-12058, address": (
        put_layer("keras.layers", "IntegerLookup", vocabulary="http://{server}/x"),
        "stock.keras",
        "outside of the artifact",
    ),
    # `get_file` unpacked a tar to wherever its members said.
    "CVE-2025-12060 and CVE-2025-12638": (
        call("keras.utils", "get_file", origin="http://{server}/x.tar", extract=True, archive_format="tar"),
        "stock.keras",
        "names keras.utils.get_file, which is no part of a model",
    ),
    # A layer loaded another SavedModel, whose graph does anything, in spite of `safe_mode`.
    "CVE-2026-1462": (name_another_model, "stock.keras", "names keras.layers.TFSMLayer, which is no part of a model"),
    # Outside of the scope of a load, no `safe_mode` was taken for one that is off.
    "CVE-2026-12481": (lose_guard, "stock.keras", "holds a Python lambda, marshalled"),
}


@pytest.mark.parametrize(("attack", "original", "words"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration(
    attack: Attack,
    original: str,
    words: str,
    originals: Mapping[str, Path],
    tmp_path: Path,
    canary: Path,
    server: tuple[str, list[str]],
) -> None:
    path = copy(originals[original], tmp_path)
    attack(path, canary)
    change_config(path, lambda config: config.update(json.loads(json.dumps(config).replace("{server}", server[0]))))

    assert words in refuse(path)
    inspect_artifact(path)
    if original == "stock.keras":
        (tmp_path / "config.json").write_bytes(read_members(path)["config.json"])
        with pytest.raises(ArtifactError) as caught:
            sources.architecture(str(tmp_path / "config.json"), str(originals[original]))
        assert words in str(caught.value)
    assert not canary.exists()
    assert server[1] == []


def test_names_of_layers_lead_nowhere(originals: Mapping[str, Path], tmp_path: Path) -> None:
    """CVE-2026-12479: names of layers became paths, `../` and all, when a model was saved or loaded."""
    path = copy(originals["stock.keras"], tmp_path)
    change_config(path, lambda config: find_layer(config, "scores")["config"].update(name="../../canary"))
    before = set(tmp_path.rglob("*"))

    try:
        model = exporter.load_model(path)
    except ArtifactError:
        assert set(tmp_path.rglob("*")) == before
        return
    for name in ("again", "again.h5", "again.keras"):
        exporter.save_model(model, tmp_path / "saved" / name)
    assert {each for each in tmp_path.rglob("*") if tmp_path / "saved" not in (each, *each.parents)} == before


# Weights


def store_elsewhere(file: h5py.File, name: str, secret: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def link_elsewhere(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(secret), "/values")


def map_elsewhere(file: h5py.File, name: str, secret: Path) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(secret), "values", shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def claim_much(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file.create_dataset(name, (1 << 40,), "float32", chunks=(1 << 10,))


def link_all(file: h5py.File, name: str, secret: Path) -> None:
    top = name.partition("/")[0]
    del file[top]
    file[top] = h5py.ExternalLink(str(secret), f"/{top}")


WEIGHTS: dict[str, tuple[Callable[[h5py.File, str, Path], None], str]] = {
    # The values of a weight were read from any file of the machine.
    "CVE-2026-1669, external storage": (store_elsewhere, "Not allowed: H5 file with external Dataset"),
    "CVE-2026-1669, external link": (link_elsewhere, "Not allowed: H5 file with ExternalLink"),
    # The same by another way, fixed in https://github.com/keras-team/keras/pull/22976.
    "virtual dataset": (map_elsewhere, "Not allowed: H5 file with virtual Dataset"),
    # All weights were those of another file, where weights alone are loaded.
    "GHSA-27f4-p4xq-cxg8": (link_all, "Not allowed: H5 file with ExternalLink"),
    # A few bytes declared a shape that took all memory.
    "CVE-2026-0897": (claim_much, "refusing to load a potential decompression/shape bomb"),
}


@pytest.mark.parametrize("original", ["stock.h5", "stock.keras"])
@pytest.mark.parametrize(("attack", "words"), WEIGHTS.values(), ids=WEIGHTS)
def test_a_file_of_weights(
    attack: Callable[[h5py.File, str, Path], None],
    words: str,
    original: str,
    originals: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["values"] = np.full((3, 2), 47.11, np.float32)
    path = copy(originals[original], tmp_path)
    (tmp_path / "config.json").write_bytes(read_members(originals["stock.keras"])["config.json"])
    members = read_members(path) if original == "stock.keras" else {}
    weights = tmp_path / "weights" if members else path
    if members:
        weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        attack(file, "layers/dense_1/vars/0" if members else "model_weights/scores/small/scores/kernel", secret)
    if members:
        write_members(path, {**members, "model.weights.h5": weights.read_bytes()})

    assert words in refuse(path)
    for read in (inspect_artifact, lambda path: sources.architecture(str(tmp_path / "config.json"), str(path))):
        with pytest.raises(ArtifactError) as caught:
            read(path)
        assert words in str(caught.value)


# How HDF5 marks the headers of objects, groups and heaps.
_STRUCTURES = re.compile(rb"OHDR|OCHK|TREE|HEAP|SNOD|FRHP|FHDB|FHIB|BTHD|BTLF")


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_a_changed_structure_never_reaches_hdf5(
    kind: str, originals: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overflows of HDF5 in damaged structures: one of ours that was changed is refused before HDF5 parses it.

    A checksum is no signature: a file that was made anew with its checksum, or that never had one, does reach HDF5.

    CVE-2025-2309, CVE-2025-2915, CVE-2025-2926, CVE-2025-6269, CVE-2025-6750, CVE-2025-6816, CVE-2025-7067,
    CVE-2025-7069, CVE-2025-44905, CVE-2026-26200.
    """
    path = copy(originals[kind], tmp_path)
    content = path.read_bytes()
    parsed: list[Any] = []

    class Parser(h5py.File):
        def __init__(self, source: Any, *arguments: Any, **options: Any) -> None:
            parsed.append(source)
            super().__init__(source, *arguments, **options)

    for module in (hdf5, keras_archive):
        monkeypatch.setattr(module.h5py, "File", Parser)
    start = content.find(b"\x89HDF")  # the addresses of the end and of the root group are 28 and 36 bytes further on
    places = [start + 30, start + 38, *(match.start() + 5 for match in _STRUCTURES.finditer(content, start))][:20]
    assert len(places) > 3
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        for read in (exporter.load_model, artifacts.open_artifact):
            with pytest.raises(ArtifactError) as caught, read(path):
                pass
            assert "damaged" in str(caught.value)
    assert parsed == []
    path.write_bytes(content)
    exporter.load_model(path)
    assert parsed


# Pickles


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model"])
@pytest.mark.parametrize("number", ["CVE-2019-6446", "CVE-2020-13092"])
def test_a_pickle(number: str, name: str, tmp_path: Path, canary: Path) -> None:
    """`numpy.load` and `joblib.load` unpickle what a file holds, and run what it names."""
    path = tmp_path / name
    if number == "CVE-2019-6446":
        content = io.BytesIO()
        np.save(content, np.array([Payload(canary)], dtype=object), allow_pickle=True)
        path.write_bytes(content.getvalue())
    else:
        path.write_bytes(pickle.dumps(Payload(canary)))

    assert "is neither an HDF5 file nor a .keras archive" in refuse(path)
    with pytest.raises(ArtifactError):
        inspect_artifact(path)
    assert not canary.exists()


def test_a_pickle_in_an_archive_of_arrays(tmp_path: Path, canary: Path) -> None:
    """CVE-2019-6446, where we read arrays ourselves."""
    from exporter.processes.arrays import read_arrays

    path = tmp_path / "arrays.npz"
    np.savez(path, allow_pickle=True, header=np.array([Payload(canary)], dtype=object))

    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(path)
    assert not canary.exists()


def test_a_tar_is_unpacked_nowhere(tmp_path: Path, canary: Path) -> None:
    """CVE-2025-12060 and CVE-2025-12638: members of a tar that lie elsewhere, by a path or by a link."""
    path = tmp_path / "folder" / "model.keras"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../canary"))
    with zipfile.ZipFile(tmp_path / "folder" / "link.keras", "w") as zipped:
        zipped.write(path, "model.tar")

    assert "is neither an HDF5 file nor a .keras archive" in refuse(path)
    assert "is not a whole .keras archive" in refuse(path.with_name("link.keras"))
    assert not canary.exists()


# Graphs


def hide_graph(text: Any, canary: str) -> Any:
    inner = tf.Graph()
    with inner.as_default():
        write_canary(tf.constant("x"), canary)
        tf.raw_ops.TensorDataset(components=[tf.constant(1)], output_shapes=[[]])
    variant = tf.raw_ops.DatasetFromGraph(graph_def=tf.constant(inner.as_graph_def().SerializeToString()))
    with tf.control_dependencies([variant]):
        return tf.identity(text)


def save_tensors(text: Any, canary: str) -> Any:
    saved = tf.raw_ops.SaveV2(prefix=canary, tensor_names=["x"], shape_and_slices=[""], tensors=[text])
    with tf.control_dependencies([saved]):
        return tf.identity(text)


# Models are programs, says https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md: these have no numbers.
GRAPHS: dict[str, tuple[Callable[[Any, str], Any], str]] = {
    # https://research.jfrog.com/model-threats/tflow-malops
    "TFLOW-MALOPS": (write_canary, "WriteFile"),
    # https://huggingface.co/MediumIQ/tfhunt-savedmodel-nested-writefile: in a graph that a constant holds.
    "nested graph": (hide_graph, "DatasetFromGraph"),
    # https://huggingface.co/pragnyanramtha/modelscan-savedmodel-savev2-default-write-poc: where one is served.
    "saver that is served": (save_tensors, "SaveV2"),
}


@pytest.mark.parametrize(("function", "operation"), GRAPHS.values(), ids=GRAPHS)
def test_a_graph(function: Callable[[Any, str], Any], operation: str, tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "graph"
    make_graph(lambda text: function(text, str(canary)), path)

    assert f"{operation} in " in refuse(path)
    assert operation in inspect_artifact(path).reaching_out
    assert not list(tmp_path.glob("canary*"))


# Recipes

RECIPES: dict[str, dict[str, Any]] = {
    # The metadata of a model of NeMo's or Uni2TS's named what Hydra calls.
    "CVE-2025-23304": {"_target_": "os.system", "command": "touch {canary}"},
    "CVE-2026-22584": {"_target_": "builtins.exec", "source": "open({canary!r}, 'w')"},
    # Hydra's list of what it does not call was passed by another name of the same function.
    "GHSA-37p2-j732-x8pj": {"_target_": "logging.os.system", "command": "touch {canary}"},
    "CVE-2025-12638": {"_target_": "keras.utils.get_file", "fname": "x", "origin": "file://{canary}", "extract": True},
    # Loaders that unpickle, named where a model is.
    "CVE-2019-6446": {"_target_": "numpy.load", "file": "{canary}", "allow_pickle": True},
    "CVE-2020-13092": {"_target_": "joblib.load", "filename": "{canary}"},
}


@pytest.mark.parametrize("is_inside", [False, True], ids=["model", "layer"])
@pytest.mark.parametrize("model", RECIPES.values(), ids=RECIPES)
def test_a_recipe(model: dict[str, Any], is_inside: bool, write: Change, canary: Path) -> None:
    filled = {
        key: value.format(canary=str(canary)) if isinstance(value, str) else value for key, value in model.items()
    }
    whole = {"_target_": "keras.Sequential", "layers": [filled]} if is_inside else filled

    with pytest.raises(UsageError) as caught:
        plan_rerun(write({"model": whole}))

    key = "model.layers[0]._target_" if is_inside else "model._target_"
    assert key in {fault.path for fault in caught.value.faults}
    assert not canary.exists()


def test_a_recipe_of_python_objects(write: Change, place: Path, canary: Path) -> None:
    """CVE-2020-1747: PyYAML called what `python/object/new` names."""
    path = write({}, text=f"model: !!python/object/new:os.system ['touch {canary}']")

    for read in (plan_rerun, inspect_artifact):
        with pytest.raises(ArtifactError, match="could not determine a constructor for the tag"):
            read(path)
    assert not canary.exists()
    assert CANARY in (place / "secrets.txt").read_text()


def test_the_guards_of_keras_are_as_they_were() -> None:
    """CVE-2025-9906: after all that, nothing has switched Keras's own `safe_mode` off."""
    layer = keras.layers.Lambda(lambda x: x)
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
