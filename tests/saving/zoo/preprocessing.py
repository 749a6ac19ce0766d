"""Preprocessing layers with adapted state or vocabularies, and layers that draw random numbers."""

import keras
import numpy as np
from keras import layers

from .case import Data, case, classes, classification, compiled, numbers, regression, strings

COLORS = "red green blue violet"


@case(regression(3))
def normalization_adapted() -> keras.Model:
    normalization = layers.Normalization()
    normalization.adapt(numbers(3) * 3 + 1)
    return compiled(keras.Sequential([keras.Input((3,)), normalization, layers.Dense(2)]))


@case(lambda: Data(numbers(1), numbers(2, seed=1)))
def discretization_adapted() -> keras.Model:
    discretization = layers.Discretization(num_bins=4)
    discretization.adapt(numbers(1))
    return compiled(keras.Sequential([keras.Input((1,)), discretization, layers.Embedding(5, 2), layers.Flatten()]))


@case(lambda: Data(strings(COLORS, 1), numbers(2, seed=1)))
def string_lookup_adapted() -> keras.Model:
    lookup = layers.StringLookup(output_mode="one_hot", num_oov_indices=2)
    lookup.adapt(np.array(["blue", "red", "blue", "green"], dtype=object))
    return compiled(keras.Sequential([keras.Input((1,), dtype="string"), lookup, layers.Dense(2)]))


@case(lambda: Data(classes(9, 1), numbers(2, seed=1)))
def integer_lookup_adapted() -> keras.Model:
    lookup = layers.IntegerLookup(output_mode="multi_hot")
    lookup.adapt(np.array([3, 3, 5, 8]))
    return compiled(keras.Sequential([keras.Input((1,), dtype="int32"), lookup, layers.Dense(2)]))


@case(lambda: Data(strings("red-fox green_tree Blue red,fox", 1), numbers(2, seed=1)))
def text_vectorization_adapted() -> keras.Model:
    vectorization = layers.TextVectorization(output_sequence_length=3)
    vectorization.adapt(np.array(["the red fox", "a green tree", "fox and tree"], dtype=object))
    return compiled(
        keras.Sequential(
            [keras.Input((1,), dtype="string"), vectorization, layers.Embedding(12, 2), layers.GlobalMaxPooling1D()]
        )
    )


@case(lambda: Data(strings("red-fox green_tree Blue red,fox", 1), numbers(2, seed=1)))
def text_vectorization_tf_idf() -> keras.Model:
    vectorization = layers.TextVectorization(output_mode="tf_idf")
    vectorization.adapt(np.array(["the red fox", "a green tree", "fox and tree"], dtype=object))
    return compiled(keras.Sequential([keras.Input((1,), dtype="string"), vectorization, layers.Dense(2)]))


@case(lambda: Data({"color": strings(COLORS, 1), "size": numbers(1)}, numbers(2, seed=1)))
def hashing_and_encoding() -> keras.Model:
    inputs = {"color": keras.Input((1,), dtype="string", name="color"), "size": keras.Input((1,), name="size")}
    hashed = layers.CategoryEncoding(6, output_mode="one_hot")(layers.Hashing(6, salt=5)(inputs["color"]))
    lookup = layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(inputs["color"])
    normal = layers.Normalization(mean=0.5, variance=2.0)(inputs["size"])
    return compiled(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([hashed, lookup, normal]))))


@case(lambda: Data(numbers(8, 8, 3), classes(3)))
def random_augmentation() -> keras.Model:
    augmentation = keras.Sequential(
        [
            layers.RandomFlip(),
            layers.RandomRotation(0.2, seed=3),
            layers.RandomZoom(0.2),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomContrast(0.3),
            layers.RandomBrightness(0.2, value_range=(-1, 1)),
        ],
        name="augmentation",
    )
    return compiled(
        keras.Sequential(
            [keras.Input((8, 8, 3)), augmentation, layers.Flatten(), layers.Dense(3, "softmax")],
        ),
        "sparse_categorical_crossentropy",
    )


@case(lambda: Data(numbers(8, 8, 3), classes(3)))
def random_colors_and_shapes() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.RandomErasing(value_range=(-1, 1)),
                layers.RandomGaussianBlur(value_range=(-1, 1)),
                layers.RandomGrayscale(),
                layers.RandomInvert(value_range=(-1, 1)),
                layers.RandomPerspective(),
                layers.RandomHue(0.2, value_range=(0, 1)),
                layers.RandomSaturation(0.3, value_range=(0, 1)),
                layers.Flatten(),
                layers.Dense(3, "softmax"),
            ]
        ),
        "sparse_categorical_crossentropy",
    )


@case(classification(6))
def random_noise() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.GaussianNoise(0.1),
                layers.Dense(5, "relu"),
                layers.GaussianDropout(0.2),
                layers.AlphaDropout(0.2),
                layers.Dropout(0.2, seed=12),
                layers.ActivityRegularization(0.01, 0.01),
                layers.Dense(3, "softmax"),
            ]
        ),
        "sparse_categorical_crossentropy",
    )
