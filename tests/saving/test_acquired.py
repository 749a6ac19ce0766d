"""What layers acquire after they were made comes back: adaptation, quantization, frozen layers, dtype policies."""

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, quantizers
from language_models import make_gemma

import exporter
from exporter.errors import ArtifactError
from exporter.saving.rebuilding.acquired import put_back
from exporter.saving.rebuilding.record import StateRecord, describe_state
from exporter.saving.requests import LoadRequest
from exporter.saving.safety.configurations import check_configuration
from exporter.saving.state.collecting import Array, collect, collect_state, to_array

ARTIFACTS = {"tf": "model", "keras": "model.keras", "h5": "model.h5"}
WIDTH = 6
WORDS = 11

pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
    pytest.mark.filterwarnings("ignore:Invalid quantization mode"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables"),
]


@pytest.fixture(autouse=True)
def others_set_aside() -> None:
    """Keras looks for garbage for each variable that a quantization replaces: not among all that other tests made."""
    gc.freeze()


@keras.saving.register_keras_serializable("acquired")
class Mixer(layers.Layer):
    """A layer whose configuration tells nothing of the layers inside it."""

    def build(self, shape: Any) -> None:
        self.project = layers.EinsumDense("abc,cd->abd", (None, WIDTH), bias_axes="d", activation="relu")
        self.attend = layers.MultiHeadAttention(2, 3)
        self.dense = layers.Dense(WIDTH, activation="tanh")
        self.project.build(shape)
        self.attend.build(shape, shape)
        self.dense.build(shape)

    def call(self, inputs: Any) -> Any:
        hidden = self.project(inputs)
        return self.dense(hidden + self.attend(hidden, hidden))


@keras.saving.register_keras_serializable("acquired")
class Reader(keras.Model):
    """A model of its own class: its layers are made by its constructor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.embed = layers.ReversibleEmbedding(WORDS, WIDTH, tie_weights=False)
        self.mixers = [Mixer(), Mixer()]
        self.convolve = layers.Conv1D(WIDTH, 2, padding="same")
        self.head = layers.Dense(3, name="head")

    def build(self, shape: Any) -> None:
        self.embed.build(shape)
        for layer in (*self.mixers, self.convolve):
            layer.build((None, None, WIDTH))
        self.head.build((None, WORDS))

    def call(self, tokens: Any) -> Any:
        hidden = self.embed(tokens)
        for mixer in self.mixers:
            hidden = mixer(hidden)
        return self.head(self.embed(self.convolve(hidden)[:, 0], reverse=True))


def subclassed() -> keras.Model:
    model = Reader()
    model.build((None, 4))
    return model


def functional() -> keras.Model:
    tokens = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(WORDS, WIDTH)(tokens)
    hidden = Mixer()(hidden)
    return keras.Model(tokens, layers.Dense(3, name="head")(layers.Flatten()(hidden)))


def gemma(**options: Any) -> keras.Model:
    return make_gemma(WORDS, WIDTH, 8, **options)


def list_adaptable(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model._flatten_layers(include_self=False) if hasattr(layer, "enable_lora")]


def adapt(model: keras.Model, **options: Any) -> None:
    if hasattr(model, "enable_lora"):
        model.enable_lora(2)
        return
    for layer in list_adaptable(model):
        layer.enable_lora(2, **options)


def adapt_with_alpha(model: keras.Model) -> None:
    for layer in list_adaptable(model):
        layer.enable_lora(2, lora_alpha=5.0)


def quantize(mode: str) -> Callable[[keras.Model], None]:
    return lambda model: model.quantize(mode)


def quantize_as(make: Callable[[], Any]) -> Callable[[keras.Model], None]:
    return lambda model: model.quantize(config=make())


def in_order(*steps: Callable[[keras.Model], None]) -> Callable[[keras.Model], None]:
    def change(model: keras.Model) -> None:
        for step in steps:
            step(model)

    return change


def calibrate(kind: type, **options: Any) -> Callable[[keras.Model], None]:
    """Quantizes the blocks of a model for what goes through them."""

    def change(model: keras.Model) -> None:
        texts = [np.random.default_rng(seed).integers(0, WORDS, (1, 4)) for seed in range(3)]
        blocks = {"pre_block_layers": [model.embed], "sequential_blocks": list(model.mixers)}
        common = {"num_samples": 3, "sequence_length": 4, "group_size": 2, "quantization_layer_structure": blocks}
        model.quantize(config=kind(texts, lambda text: text, **common, **options))

    return change


def freeze_inside(model: keras.Model) -> None:
    *_, last = [layer for layer in model._flatten_layers() if isinstance(layer, (layers.Dense, layers.EinsumDense))]
    last.trainable = False
    last.dtype_policy = "mixed_bfloat16"


CHANGES: dict[str, Callable[[keras.Model], None]] = {
    "adapted": adapt,
    "adapted with another alpha": adapt_with_alpha,
    "int8": quantize("int8"),
    "int8 of the weights alone": quantize_as(lambda: quantizers.Int8QuantizationConfig(activation_quantizer=None)),
    "adapted, then int8": in_order(adapt, quantize("int8")),
    "int8, then adapted": in_order(quantize("int8"), adapt),
    "int4": quantize("int4"),
    "int4 in small groups": quantize_as(lambda: quantizers.Int4QuantizationConfig(block_size=2)),
    "int4 by channel": quantize_as(lambda: quantizers.Int4QuantizationConfig(block_size=None)),
    "adapted, then int4": in_order(adapt, quantize("int4")),
    "int4, then adapted": in_order(quantize("int4"), adapt),
    "float8": quantize("float8"),
    "GPTQ": calibrate(quantizers.GPTQConfig, weight_bits=8),
    "GPTQ, packed": calibrate(quantizers.GPTQConfig, weight_bits=4),
    "AWQ": calibrate(quantizers.AWQConfig),
    "frozen and of another precision": freeze_inside,
}
MODELS: dict[str, Callable[[], keras.Model]] = {"subclassed": subclassed, "functional": functional, "gemma": gemma}
# One format tells whether a layer is put back; the others hold the same record in places of their own.
OTHERS = {
    ("subclassed", "adapted, then int8"): ("tf",),
    ("subclassed", "frozen and of another precision"): ("tf",),
    ("functional", "float8"): ("tf", "h5"),
    ("functional", "int8, then adapted"): ("h5",),
    ("gemma", "adapted, then int4"): ("tf", "h5"),
    ("gemma", "int8, then adapted"): ("tf", "h5"),
}
# A model that is not of a class of its own tells more, and KerasHub's tell it in a way of their own.
NESTED = ("adapted", "int8", "int8 of the weights alone", "int4 in small groups")
CASES = [
    pytest.param(model, change, save_format, id=f"{model}-{change}-{save_format}")
    for model in MODELS
    for change in CHANGES
    for save_format in ("keras", *OTHERS.get((model, change), ()))
    if model == "subclassed" or (model, change) in OTHERS or change in NESTED
]


def make(model: str, change: str) -> tuple[keras.Model, Any, Array]:
    """Makes a model that was changed, compiled and trained for a step, and a batch for it."""
    keras.utils.set_random_seed(3)
    made = MODELS[model]()
    tokens = np.random.default_rng(1).integers(0, WORDS, (5, 4)).astype("int32")
    batch: Any = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)} if model == "gemma" else tokens
    CHANGES[change](made)
    # A graph would cost its trace; Keras's float8 has no gradient without one.
    made.compile(keras.optimizers.Adam(0.01), "mean_squared_error", run_eagerly=change != "float8", jit_compile=False)
    targets = np.random.default_rng(2).normal(size=np.shape(made(batch))).astype("float32")
    made.train_on_batch(batch, targets)
    return made, batch, targets


def copy_state(model: keras.Model) -> dict[str, Array]:
    return {path: np.array(to_array(variable)) for path, variable in collect_state(model).items()}


def list_differences(expected: Mapping[str, Array], received: Mapping[str, Array]) -> list[str]:
    found = list(expected.keys() ^ received.keys())
    return found + [
        f"{path}: {expected[path].dtype}{expected[path].shape}, {received[path].dtype}{received[path].shape}"
        for path in expected.keys() & received.keys()
        if (expected[path].dtype, expected[path].shape) != (received[path].dtype, received[path].shape)
        or expected[path].tobytes() != received[path].tobytes()
    ]


def describe_layers(model: keras.Model) -> dict[str, Any]:
    """Describes what a layer acquires and what is no variable."""
    return {
        saveable.path: {
            "class": type(saveable.target).__name__,
            "trainable": saveable.target.trainable,
            "policy": saveable.target.dtype_policy.name,
            "mode": saveable.target.quantization_mode,
            "adapted": [getattr(saveable.target, f"lora_{each}", None) for each in ("enabled", "rank", "alpha")],
            "names": [each.name for each in saveable.target.trainable_variables],
        }
        for saveable in collect(model).tree
        if isinstance(saveable.target, layers.Layer)
    }


@pytest.mark.parametrize(("model", "change", "save_format"), CASES)
def test_what_layers_acquired_comes_back(model: str, change: str, save_format: str, tmp_path: Path) -> None:
    made, batch, targets = make(model, change)
    described, state, predicted = describe_layers(made), copy_state(made), np.asarray(made(batch))

    path = exporter.save_model(made, tmp_path / ARTIFACTS[save_format], save_format=save_format)
    loaded = exporter.load_model(path)

    assert describe_layers(made) == described
    assert describe_layers(loaded) == described
    assert list(copy_state(loaded)) == list(state)
    assert list_differences(state, copy_state(loaded)) == []
    np.testing.assert_array_equal(loaded(batch), predicted)
    assert made.train_on_batch(batch, targets) == loaded.train_on_batch(batch, targets)
    assert list_differences(copy_state(made), copy_state(loaded)) == []


@pytest.mark.parametrize("save_format", ARTIFACTS)
def test_a_model_that_was_trained_before_it_was_quantized_comes_back(save_format: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error", run_eagerly=True)
    batch = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    model.train_on_batch(batch, np.ones((5, 2)))
    model.quantize("int8")
    state = copy_state(model)
    assert "optimizer/trained/0" in state  # the slots of the kernel that is gone

    path = exporter.save_model(model, tmp_path / ARTIFACTS[save_format], save_format=save_format)
    loaded = exporter.load_model(path)

    assert list_differences(state, copy_state(loaded)) == []
    assert model.train_on_batch(batch, np.ones((5, 2))) == loaded.train_on_batch(batch, np.ones((5, 2)))
    assert list_differences(copy_state(model), copy_state(loaded)) == []


def test_a_save_leaves_the_policies_of_the_layers_as_they_are(tmp_path: Path) -> None:
    model = gemma(dtype="bfloat16")
    model.quantize("int8")
    described = describe_layers(model)
    assert {each["policy"] for each in described.values()} == {"bfloat16", "int8_from_bfloat16", "float32"}

    exporter.save_model(model, tmp_path / "model.keras")
    assert describe_layers(model) == described

    state = copy_state(model)
    for load in (exporter.load_model, keras.models.load_model):
        loaded = load(tmp_path / "model.keras")
        assert list_differences(state, copy_state(loaded)) == []
        # Keras gives all layers of what it loads one map of policies, and forgets scales when it saves that.
        exporter.save_model(loaded, tmp_path / "again.keras")
        assert list_differences(state, copy_state(exporter.load_model(tmp_path / "again.keras"))) == []


def test_a_backbone_knows_after_a_load_whom_it_adapted(tmp_path: Path) -> None:
    model = gemma()
    model.enable_lora(2)
    exporter.save_model(model, tmp_path / "model.keras")

    exporter.load_model(tmp_path / "model.keras").save_lora_weights(str(tmp_path / "adapted.lora.h5"))

    assert (tmp_path / "adapted.lora.h5").is_file()


def test_a_record_from_before_holds_nothing_acquired() -> None:
    record = describe_state(gemma(), collect(gemma()), include_optimizer=False)
    older = {key: value for key, value in json.loads(record.to_json()).items() if key != "acquired"}
    assert StateRecord.from_json(json.dumps(older)) == record


HOSTILE = {
    "a function of others": (
        {"module": "os", "class_name": "function", "config": "system", "registered_name": None},
        "The model's configuration cannot be rebuilt: Could not locate function 'system'. Import the module that "
        "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in `custom_objects`.",
    ),
    "no configuration of a quantization": (
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": None},
        "The artifact's state record is damaged: blocks/dense was quantized with a Dense, which is no "
        "QuantizationConfig.",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_what_a_stranger_put_into_the_record(name: str) -> None:
    config, message = HOSTILE[name]
    layer = layers.Dense(2)
    layer.build((None, 3))
    described = {
        "quantization": {"mode": "int8", "config": config},
        "quantizers": {},
        "flags": {},
        "variables": [[], []],
    }

    def load() -> None:
        check_configuration([{}, {"blocks/dense": described}])
        put_back({"blocks/dense": layer}, {"blocks/dense": described}, LoadRequest())

    with pytest.raises(ArtifactError) as caught:
        load()
    assert str(caught.value) == message


def test_attributes_of_a_class_are_not_replaced() -> None:
    layer = layers.Dense(2)
    layer.build((None, 3))
    described = {"adaptation": {"enable_lora": 1, "lora_note": "kept", "units": 7}, "variables": [[], []]}
    put_back({"dense": layer}, {"dense": described}, LoadRequest())
    assert (callable(layer.enable_lora), layer.lora_note, layer.units) == (True, "kept", 2)
