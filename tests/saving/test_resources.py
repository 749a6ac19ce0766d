"""Lookup tables as files: what they hold comes back, and damage is named."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import exporter
from exporter.errors import ArtifactError
from exporter.saving.state.collecting import collect
from exporter.saving.state.resources import Table, wrap_variable


def make_words() -> Table:
    return Table.of(tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0))


def make_vectors() -> Table:
    return Table.of(tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, [0, 0], -1, -2))


@given(entries=st.dictionaries(st.binary(max_size=5), st.floats(width=32, allow_nan=False), max_size=6))
def test_words_come_back_from_files(entries: dict[bytes, float]) -> None:
    table, again = make_words(), make_words()
    table.fill(np.array(list(entries), object), np.array(list(entries.values()), np.float32))
    again.fill(np.array([b"former"], object), np.array([1.0], np.float32))
    again.restore(table.to_files().__getitem__, "table")
    keys, values = again.export()
    assert dict(zip(keys.tolist(), values.tolist(), strict=True)) == entries
    assert again.to_files() == table.to_files()


@given(entries=st.dictionaries(st.integers(0, 99), st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=6))
def test_vectors_come_back_from_files(entries: dict[int, tuple[int, int]]) -> None:
    table, again = make_vectors(), make_vectors()
    table.fill(np.array(list(entries), np.int64), np.array(list(entries.values()), np.int64).reshape(-1, 2))
    again.restore(table.to_files().__getitem__, "table")
    keys, values = again.export()
    assert dict(zip(keys.reshape(-1).tolist(), map(tuple, values.tolist()), strict=True)) == entries


def test_the_files_do_not_depend_on_the_order_of_the_entries() -> None:
    tables = [make_words(), make_words()]
    tables[0].resource.insert(["a", "b"], [1.0, 2.0])
    tables[1].resource.insert(["b"], [2.0])
    tables[1].resource.insert(["a"], [1.0])
    assert tables[0].to_files() == tables[1].to_files()


def to_npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


DAMAGE = [
    pytest.param(lambda files: {**files, "values.npy": b""}, "No data left in file", id="empty file"),
    pytest.param(
        lambda files: {**files, "values.npy": to_npy(np.ones(2))},
        "its entries are of the type float64 instead of float32",
        id="other type",
    ),
    pytest.param(
        lambda files: {**files, "keys.npy.lengths.npy": to_npy(np.array([-1, 2], np.int64))},
        "its strings do not end where the file does",
        id="negative length",
    ),
    pytest.param(
        lambda files: {**files, "keys.npy.lengths.npy": to_npy(np.array([1, 9], np.int64))},
        "its strings do not end where the file does",
        id="too long",
    ),
    pytest.param(
        lambda files: {**files, "values.npy": to_npy(np.ones(3, np.float32))}, "2 keys and 3 values.", id="more values"
    ),
    pytest.param(
        lambda files: {**files, "values.npy": to_npy(np.array([object()], object))},
        "Object arrays cannot be loaded when allow_pickle=False",
        id="pickle",
    ),
]


@pytest.mark.parametrize(("damage", "why"), DAMAGE)
def test_damage_is_named(damage: Callable[[dict[str, bytes]], dict[str, bytes]], why: str) -> None:
    table = make_words()
    table.resource.insert(["a", "b"], [1.0, 2.0])
    with pytest.raises(ArtifactError) as caught:
        make_words().restore(damage(table.to_files()).__getitem__, "layers/prices/attributes/table")
    assert str(caught.value) == f"The lookup table 'layers/prices/attributes/table' is damaged: {why}"


class Lookup(keras.layers.Layer):
    """Its table has what its class gives it."""

    words = ("red", "green")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        entries = tf.lookup.KeyValueTensorInitializer(list(self.words), [1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(entries, 0.0)

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(self.table.lookup(inputs), inputs.shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, "float32")


def test_code_that_gives_a_table_other_entries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = keras.Sequential([keras.Input((2,), dtype="string"), Lookup(name="prices")])
    path = exporter.save_model(model, tmp_path / "model.keras")
    monkeypatch.setattr(Lookup, "words", ("red", "blue"))
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path, {"Lookup": Lookup})
    assert str(caught.value) == (
        "The lookup table 'layers/lookup/attributes/table' of the rebuilt model holds other entries than the saved "
        "one, and cannot be changed. Load it with the code with which it was saved."
    )


def test_a_variable_is_wrapped_once() -> None:
    variable = tf.Variable([1.0, 2.0], name="gain")
    wrapped = wrap_variable(variable)
    assert wrap_variable(variable) is wrapped
    assert (wrapped.value is variable, wrapped.name, wrapped.shape, wrapped.dtype) == (True, "gain", (2,), "float32")


def test_a_vocabulary_is_not_saved_twice() -> None:
    model = keras.Sequential([keras.Input((1,), dtype="string"), keras.layers.StringLookup(vocabulary=["a", "b"])])
    assert collect(model).tables == {}
