"""The models that the consumers open, made and exported in a process of its own.

`python -m interoperability.makers FOLDER` writes an artifact for each model, and next to it, for each case, the
inputs and what the model itself makes of them in batches of 1, 2 and 3.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.config import SignatureConfig, TensorConfig
from exporter.sources import digits, digits_data

from .cases import BEST, COUNTS, DIGITS, MOBILENET, RECOGNIZE, SENTENCES, STOCK, TOKEN_IDS, WORDS, Array, Case
from .exports import export

# Case -> three rows of inputs, and what computes the outputs.
Made = Mapping[Case, tuple[Array, Callable[[Any], Any]]]

Structure = dict[str, TensorConfig | dict[str, Any] | list[Any]]

VOCABULARY = ["the", "a", "cat", "dog", "house", "sleeps", "barks"]


def keep(name: str) -> dict[str, Any]:
    """A step that leaves out the tensors of other names."""
    return {"_target_": "exporter.transforms.rename", "names": {name: name}}


def make_digits(folder: Path) -> Made:
    """A trained convolutional classifier with its optimizer, and endpoints of several kinds."""
    model = digits(epochs=1)
    scans: Structure = {"pixels": TensorConfig(shape=[None, 8, 8, 1], dtype="uint8")}
    rescale = {"_target_": "exporter.transforms.rescale", "scale": 1 / 16}
    take_label = {"_target_": "exporter.transforms.take_label"}
    export(
        model,
        folder / DIGITS.artifact,
        serving_default=SignatureConfig(),
        recognize=SignatureConfig(inputs=scans, preprocess=rescale, postprocess=[take_label, keep("class")]),
        train=SignatureConfig(method="train"),
        evaluate=SignatureConfig(method="evaluate"),
    )
    tf.saved_model.save(model, str(folder / STOCK.artifact))
    (_, _), (images, _) = digits_data()

    def recognize(pixels: Any) -> Any:
        return tf.argmax(model(tf.cast(pixels, "float32") / 16), axis=-1, output_type=tf.int32)

    return {
        DIGITS: (images[:3], model),
        STOCK: (images[:3], model),
        RECOGNIZE: ((images[:3] * 16).astype("uint8"), recognize),
    }


def make_mobilenet(folder: Path) -> Made:
    """A network of 157 layers; its random weights are such that it tells images from each other."""
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None, classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = np.random.default_rng(0).normal(size=(8, 12, 12, 3)).astype("float32").repeat(8, 1).repeat(8, 2)
    model(images, training=True)  # the statistics are now those of the images
    export(model, folder / MOBILENET.artifact)
    return {MOBILENET: (images[:3], model)}


class Sentences(keras.Model):
    """A classifier of sentences, which also takes sentences as token ids."""

    def classify(self, token_ids: Any) -> dict[str, Any]:
        return {"topic": self.get_layer("topic")(token_ids)}


def make_sentences(folder: Path) -> Made:
    """Such a classifier, with a vocabulary."""
    sentence = keras.Input((), dtype="string", name="sentence")
    vectorize = keras.layers.TextVectorization(vocabulary=VOCABULARY, output_sequence_length=6, name="vectorize")
    token_ids = keras.Input((6,), dtype="int64", name="token_ids")
    classify = keras.Model(token_ids, _classify(token_ids, len(vectorize.get_vocabulary())), name="topic")
    labels = ["animals", "people", "things"]
    take_label = {"_target_": "exporter.transforms.take_label", "labels": labels}
    model = Sentences(sentence, classify(vectorize(sentence)), name="sentences")
    export(
        model,
        folder / SENTENCES.artifact,
        serving_default=SignatureConfig(),
        best=SignatureConfig(postprocess=[take_label, keep("label")]),
        token_ids=SignatureConfig(
            method="classify", inputs={"token_ids": TensorConfig(shape=[None, 6], dtype="int64")}
        ),
    )
    sentences = np.array(["The cat sleeps.", "A dog barks,  the CAT sleeps!", "xyzzy"])
    return {
        SENTENCES: (sentences, model),
        BEST: (sentences, lambda sentences: tf.gather(labels, tf.argmax(model(sentences), axis=-1))),
        TOKEN_IDS: (np.asarray(vectorize(tf.constant(sentences))), classify),
    }


class Words(keras.Model):
    """A classifier of sentences that come as words, with code of its own."""

    def __init__(self) -> None:
        super().__init__(name="words")
        self.code = keras.layers.StringLookup(vocabulary=VOCABULARY)
        codes = keras.Input((4,), dtype="int64")
        self.topic = keras.Model(codes, _classify(codes, len(VOCABULARY) + 1))

    def call(self, words: Any) -> dict[str, Any]:
        return {"topic": self.topic(self.code(words))}


def make_words(folder: Path) -> Made:
    """Such a classifier, with a vocabulary and no declared endpoint."""
    rows = [["the", "cat", "sleeps", "."], ["a", "dog", "barks", "barks"], ["xyzzy", "house", "", "dog"]]
    model = Words()
    model.predict(tf.constant(rows), verbose=0)  # a model with code of its own knows what it takes when it was asked
    export(model, folder / WORDS.artifact)
    return {WORDS: (np.array(rows), lambda words: model(words)["topic"])}


def _classify(token_ids: Any, count: int) -> Any:
    normal = keras.initializers.RandomNormal(stddev=1.0)
    vectors = keras.layers.Embedding(count, 8, embeddings_initializer=normal)(token_ids)
    mean = keras.layers.GlobalAveragePooling1D()(vectors)
    return keras.layers.Dense(3, activation="softmax", name="topic")(mean)


def main() -> None:
    """Makes everything in the folder of the command line."""
    folder = Path(sys.argv[1])
    # One thread adds up in one order.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for make in (make_digits, make_mobilenet, make_sentences, make_words):
        keras.utils.set_random_seed(1)
        for case, (inputs, compute) in make(folder).items():
            graph = tf.function(compute, autograph=False)
            arrays = {f"outputs_{count}": graph(tf.constant(inputs[:count])).numpy() for count in COUNTS}
            plain = {name: array.astype("S") if array.dtype == object else array for name, array in arrays.items()}
            np.savez(folder / f"{case.identity}.npz", inputs=inputs, **plain)


if __name__ == "__main__":
    main()
