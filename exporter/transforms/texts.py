"""Text as a language model takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.transforms._hooks import takes

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog")


def _write_sentences(generator: np.random.Generator, count: int, make_next: Callable[[], Any] | None, **_: Any) -> Any:
    import numpy as np

    sentences = np.empty(count, object)
    sentences[:] = [" ".join(generator.choice(_WORDS, size)) for size in generator.integers(1, 9, count)]
    return sentences


@takes("text", "string", examples=_write_sentences, files=("preset",))
def tokenize(text: tf.Tensor, *, preset: str) -> Any:
    """Makes a model's inputs of text, as the preprocessor of a KerasHub preset does.

    What serves the endpoint needs the operations of TensorFlow Text: `pip install tensorflow-text`.

    Args:
        text: Text, string `[batch]`.
        preset: The preset's directory, as `save_to_preset` writes it; its vocabulary becomes part of the artifact.

    Returns:
        What the model takes, such as `token_ids` and `padding_mask`, int32 `[batch, length]`.

    Raises:
        ArtifactError: The preset has no preprocessor, or is refused.
        MissingDependencyError: KerasHub is not installed.
    """
    import tensorflow as tf

    from exporter.sources._presets import load_preprocessor

    made = load_preprocessor(Path(preset).expanduser())(text)
    # KerasHub's models declare masks as numbers, and its preprocessors make truth values.
    return tf.nest.map_structure(lambda each: tf.cast(each, tf.int32) if each.dtype == tf.bool else each, made)
