"""Small models of many kinds, as users deploy them."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

Array = np.ndarray[Any, Any]


def make_convolutional() -> keras.Model:
    """Convolution, batch statistics that are not those of the start, and a softmax."""
    image = keras.Input((8, 8, 1), name="image")
    features = layers.Conv2D(6, 3, padding="same", name="kernel")(image)
    features = layers.BatchNormalization(momentum=0.0, name="norm")(features)
    features = layers.Flatten()(layers.MaxPooling2D()(layers.ReLU()(features)))
    model = keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(features), name="convolutional")
    images = np.random.default_rng(0).normal(1, 3, (16, 8, 8, 1)).astype("float32")
    model(images, training=True)
    # Its decisions depend on the image: without this, it is for one class whatever it sees.
    hidden = keras.Model(image, model.get_layer("scores").input)
    model.get_layer("scores").bias.assign(
        -np.asarray(hidden(images)).mean(0) @ model.get_layer("scores").kernel.numpy()
    )
    return model


def make_transformer() -> keras.Model:
    """Attention, layer normalisation, and the exact gelu, which TensorFlow computes with an error function."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    vectors = layers.Embedding(11, 8)(tokens)
    attended = layers.LayerNormalization()(vectors + layers.MultiHeadAttention(2, 4)(vectors, vectors))
    hidden = layers.Dense(16, activation=lambda value: keras.activations.gelu(value, approximate=False))(attended)
    return keras.Model(
        tokens, layers.Dense(3, name="scores")(layers.GlobalAveragePooling1D()(hidden)), name="transformer"
    )


def make_recurrent() -> keras.Model:
    """An LSTM over tokens."""
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    return keras.Model(
        tokens, layers.Dense(2, name="scores")(layers.LSTM(5)(layers.Embedding(9, 4)(tokens))), name="lstm"
    )


def make_masked() -> keras.Model:
    """A bidirectional GRU that passes over padding."""
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    vectors = layers.Embedding(9, 4, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.Dense(2, name="scores")(layers.Bidirectional(layers.GRU(5))(vectors)), name="gru")


def make_branches() -> keras.Model:
    """Two inputs of two dtypes, two outputs."""
    image, number = keras.Input((6, 6, 2), name="image"), keras.Input((3,), name="number")
    features = layers.GlobalAveragePooling2D()(layers.SeparableConv2D(4, 3)(image))
    joined = layers.Concatenate()([features, layers.Dense(4, activation="tanh")(number)])
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(joined),
        "size": layers.Dense(1, name="size")(joined),
    }
    return keras.Model({"image": image, "number": number}, outputs, name="branches")


def make_segmenter() -> keras.Model:
    """A small U-Net: pooling, upsampling, a skip, and a class for each pixel."""
    image = keras.Input((8, 8, 3), name="image")
    down = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    middle = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(down))
    up = layers.Conv2DTranspose(4, 2, strides=2)(middle)
    joined = layers.Concatenate()([down, layers.UpSampling2D()(middle)])
    return keras.Model(image, layers.Conv2D(3, 1, name="pixels")(layers.Concatenate()([joined, up])), name="segmenter")


MODELS: Mapping[str, Callable[[], keras.Model]] = {
    "convolutional": make_convolutional,
    "transformer": make_transformer,
    "recurrent": make_recurrent,
    "masked": make_masked,
    "branches": make_branches,
    "segmenter": make_segmenter,
}


def make(name: str) -> keras.Model:
    """Makes a model, the same one each time."""
    keras.utils.set_random_seed(7)
    return MODELS[name]()
