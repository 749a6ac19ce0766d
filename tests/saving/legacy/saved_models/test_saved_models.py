"""SavedModels that old versions wrote: they come back whole, or what is lost is said."""

import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import exporter
from exporter.errors import ArgumentError, ArtifactError, UsageError
from exporter.saving.contents import list_lost
from exporter.saving.layout.messages import SavedMetadata, SavedModel
from exporter.saving.layout.names import GRAPH, KERAS_2_METADATA
from exporter.saving.revival.foreign.rewriting import rewrite

SAMPLES = Path(__file__).parent / "samples.zip"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("samples")
    with zipfile.ZipFile(SAMPLES) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    keras.utils.clear_session()
    yield
    keras.utils.clear_session()


class Scale(keras.layers.Layer):
    def __init__(self, units: int = 4, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.units = units

    def build(self, shape: tuple[int, ...]) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.w

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Sub(keras.Model):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.d1, self.bn = keras.layers.Dense(6, activation="relu"), keras.layers.BatchNormalization()
        self.drop, self.d2 = keras.layers.Dropout(0.2), keras.layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.d2(self.drop(self.bn(self.d1(x), training=training), training=training))


def my_loss(target: Any, prediction: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(target - prediction))


def read_expected(samples: Path, name: str) -> Mapping[str, Any]:
    with np.load(samples / name.rpartition("/")[0] / "expected.npz") as file:
        return {key: file[key] for key in file.files}


def gather(expected: Mapping[str, Any], prefix: str) -> Any:
    if prefix in expected:
        value = expected[prefix]
        return tf.constant(value.astype(str)) if value.dtype.kind == "U" else tf.constant(value)
    return {key[2:]: tf.constant(value) for key, value in expected.items() if key.startswith(f"{prefix}/")}


def check_predictions(model: Any, expected: Mapping[str, Any], times: float = 1.0) -> None:
    outputs, wanted = model(gather(expected, "x"), training=False), gather(expected, "y")
    if isinstance(outputs, dict):
        named = {"scores": "probabilities", **{name: name for name in outputs}}
        wanted = wanted if isinstance(wanted, dict) else dict.fromkeys(outputs, wanted)
        pairs = [(outputs[name if name in outputs else named[name]], value) for name, value in wanted.items()]
    else:
        pairs = [(outputs, wanted)]
    assert pairs
    for output, value in pairs:
        np.testing.assert_allclose(output, times * value, rtol=1e-5, atol=1e-6)


def load(path: Path, **arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*did not come back whole")
        return exporter.load_model(path, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "times"),
    [
        pytest.param("hub/nosig/tf", {}, 1, id="module without signatures"),
        pytest.param("hub/nosig/tf", {"endpoint": "__call__"}, 1, id="module by its call"),
        pytest.param("k3.0.5/cnn_adam/export", {}, 1, id="export of Keras 3"),
        pytest.param("k3.0.5/cnn_adam/export", {"endpoint": "serve"}, 1, id="function of an export"),
        pytest.param("k3.0.5/cnn_adam/tfsaved", {}, 1, id="tf.saved_model.save of Keras 3"),
        pytest.param("tf215/cnn_adam/export", {}, 1, id="export of Keras 2"),
        pytest.param("tf215/cnn_adam/tf", {"endpoint": "serving_default"}, 1, id="endpoint of a model of Keras 2"),
        pytest.param("tf28/cnn_adam/tf", {"endpoint": "__call__"}, 1, id="call of a model of Keras 2"),
        pytest.param("tf115/simple/tf", {}, 1, id="session of TensorFlow 1"),
        pytest.param("tf115/est/tf", {}, 1, id="estimator with one endpoint"),
        pytest.param("tf115/est_example/tf", {}, 1, id="estimator that parses examples"),
        pytest.param("tf115/several/tf", {"endpoint": "score"}, 1, id="one of several endpoints"),
        pytest.param("tf115/several/tf", {"tags": ["gpu", "serve"]}, 2, id="one of several graphs"),
        pytest.param("tf115/several/tf", {"tags": ["train"], "endpoint": "score"}, 3, id="graph and endpoint"),
        pytest.param("tf115/module/tf", {"tags": []}, 1, id="graph without tags"),
        pytest.param("tf115/module/tf", {"tags": ["train"]}, 3, id="graph of a module for training"),
    ],
)
def test_what_a_saved_model_computes_becomes_a_model(
    name: str, arguments: dict[str, Any], times: float, samples: Path
) -> None:
    model = load(samples / name, **arguments)

    assert type(model).__name__ == "SavedModel"
    assert len(model.weights) > 0
    check_predictions(model, read_expected(samples, name), times)


@pytest.mark.parametrize(
    ("name", "custom_objects"),
    [
        pytest.param("tf24/cnn_adam/tf", {}, id="metadata inside of the graph"),
        pytest.param("tf24/gru/tf", {}, id="recurrent"),
        pytest.param("tf24/mixed/tf", {}, id="mixed precision of 2.4"),
        pytest.param("tf24/prep_num/tf", {}, id="normalization"),
        pytest.param("tf24/subclassed/tf", {"Sub": Sub}, id="custom model of 2.4"),
        pytest.param("tf28/cnn_adam/tf", {}, id="slots of the older optimizers"),
        pytest.param("tf212/multi/tf", {}, id="several inputs and outputs"),
        pytest.param("tf212/mixed/tf", {}, id="mixed precision"),
        pytest.param("tf212/transfer/tf", {}, id="frozen model inside"),
        pytest.param("tf212/prep_text/tf", {}, id="text vectorization"),
        pytest.param("tf212/customloss/tf", {"my_loss": my_loss}, id="custom loss"),
        pytest.param("tf215/cnn_adam/tf", {}, id="lists of the newer optimizers"),
        pytest.param("tf215/prep_str/tf", {}, id="string lookup"),
        pytest.param("tf215/custom_reg/tf", {"My>Scale": Scale}, id="custom layer"),
        pytest.param("tf215/subclassed/tf", {"Sub": Sub}, id="custom model"),
    ],
)
def test_a_model_of_keras_2_comes_back_as_layers_with_its_optimizer(
    name: str, custom_objects: dict[str, Any], samples: Path
) -> None:
    expected = read_expected(samples, name)

    model = load(samples / name, custom_objects=custom_objects)

    assert not hasattr(model, "loaded_artifact")
    assert model.layers
    check_predictions(model, expected)
    check_optimizer(getattr(model.optimizer, "inner_optimizer", model.optimizer), expected)
    outputs = model(gather(expected, "x"))
    model.run_eagerly = True  # one step is no worth a trace
    model.fit(gather(expected, "x"), keras.tree.map_structure(lambda y: np.zeros((5, 1)), outputs), verbose=0)


def check_optimizer(optimizer: Any, expected: Mapping[str, Any]) -> None:
    assert int(optimizer.iterations) == int(expected["opt.iterations"]) > 0
    slots = {"m": getattr(optimizer, "_momentums", ()), "v": getattr(optimizer, "_velocities", ())}
    for kind, variables in slots.items():
        wanted = {key: value for key, value in expected.items() if key.startswith(f"opt.{kind}#")}
        assert len(wanted) == len(variables)
        for place, variable in enumerate(variables):
            np.testing.assert_array_equal(variable, wanted[f"opt.{kind}#{place}"])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda kinds: kinds.legacy.RMSprop(0.1, momentum=0.5, centered=True), id="three slots"),
        pytest.param(lambda kinds: kinds.legacy.SGD(0.1, decay=0.1), id="decay"),
        pytest.param(lambda kinds: kinds.Lion(0.01), id="list of another name"),
        pytest.param(lambda kinds: kinds.Adam(0.1, amsgrad=True, use_ema=True), id="moving average"),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving your model:UserWarning")
def test_training_of_keras_2_goes_on(make: Callable[[Any], Any], tmp_path: Path) -> None:
    x = np.random.default_rng(5).random((16, 3), "float32")
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(1)])
    model.compile(make(tf_keras.optimizers), "mse", run_eagerly=True)
    model.fit(x, x[:, :1], batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "model", save_format="tf")

    loaded = load(tmp_path / "model")

    assert int(loaded.optimizer.iterations) == 4
    loaded.run_eagerly = True
    for trained in (model, loaded):
        trained.fit(x, x[:, :1], batch_size=4, shuffle=False, verbose=0)
    for value, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_a_model_of_tensorflow_1_comes_back_as_layers(samples: Path) -> None:
    model = load(samples / "tf115/cnn_adam/tf")

    assert [type(layer).__name__ for layer in model.layers][:2] == ["Conv2D", "BatchNormalization"]
    assert int(model.optimizer.iterations) > 0
    check_predictions(model, read_expected(samples, "tf115/cnn_adam/tf"))


def test_what_tensorflow_1_exported_comes_back_as_layers(samples: Path) -> None:
    path = samples / "tf115/exported/tf"
    with pytest.warns(UserWarning, match="export_saved_model did not keep how the model was compiled"):
        model = exporter.load_model(path)

    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "BatchNormalization", "Dense"]
    assert not model.compiled
    check_predictions(model, read_expected(samples, "tf115/exported/tf"))
    assert load(path, compile=False).built
    assert exporter.compose(overrides=["model=file", f"model.filepath={path}"]).model["filepath"] == str(path)


def test_a_saved_model_of_keras_2_is_loaded_uncompiled_where_that_is_asked(samples: Path) -> None:
    model = load(samples / "tf28/cnn_adam/tf", compile=False)

    assert not model.compiled
    assert list_lost(model) == ()


LOST = [
    pytest.param(
        "tf215/custom_reg/tf",
        {
            "layers": "needs code that is not in it: the class 'My>Scale'",
            "optimizer and compile configuration": "compile the model anew",
        },
        id="custom layer",
    ),
    pytest.param(
        "tf215/lambda/tf",
        {"layers": "Lambda 'lam' holds a Python lambda", "optimizer and compile configuration": "without the layers"},
        id="lambda in safe mode",
    ),
    pytest.param(
        "tf212/customloss/tf",
        {
            "compile configuration": "needs code that is not in it: the function 'my_loss'",
            "optimizer": "without the compile configuration",
        },
        id="custom loss",
    ),
    pytest.param(
        "tf215/cnn_adam/tfsaved",
        {"layers": "tf.saved_model.save keeps no configuration", "optimizer and compile configuration": "anew"},
        id="tf.saved_model.save",
    ),
]


@pytest.mark.parametrize(("name", "lost"), LOST)
def test_what_is_lost_is_said(name: str, lost: dict[str, str], samples: Path) -> None:
    with pytest.warns(UserWarning, match="did not come back whole") as caught:
        model = exporter.load_model(samples / name)

    [said] = [str(each.message) for each in caught if "did not come back whole" in str(each.message)]
    noted = {each.what: each.why for each in list_lost(model)}
    assert noted.keys() == lost.keys()
    for what, why in lost.items():
        assert why in noted[what]
        assert f"{what}: {noted[what]}" in said
    check_predictions(model, read_expected(samples, name))


def test_an_export_says_what_its_source_lost(samples: Path, tmp_path: Path) -> None:
    config = exporter.compose(
        overrides=[
            "model=file",
            f"model.filepath={samples / 'tf212/customloss/tf'}",
            f"filepath={tmp_path / 'again'}",
            "verify=none",
        ]
    )
    receipt = exporter.export(config)

    left_out = {each.what: each.why for each in receipt.left_out}
    assert "needs code that is not in it: the function 'my_loss'" in left_out["compile configuration"]
    assert left_out["optimizer"].startswith("the SavedModel's own could not be rebuilt")


def test_a_session_of_tensorflow_1_is_saved_again_with_its_variables_and_tables(samples: Path, tmp_path: Path) -> None:
    expected = read_expected(samples, "tf115/simple/tf")
    for name, endpoint in (("tf115/simple/tf", None), ("tf115/several/tf", "lookup")):
        model = load(samples / name, endpoint=endpoint)
        with pytest.warns(UserWarning, match="Keras configuration"):
            exporter.save_model(model, tmp_path / "again")
        again = load(tmp_path / "again")
        asked = tf.constant(["a", "?"]) if endpoint else gather(expected, "x")
        for value, wanted in zip(again(asked).values(), model(asked).values(), strict=True):
            np.testing.assert_array_equal(value, wanted)


def test_a_trace_for_training_is_used_for_training(samples: Path) -> None:
    model = load(samples / "hub/nosig/tf")
    expected = read_expected(samples, "hub/nosig/tf")

    np.testing.assert_allclose(model(expected["x"], training=True), expected["y"] + 1, rtol=1e-5)
    assert [variable.name for variable in model.trainable_variables] == ["w"]


class Traced(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(2.0)

    @tf.function
    def __call__(self, image: Any, options: Any, training: bool = False) -> Any:
        return [image * self.w, {"options": options["scale"]}] if training else [image, {"options": options["scale"]}]

    @tf.function
    def other(self, x: Any) -> Any:
        return x * self.w

    @tf.function
    def of_any_rank(self, x: Any) -> Any:
        return x


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, place = Traced(), tmp_path_factory.mktemp("traced")
    options = {"scale": tf.TensorSpec((None,))}
    module.__call__.get_concrete_function(tf.TensorSpec((3, 2)), options)
    module.__call__.get_concrete_function(tf.TensorSpec((None, 2)), options)
    module.__call__.get_concrete_function(tf.TensorSpec((None, 2)), options, training=True)
    module.other.get_concrete_function(tf.TensorSpec((None, 2)))
    module.other.get_concrete_function(tf.TensorSpec((None, 3)))
    module.of_any_rank.get_concrete_function(tf.TensorSpec(None))
    tf.saved_model.save(module, place)
    return place


def test_several_arguments_of_a_call_are_a_dict_and_its_outputs_keep_their_structure(traced: Path) -> None:
    model = load(traced)
    asked = {"image": tf.ones((5, 2)), "options": {"scale": tf.ones(5)}}

    for training, factor in ((False, 1.0), (True, 2.0)):
        image, others = model(asked, training=training)
        np.testing.assert_array_equal(image, factor * np.ones((5, 2)))
        np.testing.assert_array_equal(others["options"], np.ones(5))


def test_traces_that_a_model_does_not_take_are_said(traced: Path) -> None:
    with pytest.warns(UserWarning, match="trace of other: it was traced for .x: float32 .None, 3.. too"):
        model = exporter.load_model(traced, endpoint="other")

    np.testing.assert_array_equal(model(tf.ones((4, 2))), 2 * np.ones((4, 2)))


def test_an_input_of_any_rank_is_refused(traced: Path) -> None:
    with pytest.raises(ArtifactError, match="of_any_rank takes x of any rank, and a model has to know"):
        exporter.load_model(traced, endpoint="of_any_rank")


CHOICES = [
    pytest.param(
        "tf115/est/tf",
        ["model.endpoint=classify"],
        {"endpoint": "classify"},
        "{path} has no endpoint classify. Its endpoints: predict. Choose one: load_model('{path}', "
        "endpoint='predict'), or model.endpoint=predict on the command line.",
        id="wrong endpoint",
    ),
    pytest.param(
        "tf115/several/tf",
        [],
        {},
        "{path} has no endpoint 'serving_default' to make a model of. Its endpoints: any, lookup, score. Choose one: "
        "load_model('{path}', endpoint='lookup'), or model.endpoint=lookup on the command line.",
        id="several endpoints",
    ),
    pytest.param(
        "tf115/module/tf",
        [],
        {},
        "{path} has no graph with exactly the tags [serve]. Its graphs have the tags [], [train]. Choose one: "
        "load_model('{path}', tags=[]), or 'model.tags=[]' on the command line.",
        id="several graphs",
    ),
    pytest.param(
        "tf115/several/tf",
        ["model.tags=[serve,tpu]"],
        {"tags": ["serve", "tpu"]},
        "{path} has no graph with exactly the tags [serve, tpu]. Its graphs have the tags [serve], [gpu, serve], "
        "[train]. Choose one: load_model('{path}', tags=['serve']), or 'model.tags=[serve]' on the command line.",
        id="wrong tags",
    ),
]


@pytest.mark.parametrize(("name", "overrides", "arguments", "message"), CHOICES)
def test_what_has_to_be_chosen_is_said_at_once_with_what_there_is(
    name: str, overrides: list[str], arguments: dict[str, Any], message: str, samples: Path
) -> None:
    path = samples / name
    told = message.format(path=path)
    option = "tags" if "tags" in message.partition("Choose")[2] else "endpoint"

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path, **arguments)
    assert str(caught.value) == told

    given = ["model=file", f"model.filepath={path}"]
    with pytest.raises(UsageError) as refused:
        exporter.compose(overrides=[*given, *overrides])
    assert [(fault.path, fault.message) for fault in refused.value.faults] == [(f"model.{option}", told)]

    # The remedies, as they are printed: another choice may come after them, such as an endpoint after the tags.
    remedy = re.search(r"or '?(model\.\w+=\S+?)'? on the command line", told)
    assert remedy is not None
    command = re.search(r"Choose one: load_model\((.+)\), or", told)
    assert command is not None
    if name == "tf115/several/tf" and option == "tags":  # that graph has several endpoints in turn
        with pytest.raises(UsageError, match=r"model\.endpoint: .* Its endpoints: any, lookup, score"):
            exporter.compose(overrides=[*given, remedy[1]])
        with pytest.raises(ArtifactError, match="Its endpoints: any, lookup, score"):
            eval(f"exporter.load_model({command[1]})")
    else:
        assert exporter.compose(overrides=[*given, remedy[1]]).model["_target_"] == "exporter.sources.file"
        assert eval(f"exporter.load_model({command[1]})").input_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"endpoint": 3}, "`endpoint` must be the name of an endpoint or None. Received: 3", id="endpoint"),
        pytest.param({"tags": "serve"}, "`tags` must be a list of texts or None. Received: 'serve'", id="tags"),
    ],
)
def test_a_choice_of_another_type_is_refused(arguments: dict[str, Any], message: str, samples: Path) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        exporter.load_model(samples / "tf115/est/tf", **arguments)


def test_a_choice_is_refused_for_what_is_no_saved_model(tmp_path: Path) -> None:
    path = exporter.save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), tmp_path / "model.keras")

    with pytest.raises(
        ArgumentError, match=r"`endpoint` and `tags` choose in a SavedModel, and .* is a \.keras archive"
    ):
        exporter.load_model(path, endpoint="serve", tags=["serve"])
    with pytest.raises(UsageError, match=r"model\.endpoint: chooses in a SavedModel, and .*model\.keras is none"):
        exporter.compose(overrides=["model=file", f"model.filepath={path}", "model.endpoint=serve"])


def test_damaged_metadata_costs_the_layers_and_no_more(samples: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(samples / "tf28/cnn_adam/tf", path)
    metadata = SavedMetadata.FromString((path / KERAS_2_METADATA).read_bytes())
    root = next(node for node in metadata.nodes if node.node_path == "root")
    root.metadata = root.metadata.replace('"filters": 8', '"filters": 7')
    (path / KERAS_2_METADATA).write_bytes(metadata.SerializeToString())

    with pytest.warns(UserWarning, match="layers: the SavedModel's own could not be rebuilt.* shapes"):
        model = exporter.load_model(path)

    check_predictions(model, read_expected(samples, "tf28/cnn_adam/tf"))


def test_a_custom_model_without_a_layer_that_the_file_has_is_not_taken(samples: Path) -> None:
    class Less(Sub):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.bn = keras.layers.Dropout(0.0)

    with pytest.warns(UserWarning, match="layers: the SavedModel's own could not be rebuilt"):
        model = exporter.load_model(samples / "tf215/subclassed/tf", {"Sub": Less})

    check_predictions(model, read_expected(samples, "tf215/subclassed/tf"))


def test_the_slots_of_older_optimizers_are_no_part_of_what_tensorflow_loads(samples: Path) -> None:
    # Without Keras 2, TensorFlow has nothing that makes them: '_UserObject' object has no attribute 'add_slot'.
    place, kept = rewrite(samples / "tf28/cnn_adam/tf")

    assert kept is not None
    [graph] = SavedModel.FromString((place / GRAPH).read_bytes()).meta_graphs
    assert not any(node.slot_variables for node in graph.object_graph_def.nodes)
    del kept
    assert not place.exists()
