"""Files that somebody prepared to do harm: each is refused by name, and the canary that it would make is not there."""

import base64
import json
import marshal
import os
import shutil
import stat
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
from exporter.errors import ArtifactError
from exporter.inspection.artifacts import open_artifact
from exporter.inspection.inspection import inspect_artifact

from .conftest import read_members, write_members

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),
]

TRUST = "Load it with safe_mode=False only if you trust where the file comes from."

Config = dict[str, Any]
Attack = Callable[[Path, Path], None]


def find_layer(config: Config, name: str) -> Config:
    """Finds a layer in the configuration of a Sequential model."""
    found: Config = next(layer for layer in config["config"]["layers"] if layer["config"].get("name") == name)
    return found


def change_config(path: Path, change: Callable[[Config], None]) -> None:
    """Changes the configuration of a file that Keras wrote, which has no checksums."""
    if path.name.endswith("h5"):
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return
    members = read_members(path)
    config = json.loads(members["config.json"])
    change(config)
    write_members(path, {**members, "config.json": json.dumps(config).encode()})


def marshal_code(canary: Path) -> str:
    """Marshals a function that makes the canary."""
    code = compile(f"lambda x: open({str(canary)!r}, 'w') and x", "<hostile>", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def hide_lambda(path: Path, canary: Path) -> None:
    def change(config: Config) -> None:
        layer = find_layer(config, "scores")
        code = {"code": marshal_code(canary), "defaults": None, "closure": None}
        layer["class_name"] = "Lambda"
        layer["config"] = {"name": "scores", "function": {"class_name": "__lambda__", "config": code}}

    change_config(path, change)


def hide_older_lambda(path: Path, canary: Path) -> None:
    def change(config: Config) -> None:
        layer = find_layer(config, "scores")
        layer["class_name"] = "Lambda"
        function = [marshal_code(canary), None, None]
        layer["config"] = {"name": "scores", "function": function, "function_type": "lambda", "arguments": {}}

    change_config(path, change)


def put_activation(module: str, name: str) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
            find_layer(config, "scores")["config"]["activation"] = function

        change_config(path, change)

    return attack


def put_layer(module: str, class_name: str, /, **arguments: Any) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            layer = find_layer(config, "scores")
            layer.update(module=module, class_name=class_name, registered_name=None)
            layer["config"] = {"name": "scores", **arguments}

        change_config(path, change)

    return attack


def widen(path: Path, canary: Path) -> None:
    change_config(path, lambda config: find_layer(config, "hidden")["config"].update(units=10**12))


def nest(path: Path, canary: Path) -> None:
    def change(config: Config) -> None:
        node: Any = {}
        for _ in range(600):
            node = [node]
        find_layer(config, "hidden")["config"]["activity_regularizer"] = node

    change_config(path, change)


def nest_text(path: Path, canary: Path) -> None:
    members = read_members(path)
    write_members(path, {**members, "config.json": b"[" * 200_000})


KERAS_FILES = ["stock.h5", "stock.keras"]

CONFIGURATIONS = {
    "lambda": (
        hide_lambda,
        f"Lambda 'scores' holds a Python lambda, marshalled: loading it is arbitrary code execution. {TRUST}",
    ),
    "lambda of Keras 2": (
        hide_older_lambda,
        f"Lambda 'scores' holds a Python lambda, marshalled: loading it is arbitrary code execution. {TRUST}",
    ),
    "function of another module": (
        put_activation("os", "system"),
        "The model's configuration cannot be rebuilt: Could not locate function 'system'. Import the module that "
        "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in `custom_objects`.",
    ),
    "class of another module": (
        put_layer("subprocess", "Popen", args="true"),
        "The model's configuration cannot be rebuilt: Could not locate class 'Popen'. Import the module that "
        "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in `custom_objects`.",
    ),
    "package beside keras": (
        put_layer("keras_hub.models", "Backbone"),
        "The model's configuration cannot be rebuilt: Could not locate class 'Backbone'. Import the module that "
        "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in `custom_objects`.",
    ),
    "download": (
        put_activation("keras.utils", "get_file"),
        f"Dense 'scores' names keras.utils.get_file, which is no part of a model. {TRUST}",
    ),
    "switch of Keras": (
        put_activation("keras.config", "enable_unsafe_deserialization"),
        f"Dense 'scores' names keras.config.enable_unsafe_deserialization, which is no part of a model. {TRUST}",
    ),
    "another SavedModel": (
        put_layer("keras.layers", "TFSMLayer", filepath="/elsewhere"),
        f"TFSMLayer 'scores' names keras.layers.TFSMLayer, which is no part of a model. {TRUST}",
    ),
    "pickle of PyTorch": (
        put_layer("keras.layers", "TorchModuleWrapper", module="gASV"),
        f"TorchModuleWrapper 'scores' names keras.layers.TorchModuleWrapper, which is no part of a model. {TRUST}",
    ),
    "vocabulary of another file": (
        put_layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        f"StringLookup 'scores' takes its vocabulary from the file '/etc/passwd', outside of the artifact. {TRUST}",
    ),
    "nested configuration": (nest, "The configuration is refused: it is nested too deeply."),
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that only code from inside an artifact would make."""
    return tmp_path / "canary"


def copy(original: Path, folder: Path) -> Path:
    """Copies an artifact."""
    target = folder / original.name
    if original.is_dir():
        shutil.copytree(original, target, symlinks=True)
    else:
        shutil.copyfile(original, target)
    return target


def refuse(path: Path) -> str:
    """Returns why an artifact is not loaded."""
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    return str(caught.value)


@pytest.mark.parametrize("original", KERAS_FILES)
@pytest.mark.parametrize(("attack", "message"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_that_reaches_beyond_keras(
    attack: Attack, message: str, original: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path
) -> None:
    path = copy(originals[original], tmp_path)
    attack(path, canary)

    assert refuse(path) == message
    inspect_artifact(path)  # describes it, and runs nothing of it
    assert not canary.exists()


@pytest.mark.parametrize("original", KERAS_FILES)
def test_a_shape_beyond_what_the_file_holds(original: str, originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals[original], tmp_path)
    widen(path, tmp_path)

    message = refuse(path)

    assert "of the shape (4, 1000000000000) goes far beyond what the file holds" in message
    assert message.endswith(TRUST)


def test_a_configuration_of_brackets(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    nest_text(path, tmp_path)

    assert refuse(path) == f"{path}, config.json is refused: it is nested too deeply."


# Archives


def add_member(name: str, mode: int = 0o644) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, str(canary))

    return attack


ARCHIVES = {
    "parent directory": (add_member("assets/../../canary"), "'assets/../../canary' lies outside of the archive."),
    "absolute path": (add_member("/tmp/canary"), "'/tmp/canary' lies outside of the archive."),
    "path of Windows": (add_member("C:\\canary"), "'C:\\\\canary' lies outside of the archive."),
    "link": (add_member("assets/link", stat.S_IFLNK | 0o777), "'assets/link' is a link."),
}


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
@pytest.mark.parametrize(("attack", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_member_that_leaves_the_archive(
    attack: Attack, message: str, original: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path
) -> None:
    path = copy(originals[original], tmp_path)
    attack(path, canary)

    assert refuse(path) == f"{path} is refused: its member {message}"
    with pytest.raises(ArtifactError, match="is refused: its member"):
        inspect_artifact(path)
    assert not canary.exists()


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
def test_a_member_that_unpacks_to_far_more_than_it_stores(
    original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals[original], tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("assets/zeros", bytes((1 << 28) + 1))

    for read in (exporter.load_model, inspect_artifact):
        with pytest.raises(ArtifactError, match=r"its member 'assets/zeros' claims 268,435,457 bytes and stores "):
            read(path)


def test_two_members_of_one_name(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["keras"], tmp_path)
    add_member("config.json")(path, tmp_path)

    assert refuse(path) == f"{path} is refused: it has two members of the name 'config.json'."


# Directories


@pytest.mark.parametrize("original", ["tf", "graph"])
@pytest.mark.parametrize("name", ["assets/vocabulary.txt", "model.weights.h5", "variables/more"])
def test_a_link_that_leaves_the_directory(
    name: str, original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.h5"
    secret.write_text("secret")
    path = copy(originals[original], tmp_path)
    link = path / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(secret, link.parent))

    for read in (exporter.load_model, inspect_artifact):
        with pytest.raises(ArtifactError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} is refused: the link {name} -> {os.readlink(link)} leaves the artifact. "
            "Put the file itself in its place."
        )


def test_a_pipe_in_the_directory(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["tf"], tmp_path)
    os.mkfifo(path / "assets.extra" / "pipe")

    assert refuse(path) == f"{path} is refused: assets.extra/pipe is neither a file nor a directory."


# HDF5

WEIGHT = "model_weights/hidden/small/hidden/kernel"


def hold_references(file: h5py.File) -> None:
    del file[WEIGHT]
    file.create_dataset(WEIGHT, data=[file.ref], dtype=h5py.ref_dtype)


def hold_itself(file: h5py.File) -> None:
    file["model_weights/hidden/again"] = file["model_weights"]


def nest_groups(file: h5py.File) -> None:
    file.create_group("model_weights/" + "a/" * 300)


def hold_a_type(file: h5py.File) -> None:
    file["model_weights/type"] = np.dtype("float32")


def need_a_plugin(file: h5py.File) -> None:
    del file[WEIGHT]
    space = h5py.h5s.create_simple((4, 3))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4, 3))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    h5py.h5d.create(file.id, WEIGHT.encode(), h5py.h5t.IEEE_F32LE, space, properties, links)


HDF5 = {
    "references": (hold_references, "it holds references or objects (object)."),
    "deep groups": (nest_groups, "groups are nested more than 200 deep."),
    "named type": (hold_a_type, "it is a Datatype, where a group or an array is expected."),
    "foreign filter": (need_a_plugin, "it needs the filter 32015, which is not one of HDF5's own."),
}


@pytest.mark.parametrize(("attack", "message"), HDF5.values(), ids=HDF5)
def test_an_hdf5_file_with_more_than_arrays(
    attack: Callable[[h5py.File], None], message: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals["stock.h5"], tmp_path)
    with h5py.File(path, "r+") as file:
        attack(file)

    for read in (exporter.load_model, inspect_artifact):
        with pytest.raises(ArtifactError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} is refused for 'model_weights/")
        assert str(caught.value).endswith(message)


def test_a_group_that_holds_itself_is_walked_once(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["stock.h5"], tmp_path)
    with h5py.File(path, "r+") as file:
        hold_itself(file)

    assert exporter.load_model(path).name == "small"


# Graphs


def make_graph(function: Callable[[Any], Any], path: Path) -> None:
    """Writes a SavedModel whose endpoint and attribute run a function of a text."""
    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec([], tf.string, name="text")])
    tf.saved_model.save(module, str(path), signatures=module.run)


def write_canary(text: Any, canary: str) -> Any:
    with tf.control_dependencies([tf.io.write_file(canary, text)]):
        return tf.identity(text)


def print_canary(text: Any, canary: str) -> Any:
    with tf.control_dependencies([tf.print(text, output_stream=f"file://{canary}")]):
        return tf.identity(text)


def fill_table(text: Any, canary: str) -> Any:
    return tf.raw_ops.RestoreV2(prefix=canary, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.string])[0] + text


GRAPHS: dict[str, tuple[Callable[[Any, str], Any], str, str]] = {
    "ReadFile": (lambda text, canary: tf.io.read_file(text), "ReadFile", "reads files"),
    "WriteFile": (write_canary, "WriteFile", "writes files"),
    "MatchingFiles": (lambda text, canary: tf.io.matching_files(text), "MatchingFiles", "lists files"),
    "PyFunc": (lambda text, canary: tf.numpy_function(bytes, [text], tf.string), "PyFunc", "runs Python"),
    "EagerPyFunc": (lambda text, canary: tf.py_function(str, [text], tf.string), "EagerPyFunc", "runs Python"),
    "PrintV2": (print_canary, "PrintV2", "writes files"),
    "RestoreV2": (fill_table, "RestoreV2", "reads files"),
    "TextLineDataset": (
        lambda text, canary: tf.data.TextLineDataset(text).reduce(text, lambda a, b: a + b),
        "TextLineDataset",
        "reads files",
    ),
}


@pytest.mark.parametrize(("function", "operation", "reason"), GRAPHS.values(), ids=GRAPHS)
def test_a_graph_that_touches_files_or_runs_python(
    function: Callable[[Any, str], Any], operation: str, reason: str, tmp_path: Path, canary: Path
) -> None:
    path = tmp_path / "graph"
    make_graph(lambda text: function(text, str(canary)), path)

    message = refuse(path)

    assert message.startswith(f"{path}/saved_model.pb is refused: {operation} in __inference_")
    assert f" {reason}" in message
    assert message.endswith(f". {TRUST}")
    assert operation in inspect_artifact(path).reaching_out
    assert not canary.exists()


def test_a_graph_that_touches_files_is_loaded_on_trust(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    make_graph(tf.io.read_file, path)

    assert exporter.load_model(path, safe_mode=False).input_names == ["text"]


def test_a_graph_of_variables_and_vocabularies_is_loaded(originals: Mapping[str, Path], tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    module.find = tf.function(module.table.lookup, input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    tf.saved_model.save(module, str(tmp_path / "graph"), signatures=module.find)
    words.unlink()

    loaded = exporter.load_model(tmp_path / "graph")

    np.testing.assert_array_equal(next(iter(loaded(tf.constant(["b", "?"])).values())), [1, -1])
    assert exporter.load_model(originals["graph"]).input_names == ["x"]


# Our own records


def test_a_recipe_of_aliases(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["tf"], tmp_path)
    bomb = "a: &a [x, x]\n" + "\n".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]" for n in range(9)
    )
    (path / "assets.extra/exporter/recipe.yaml").write_text(bomb)

    with pytest.raises(ArtifactError) as caught:
        inspect_artifact(path)

    assert str(caught.value).endswith("recipe.yaml is damaged: it has an alias, which no recipe of ours has.")


def test_a_recipe_that_asks_for_python(originals: Mapping[str, Path], tmp_path: Path, canary: Path) -> None:
    path = copy(originals["tf"], tmp_path)
    (path / "assets.extra/exporter/recipe.yaml").write_text(f"!!python/object/apply:os.mknod ['{canary}']")

    with pytest.raises(ArtifactError, match="could not determine a constructor for the tag"):
        inspect_artifact(path)
    assert not canary.exists()


def test_whole_files_are_loaded_and_inspected(originals: Mapping[str, Path]) -> None:
    for path in originals.values():
        assert isinstance(exporter.load_model(path), keras.Model)
        with open_artifact(path) as artifact:
            for tensor in artifact.tensors.values():
                tensor.read()
