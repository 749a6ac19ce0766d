"""Configurations that somebody prepared to do harm: each is refused before Keras looks at it, and runs nothing."""

import base64
import importlib
import json
import marshal
import pkgutil
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.saving.serialization_lib import _retrieve_class_or_fn

import exporter
from exporter import sources
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.errors import ArtifactError
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.documents import MAX_JSON, parse_json
from exporter.saving.layout.names import CHECKSUMS, CONFIG
from exporter.saving.private_api import layers_by_name
from exporter.saving.rebuilding.model_configuration import rebuild_model
from exporter.saving.requests import LoadRequest
from exporter.saving.safety.configurations import MAX_LAYERS, check_configuration
from exporter.saving.safety.memory import limit_variables

from .conftest import TRUST, Attack, copy, read_members, refuse, write_members

pytestmark = pytest.mark.xdist_group("safety")

Config = dict[str, Any]


@keras.saving.register_keras_serializable("hostile")
def known(tensor: Any) -> Any:
    return tensor


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


def put_function(node: Config) -> Attack:
    """Puts a Lambda layer that calls what a node names."""

    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            layer = find_layer(config, "scores")
            layer.update(module="keras.layers", class_name="Lambda", registered_name=None)
            layer["config"] = {"name": "scores", "function": {"class_name": "function", **node}}

        change_config(path, change)

    return attack


def put_nameless(class_name: str, /, **arguments: Any) -> Attack:
    """Puts a layer as Keras 2 writes it: without a module, found by its bare name."""

    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            layer = find_layer(config, "scores")
            layer.clear()
            layer.update(class_name=class_name, config={"name": "scores", **arguments})

        change_config(path, change)

    return attack


def put_layers(count: int) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            layer = find_layer(config, "scores")
            names = (f"scores_{number}" for number in range(count))
            config["config"]["layers"] += [{**layer, "config": {"name": name, "units": 2}} for name in names]

        change_config(path, change)

    return attack


def fill_constant(dtype: str) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        def change(config: Config) -> None:
            value = {"class_name": "__numpy__", "config": {"value": ["a"], "dtype": dtype}}
            constant = {"class_name": "Constant", "module": "keras.initializers", "config": {"value": value}}
            find_layer(config, "scores")["config"]["bias_initializer"] = constant

        change_config(path, change)

    return attack


def name_no_part(layer: str, place: str) -> str:
    return f"{layer} 'scores' names {place}, which is no part of a model. {TRUST}"


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
    "class as a function": (
        put_function({"module": "keras.layers", "config": "TFSMLayer", "registered_name": "function"}),
        name_no_part("Lambda", "keras.layers.TFSMLayer"),
    ),
    "harmless class as a function": (
        put_function({"module": "keras.layers", "config": "Dense", "registered_name": "Dense"}),
        name_no_part("Lambda", "keras.layers.Dense"),
    ),
    "function beside a registered name": (
        put_function({"module": "keras.utils", "config": "get_file", "registered_name": "hostile>known"}),
        name_no_part("Lambda", "keras.utils.get_file"),
    ),
    "reader of configurations": (
        put_function({"module": "keras.layers", "config": "deserialize", "registered_name": "deserialize"}),
        name_no_part("Lambda", "keras.layers.deserialize"),
    ),
    "function that calls others": (
        put_function({"module": "keras.ops", "config": "while_loop", "registered_name": "while_loop"}),
        name_no_part("Lambda", "keras.ops.while_loop"),
    ),
    "program by its private module": (
        put_layer("keras.src.export.tfsm_layer", "TFSMLayer", filepath="/elsewhere"),
        name_no_part("TFSMLayer", "keras.src.export.tfsm_layer.TFSMLayer"),
    ),
    "function as a layer without a module": (
        put_nameless("deserialize", config={"class_name": "TFSMLayer"}),
        name_no_part("deserialize", "keras.layers.deserialize"),
    ),
    "program of JAX": (put_layer("keras.layers", "JaxLayer"), name_no_part("JaxLayer", "keras.layers.JaxLayer")),
    "program of Flax": (put_layer("keras.layers", "FlaxLayer"), name_no_part("FlaxLayer", "keras.layers.FlaxLayer")),
    "vocabulary of another file, without a module": (
        put_nameless("StringLookup", vocabulary="/etc/passwd"),
        f"StringLookup 'scores' takes its vocabulary from the file '/etc/passwd', outside of the artifact. {TRUST}",
    ),
    "name that is no text": (
        put_function({"module": "keras.ops", "config": ["add"], "registered_name": None}),
        "Lambda 'scores' is damaged: it names a list, where a text is expected.",
    ),
    "array of a dtype of any size": (
        fill_constant("U1000000000"),
        "Dense 'scores' is refused: it has a value of the dtype 'U1000000000'.",
    ),
    "20,000 layers": (
        put_layers(20_000),
        "The configuration is refused: it makes more than 10,000 layers, counted for each call, or 200,000 objects. "
        f"{TRUST}",
    ),
    "places for unknown words": (
        put_layer("keras.layers", "StringLookup", num_oov_indices=10**8),
        f"StringLookup 'scores' is refused: its num_oov_indices is more than 1,000,000. {TRUST}",
    ),
    "nested configuration": (nest, "The configuration is refused: it is nested too deeply."),
}


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


# Texts

TEXTS = {
    "a key twice": (b'{"class_name": "Sequential", "class_name": "Model"}', "damaged: it is no JSON: it has the key"),
    "a number of 5,000 digits": (b"[1" + b"0" * 5000 + b"]", "damaged: it is no JSON: Exceeds the limit"),
    "half of a character": (b'["\\ud800"]', "damaged: it is no JSON: it has a text that is no Unicode."),
    "bytes that are no text": (b'["\xff"]', "damaged: it is no JSON: it has a text that is no Unicode."),
    "a million empty lists": (b"[" + b"[]," * 1_000_000 + b"[]]", "refused: it has 1,000,002 brackets; at most 1,000"),
    "too many bytes": (b" " * (MAX_JSON + 1), "refused: it has 67,108,865 bytes; at most 67,108,864 are read."),
    "not a number": (b"NaN", "damaged: expected a mapping, received float."),
}


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_readers_take_in_different_ways_or_for_long(
    text: bytes, message: str, name: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    write_members(path, {**read_members(path), name: text})

    if not (text == b"NaN" and name == "metadata.json"):  # of which Keras itself reads nothing
        assert refuse(path).startswith(f"{path}, {name} is {message}")
    with pytest.raises(ArtifactError) as caught:
        inspect_artifact(path)
    assert str(caught.value).startswith(f"{path}, {name} is {message}")


def test_a_pair_of_halves_is_a_character() -> None:
    assert parse_json('["\\ud83d\\ude00"]', "it") == ["\U0001f600"]


# Sizes


def make_functional(node: Config, calls: int = 1) -> Config:
    """Puts a layer into a functional model, and calls it so many times in a row."""
    layer = {**node, "name": "x", "config": {**node["config"], "name": "x"}, "inbound_nodes": []}
    places = [["i", 0, 0], *(["x", number, 0] for number in range(calls))]
    for place in places[:calls]:
        tensor = {"shape": [None, 1_000_000], "dtype": "float32", "keras_history": place}
        layer["inbound_nodes"].append({"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}})
    entry = {
        "class_name": "InputLayer",
        "module": "keras.layers",
        "name": "i",
        "config": {"name": "i", "batch_shape": [None, 1_000_000], "dtype": "float32"},
        "inbound_nodes": [],
    }
    body = {"name": "f", "layers": [entry, layer], "input_layers": [["i", 0, 0]], "output_layers": [places[calls]]}
    return {"class_name": "Functional", "module": "keras.src.models.functional", "config": body}


def test_models_that_call_models_twice_each_are_counted_call_by_call() -> None:
    config: Config = {"class_name": "Identity", "module": "keras.layers", "config": {}}
    for _ in range(3):
        config = make_functional(config, 2)
    check_configuration(config)
    for _ in range(20):
        config = make_functional(config, 2)
    with pytest.raises(ArtifactError, match="makes more than 10,000 layers, counted for each call"):
        check_configuration(config)


def test_a_model_of_five_thousand_layers_is_no_attack() -> None:
    layer = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}}
    check_configuration({"class_name": "Sequential", "module": "keras", "config": {"layers": [layer] * 5000}})
    assert MAX_LAYERS >= 5000


def test_an_operation_with_a_million_outputs() -> None:
    unstack = {"class_name": "Unstack", "module": "keras.src.ops.core", "config": {"num": 1_000_000, "axis": 1}}
    with limit_variables(100), pytest.raises(ArtifactError, match="it makes more than 200,000 tensors"):
        rebuild_model(make_functional(unstack), LoadRequest())


# All that Keras has

# What models consist of, as Keras's documentation has it.
KINDS = (
    *(keras.Operation, keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer, keras.DTypePolicy),
    *(keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint),
    *(keras.optimizers.schedules.LearningRateSchedule, keras.quantizers.Quantizer, keras.random.SeedGenerator),
    *(keras.quantizers.QuantizationConfig, keras.distillation.DistillationLoss, keras.InputSpec),
    *(keras.utils.FeatureSpace, type(keras.utils.FeatureSpace.cross(("a", "b"), 2))),
    *(type(keras.utils.FeatureSpace.float()), keras.optimizers.OptimizerMap, keras.dtype_policies.DTypePolicyMap),
)
PROGRAMS = ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
CALLED = ("activations", "losses", "metrics", "ops", "quantizers", "random")


def list_symbols() -> list[tuple[str, str]]:
    """Lists every name of every module of Keras that is imported or can be, private ones too, once each."""
    modules = {name for _, name, _ in pkgutil.walk_packages(keras.__path__, "keras.") if not name.endswith("_test")}
    found = []
    for name in sorted(module for module in modules if not module.startswith(("keras._tf_keras", "keras.src.backend"))):
        if ".src." not in name or name.startswith(("keras.src.layers", "keras.src.export", "keras.src.utils")):
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
            found += [(name, symbol) for symbol in vars(module) if not symbol.startswith("__")]
    return found


SYMBOLS = list_symbols()


def is_allowed(value: Any) -> bool:
    """Says whether models may have what Keras found, by other means than the check has."""
    if isinstance(value, type):
        return issubclass(value, KINDS) and value.__name__ not in PROGRAMS
    if value is known:
        return True
    name = f"{value.__module__}.{value.__name__}".removeprefix("keras.src.")
    if name.startswith("applications."):
        return name.endswith(".preprocess_input")
    return isinstance(value, types.FunctionType) and name.startswith(CALLED) and "serialize" not in name


def check_as_keras(node: Config) -> bool:
    """Checks a node, and what Keras finds for one that was let through; returns whether it was."""
    try:
        check_configuration(node)
    except ArtifactError:
        return False
    is_function = node["class_name"] == "function"
    name = node["config"] if is_function else node["class_name"]
    kind = "function" if is_function else "class"
    try:
        found = _retrieve_class_or_fn(name, node.get("registered_name"), node.get("module"), kind, node, {})
    except (TypeError, ValueError):
        return True  # Keras refuses it by itself
    assert is_allowed(found), found
    assert isinstance(found, type) != is_function or found is known
    return True


def test_whatever_keras_finds_by_a_name_is_a_part_of_a_model() -> None:
    assert {("keras.layers", "TFSMLayer"), ("keras.utils", "get_file"), ("keras.ops", "relu")} <= set(SYMBOLS)
    taken: set[tuple[str, str]] = set()
    for module, name in SYMBOLS:
        as_class: Config = {"class_name": name, "module": module, "config": {}, "registered_name": None}
        as_function = {"class_name": "function", "module": module, "config": name, "registered_name": name}
        taken.update((module, name) for node in (as_class, as_function) if check_as_keras(node))
    layers = {name for name, value in vars(keras.layers).items() if isinstance(value, type)}
    assert layers - {name for module, name in taken if module == "keras.layers"} == set(PROGRAMS)
    assert {("keras.activations", "relu"), ("keras.ops", "add"), ("keras.optimizers", "Adam")} <= taken
    assert ("keras.applications.mobilenet_v2", "preprocess_input") in taken


def test_whatever_keras_finds_by_a_bare_name_is_a_part_of_a_model() -> None:
    for name, value in layers_by_name().items():
        try:
            check_configuration({"class_name": name, "config": {}})
        except ArtifactError:
            continue
        assert value is None or is_allowed(value), name


modules = st.one_of(st.none(), st.just("builtins"), st.sampled_from(sorted({module for module, _ in SYMBOLS})))
names = st.one_of(st.just("hostile>known"), st.sampled_from(sorted({name for _, name in SYMBOLS})))


@settings(max_examples=300, deadline=None)
@given(module=modules, name=names, registered=st.one_of(st.none(), names), is_function=st.booleans())
def test_no_mix_of_names_leads_elsewhere(
    module: str | None, name: str, registered: str | None, is_function: bool
) -> None:
    node: Config = {"class_name": name, "config": {}, "module": module, "registered_name": registered}
    check_as_keras({**node, "class_name": "function", "config": name} if is_function else node)


def test_a_function_of_the_user_is_taken_by_its_name() -> None:
    node = {"class_name": "function", "config": "known", "module": "builtins", "registered_name": "hostile>known"}
    assert check_as_keras(node)
    with pytest.raises(ArtifactError, match="Could not locate function 'unknown'"):
        check_configuration({**node, "config": "unknown"})


def test_a_class_of_the_user_does_not_excuse_one_of_keras_that_has_its_name() -> None:
    node: Config = {"class_name": "TFSMLayer", "module": "keras.layers", "registered_name": None, "config": {}}
    with pytest.raises(ArtifactError, match="which is no part of a model"):
        check_configuration(node, {"TFSMLayer": keras.layers.Dense})
    check_configuration({**node, "registered_name": "TFSMLayer"}, {"TFSMLayer": keras.layers.Dense})


# An architecture with weights beside it


@pytest.mark.parametrize("name", ["lambda", "class as a function", "download", "20,000 layers"])
def test_an_architecture_is_checked(name: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    attack, message = CONFIGURATIONS[name]
    attack(path, canary)
    (tmp_path / "config.json").write_bytes(read_members(path)["config.json"])

    with pytest.raises(ArtifactError) as caught:
        sources.architecture(str(tmp_path / "config.json"), str(path))
    assert str(caught.value) == f"{str(tmp_path / 'config.json')!r} cannot be built: {message}"
    assert not canary.exists()


def test_an_architecture_is_built_on_trust(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(1)])
    (tmp_path / "config.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")

    built = sources.architecture(str(tmp_path / "config.json"), str(tmp_path / "model.weights.h5"), safe_mode=False)

    assert [type(layer).__name__ for layer in built.layers] == ["Lambda", "Dense"]


class Doubled(keras.layers.Layer):
    """Has code of its own, so that its SavedModel holds functions."""

    def call(self, values: Any) -> Any:
        return values * 2.0


@pytest.mark.parametrize(
    ("text", "kind"), [(b"[1]", "list"), (b'"text"', "str"), (b"1", "int")], ids=["list", "text", "number"]
)
def test_a_configuration_that_is_no_mapping(text: bytes, kind: str, tmp_path: Path) -> None:
    path = exporter.save_model(keras.Sequential([keras.Input((2,)), Doubled()]), tmp_path / "model", save_format="tf")
    checksums = Checksums.from_json((path / CHECKSUMS).read_bytes(), path)
    (path / CONFIG).write_bytes(checksums.add_part(CONFIG, text))
    (path / CHECKSUMS).write_bytes(checksums.to_json())
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    assert str(caught.value) == f"{path}, config.json is damaged: expected a mapping, received {kind}."
