"""Files that older versions of Keras wrote: predictions, weights, slots, and what is said of the rest."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import exporter
from exporter.errors import ArtifactError
from exporter.saving.legacy.classes import TensorFlowFunction, find_arguments, functions
from exporter.saving.legacy.configurations import translate_compile, translate_model
from exporter.saving.legacy.loading import build_model
from exporter.saving.legacy.parts.findings import LeftOutWarning
from exporter.saving.requests import LoadRequest
from exporter.verification.custom_objects import find_needs, import_objects

from .support import CASES, FILES, NO_STATE, PARTLY, REFUSED, Case, Scale, compare, list_table, my_loss

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")

# Half precision is computed in another order; everything else is the rounding of single precision.
TOLERANCE = {"mixed": 2e-3}


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    keras.utils.clear_session()
    yield
    keras.utils.clear_session()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES if case.id not in REFUSED])
def test_an_old_file_comes_in_whole(case: Case) -> None:
    model, losses = case.load()

    found = compare(case, model)

    said = [f"{case.path} did not come back whole. older file: {loss}" for loss in PARTLY.get(case.id, [])]
    assert losses == said
    assert found.difference <= TOLERANCE.get(case.kind, 2e-6)
    assert found.lacking == (["iterations"] if NO_STATE in PARTLY.get(case.id, []) else [])


def test_the_page_shows_the_table() -> None:
    page = Path(__file__).parents[3] / "exporter" / "data" / "help" / "old-models.md"
    assert "\n".join(list_table()) in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES if case.id in REFUSED])
def test_what_an_old_file_does_not_hold_is_said(case: Case) -> None:
    with pytest.raises(ArtifactError) as caught:
        case.load()
    assert str(caught.value).removeprefix(f"{case.path} ") == REFUSED[case.id]


def test_the_vocabulary_is_in_the_archive() -> None:
    assert Case(FILES / "keras-3.0.5" / "prep_str" / "keras.keras").load()[0].built


class DenseFeatures(keras.layers.Layer):
    """What somebody gives in the place of a class that is gone."""

    def __init__(self, feature_columns: Any, **arguments: Any) -> None:
        super().__init__(**{key: each for key, each in arguments.items() if key in ("name", "dtype")})
        self.names = [each["config"]["key"] for each in feature_columns]

    def call(self, inputs: Any) -> Any:
        return keras.ops.concatenate([inputs[name] for name in self.names], axis=-1)


def test_a_class_that_is_gone_can_be_given() -> None:
    case = Case(FILES / "tf-2.4" / "features" / "h5.h5")
    model = exporter.load_model(case.path, custom_objects={"DenseFeatures": DenseFeatures})
    found = compare(case, model)
    assert (found.difference <= 2e-6, found.lacking) == (True, [])


@pytest.mark.parametrize("kind", ["functions", "gated", "local", "former"])
def test_classes_that_are_gone_are_saved_again(kind: str, tmp_path: Path) -> None:
    [case, *_] = [case for case in CASES if case.kind == kind]
    path = exporter.save_model(case.load()[0], tmp_path / "again.keras")
    found = compare(case, exporter.load_model(path))
    assert (found.difference <= 2e-6, found.lacking) == (True, [])


def test_importing_the_package_alone_registers_no_class_of_ours() -> None:
    needs = find_needs(Case(FILES / "keras-1.2.2" / "local" / "h5.h5").load()[0])
    _, imported = import_objects(needs.to_json())
    assert needs.to_loading(imported).imports == ("exporter.saving.legacy.classes.local",)


@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_radial_kernel_is_that_of_keras_2(size: int) -> None:
    kernel = np.random.default_rng(size).random((size, size, 2, 3), "float32")
    expected = tf_keras.constraints.RadialConstraint()(tf.constant(kernel))
    config = {"class_name": "RadialConstraint", "config": {}}
    node = translate_model(wrap(layer("Conv1D", filters=1, kernel_size=1, kernel_constraint=config)))
    constraint = keras.saving.deserialize_keras_object(node["config"]["layers"][1]["config"]["kernel_constraint"])
    np.testing.assert_array_equal(constraint(kernel), expected)


def test_missing_code_is_named_at_once_and_can_be_given() -> None:
    path = FILES / "tf-2.15" / "custom_reg" / "keras.keras"
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    assert str(caught.value) == (
        f"{path} needs code that is not in it: the class 'My>Scale'.\n"
        "Import the module that defines it, register it with `@keras.saving.register_keras_serializable()`, or name it "
        "in `custom_objects`."
    )
    assert exporter.load_model(path, {"My>Scale": Scale}).compiled


def test_a_missing_loss_is_named_with_both_remedies() -> None:
    path = FILES / "keras-3.0.5" / "customloss" / "h5.h5"
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    assert str(caught.value) == (
        f"{path} needs code that is not in it: the function 'my_loss'.\n"
        "Import the module that defines it, register it with `@keras.saving.register_keras_serializable()`, or name it "
        "in `custom_objects`. Or load the model with compile=False, and compile it anew."
    )
    assert not exporter.load_model(path, compile=False).compiled
    assert exporter.load_model(path, {"my_loss": my_loss}).loss is my_loss


@pytest.mark.parametrize("form", ["h5.h5", "keras.keras"])
def test_the_code_of_a_lambda_runs_in_no_safe_mode(form: str) -> None:
    with pytest.raises(ArtifactError, match=r"Lambda 'lam' holds a Python lambda, marshalled"):
        exporter.load_model(FILES / "tf-2.15" / "lambda" / form)


def test_paths_of_windows_are_those_of_today(tmp_path: Path) -> None:
    import zipfile

    source = FILES / "tf-2.13" / "multi" / "keras.keras"
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "weights.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "r+") as file:
        layers = file["_layer_checkpoint_dependencies"]
        for name in list(layers):
            file.move(f"_layer_checkpoint_dependencies/{name}", f"_layer_checkpoint_dependencies\\{name}")
        del file["_layer_checkpoint_dependencies"]
    members["model.weights.h5"] = (tmp_path / "weights.h5").read_bytes()
    path = tmp_path / "multi" / "keras.keras"
    path.parent.mkdir()
    shutil.copy(source.parent / "expected.npz", path.parent)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    model, losses = Case(path).load()

    assert (losses, compare(Case(path), model).lacking) == ([], [])


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": "one", **config}}


def wrap(*layers: dict[str, Any]) -> dict[str, Any]:
    first = layer("InputLayer", batch_input_shape=[None, 4, 4], name="in")
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        pytest.param(layer("LSTM", units=2, time_major=True), "LSTM 'one' has time_major=True", id="gone meaning"),
        pytest.param(layer("Dense", units=2, zoom=3), "Dense 'one' has zoom=3", id="unknown argument"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(node: dict[str, Any], fault: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        translate_model(wrap(node))
    assert str(caught.value) == (
        f"The model has parts that Keras 3 has no counterpart for:\n  {fault}.\n"
        "Save the model as a SavedModel, `model.save(directory)`, with the version that wrote this file: it holds the "
        "computation, and `load_model` takes it."
    )


def test_a_function_without_a_counterpart_is_named(tmp_path: Path) -> None:
    inputs = tf_keras.Input((4,))
    model = tf_keras.Model(inputs, tf.einsum("bi,bj->bij", tf.debugging.check_numerics(inputs, "bad"), inputs))
    model.save(tmp_path / "model.h5")
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(tmp_path / "model.h5")
    assert "  TFOpLambda 'tf.debugging.check_numerics' calls tf.debugging.check_numerics.\n" in str(caught.value)
    assert (
        "  TFOpLambda 'tf.einsum' calls tf.einsum with tensors that the file does not hold: Keras 2 wrote the first "
        "argument alone.\n"
    ) in str(caught.value)


@pytest.mark.parametrize("function", ["io.write_file", "py_function", "print", "compat.v1.py_func", "math.nothing"])
def test_no_other_function_of_tensorflow_is_called(function: str) -> None:
    with pytest.raises(ValueError, match="none of the functions that a model of older Keras may call"):
        TensorFlowFunction(function)


def test_all_functions_that_may_be_called_are_there() -> None:
    assert [name for name in sorted(functions._KNOWN) if find_arguments(name) is None] == []


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"class_name": "Functional", "config": {"layers": [{"class_name": "Dense"}]}}, id="no inputs"),
        pytest.param({"class_name": "Model", "config": {"layers": [], "input_layers": 3}}, id="inputs of a number"),
        pytest.param(wrap({"class_name": "Dense", "config": 3}), id="arguments of a number"),
        pytest.param(wrap({"class_name": ["Dense"], "config": {}}), id="a list for a class"),
        pytest.param({"class_name": "Sequential", "config": {"layers": {"a": 1}}}, id="layers of a mapping"),
        pytest.param(wrap(layer("TFOpLambda", function=3)), id="a function of a number"),
        pytest.param(wrap(layer("Bidirectional", layer=7)), id="a layer of a number"),
    ],
)
def test_a_damaged_configuration_is_an_error_of_ours(config: dict[str, Any]) -> None:
    request = LoadRequest()
    with pytest.raises(ArtifactError):
        build_model(config, "2.8", "here", request)


def test_a_lost_behaviour_is_warned_of() -> None:
    with pytest.warns(LeftOutWarning, match=r"BatchNormalization 'one' had renorm=True: renormalization"):
        translate_model(wrap(layer("BatchNormalization", axis=[2], renorm=True)))


def test_hard_sigmoid_keeps_its_slope() -> None:
    model = keras.saving.deserialize_keras_object(translate_model(wrap(layer("Activation", activation="hard_sigmoid"))))
    points = np.linspace(-4, 4, 32, dtype="float32").reshape(2, 4, 4)
    np.testing.assert_allclose(model(points), np.clip(0.2 * points + 0.5, 0, 1), atol=1e-7)


def test_decay_is_a_schedule_and_names_become_objects() -> None:
    optimizer = {"class_name": "SGD", "config": {"lr": 0.5, "decay": 0.25, "momentum": 0.0, "nesterov": False}}
    translated = translate_compile({"optimizer_config": optimizer, "loss": "kld", "metrics": [["mae", "acc"]]})
    made = keras.saving.deserialize_keras_object(translated["optimizer"])
    assert [float(made.learning_rate)] == [0.5]
    made.iterations.assign(4)
    assert float(made.learning_rate) == 0.25
    assert translated["loss"]["config"] == "kl_divergence"
    assert [translated["metrics"][0]["class_name"], translated["metrics"][1]] == ["MeanAbsoluteError", "acc"]


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_cudnn_layer_is_the_plain_one(cell: str, tmp_path: Path) -> None:
    from tf_keras.src.saving.legacy import hdf5_format

    plain = tf_keras.Sequential([tf_keras.Input((4, 3)), getattr(tf_keras.layers, cell)(5, name="one")])
    plain.set_weights([np.random.default_rng(1).random(each.shape, "float32") for each in plain.get_weights()])
    plain.save(tmp_path / "model.h5")
    fused = hdf5_format._convert_rnn_weights(Fused(cell), plain.get_weights())
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["class_name"] = f"CuDNN{cell}"
        config["config"]["layers"][1]["config"].pop("reset_after", None)
        file.attrs["model_config"] = json.dumps(config)
        group = file["model_weights/one"]
        for name, value in zip(group.attrs["weight_names"], fused, strict=True):
            del group[name]
            group[name] = value

    loaded = exporter.load_model(tmp_path / "model.h5")

    points = np.random.default_rng(2).random((2, 4, 3), "float32")
    np.testing.assert_allclose(loaded(points), plain(points), atol=1e-6)


def Fused(cell: str) -> Any:
    """Makes what the converter of Keras 2 takes for a fused layer: it looks at the name of the class alone."""
    return type(f"CuDNN{cell}", (), {"units": 5})()


def test_slots_that_were_listed_by_the_names_of_their_variables_find_them() -> None:
    path = FILES / "keras-2.0.5" / "cnn" / "h5.h5"
    model = exporter.load_model(path)
    with h5py.File(path) as file:
        weights = [name.decode() for layer in file["model_weights"].values() for name in layer.attrs["weight_names"]]
        slots = file["optimizer_weights"]
        values = [slots[name][()] for name in slots.attrs["weight_names"]]
    trained = sorted(name for name in weights if "moving" not in name)
    velocities = dict(zip(trained, values[1 + len(trained) :], strict=True))
    # Of one shape: in another order, nothing would have told.
    assert velocities["bn/gamma:0"].shape == velocities["bn/beta:0"].shape
    for variable, slot in zip(model.trainable_variables, model.optimizer._velocities, strict=True):
        np.testing.assert_array_equal(slot, velocities[f"{'/'.join(variable.path.split('/')[-2:])}:0"])


def test_an_activation_of_ones_own_is_named_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    shutil.copy(FILES / "tf-2.8" / "cnn_adam" / "h5.h5", path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        convolution, dense = (
            [layer for layer in config["config"]["layers"] if layer["class_name"] == kind]
            for kind in ("Conv2D", "Dense")
        )
        convolution[0]["config"]["activation"] = "<lambda>"
        dense[-1]["config"]["activation"] = "my_softmax"
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    assert str(caught.value) == (
        f"{path} needs code that is not in it: the code of a Python lambda, named '<lambda>', the function "
        "'my_softmax'.\n"
        "Import the module that defines it, register it with `@keras.saving.register_keras_serializable()`, or name it "
        "in `custom_objects`."
    )
    own = {"<lambda>": lambda value: value, "my_softmax": keras.activations.softmax}
    assert exporter.load_model(path, own).compiled


def test_slots_that_fit_nothing_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    shutil.copy(FILES / "keras-2.3.1" / "nested" / "h5.h5", path)
    with h5py.File(path, "a") as file:
        slots = file["optimizer_weights"]
        slots.attrs["weight_names"] = slots.attrs["weight_names"][:-1]
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    assert str(caught.value) == (
        f"{path} holds 4 optimizer variables, which do not fit Adagrad for this model: it has 9. Load it with "
        "compile=False and compile it anew."
    )
    assert not exporter.load_model(path, compile=False).compiled


def test_a_model_that_was_frozen_is_not_trained_on() -> None:
    model, _ = Case(FILES / "keras-2.3.1" / "nested" / "h5.h5").load()
    assert [layer.trainable for layer in model.layers if layer.name in ("base", "top")] == [False, True]
    before = [np.array(weight) for weight in model.get_layer("base").weights]
    model.fit(np.ones((4, 4), "float32"), np.zeros((4, 1), "float32"), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("base").weights, strict=True))
