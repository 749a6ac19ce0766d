"""A model that needs something outside of its artifact: it is held by the artifact, or said by name."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter import load_model, save_model
from exporter.saving.configuration.dependencies import find_dependencies
from exporter.saving.contents import Contents, Dependency, Omission
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest

_BATCH = np.random.default_rng(3).normal(size=(7, 4)).astype("float32")
_NAMES: dict[str, str] = {"h5": "model.h5", "keras": "model.keras", "tf": "model"}


@keras.saving.register_keras_serializable("dependencies")
class Table(keras.layers.Layer):
    """Reads its factors from a file when it is made."""

    def __init__(self, table_file: str, source: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table_file, self.source = table_file, source
        self.factors = np.loadtxt(table_file, dtype="float32")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factors

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "table_file": self.table_file, "source": self.source}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "factors.txt"
    path.write_text("1 2 3 4")
    return path


def _write(model: keras.Model, place: Path, save_format: str) -> Contents:
    target = place / _NAMES[save_format]
    return plan_save(SaveRequest(model, target)).write(target)


def _find(contents: Contents) -> list[Omission]:
    return [each for each in contents.left_out if not each.intended]


def _make_table(path: str, **options: Any) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), Table(path, name="table", **options), keras.layers.Dense(2)])


@pytest.fixture
def outer(tmp_path: Path) -> keras.Model:
    """A model with a layer that computes another SavedModel."""
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization()])
    inner.export(tmp_path / "inner", verbose=False)
    inputs = keras.Input((4,))
    layer = keras.layers.TFSMLayer(str(tmp_path / "inner"), call_endpoint="serve", name="inner")
    return keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))


def test_another_saved_model_lives_on_in_this_one(outer: keras.Model, tmp_path: Path) -> None:
    expected = outer(_BATCH)
    _write(outer, tmp_path, "tf")
    shutil.rmtree(tmp_path / "inner")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    [answer] = served(tf.constant(_BATCH)).values()
    np.testing.assert_array_equal(answer, expected)
    loaded = load_model(tmp_path / "model")  # also in safe mode: nothing outside is read
    np.testing.assert_array_equal(loaded(_BATCH), expected)
    save_model(loaded, tmp_path / "again")
    np.testing.assert_array_equal(load_model(tmp_path / "again")(_BATCH), expected)


@pytest.mark.parametrize("save_format", _NAMES)
def test_another_saved_model_is_named(save_format: str, outer: keras.Model, tmp_path: Path) -> None:
    remedy = (
        "only the code of TFSMLayer needs it: the saved functions hold what it computes"
        if save_format == "tf"
        else "it has to be there under the same name, unchanged, where the model is loaded"
    )
    assert _find(_write(outer, tmp_path, save_format)) == [
        Omission("TFSMLayer 'inner'", f"its `filepath` is {tmp_path}/inner, outside of the artifact; {remedy}")
    ]


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_an_artifact_that_needs_another_loads_where_that_is(
    save_format: str, outer: keras.Model, tmp_path: Path
) -> None:
    _write(outer, tmp_path, save_format)
    loaded = load_model(tmp_path / _NAMES[save_format], safe_mode=False)
    np.testing.assert_array_equal(loaded(_BATCH), outer(_BATCH))


@pytest.mark.parametrize("save_format", _NAMES)
def test_a_file_is_named(save_format: str, table: Path, tmp_path: Path) -> None:
    remedy = (
        "only the code of Table needs it: the saved functions hold what it computes"
        if save_format == "tf"
        else "it has to be there under the same name, unchanged, where the model is loaded"
    )
    contents = _write(_make_table(str(table)), tmp_path, save_format)
    assert _find(contents) == [
        Omission("Table 'table'", f"its `table_file` is {table}, outside of the artifact; {remedy}")
    ]
    assert contents.dependencies == (Dependency("Table 'table'", "Table", "table_file", str(table)),)


def test_a_file_that_code_reads_is_not_needed_without_the_code(table: Path, tmp_path: Path) -> None:
    model = _make_table(str(table))
    with pytest.warns(UserWarning, match="does not hold everything. Table 'table': its `table_file` is"):
        save_model(model, tmp_path / "model")
    table.unlink()
    kept = keras.saving.get_custom_objects().pop("dependencies>Table")
    try:
        np.testing.assert_array_equal(load_model(tmp_path / "model")(_BATCH), model(_BATCH))
    finally:
        keras.saving.get_custom_objects()["dependencies>Table"] = kept


def test_the_receipt_has_the_digest(table: Path, tmp_path: Path) -> None:
    receipt = exporter.export(_make_table(str(table)), tmp_path / "model", verify={"mode": "none"})
    [recorded] = receipt.inputs
    digest = hashlib.sha256(b"1 2 3 4").hexdigest()
    assert (recorded.key, recorded.path, recorded.sha256) == ("Table 'table'.table_file", str(table), digest)
    assert f"its `table_file` is {table}, outside of the artifact" in " ".join(str(receipt).split())


def test_the_receipt_has_the_digest_of_another_saved_model(outer: keras.Model, tmp_path: Path) -> None:
    receipt = exporter.export(outer, tmp_path / "model", verify={"mode": "none"})
    assert [each.key for each in receipt.inputs] == ["TFSMLayer 'inner'.filepath"]


def test_a_url_is_named_and_not_contacted(table: Path, tmp_path: Path) -> None:
    model = _make_table(str(table), source="https://me:secret@nowhere.invalid/factors.txt")
    assert _find(_write(model, tmp_path, "keras"))[1] == Omission(
        "Table 'table'",
        "its `source` is https://…@nowhere.invalid/factors.txt, an address that was not contacted; it has to be "
        "there under the same name, unchanged, where the model is loaded",
    )
    receipt = exporter.export(model, tmp_path / "exported.keras", verify={"mode": "none"})
    assert [each.key for each in receipt.inputs] == ["Table 'table'.table_file"]


@pytest.mark.parametrize("place", ["sub/factors", "factors.txt"], ids=["separator", "suffix"])
def test_a_relative_path_is_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / place).write_text("1 2 3 4")
    monkeypatch.chdir(tmp_path)
    assert [each.place for each in find_dependencies({"class_name": "A", "config": {"path": place}})] == [place]


@pytest.mark.parametrize(
    "text",
    ["/", "relu", "there_is_no_such.txt", "a/b", "0.5", "x\0y.txt", "/a\nb", "~", ".", "y" * 5000, "a" * 300 + ".txt"],
    ids=lambda text: repr(text[:12]),
)
def test_other_texts_are_no_paths(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "relu").mkdir()  # a name alone is that of many things
    monkeypatch.chdir(tmp_path)
    assert find_dependencies({"class_name": "A", "config": {"activation": text}}) == ()


def test_names_of_classes_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keras.layers").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_dependencies(keras.saving.serialize_keras_object(keras.layers.Dense(1))) == ()


@pytest.mark.parametrize("save_format", _NAMES)
@pytest.mark.parametrize("kind", ["StringLookup", "TextVectorization"])
def test_a_vocabulary_of_a_file_is_held(kind: str, save_format: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\nblue\n")
    model = keras.Sequential([keras.Input((1,), dtype="string"), getattr(keras.layers, kind)(vocabulary=str(words))])
    batch = tf.constant([["green"], ["grey"], ["red"]])
    expected = model(batch)
    contents = _write(model, tmp_path, save_format)
    assert [each for each in _find(contents) if each.what != "stock Keras"] == []
    words.unlink()
    np.testing.assert_array_equal(load_model(tmp_path / _NAMES[save_format])(batch), expected)
    if save_format != "tf":
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / _NAMES[save_format])(batch), expected)
