"""State that Keras does not track: TensorFlow's variables, modules, tables, generators, and layers in plain objects."""

import types
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from .case import Data, case, classes, compiled, numbers, regression, strings

register = keras.saving.register_keras_serializable("zoo")


@register
class NativeVariables(layers.Layer):
    """Scales by a variable of TensorFlow, and counts its training calls in another one."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gain = tf.Variable(1.0)
        self.seen = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.more = {"offsets": [tf.Variable(tf.zeros(input_shape[-1:]))]}

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.seen.assign_add(1)
            self.more["offsets"][0].assign_add(0.1 * tf.reduce_mean(inputs, axis=0))
        return inputs * self.gain + self.more["offsets"][0] + 0.1 * tf.cast(self.seen, inputs.dtype)


def _find(model: keras.Model, kind: type) -> Any:
    return next(layer for layer in model._flatten_layers() if isinstance(layer, kind))


@case(regression(4), spoil=lambda model: _find(model, NativeVariables).gain.assign(2.0), stock_formats=())
def native_variables() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), NativeVariables(), layers.Dense(2)]))


class Scaling(tf.Module):
    """A module with a variable, and one inside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = tf.Variable(tf.ones([width]))
        self.inner = tf.Module()
        self.inner.steps = tf.Variable(0.0, trainable=False)


@register
class WithModule(layers.Layer):
    """Computes with a `tf.Module`."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.module = Scaling(width)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.module.inner.steps.assign_add(1.0)
            self.module.scale.assign(self.module.scale * 1.01)
        return inputs * self.module.scale + 0.01 * self.module.inner.steps

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


@case(regression(4), stock_formats=())
def native_module() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), WithModule(4), layers.Dense(2)]))


@register
class Prices(layers.Layer):
    """Looks words up in a mutable table."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(self.table.lookup(inputs), inputs.shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, "float32")


def _fill_prices(model: keras.Model) -> None:
    _find(model, Prices).table.insert(["red", "green"], [5.0, 7.0])


@case(lambda: Data(strings("red green blue", 3), numbers(2, seed=10)), spoil=_fill_prices, stock_formats=())
def mutable_table() -> keras.Model:
    inputs = keras.Input((3,), dtype="string")
    return compiled(keras.Model(inputs, layers.Dense(2)(Prices()(inputs))))


@register
class Counts(layers.Layer):
    """Looks integers up in a dense table, whose values are vectors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, [0.0, 0.0], -1, -2)

    def call(self, inputs: Any) -> Any:
        found = self.table.lookup(tf.reshape(tf.cast(inputs, tf.int64), [-1]))
        return tf.reshape(found, [-1, *inputs.shape[1:], 2])

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((*inputs.shape, 2), "float32")


def _fill_counts(model: keras.Model) -> None:
    _find(model, Counts).table.insert(tf.constant([2, 1], tf.int64), [[1.0, 2.0], [3.0, 4.0]])


@case(lambda: Data(classes(4, 3), numbers(2, seed=10)), spoil=_fill_counts, stock_formats=())
def dense_table() -> keras.Model:
    inputs = keras.Input((3,), dtype="int32")
    return compiled(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(Counts()(inputs)))))


@register
class StaticPrices(layers.Layer):
    """Looks words up in a table that its class gives."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        entries = tf.lookup.KeyValueTensorInitializer(["red", "green"], [5.0, 7.0])
        self.table = tf.lookup.StaticHashTable(entries, 1.0)

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(self.table.lookup(inputs), inputs.shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, "float32")


@case(lambda: Data(strings("red green blue", 3), numbers(2, seed=10)))
def static_table() -> keras.Model:
    inputs = keras.Input((3,), dtype="string")
    return compiled(keras.Model(inputs, layers.Dense(2)(StaticPrices()(inputs))))


@register
class NativeNoise(layers.Layer):
    """Draws from a generator of TensorFlow's own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(11)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + self.generator.normal(tf.shape(inputs)) if training else inputs


@case(regression(4), stock_formats=())
def native_generator() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), NativeNoise(), layers.Dense(2)]))


class Parts:
    """A plain object with slots."""

    __slots__ = ("first", "noise", "rest")

    def __init__(self) -> None:
        self.first = layers.Dense(3, "tanh")
        self.rest = [layers.Dropout(0.3), layers.BatchNormalization()]
        self.noise = keras.random.SeedGenerator(5)


@register
class Hidden(layers.Layer):
    """Keeps layers where Keras does not look: in a namespace and in a plain object."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.space = types.SimpleNamespace(last=layers.Dense(2), parts=Parts())

    def call(self, inputs: Any, training: bool = False) -> Any:
        parts = self.space.parts
        hidden = parts.first(inputs)
        if training:
            hidden = hidden + keras.random.normal(keras.ops.shape(hidden), seed=parts.noise)
        for layer in parts.rest:
            hidden = layer(hidden, training=training)
        return self.space.last(hidden)


@case(regression(4), stock_formats=())
def layers_in_plain_objects() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Hidden(), layers.Dense(2)]))


@register
class OwnTemperature(keras.losses.Loss):
    """A loss that counts its calls in a variable."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls = tf.Variable(0.0, trainable=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        self.calls.assign_add(1.0)
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1) * (1.0 + self.calls)


@case(regression(4), stock_formats=())
def loss_with_a_variable() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), OwnTemperature())
