"""Classes and functions of a user's own: layers, models, train steps, losses, metrics, regularizers."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from .case import Data, case, classes, compiled, numbers, regression

register = keras.saving.register_keras_serializable("zoo")


def _refusal(name: str, kind: str) -> str:
    return (
        f"HDF5 cannot hold the subclassed model '{name}' ({kind}): its layout knows the layers of Sequential and "
        "Functional models only, by their order. Save it with save_format='tf' or 'keras'."
    )


@register
class Counter(layers.Layer):
    """Counts its training calls, adds the count to what it passes on, and adds a loss."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 3), regularizer=keras.regularizers.L2(0.01), constraint="max_norm", name="kernel"
        )
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")
        self.seen = self.add_weight(shape=(), dtype="bool", initializer="zeros", trainable=False, name="seen")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1)
            self.seen.assign(True)
        hidden = keras.ops.matmul(inputs, self.kernel)
        self.add_loss(0.01 * keras.ops.mean(keras.ops.square(hidden)))
        return hidden + 0.1 * keras.ops.cast(self.calls, hidden.dtype)


@case(regression(4))
def registered_layer_with_counter() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Counter(), layers.Dropout(0.2), layers.Dense(2)]))


class Drift(layers.Layer):
    """Not registered: keeps a moving average in a variable and a random generator of its own."""

    def __init__(self, rate: float, activity_regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.rate = rate
        self.generators = {"noise": keras.random.SeedGenerator(), "more": [keras.random.SeedGenerator(5)]}
        self.average: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.average = self.add_weight(shape=input_shape[1:], initializer="zeros", trainable=False, name="average")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.average.assign(self.average * self.rate + keras.ops.mean(inputs, axis=0) * (1 - self.rate))
            inputs = inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generators["noise"])
            inputs = inputs * keras.random.uniform((), seed=self.generators["more"][0])
        return inputs - self.average

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@case(regression(4), custom_objects={"Drift": Drift})
def unregistered_layer_with_generators() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Drift(0.9), layers.Dense(2)]))


@register
class OwnSaving(layers.Layer):
    """Saves its kernel transposed, by code of its own."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(inputs, self.kernel)

    def save_own_variables(self, store: Any) -> None:
        store["transposed"] = keras.ops.convert_to_numpy(self.kernel).T

    def load_own_variables(self, store: Any) -> None:
        self.kernel.assign(store["transposed"][...].T)


@case(regression(4))
def layer_with_saving_code() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), OwnSaving(), layers.Dense(2)]))


@register
class Nest(layers.Layer):
    """Keeps its parts in a dict of lists."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = {
            "b": [layers.Dense(3), layers.Dropout(0.1)],
            "a": [layers.Dense(3), [layers.BatchNormalization()]],
        }

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for layer in (self.parts["b"][0], self.parts["a"][0]):
            layer.build(input_shape)
        self.parts["a"][1][0].build((None, 3))

    def call(self, inputs: Any, training: bool = False) -> Any:
        left = self.parts["b"][1](self.parts["b"][0](inputs), training=training)
        return left + self.parts["a"][1][0](self.parts["a"][0](inputs), training=training)


@case(regression(4))
def layers_in_nested_containers() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), Nest(), layers.Dense(2)]))


@register
class Perceptron(keras.Model):
    """A subclassed model with a constructor argument, a dropout and a list of layers."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.hidden = [layers.Dense(units, "relu"), layers.BatchNormalization(), layers.Dropout(0.2)]
        self.last = layers.Dense(2)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, inputs: Any, training: bool = False) -> Any:
        for layer in self.hidden:
            inputs = layer(inputs, training=training) if isinstance(layer, layers.Dropout) else layer(inputs)
        return self.scale * self.last(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@case(regression(4), refused={"h5": _refusal("perceptron", "Perceptron")})
def subclassed_model() -> keras.Model:
    return compiled(Perceptron(3, name="perceptron"), metrics=["mae"])


class UnregisteredPerceptron(Perceptron):
    """Not registered; takes a dict and gives a dict."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return {"out": super().call(inputs["left"] + inputs["right"], training=training)}


@case(
    lambda: Data({"left": numbers(4), "right": numbers(4, seed=1)}, {"out": numbers(2, seed=2)}),
    custom_objects={"UnregisteredPerceptron": UnregisteredPerceptron},
    refused={"h5": _refusal("perceptron", "UnregisteredPerceptron")},
)
def subclassed_model_with_dictionaries() -> keras.Model:
    return compiled(UnregisteredPerceptron(3, name="perceptron"), {"out": "mse"})


@register
class NoisyTraining(keras.Model):
    """A Functional model whose `train_step` is its own, with a variable and a random generator."""

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
        return {"loss": loss}


@case(regression(4))
def custom_train_step() -> keras.Model:
    inputs = keras.Input((4,))
    return compiled(NoisyTraining(inputs, layers.Dense(2)(layers.Dropout(0.1)(inputs))))


@register
class Adversaries(keras.Model):
    """Two networks with an optimizer each, compiled by a method of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(4)])
        self.critic = keras.Sequential([layers.Dense(3, "relu"), layers.Dropout(0.2), layers.Dense(1)])
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

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.critic.trainable_variables)
        self.generator_optimizer.build(self.generator.trainable_variables)

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


@case(regression(4), refused={"h5": _refusal("adversaries", "Adversaries")})
def two_optimizers() -> keras.Model:
    model = Adversaries(name="adversaries")
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01))
    return model


@register
class PlainAdversaries(Adversaries):
    """Compiled with positional arguments, which it keeps, and calls Keras's `compile` without any of them."""

    def compile(self, d_optimizer: Any, g_optimizer: Any, loss_fn: Any) -> None:  # type: ignore[override]
        keras.Model.compile(self, keras.optimizers.SGD(name="unused"), jit_compile=False)
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
        self.d_loss = keras.metrics.Mean(name="d_loss")

    get_compile_config = keras.Model.get_compile_config
    compile_from_config = keras.Model.compile_from_config

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        noise = keras.random.normal(keras.ops.shape(x), seed=self.noise)
        ones, zeros = tf.ones((tf.shape(x)[0], 1)), tf.zeros((tf.shape(x)[0], 1))
        with tf.GradientTape() as tape:
            loss = self.loss_fn(ones, self.critic(x, training=True))
            loss += self.loss_fn(zeros, self.critic(self.generator(noise, training=True), training=True))
        variables = self.critic.trainable_variables
        self.d_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.d_loss.update_state(loss)
        with tf.GradientTape() as tape:
            loss = self.loss_fn(ones, self.critic(self.generator(noise, training=True)))
        variables = self.generator.trainable_variables
        self.g_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"d_loss": self.d_loss.result(), "g_loss": loss}


@case(regression(4), refused={"h5": _refusal("adversaries", "PlainAdversaries")}, stock_formats=())
def optimizers_under_other_names() -> keras.Model:
    model = PlainAdversaries(name="adversaries")
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.optimizers.RMSprop(0.01, momentum=0.5),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.build((None, 4))  # its steps never call it
    return model


@register
def squared_distance(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


@register
class Weighted(keras.losses.Loss):
    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.factor * keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@register
class Largest(keras.metrics.Metric):
    def __init__(self, name: str = "largest", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.value = self.add_variable(shape=(), initializer="zeros", name="value")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_pred)))

    def result(self) -> Any:
        return self.value


@case(regression(4))
def custom_loss_and_metric() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    return compiled(model, Weighted(0.3), metrics=[Largest(), squared_distance])


def plain_distance(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


@case(regression(4), custom_objects={"plain_distance": plain_distance})
def custom_loss_function() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), plain_distance, metrics=[squared_distance])


@register
class Tracked(layers.Layer):
    """Updates a metric of its own in its call."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = keras.metrics.Mean(name="size")

    def call(self, inputs: Any) -> Any:
        self.size.update_state(keras.ops.mean(keras.ops.abs(inputs)))
        return inputs


@case(regression(4))
def layer_with_metric() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), layers.Dense(3), Tracked(), layers.Dense(2)]))


@register
class Squeeze(keras.regularizers.Regularizer):
    def __call__(self, weights: Any) -> Any:
        return 0.01 * keras.ops.sum(keras.ops.abs(weights))

    def get_config(self) -> dict[str, Any]:
        return {}


@case(regression(4))
def regularizers_and_constraints() -> keras.Model:
    hidden = layers.Dense(
        3,
        kernel_regularizer=Squeeze(),
        bias_regularizer=keras.regularizers.L1L2(0.01, 0.02),
        activity_regularizer=keras.regularizers.L1(0.01),
        kernel_constraint=keras.constraints.UnitNorm(),
        kernel_initializer=keras.initializers.Orthogonal(seed=3),
    )
    orthogonal = layers.Dense(2, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.02))
    return compiled(keras.Sequential([keras.Input((4,)), hidden, orthogonal]))


@case(regression(4), safe_mode=False)
def lambda_layer() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2.0), layers.Dense(2)]))


@case(lambda: Data(numbers(6), classes(3)))
def operations_as_layers() -> keras.Model:
    inputs = keras.Input((6,))
    hidden = keras.ops.reshape(inputs, (-1, 2, 3))
    hidden = keras.ops.sum(hidden * 2.0 + 1.0, axis=1)
    return compiled(
        keras.Model(inputs, layers.Dense(3, "softmax")(layers.Identity()(hidden))), "sparse_categorical_crossentropy"
    )


@register
class Shifted(keras.Sequential):
    """A Sequential model of a class of its own, with a weight beside its layers."""

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not hasattr(self, "shift"):
            self.shift = self.add_weight(shape=(2,), initializer="ones", name="shift")

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(inputs, training=training, mask=mask) + self.shift


@case(regression(4))
def subclassed_sequential() -> keras.Model:
    return compiled(Shifted([keras.Input((4,)), layers.Dense(3), layers.Dense(2)]))
