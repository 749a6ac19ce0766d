"""Answers: from the numbers that a network gives to what a client wants to read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.transforms._hooks import takes

if TYPE_CHECKING:
    import tensorflow as tf


@takes()
def softmax(values: tf.Tensor, *, axis: int = -1) -> tf.Tensor:
    """Makes probabilities of logits: `exp(v) / sum(exp(v))`, computed without overflow.

    Args:
        values: Floats.
        axis: The dimension over which the result adds up to 1.

    Returns:
        The same shape and dtype.
    """
    import tensorflow as tf

    return tf.nn.softmax(values, axis=axis)


@takes()
def sigmoid(values: tf.Tensor) -> tf.Tensor:
    """Makes a probability of each logit: `1 / (1 + exp(-v))`.

    Args:
        values: Floats.

    Returns:
        The same shape and dtype.
    """
    import tensorflow as tf

    return tf.math.sigmoid(values)


@takes(files=("labels",))
def top_k(values: tf.Tensor, *, k: int, labels: Sequence[str] | str | None = None) -> dict[str, tf.Tensor]:
    """Finds the best of several classes.

    Args:
        values: Scores `[..., classes]`.
        k: How many are wanted.
        labels: The names of all classes in order, or the path of a text file with one in each line, which becomes an
            asset of the artifact; None for numbers.

    Returns:
        `labels`, string `[..., k]`, or `classes`, int32 `[..., k]`, where there are none; and `scores` `[..., k]`
        from the highest, the first of equals first.
    """
    import tensorflow as tf

    from exporter.errors import ArgumentError

    count = values.shape[-1]
    if k < 1 or (count is not None and k > count):
        raise ArgumentError(f"`k` is {k}. Expected a number from 1 to the {count or 'number of'} classes.")
    scores, indices = tf.math.top_k(values, k)
    if labels is None:
        return {"classes": indices, "scores": scores}
    return {"labels": _look_up(labels, indices, count), "scores": scores}


@takes(files=("labels",))
def take_label(values: tf.Tensor, *, labels: Sequence[str] | str | None = None) -> dict[str, tf.Tensor]:
    """Takes the class with the highest score, the first of equals.

    Args:
        values: Scores `[..., classes]`.
        labels: As for `top_k`.

    Returns:
        `label`, string `[...]`, or `class`, int32 `[...]`, where there are no labels; and `score` `[...]`.
    """
    import tensorflow as tf

    best = tf.argmax(values, axis=-1, output_type=tf.int32)
    score = tf.reduce_max(values, axis=-1)
    if labels is None:
        return {"class": best, "score": score}
    return {"label": _look_up(labels, best, values.shape[-1]), "score": score}


@takes()
def threshold(values: tf.Tensor, *, threshold: float = 0.5) -> tf.Tensor:
    """Says which values reach a threshold.

    Args:
        values: Numbers of any shape.
        threshold: The lowest that is true.

    Returns:
        bool of the same shape.
    """
    import tensorflow as tf

    return values >= tf.constant(threshold, values.dtype)


@takes()
def rename(values: Any, *, names: Mapping[str, str]) -> dict[str, tf.Tensor]:
    """Gives tensors other names, and leaves out those that are not named.

    Args:
        values: A mapping of tensors; or one tensor, whatever it is called.
        names: New name -> old name.

    Returns:
        New name -> tensor.
    """
    from exporter.errors import ArgumentError

    if not isinstance(values, Mapping):
        if len(names) != 1:
            raise ArgumentError(f"`names` has {len(names)} entries, and there is one tensor to be named.")
        return dict.fromkeys(names, values)
    unknown = [old for old in names.values() if old not in values]
    if unknown:
        raise ArgumentError(f"there is no {unknown[0]!r} to be renamed. There are: {', '.join(map(str, values))}.")
    return {new: values[old] for new, old in names.items()}


def _look_up(labels: Sequence[str] | str, indices: Any, count: int | None) -> Any:
    """Returns the labels of classes."""
    import tensorflow as tf

    from exporter.errors import ArgumentError

    if not isinstance(labels, str):
        _check_count(len(labels), count, "`labels` names")
        return tf.gather(tf.constant([str(label) for label in labels]), indices)
    path = Path(labels).expanduser()
    if not path.is_file():
        raise ArgumentError(f"`labels`: there is no file {labels!r}. Give the path of a text file with a label a line.")
    content = path.read_bytes()
    _check_count(len(content.splitlines()), count, f"the file {labels!r} of `labels` holds")

    class Labels(tf.lookup.TextFileInitializer):
        # Tables of one name are one table in a process. TensorFlow makes the name of the path, not of the content.
        _shared_name = f"labels_{hashlib.sha256(content).hexdigest()[:16]}"

    index = tf.lookup.TextFileIndex
    initializer = Labels(str(path), tf.int64, index.LINE_NUMBER, tf.string, index.WHOLE_LINE)
    return tf.lookup.StaticHashTable(initializer, default_value="").lookup(tf.cast(indices, tf.int64))


def _check_count(received: int, expected: int | None, subject: str) -> None:
    from exporter.errors import ArgumentError

    if expected is not None and received != expected:
        raise ArgumentError(f"{subject} {received} classes, and the model tells {expected} apart.")
