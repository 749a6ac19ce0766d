"""Models of classes and functions that the process of `revival_worker` does not have.

`python -m saving.revival_models FOLDER CASE...` builds, trains and saves them, and goes on with each as if it had never
been interrupted.
"""

import pickle
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from exporter import load_model, save_model

from .revival_worker import (
    ARTIFACT,
    DATA,
    ENDED,
    EXPECTED,
    ROWS,
    ROWS_BEFORE,
    Data,
    Outcome,
    go_on,
    prepare_process,
    recompile,
    take,
    to_tensors,
    train,
    write,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One model that is to be revived.

    Attributes:
        build: Makes the model, compiled if it is to be.
        data: Makes `ROWS` rows.
        before: Whether it is trained before it is saved, or only called.
        real: The layers that come back as themselves, by name: their classes.
        revived: The layers that are revived, likewise.
        classname: The name of the revived model's class; None if the model comes back as what Keras calls it.
        warned: The texts of the warnings.
        recompiled: Whether the model is compiled anew in the end, and compared with the original.
        in_graphs: Whether the original goes on in graphs too: Keras averages the losses of its outputs otherwise there.
        code: What is named in `custom_objects` when the model is loaded beside the original.
    """

    build: Callable[[], keras.Model]
    data: Callable[[], dict[str, Any]]
    before: bool = True
    real: tuple[tuple[str, str], ...] = ()
    revived: tuple[tuple[str, str], ...] = ()
    classname: str | None = None
    warned: tuple[str, ...] = ()
    recompiled: bool = False
    in_graphs: bool = False
    code: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {}


def case(data: Callable[[], dict[str, Any]], **options: Any) -> Callable[[Callable[[], keras.Model]], None]:
    """Registers a builder function under its name."""

    def register(build: Callable[[], keras.Model]) -> None:
        CASES[build.__name__] = Case(build, data, **options)

    return register


def step_for(*names: str) -> tuple[str, ...]:
    """The warning of a model that goes on with its saved training step."""
    return (
        f"The model goes on training with its saved training step: {', '.join(names)} cannot be rebuilt without code. "
        "Name the code in `custom_objects` to have it back.",
    )


def compiled(
    model: keras.Model, loss: Any = "mean_squared_error", optimizer: Any = None, **options: Any
) -> keras.Model:
    """Compiles a model without XLA, which takes seconds for each of these models."""
    optimizer = keras.optimizers.Adam(0.01) if optimizer is None else optimizer
    model.compile(optimizer, loss, **{"jit_compile": False, **options})
    return model


def numbers(*shape: int, seed: int = 7) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(ROWS, *shape)).astype("float32")


def tokens(count: int, *shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, count, size=(ROWS, *shape)).astype("int32")


def words(*shape: int) -> np.ndarray[Any, Any]:
    known = np.array(["red", "green", "blue", "grey"])
    return known[np.random.default_rng(9).integers(0, len(known), size=(ROWS, *shape))]


def regression() -> dict[str, Any]:
    return {"x": numbers(4), "y": numbers(2, seed=10)}


def sequences() -> dict[str, Any]:
    return {"x": numbers(5, 3), "y": numbers(2, seed=10)}


def ids() -> dict[str, Any]:
    return {"x": tokens(6, 5), "y": numbers(2, seed=10)}


# Layers.


class Scale(layers.Layer):
    """Has everything that a layer can have: a regulariser, a constraint, a counter, a loss, a factor from its call."""

    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units),
            regularizer=keras.regularizers.L2(0.01),
            constraint="max_norm",
            name="kernel",
        )
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")

    def call(self, inputs: Any, factor: float = 1.0, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
        hidden = keras.ops.matmul(inputs, self.kernel) * factor
        self.add_loss(0.01 * keras.ops.mean(keras.ops.square(keras.ops.cast(hidden, "float32"))))
        return hidden + 0.1 * keras.ops.cast(self.calls, hidden.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Block(layers.Layer):
    """Tells its inner layers nothing of training: Keras does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, kernel_regularizer="l2", name="inside")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop = layers.Dropout(0.3, seed=3, name="drop")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.dense.build(input_shape)
        self.norm.build((*input_shape[:-1], 4))

    def call(self, inputs: Any) -> Any:
        return self.drop(self.norm(self.dense(inputs)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], 4)


class Blend(layers.Layer):
    """Takes a second tensor by keyword, and a mode."""

    def build(self, input_shape: tuple[int | None, ...], **shapes: Any) -> None:
        self.rate = self.add_weight(shape=(), initializer="ones", name="rate")

    def call(self, inputs: Any, other: Any = None, mode: str = "add") -> Any:
        return inputs + self.rate * other if mode == "add" else inputs * self.rate * other


class Shift(layers.Layer):
    """Takes tensors of any shape."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.offset = self.add_weight(shape=(), initializer="ones", name="offset")

    def call(self, inputs: Any) -> Any:
        return inputs + self.offset


class MaskedMean(layers.Layer):
    """Takes the mask that Keras gives it."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: Any, mask: Any = None) -> Any:
        weights = keras.ops.ones_like(inputs[..., :1]) if mask is None else keras.ops.cast(mask, "float32")[..., None]
        return self.gain * keras.ops.sum(inputs * weights, 1) / (keras.ops.sum(weights, 1) + 1e-3)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None


class Tokens(layers.Layer):
    """Makes a mask."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = layers.Embedding(6, 3, mask_zero=True, name="table")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.table.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.table(inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.table.compute_mask(inputs, mask)


class SweepJob(layers.Layer):
    """A recurrent cell."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1] + self.units, self.units), name="kernel")

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output = keras.ops.tanh(keras.ops.matmul(keras.ops.concatenate([inputs, states[0]], -1), self.kernel))
        return output, [output]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Running(layers.Layer):
    """Keeps what it saw last, also in inference."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.last = self.add_weight(shape=(), initializer="zeros", trainable=False, name="last")

    def call(self, inputs: Any) -> Any:
        output = inputs + self.last
        self.last.assign(0.5 * self.last + 0.5 * keras.ops.mean(inputs))
        return output


class Width:
    """Something that no configuration can say."""

    units = 5


class Unconfigured(layers.Layer):
    """Cannot say its constructor's argument."""

    def __init__(self, width: Width, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inside = layers.Dense(width.units, "silu", name="inside")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.inside.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.inside(inputs)


def swish_like(x: Any) -> Any:
    return x * keras.ops.sigmoid(1.5 * x)


class Squeeze(keras.regularizers.Regularizer):
    def __call__(self, weights: Any) -> Any:
        return 0.01 * keras.ops.sum(keras.ops.abs(weights))

    def get_config(self) -> dict[str, Any]:
        return {}


class Bounded(keras.constraints.Constraint):
    def __call__(self, weights: Any) -> Any:
        return keras.ops.clip(weights, -0.4, 0.4)

    def get_config(self) -> dict[str, Any]:
        return {}


class Stairs(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.reshape(keras.ops.arange(int(np.prod(shape)), dtype=dtype) * 0.05, shape)

    def get_config(self) -> dict[str, Any]:
        return {}


@case(regression, real=(("last", "Dense"),), revived=(("scale", "Scale"),), recompiled=True, code={"Scale": Scale})
def layer_in_sequential() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((4,)),
                Scale(name="scale", activity_regularizer="l1"),
                layers.Dropout(0.2),
                layers.Dense(2, name="last"),
            ]
        )
    )


@case(regression, real=(("last", "Dense"),), revived=(("block", "Block"),))
def layer_with_layers_inside() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Block(name="block"), layers.Dense(2, name="last")]))


@case(
    regression,
    real=(("left", "Dense"),),
    revived=(("blend", "Blend"), ("scale", "Scale"), ("more", "Scale")),
    recompiled=True,
)
def layers_with_call_arguments() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    scale = Scale(4, name="scale")
    left, right = layers.Dense(4, name="left")(inputs), scale(inputs, factor=0.5)
    blend = Blend(name="blend")
    hidden = blend(blend(left, other=right), other=left, mode="times")
    return compiled(keras.Model(inputs, Scale(2, name="more")(scale(hidden, factor=2.0), training=False)))


@case(sequences, real=(("last", "Dense"),), revived=(("shift", "Shift"),))
def shared_layer_with_several_shapes() -> keras.Model:
    inputs = keras.Input((5, 3))
    shift = Shift(name="shift")
    summed = keras.ops.sum(shift(inputs), axis=1)
    return compiled(keras.Model(inputs, layers.Dense(2, name="last")(shift(layers.Dense(7)(shift(summed))))))


@case(ids, real=(("embedding", "Embedding"), ("recurrent", "SimpleRNN")), revived=(("mean", "MaskedMean"),))
def layer_with_mask_argument() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(6, 3, mask_zero=True, name="embedding")(inputs)
    hidden = layers.SimpleRNN(3, return_sequences=True, name="recurrent")(hidden)
    return compiled(keras.Model(inputs, layers.Dense(2)(MaskedMean(name="mean")(hidden))))


@case(ids, real=(("recurrent", "SimpleRNN"),), revived=(("tokens", "Tokens"),))
def layer_that_makes_a_mask() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.SimpleRNN(3, name="recurrent")(Tokens(name="tokens")(inputs))
    return compiled(keras.Model(inputs, layers.Dense(2)(hidden)))


@case(regression, real=(("outer", "Dense"), ("nested", "Functional")))
def layer_in_nested_functional() -> keras.Model:
    inside = keras.Input((4,))
    nested = keras.Model(inside, Scale(name="scale")(layers.Dense(4, name="first")(inside)), name="nested")
    deeper = keras.Sequential([keras.Input((3,)), Scale(name="scale"), layers.Dropout(0.2)], name="deeper")
    inputs = keras.Input((4,))
    return compiled(keras.Model(inputs, layers.Dense(2, name="outer")(deeper(nested(inputs)))))


@case(sequences, real=(("last", "Dense"),), revived=(("each", "TimeDistributed"), ("both", "Bidirectional")))
def layers_in_wrappers() -> keras.Model:
    inputs = keras.Input((5, 3))
    hidden = layers.TimeDistributed(Block(), name="each")(inputs)
    hidden = layers.Bidirectional(layers.RNN(SweepJob(3)), name="both")(hidden)
    return compiled(keras.Model(inputs, layers.Dense(2, name="last")(hidden)))


@case(regression, real=(("last", "Dense"),), revived=(("hidden", "Dense"),))
def activation_function() -> keras.Model:
    return compiled(
        keras.Sequential([keras.Input((4,)), layers.Dense(3, swish_like, name="hidden"), layers.Dense(2, name="last")])
    )


@case(regression, real=(("last", "Dense"),), revived=(("hidden", "Dense"),))
def regularizer_constraint_initializer() -> keras.Model:
    hidden = layers.Dense(
        3, kernel_regularizer=Squeeze(), bias_constraint=Bounded(), kernel_initializer=Stairs(), name="hidden"
    )
    return compiled(keras.Sequential([keras.Input((4,)), hidden, layers.Dense(2, name="last")]))


@case(regression, real=(("last", "Dense"),), revived=(("lambda", "Lambda"),))
def lambda_layer() -> keras.Model:
    return compiled(
        keras.Sequential(
            [keras.Input((4,)), layers.Lambda(lambda x: x * 2.0, name="lambda"), layers.Dense(2, name="last")]
        )
    )


@case(regression, revived=(("one", "Scale"), ("two", "Scale")), real=(("last", "Dense"),))
def two_layers_of_one_class() -> keras.Model:
    return compiled(
        keras.Sequential([keras.Input((4,)), Scale(4, name="one"), Scale(2, name="two"), layers.Dense(2, name="last")])
    )


@case(regression, revived=(("block", "Block"),), real=(("last", "Dense"),))
def frozen_layer() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), Block(name="block"), Scale(3, name="scale"), layers.Dense(2, name="last")]
    )
    model.layers[0].trainable = False
    return compiled(model)


@case(regression, revived=(("running", "Running"),), real=(("last", "Dense"),))
def stateful_layer() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Running(name="running"), layers.Dense(2, name="last")]))


class Native(layers.Layer):
    """Keeps its state where Keras does not look: variables, tables and a generator of TensorFlow, a plain object."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = types.SimpleNamespace(dense=layers.Dense(3), noise=keras.random.SeedGenerator(3))
        self.module = tf.Module()
        self.module.scale = tf.Variable(1.5)
        self.seen = tf.Variable(0.0, trainable=False)
        self.generator = tf.random.Generator.from_seed(4)
        self.prices = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)
        self.prices.insert(["1", "0"], [2.0, 3.0])
        self.ranks = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 0.0, -1, -2)
        self.ranks.insert(tf.constant([0, 1], tf.int64), [0.5, 0.25])

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.seen.assign_add(1.0)
            inputs = inputs + 0.1 * self.generator.normal(tf.shape(inputs))
            inputs = inputs + 0.1 * keras.random.normal(tf.shape(inputs), seed=self.parts.noise)
        flags = tf.cast(inputs > 0, tf.int64)
        ranks = tf.reshape(self.ranks.lookup(tf.reshape(flags, [-1])), tf.shape(inputs))
        found = tf.ensure_shape(self.prices.lookup(tf.strings.as_string(flags)), inputs.shape) + ranks
        return self.parts.dense(inputs) * self.module.scale + self.seen + tf.reduce_sum(found, axis=-1, keepdims=True)

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        self.parts.dense.build(inputs.shape)
        return keras.KerasTensor((*inputs.shape[:-1], 3), "float32")


@case(regression, revived=(("native", "Native"),), real=(("last", "Dense"),))
def native_state() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Native(name="native"), layers.Dense(2, name="last")]))


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),))
def mixed_precision() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((4,)),
                Scale(4, name="scale", dtype="mixed_float16"),
                Block(name="block", dtype="mixed_float16"),
                layers.Dense(2, name="last"),
            ]
        ),
        optimizer=keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=64.0, dynamic_growth_steps=2
        ),
    )


@case(
    lambda: {"x": {"colour": words(1), "size": numbers(4)}, "y": numbers(2, seed=3)},
    real=(("lookup", "StringLookup"), ("norm", "Normalization"), ("last", "Dense")),
    revived=(("scale", "Scale"),),
)
def adapted_preprocessing() -> keras.Model:
    colour, size = keras.Input((1,), dtype="string", name="colour"), keras.Input((4,), name="size")
    lookup = layers.StringLookup(output_mode="one_hot", name="lookup")
    lookup.adapt(["red", "green", "blue", "red"])
    norm = layers.Normalization(name="norm")
    norm.adapt(numbers(4, seed=11) * 3.0 + 1.0)
    hidden = layers.Concatenate()([lookup(colour), Scale(name="scale")(norm(size))])
    return compiled(keras.Model({"colour": colour, "size": size}, layers.Dense(2, name="last")(hidden)))


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),))
def run_eagerly() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), Scale(name="scale"), layers.Dense(2, name="last")])
    return compiled(model, run_eagerly=True, metrics=["mae"])


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),))
def accumulated_and_averaged() -> keras.Model:
    optimizer = keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3
    )
    model = keras.Sequential([keras.Input((4,)), Scale(name="scale"), layers.Dense(2, name="last")])
    return compiled(model, optimizer=optimizer)


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),))
def compiled_by_xla() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), Scale(name="scale"), Block(), layers.Dense(2, name="last")])
    return compiled(model, jit_compile="auto")


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),))
def uncompiled() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), Scale(name="scale"), layers.Dense(2, name="last")])


@case(regression, revived=(("scale", "Scale"),), real=(("last", "Dense"),), before=False)
def compiled_but_never_trained() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Scale(name="scale"), layers.Dense(2, name="last")]))


# Models.


class Scorer(keras.Model):
    """Takes a tensor and gives a dict."""

    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, "silu", kernel_regularizer="l2", name="hidden")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop = layers.Dropout(0.3, name="drop")
        self.score, self.feature = layers.Dense(2, name="score"), Scale(1, name="feature")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        self.norm.build((None, self.units))
        self.score.build((None, self.units))
        self.feature.build((None, self.units))

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.drop(self.norm(self.hidden(inputs), training=training), training=training)
        return {"score": self.score(hidden), "feature": self.feature(hidden, training=training)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def scores() -> dict[str, Any]:
    return {"x": numbers(4), "y": {"score": numbers(2, seed=1), "feature": numbers(1, seed=2)}}


SCORER_LAYERS = (
    ("hidden", "Dense"),
    ("norm", "BatchNormalization"),
    ("drop", "Dropout"),
    ("score", "Dense"),
    ("feature", "Scale"),
)


@case(
    scores,
    classname="Scorer",
    revived=SCORER_LAYERS,
    recompiled=True,
    code={"Scorer": Scorer, "Scale": Scale},
    in_graphs=True,
)
def model_with_dict_output() -> keras.Model:
    return compiled(
        Scorer(name="scorer"),
        {"score": "mse", "feature": "mae"},
        metrics={"score": ["mae"], "feature": ["mse"]},
        loss_weights={"score": 1.0, "feature": 0.3},
    )


class Pair(Scorer):
    """Takes a dict and gives a tuple."""

    def build(self, input_shape: Any) -> None:
        super().build((None, 4))

    def call(self, inputs: Any, training: bool = False) -> Any:
        found = super().call(inputs["right"] - inputs["left"], training=training)
        return found["score"], found["feature"]


@case(
    lambda: {"x": {"right": numbers(4), "left": numbers(4, seed=5)}, "y": (numbers(2, seed=1), numbers(1, seed=2))},
    classname="Pair",
    revived=SCORER_LAYERS,
    in_graphs=True,
)
def model_with_dict_input() -> keras.Model:
    return compiled(Pair(name="pair"), ["mse", "mae"], metrics=[["mae"], ["mse"]], loss_weights=[0.5, 1.0])


class Several(Scorer):
    """Takes a list and gives a list."""

    def build(self, input_shape: Any) -> None:
        super().build((None, 4))

    def call(self, inputs: Any, training: bool = False) -> Any:
        found = super().call(inputs[0] * inputs[1], training=training)
        return [found["score"]]


@case(
    lambda: {"x": [numbers(4), numbers(4, seed=5)], "y": [numbers(2, seed=1)]},
    classname="Several",
    revived=SCORER_LAYERS,
)
def model_with_list_input() -> keras.Model:
    return compiled(Several(name="several"), "mse")


@case(regression, real=(("outer", "Dense"),), revived=(("scorer", "Scorer"),))
def model_inside_functional() -> keras.Model:
    inputs = keras.Input((4,))
    found = Scorer(name="scorer")(layers.Dense(4)(inputs))
    return compiled(
        keras.Model(inputs, layers.Dense(2, name="outer")(layers.Concatenate()([found["score"], found["feature"]])))
    )


class Reader(keras.Model):
    """Looks numbers up."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table, self.last = layers.Embedding(6, 3, name="table"), layers.Dense(2, name="last")

    def call(self, inputs: Any) -> Any:
        return self.last(keras.ops.mean(self.table(inputs), axis=1))


@case(ids, classname="Reader", revived=(("table", "Embedding"), ("last", "Dense")), before=False)
def embedding_that_was_only_called() -> keras.Model:
    return Reader(name="reader")


class Folded(layers.Layer):
    """Tells nothing of what it makes inside."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.first, self.second = layers.Dense(4, "relu", name="first"), layers.EinsumDense("ab,bc->ac", 4)
        self.first.build(input_shape)
        self.second.build((None, 4))

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


class Folding(keras.Model):
    """Is quantized and adapted after it was made."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folded, self.last = Folded(name="folded"), layers.Dense(2, name="last")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.folded.build(input_shape)
        self.last.build((None, 4))

    def call(self, inputs: Any) -> Any:
        return self.last(self.folded(inputs))


def acquire(model: keras.Model) -> keras.Model:
    model.build((None, 4))
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=3.0)
    model.quantize("int8")
    return model


@case(regression, real=(("last", "Dense"),), revived=(("folded", "Folded"),), code={"Folded": Folded})
def layer_that_was_adapted_and_quantized() -> keras.Model:
    return compiled(acquire(keras.Sequential([keras.Input((4,)), Folded(name="folded"), layers.Dense(2, name="last")])))


@case(
    regression,
    classname="Folding",
    revived=(("folded", "Folded"), ("last", "Dense")),
    code={"Folding": Folding, "Folded": Folded},
)
def model_that_was_adapted_and_quantized() -> keras.Model:
    return compiled(acquire(Folding(name="folding")))


class Secretive(keras.Model):
    """Has no configuration: neither its own nor its layer's argument can be said."""

    def __init__(self, width: Width) -> None:
        super().__init__(name="secretive")
        self.first, self.drop, self.last = Unconfigured(width), layers.Dropout(0.3), layers.Dense(2, name="last")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.drop(self.first(inputs), training=training))


@case(regression, classname="Secretive", revived=(("last", "Dense"),), recompiled=True)
def model_without_configuration() -> keras.Model:
    return compiled(Secretive(Width()), metrics=["mae"])


@case(regression, classname="Functional", revived=(("last", "Dense"),))
def layer_without_configuration() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    return compiled(keras.Model(inputs, layers.Dense(2, name="last")(Unconfigured(Width(), name="hidden")(inputs))))


class Noisy(keras.Model):
    """Trains and tests in its own way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noise = keras.random.SeedGenerator(4)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.steps.assign_add(1.0)
        x = x + keras.random.normal(keras.ops.shape(x), stddev=0.1, seed=self.noise)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"zeal": loss, "loss": 2.0 * loss}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        return {"worst": keras.ops.max(keras.ops.abs(self(x, training=False) - y))}


@case(regression, classname="Noisy", revived=(("hidden", "Dense"),))
def own_train_step() -> keras.Model:
    inputs = keras.Input((4,))
    hidden = layers.Dropout(0.1)(layers.Dense(3, name="hidden")(inputs))
    return compiled(Noisy(inputs, layers.Dense(2)(hidden)))


class Doubled(keras.Model):
    """Computes its loss in its own way."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return 2.0 * keras.ops.mean(keras.ops.square(y - y_pred)) + sum(self.losses)


@case(regression, classname="Doubled", revived=(("scale", "Scale"), ("last", "Dense")))
def own_compute_loss() -> keras.Model:
    inputs = keras.Input((4,))
    return compiled(Doubled(inputs, layers.Dense(2, name="last")(Scale(name="scale")(inputs))), metrics=["mae"])


@case(
    regression,
    classname="Doubled",
    before=False,
    warned=(
        "The model is loaded without being compiled: the model's own compute_loss cannot be rebuilt without code, and "
        "no training step was saved, since the model had not been trained. Name the code in `custom_objects`, or "
        "compile the model yourself.",
    ),
)
def own_compute_loss_but_never_trained() -> keras.Model:
    inputs = keras.Input((4,))
    return compiled(Doubled(inputs, layers.Dense(2, name="last")(inputs)))


class Adversaries(keras.Model):
    """Two networks with an optimizer each, compiled by a method of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(4)], name="generator")
        self.critic = keras.Sequential([layers.Dense(3, "relu"), layers.Dropout(0.2), layers.Dense(1)], name="critic")
        self.noise = keras.random.SeedGenerator(2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.generator.build(input_shape)
        self.critic.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.critic(self.generator(inputs, training=training), training=training)

    def compile(self, generator_optimizer: Any, critic_optimizer: Any, **kwargs: Any) -> None:
        super().compile(optimizer=critic_optimizer, loss=None, jit_compile=False, **kwargs)
        self.generator_optimizer = generator_optimizer

    def get_compile_config(self) -> dict[str, Any]:
        return {
            "generator_optimizer": keras.saving.serialize_keras_object(self.generator_optimizer),
            "critic_optimizer": keras.saving.serialize_keras_object(self.optimizer),
        }

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        noise = keras.random.normal(keras.ops.shape(x), seed=self.noise)
        with tf.GradientTape() as tape:
            made = self.generator(noise, training=True)
            loss = keras.ops.mean(self.critic(made, training=True)) - keras.ops.mean(self.critic(x, training=True))
        variables = self.critic.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        with tf.GradientTape() as tape:
            loss = -keras.ops.mean(self(noise, training=True))
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}

    def test_step(self, data: Any) -> dict[str, Any]:
        return {"loss": keras.ops.mean(self(data[0], training=False))}


@case(regression, classname="Adversaries", revived=(("generator", "Sequential"), ("critic", "Sequential")))
def two_optimizers() -> keras.Model:
    model = Adversaries(name="adversaries")
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01))
    return model


# Losses, metrics, optimizers.


def squared_distance(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Weighted(keras.losses.Loss):
    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.factor * keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class Largest(keras.metrics.Metric):
    def __init__(self, name: str = "largest", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.value = self.add_variable(shape=(), initializer="zeros", name="value")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_pred)))

    def result(self) -> Any:
        return self.value


class Sign(keras.optimizers.Optimizer):
    """Follows the sign of the gradient's running mean."""

    def __init__(self, learning_rate: Any = 0.01, decay_rate: float = 0.7, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.decay_rate = decay_rate

    def build(self, variables: Any) -> None:
        if not self.built:
            super().build(variables)
            self.means = self.add_optimizer_variables(variables, "mean")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        mean = self.means[self._get_variable_index(variable)]
        self.assign(mean, self.decay_rate * mean + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * keras.ops.sign(mean))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_rate": self.decay_rate}


class Waves(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, height: float) -> None:
        self.height = height

    def __call__(self, step: Any) -> Any:
        return self.height * (1.5 + keras.ops.sin(keras.ops.cast(step, "float32")))

    def get_config(self) -> dict[str, Any]:
        return {"height": self.height}


def plain(*more: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *more, layers.Dropout(0.2), layers.Dense(2, name="last")])


@case(regression, real=(("last", "Dense"),), warned=step_for("squared_distance"), recompiled=True)
def loss_function() -> keras.Model:
    return compiled(plain(), squared_distance, metrics=["mse", "mae"])


@case(regression, real=(("last", "Dense"),), warned=step_for("Weighted", "Largest"))
def loss_and_metric_classes() -> keras.Model:
    return compiled(plain(), Weighted(0.3), metrics=["mse", Largest()])


@case(
    regression,
    real=(("last", "Dense"),),
    revived=(("scale", "Scale"),),
    warned=step_for("Weighted"),
    code={"Weighted": Weighted},
)
def loss_class_and_layer() -> keras.Model:
    return compiled(plain(Scale(name="scale")), Weighted(0.3))


@case(scores, classname="Scorer", warned=step_for("Weighted"), in_graphs=True)
def loss_class_in_model_with_dict_output() -> keras.Model:
    return compiled(Scorer(name="scorer"), {"score": Weighted(0.5), "feature": "mse"}, metrics={"score": ["mae"]})


@case(regression, real=(("last", "Dense"),), warned=step_for("Sign"), recompiled=True)
def optimizer_class() -> keras.Model:
    return compiled(plain(), optimizer=Sign(0.02), metrics=["mae"])


@case(regression, real=(("last", "Dense"),))
def learning_rate_schedule() -> keras.Model:
    return compiled(plain(), optimizer=keras.optimizers.Adam(Waves(0.01)))


@case(regression, real=(("last", "Dense"),), warned=step_for("squared_distance"))
def loss_function_compiled_by_xla() -> keras.Model:
    return compiled(plain(), squared_distance, jit_compile="auto")


@case(
    regression,
    real=(("last", "Dense"),),
    before=False,
    warned=(
        "The model is loaded without being compiled: squared_distance cannot be rebuilt without code, and no training "
        "step was saved, since the model had not been trained. Name the code in `custom_objects`, or compile the model "
        "yourself.",
    ),
)
def loss_function_but_never_trained() -> keras.Model:
    return compiled(plain(), squared_distance)


def make(case: Case, place: Path, rows: Data) -> Outcome:
    """Builds, trains and saves a model, and goes on with it."""
    data = to_tensors(rows)
    keras.utils.set_random_seed(1)
    with keras.saving.custom_object_scope(
        {"SweepJob": SweepJob}
    ):  # Bidirectional builds its layers from configurations
        model = case.build()
    model(keras.tree.map_structure(tf.constant, take(data, 0, 2)["x"]))
    if case.before and model.compiled:
        train(model, take(data, 0, ROWS_BEFORE))
    save_model(model, place / ARTIFACT, save_format="tf")
    lost = bool(case.warned) and not case.before
    expected: Outcome = {
        "trains": model.compiled and not lost,
        "recompiled": case.recompiled,
        "lost": lost,
    }
    expected["outcome"] = go_on(model, data, expected, eagerly=not case.in_graphs)
    if case.recompiled:
        expected["recompilation"] = recompile(model, data, expected["outcome"]["state"])
    if case.code:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = load_model(place / ARTIFACT, case.code)
        kinds = [type(part).__name__ for part in loaded._flatten_layers() if type(part).__module__ == __name__]
        expected["with code"] = {
            "warnings": [str(item.message) for item in caught],
            "real": kinds,
            "outcome": go_on(loaded, data, expected, thoroughly=False),
        }
    return expected


def main() -> None:
    """Makes the cases of the command line."""
    folder, *identities = sys.argv[1:]
    try:
        prepare_process()
        for identity in identities:
            place = Path(folder, identity)
            place.mkdir()
            rows = CASES[identity].data()
            (place / DATA).write_bytes(pickle.dumps(rows))
            write(place / EXPECTED, partial(make, CASES[identity], place, rows))
    finally:
        Path(folder, ENDED).touch()


if __name__ == "__main__":
    main()
