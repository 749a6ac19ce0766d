"""Files that somebody prepared to do harm: each is refused by name, and the canary that it would make is not there."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.errors import ArtifactError

from .conftest import TRUST, copy, refuse

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),
]


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


def read_lines(text: Any) -> Any:
    lines = tf.raw_ops.TextLineDataset(filenames=text, compression_type="", buffer_size=0)
    return tf.raw_ops.DatasetToSingleElement(dataset=lines, output_types=[tf.string], output_shapes=[[]])[0]


GRAPHS: dict[str, tuple[Callable[[Any, str], Any], str, str]] = {
    "ReadFile": (lambda text, canary: tf.io.read_file(text), "ReadFile", "reads files"),
    "WriteFile": (write_canary, "WriteFile", "writes files"),
    "MatchingFiles": (lambda text, canary: tf.io.matching_files(text), "MatchingFiles", "lists files"),
    "PyFunc": (lambda text, canary: tf.numpy_function(bytes, [text], tf.string), "PyFunc", "runs Python"),
    "EagerPyFunc": (lambda text, canary: tf.py_function(str, [text], tf.string), "EagerPyFunc", "runs Python"),
    "PrintV2": (print_canary, "PrintV2", "prints lines of its own to the terminal or to a file"),
    "RestoreV2": (fill_table, "RestoreV2", "saves or restores files elsewhere than in the saver"),
    "TextLineDataset": (
        lambda text, canary: read_lines(text),
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

    assert message.startswith(f"{path}/saved_model.pb is refused: ")
    assert re.search(rf"{operation} in __inference_\S+ {reason}", message)
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
