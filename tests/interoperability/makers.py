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

from exporter import save_model
from exporter.sources import digits, digits_data

from .cases import COUNTS, DIGITS, MOBILENET, RECOGNIZE, SENTENCES, STOCK, TOKEN_IDS, WORDS, Array, Case

# Case -> three rows of inputs, and what computes the outputs.
Made = Mapping[Case, tuple[Array, Callable[[Any], Any]]]

VOCABULARY = ["the", "a", "cat", "dog", "house", "sleeps", "barks"]


def make_digits(folder: Path) -> Made:
    """A trained convolutional classifier with its optimizer, and endpoints of several kinds."""
    model = digits(epochs=1)
    pixels = tf.TensorSpec([None, 8, 8, 1], tf.float32, name="pixels")
    labels = tf.TensorSpec([None], tf.int64, name="labels")

    @tf.function(input_signature=[pixels], autograph=False)
    def serve(pixels: Any) -> dict[str, Any]:
        return {"probabilities": model(pixels)}

    @tf.function(input_signature=[pixels], autograph=False)
    def recognize(pixels: Any) -> dict[str, Any]:
        return {"digit": tf.argmax(model(pixels), axis=-1)}

    @tf.function(input_signature=[pixels, labels], autograph=False)
    def train(pixels: Any, labels: Any) -> Any:
        return model.train_step((pixels, labels))

    endpoints = {"serving_default": serve, "recognize": recognize, "train": train}
    save_model(model, folder / DIGITS.artifact, signatures=endpoints)
    tf.saved_model.save(model, str(folder / STOCK.artifact))
    (_, _), (images, _) = digits_data()
    return {
        DIGITS: (images[:3], model),
        STOCK: (images[:3], model),
        RECOGNIZE: (images[:3], lambda images: tf.argmax(model(images), axis=-1)),
    }


def make_mobilenet(folder: Path) -> Made:
    """A network of 157 layers; its random weights are such that it tells images from each other."""
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None, classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = np.random.default_rng(0).normal(size=(8, 12, 12, 3)).astype("float32").repeat(8, 1).repeat(8, 2)
    model(images, training=True)  # the statistics are now those of the images
    save_model(model, folder / MOBILENET.artifact)
    return {MOBILENET: (images[:3], model)}


def make_sentences(folder: Path) -> Made:
    """A classifier of sentences, with a vocabulary, and a second endpoint for sentences as token ids."""
    sentence = keras.Input((), dtype="string", name="sentence")
    vectorize = keras.layers.TextVectorization(vocabulary=VOCABULARY, output_sequence_length=6, name="vectorize")
    token_ids = keras.Input((6,), dtype="int64", name="token_ids")
    topic = _classify(token_ids, len(vectorize.get_vocabulary()))
    classify = keras.Model(token_ids, topic, name="classify")
    model = keras.Model(sentence, classify(vectorize(sentence)), name="sentences")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="sentence")], autograph=False)
    def serve(sentence: Any) -> dict[str, Any]:
        return {"topic": model(sentence)}

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.int64, name="token_ids")], autograph=False)
    def serve_token_ids(token_ids: Any) -> dict[str, Any]:
        return {"topic": classify(token_ids)}

    save_model(model, folder / SENTENCES.artifact, signatures={"serving_default": serve, "token_ids": serve_token_ids})
    sentences = np.array(["The cat sleeps.", "A dog barks,  the CAT sleeps!", "xyzzy"])
    return {SENTENCES: (sentences, model), TOKEN_IDS: (np.asarray(vectorize(tf.constant(sentences))), classify)}


def make_words(folder: Path) -> Made:
    """A classifier of sentences that come as words, with a vocabulary."""
    words = keras.Input((4,), dtype="string", name="words")
    codes = keras.layers.StringLookup(vocabulary=VOCABULARY, name="code")(words)
    model = keras.Model(words, _classify(codes, len(VOCABULARY) + 1), name="words")
    save_model(model, folder / WORDS.artifact)
    rows = [["the", "cat", "sleeps", "."], ["a", "dog", "barks", "barks"], ["xyzzy", "house", "", "dog"]]
    return {WORDS: (np.array(rows), model)}


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
            outputs = {f"outputs_{count}": graph(tf.constant(inputs[:count])).numpy() for count in COUNTS}
            np.savez(folder / f"{case.identity}.npz", inputs=inputs, **outputs)


if __name__ == "__main__":
    main()
