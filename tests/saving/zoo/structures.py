"""Shapes of the graph: Sequential, Functional, nested, shared, deep, with several inputs and outputs."""

import keras
from keras import layers

from .case import BATCH, Data, case, classes, classification, compiled, numbers, regression

CROSSENTROPY = "sparse_categorical_crossentropy"


@case(regression(3))
def sequential() -> keras.Model:
    return compiled(
        keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dropout(0.3), layers.Dense(2)]),
        metrics=["mae"],
    )


@case(regression(3))
def sequential_built_by_data() -> keras.Model:
    return compiled(keras.Sequential([layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(2)]))


@case(classification(5))
def functional() -> keras.Model:
    inputs = keras.Input((5,), name="features")
    hidden = layers.Dense(4, activation="relu")(inputs)
    skip = layers.Dense(4)(inputs)
    outputs = layers.Dense(3, activation="softmax", name="probabilities")(layers.Dropout(0.2)(hidden + 2.0 * skip))
    return compiled(keras.Model(inputs, outputs, name="functional"), CROSSENTROPY, metrics=["accuracy"])


@case(regression(3))
def nested_two_deep_with_frozen_part() -> keras.Model:
    innermost = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, "tanh"), layers.BatchNormalization()], name="innermost"
    )
    innermost.trainable = False
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, layers.Dense(4)(innermost(layers.Dropout(0.1)(inputs))), name="inner")
    outer = keras.Input((3,))
    return compiled(keras.Model(outer, layers.Dense(2)(inner(layers.Dense(4)(outer)))))


@case(regression(3))
def frozen_variables_in_a_trained_layer() -> keras.Model:
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="last")(hidden))
    model.get_layer("hidden").bias.trainable = False
    return compiled(model)


@case(lambda: Data([numbers(3), numbers(3, seed=1)], numbers(2, seed=2)))
def shared_layers() -> keras.Model:
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    tower = keras.Sequential([layers.Dense(4, "relu"), layers.Dropout(0.2)], name="tower")
    shared = layers.Dense(4, name="shared")
    merged = layers.Concatenate()([shared(tower(left)), shared(tower(right))])
    return compiled(keras.Model([left, right], layers.Dense(2)(merged)))


@keras.saving.register_keras_serializable("zoo")
class TiedDense(keras.layers.Layer):
    """Projects on the transposed kernel of another layer."""

    def __init__(self, tied_to: keras.layers.Layer, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.tied_to = tied_to

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(shape=(self.tied_to.kernel.shape[0],), initializer="zeros", name="bias")

    def call(self, inputs: object) -> object:
        return keras.ops.matmul(inputs, keras.ops.transpose(self.tied_to.kernel)) + self.bias

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "tied_to": keras.saving.serialize_keras_object(self.tied_to)}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> "TiedDense":
        return cls(**{**config, "tied_to": keras.saving.deserialize_keras_object(config["tied_to"])})


@case(lambda: Data(numbers(5), numbers(5, seed=1)))
def tied_weights() -> keras.Model:
    inputs = keras.Input((5,))
    encoder = layers.Dense(3, activation="tanh", name="encoder")
    return compiled(keras.Model(inputs, TiedDense(encoder, name="decoder")(encoder(inputs))))


@case(lambda: Data(classes(6, 4), classes(6, 4, seed=1)))
def tied_embedding() -> keras.Model:
    inputs = keras.Input((4,), dtype="int32")
    embedding = layers.ReversibleEmbedding(6, 3, name="tokens")
    hidden = layers.Dense(3, activation="relu")(embedding(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(keras.Model(inputs, embedding(hidden, reverse=True)), loss)


def _dictionary_data() -> Data:
    return Data(
        {"image": numbers(4, 4, 1), "age": numbers(1, seed=1), "country": classes(5, 1, seed=2)},
        {"price": numbers(1, seed=3), "kind": classes(3, seed=4)},
        {"price": abs(numbers(seed=5)), "kind": abs(numbers(seed=6))},
    )


@case(_dictionary_data)
def dictionaries_of_inputs_and_outputs() -> keras.Model:
    inputs = {
        "image": keras.Input((4, 4, 1), name="image"),
        "age": keras.Input((1,), name="age"),
        "country": keras.Input((1,), name="country", dtype="int32"),
    }
    parts = [
        layers.Flatten()(layers.Conv2D(2, 3)(inputs["image"])),
        inputs["age"],
        layers.Flatten()(layers.Embedding(5, 2)(inputs["country"])),
    ]
    hidden = layers.Dropout(0.1)(layers.Dense(6, activation="relu")(layers.Concatenate()(parts)))
    outputs = {
        "price": layers.Dense(1, name="price")(hidden),
        "kind": layers.Dense(3, activation="softmax", name="kind")(hidden),
    }
    return compiled(
        keras.Model(inputs, outputs),
        {"price": keras.losses.Huber(delta=0.7), "kind": CROSSENTROPY},
        loss_weights={"price": 0.3, "kind": 1.7},
        metrics={"kind": ["accuracy"], "price": [keras.metrics.MeanAbsoluteError(name="distance")]},
        weighted_metrics={"kind": ["accuracy"], "price": ["mse"]},
    )


@case(lambda: Data([numbers(3), numbers(2, seed=1)], [numbers(2, seed=2), classes(3, seed=3)]))
def lists_of_inputs_and_outputs() -> keras.Model:
    first, second = keras.Input((3,)), keras.Input((2,))
    hidden = layers.Dense(4, activation="relu")(layers.Concatenate()([first, second]))
    outputs = [layers.Dense(2)(hidden), layers.Dense(3, activation="softmax")(hidden)]
    return compiled(
        keras.Model([first, second], outputs),
        ["mse", CROSSENTROPY],
        loss_weights=[1.0, 0.5],
        metrics=[["mae"], ["acc"]],
    )


@case(classification(8, 8, 1))
def convolution_batch_norm_dropout() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(3, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.SpatialDropout2D(0.2),
                layers.SeparableConv2D(3, 3),
                layers.DepthwiseConv2D(2),
                layers.Conv2DTranspose(2, 2),
                layers.GroupNormalization(2),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.4),
                layers.Dense(3, "softmax"),
            ]
        ),
        CROSSENTROPY,
        metrics=["accuracy"],
    )


@case(lambda: Data(numbers(32, 32, 3), classes(4)))
def application() -> keras.Model:
    network = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=4, classifier_activation="softmax"
    )
    return compiled(network, CROSSENTROPY, run_eagerly=True)


@case(regression(3))
def sub_layers_of_equal_names() -> keras.Model:
    def make_block(name: str) -> keras.Model:
        return keras.Sequential([keras.Input((3,)), layers.Dense(3, name="dense"), layers.Dropout(0.1)], name=name)

    inputs = keras.Input((3,))
    return compiled(
        keras.Model(inputs, layers.Dense(2, name="dense")(make_block("second")(make_block("first")(inputs))))
    )


@keras.saving.register_keras_serializable("zoo")
class Twins(keras.layers.Layer):
    """Two sub-layers of one name, and a weight of the name of another."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.first = layers.Dense(3, name="twin")
        self.second = layers.Dense(3, name="twin")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.first.build(input_shape)
        self.second.build(input_shape)
        self.scale = self.add_weight(shape=(3,), name="twin")
        self.shift = self.add_weight(shape=(3,), name="twin")

    def call(self, inputs: object) -> object:
        return self.first(inputs) * self.scale + self.second(inputs) + self.shift


@case(regression(3))
def sub_layers_of_equal_names_in_one_layer() -> keras.Model:
    return compiled(keras.Sequential([keras.Input((3,)), Twins(), layers.Dense(2)]))


@case(regression(3))
def very_long_names() -> keras.Model:
    inputs = keras.Input((3,), name="inputs_" + "x" * 200)
    hidden = inputs
    for index in range(8):
        hidden = layers.Dense(2, name=f"{'a_very_long_name_' * 20}{index}")(hidden)
    return compiled(keras.Model(inputs, hidden, name="model_" + "y" * 300))


@case(regression(3))
def many_weights_of_long_names_in_one_layer() -> keras.Model:
    block = keras.Sequential([layers.Dense(2, name=f"{'part_' * 100}{index}") for index in range(70)], name="block")
    return compiled(keras.Sequential([keras.Input((3,)), block]), run_eagerly=True)


@case(regression(3))
def names_with_strange_characters() -> keras.Model:
    inputs = keras.Input((3,), name="größe in cm")
    hidden = layers.Dense(2, name="half.life-1")(inputs)
    return compiled(keras.Model(inputs, layers.Dense(2, name="class")(hidden), name="model.1"))


@case(regression(3), predicts=False)
def two_hundred_layers() -> keras.Model:
    # Traced, a step of this depth takes seconds; and Keras rebuilds a Sequential model for each layer that it reads.
    inputs = hidden = keras.Input((3,))
    for _ in range(200):
        hidden = layers.Dense(3, "tanh", use_bias=False)(hidden)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    return compiled(model, optimizer=keras.optimizers.SGD(0.01, 0.9), run_eagerly=True)


@case(lambda: Data(numbers(3), numbers(2, seed=1)))
def fixed_batch_size() -> keras.Model:
    inputs = keras.Input(batch_shape=(BATCH, 3))
    return compiled(keras.Model(inputs, layers.Dense(2)(inputs)))
