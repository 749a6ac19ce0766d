"""A fault in our own code is not told as damage of the artifact: whoever reads that would throw the artifact away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from exporter import load_model, save_model
from exporter.errors import ArtifactError
from exporter.saving import requests
from exporter.saving.formats import keras_archive
from exporter.saving.formats.hdf5 import reading as hdf5
from exporter.saving.formats.parts import weights_file
from exporter.saving.formats.saved_model import reading as saved_model
from exporter.saving.functions import records as functions
from exporter.saving.functions.records import Functions
from exporter.saving.layout import checksums, structure
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.rebuilding import model_configuration, record
from exporter.saving.rebuilding.record import StateRecord
from exporter.saving.revival import models as revival
from exporter.saving.safety import configurations as safety
from exporter.saving.safety import zip_members

_NAMES = {"h5": "model.h5", "keras": "model.keras", "tf": "model", "revived": "revived"}

# Functions of ours on the way of a load, by the format that takes it.
_OURS: list[tuple[str, Any, str]] = [
    *(("h5", module, name) for module, name in ((hdf5, "_read_ours"), (hdf5, "revive_state"), (hdf5, "check_footer"))),
    *(("h5", module, name) for module, name in ((record, "read_record"), (structure, "read_record"))),
    *(("h5", hdf5, name) for name in ("check_hdf5",)),
    *(("keras", keras_archive, name) for name in ("check_hdf5", "_read_record", "revive_state")),
    ("keras", zip_members, "check_archive"),
    *(("keras", module, name) for module, name in ((checksums, "read_record"), (weights_file, "checksum_values"))),
    *(
        ("keras", module, name)
        for module, name in ((model_configuration, "count_layers"), (safety, "check_configuration"))
    ),
    *(("keras", record, name) for name in ("walk", "collect", "restore_settings", "load_layers", "build_optimizers")),
    *(
        ("keras", record, name)
        for name in ("restore_variables", "_load_entries", "_assign", "list_first", "read_shape")
    ),
    *(("revived", saved_model, name) for name in ("revive_model", "_count_stored")),
    *(
        ("revived", revival, name)
        for name in ("check_functions", "_collect_values", "_adopt_values", "compile_revived")
    ),
    ("revived", requests.LoadRequest, "is_at_hand"),
    *(("revived", revival, name) for name in ("_revive_layers", "_find_layers", "adopt_value", "restore_variables")),
    *(("revived", functions, name) for name in ("read_record",)),
]


class Scale(keras.layers.Layer):
    """Has no code where it is loaded."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    custom = keras.Sequential([keras.Input((4,)), Scale(), keras.layers.Dense(2)])
    for each in (model, custom):
        each.compile("adam", "mse", jit_compile=False)
        each.fit(np.ones((4, 4)), np.ones((4, each.output_shape[-1])), verbose=0)
    for name in ("h5", "keras", "tf"):
        save_model(model, folder / _NAMES[name])
    save_model(custom, folder / "revived")
    return folder


def _raise(fault: type[Exception]) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise fault("a fault of ours")

    return fail


@pytest.mark.parametrize("fault", [AttributeError, TypeError], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize(
    ("artifact", "module", "name"),
    [pytest.param(*each, id=f"{each[0]}-{each[1].__name__.rpartition('.')[2]}.{each[2]}") for each in _OURS],
)
def test_a_fault_of_ours_is_not_told_as_damage(
    artifact: str, module: Any, name: str, fault: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model(folder / _NAMES[artifact])
    if name == "list_first":  # a function that is asked where something is wrong
        monkeypatch.setattr(record, "read_shape", lambda variable: ())
    monkeypatch.setattr(module, name, _raise(fault))
    with pytest.raises(fault, match=r"^a fault of ours$"):
        load_model(folder / _NAMES[artifact])


@pytest.mark.parametrize("artifact", ["h5", "keras"])
def test_a_fault_of_a_layer_of_keras_is_told_with_the_artifact(
    artifact: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.layers.Dense, "from_config", _raise(TypeError))
    with pytest.raises(ArtifactError, match=r"^The model's configuration cannot be rebuilt: a fault of ours\."):
        load_model(folder / _NAMES[artifact])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "The artifact's state record is damaged: it is a list, not a mapping."),
        ("{}", "The artifact's state record is damaged: it has no 'variables'."),
        (
            '{"variables": {"a": {"dtype": 1, "shape": [], "trainable": true}}, "trainable": {}, "optimizers": {}, '
            '"compile_extras": null, "assets": []}',
            "The artifact's state record is damaged: it.variables[...].dtype is a whole number, not a text.",
        ),
        (
            '{"variables": {}, "trainable": {}, "optimizers": {"o": "vars"}, "compile_extras": null, "assets": []}',
            "The artifact's state record is damaged: it.optimizers[...] is a text, not a list.",
        ),
        ("{", "The artifact's state record is damaged: it is no JSON: Expecting property name enclosed in double"),
        (
            '{"version": 2}',
            "The artifact's state record is of version 2; this exporter reads version 1. Install the exporter that "
            "wrote it.",
        ),
    ],
    ids=["list", "empty", "dtype", "order", "no-json", "version"],
)
def test_a_damaged_record_is_told_by_its_place(text: str, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        StateRecord.from_json(text)
    assert str(caught.value).startswith(message)


def test_a_damaged_record_of_functions_is_told_by_its_place() -> None:
    with pytest.raises(ArtifactError) as caught:
        Functions.from_json('{"units": [], "steps": {}, "missing": [], "methods": []}')
    assert str(caught.value) == ("The artifact's record of functions is damaged: it has no 'compile_config'.")


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, True, "it is true or false, not a whole number"),
        (float, "1", "it is a text, not a number"),
        (tuple[int, int], [1], "it has 1 items, not 2"),
        (tuple[str, ...], ["a", 1], "it[1] is a whole number, not a text"),
        (dict[str, int], {"a": None}, "it[...] is null, not a whole number"),
        (str | None, 1, "it is a whole number, not a text or null"),
    ],
    ids=["bool", "float", "pair", "items", "mapping", "union"],
)
def test_a_value_of_another_type_is_refused(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        read_record(kind, value)
    assert str(caught.value) == message


def test_values_of_their_types_are_read() -> None:
    assert read_record(tuple[str | None, ...], ["a", None]) == ("a", None)
    assert read_record(tuple[int | None, ...], (None, 4)) == (None, 4)
    assert read_record(float, 1) == 1
    assert read_record(dict[str, tuple[int, ...]], {"a": [1, 2]}) == {"a": (1, 2)}
