"""A small convolutional classifier, trained on real scans of handwritten digits that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError
from exporter.sources._registry import DataSplit, source

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    Scans = tuple[NDArray[np.float32], NDArray[np.int64]]

_HELD_OUT = 5  # every fifth scan is held out


def digits_data() -> tuple[Scans, Scans]:
    """Read the scans of handwritten digits.

    The split is fixed: of the 1,797 scans, the first and every fifth after it are held out.

    Returns:
        `(images, labels)` of the 1,437 scans to train on, and the same of the 360 that are held out. The images are
        float32 `[count, 8, 8, 1]` from 0.0 (paper) to 1.0 (ink); the labels are int64 `[count]` from 0 to 9.
    """
    import numpy as np

    with (files("exporter") / "data" / "digits.npz").open("rb") as stream, np.load(stream) as arrays:
        images = arrays["images"][..., np.newaxis].astype(np.float32) / np.float32(16)
        labels = arrays["labels"].astype(np.int64)
    held_out = np.arange(len(labels)) % _HELD_OUT == 0
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def _split_digits() -> tuple[DataSplit, DataSplit]:
    return tuple(  # type: ignore[return-value]
        DataSplit(f"the digits that are {what}", {"pixels": images}, {"y": labels})
        for what, (images, labels) in zip(("trained on", "held out"), digits_data(), strict=True)
    )


def _find_faults(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Finds the numbers with which nothing can be trained."""
    return [
        (
            name,
            f"The digits cannot be trained with {name}={given[name]}. "
            f"Expected at least 1. Set it with `model.{name}=1` or more.",
        )
        for name in ("epochs", "batch_size")
        if isinstance(given.get(name), int) and given[name] < 1
    ]


@source(data=_split_digits, check=_find_faults)
def digits(epochs: int = 6, batch_size: int = 32, report: Callable[[str], None] | None = None) -> keras.Model:
    """Train a small convolutional classifier on the handwritten digits.

    Keras's global seed decides the start values, the order of the scans and the dropout: set it with
    `keras.utils.set_random_seed` for a model that can be made again.

    Args:
        epochs: How often every scan is seen, at least once.
        batch_size: Scans per training step, at least one.
        report: Is given a line after each epoch, and then one that says what was read and how well the model does.

    Returns:
        A compiled, trained model: `pixels`, float32 `[batch, 8, 8, 1]` from 0.0 to 1.0, to `probabilities`, float32
        `[batch, 10]`. It holds weights, batch statistics, Adam's slots and the state of one seed generator.

    Raises:
        ArgumentError: `epochs` or `batch_size` is less than one.
    """
    for _, message in _find_faults({"epochs": epochs, "batch_size": batch_size}):
        raise ArgumentError(message)
    import keras

    (images, labels), (held_out_images, held_out_labels) = digits_data()
    model = _make_classifier()
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.002),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # compiling takes longer than the whole training
    )
    callbacks = [] if report is None else [_make_progress(epochs, report)]
    model.fit(images, labels, batch_size=batch_size, epochs=epochs, callbacks=callbacks, verbose=0)
    if report is not None:
        probabilities = keras.ops.convert_to_numpy(model(held_out_images, training=False))
        accuracy = (probabilities.argmax(axis=-1) == held_out_labels).mean()
        report(
            f"{len(labels) + len(held_out_labels):,} scans of handwritten digits, {len(labels):,} to train and "
            f"{len(held_out_labels):,} held out; accuracy {accuracy:.3f} on the held-out scans"
        )
    return model


def _make_classifier() -> keras.Model:
    import keras

    layers = keras.layers
    pixels = keras.Input(shape=(8, 8, 1), name="pixels")
    strokes = layers.Conv2D(16, 3, padding="same", use_bias=False, name="strokes")(pixels)
    strokes = layers.BatchNormalization(momentum=0.9, name="strokes_normalization")(strokes)
    strokes = layers.ReLU(name="strokes_activation")(strokes)
    strokes = layers.MaxPooling2D(name="strokes_pooling")(strokes)
    shapes = layers.Conv2D(32, 3, padding="same", use_bias=False, name="shapes")(strokes)
    shapes = layers.BatchNormalization(momentum=0.9, name="shapes_normalization")(shapes)
    shapes = layers.ReLU(name="shapes_activation")(shapes)
    features = layers.Flatten(name="features")(shapes)
    features = layers.Dropout(0.25, name="features_dropout")(features)
    probabilities = layers.Dense(10, activation="softmax", name="probabilities")(features)
    return keras.Model(pixels, probabilities, name="digits")


def _make_progress(epochs: int, report: Callable[[str], None]) -> keras.callbacks.Callback:
    import keras

    def report_epoch(epoch: int, logs: dict[str, float]) -> None:
        report(f"epoch {epoch + 1} of {epochs}: accuracy {logs['accuracy']:.3f} on the scans to train")

    return keras.callbacks.LambdaCallback(on_epoch_end=report_epoch)
