"""What clients send: encoded text, serialized records, numbers of another kind."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from exporter.transforms._hooks import takes

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

_WORDS = ("the", "quick", "brown", "fox")


def _encode_base64(generator: np.random.Generator, count: int, make_next: Callable[[], Any] | None) -> Any:
    import numpy as np

    inner = None if make_next is None else make_next()
    if inner is None:
        inner = [generator.bytes(int(size)) for size in generator.integers(1, 20, count)]
    encoded = np.empty(count, object)
    encoded[:] = [base64.b64encode(item.encode() if isinstance(item, str) else item) for item in inner]
    return encoded


@takes("base64", "string", examples=_encode_base64)
def decode_base64(text: tf.Tensor) -> tf.Tensor:
    """Decodes base64 text, in the standard and in the URL-safe alphabet, with or without padding and line breaks.

    Args:
        text: Text, string of any shape.

    Returns:
        The bytes, string of the same shape.
    """
    import tensorflow as tf

    plain = tf.strings.regex_replace(text, r"[\s=]", "")
    return tf.io.decode_base64(tf.strings.regex_replace(tf.strings.regex_replace(plain, r"\+", "-"), "/", "_"))


def _serialize_examples(
    generator: np.random.Generator,
    count: int,
    make_next: Callable[[], Any] | None,
    *,
    features: Mapping[str, Mapping[str, Any]],
) -> Any:
    import numpy as np
    import tensorflow as tf

    known = None if make_next is None else make_next()
    known = known if isinstance(known, Mapping) else {}
    records = np.empty(count, object)
    for row in range(count):
        record = tf.train.Example()
        for name, feature in features.items():
            shape = [2 if size is None else size for size in feature.get("shape", [])]
            values = record.features.feature[name]
            stored = _find_stored_dtype(feature.get("dtype", "float32"))
            if name in known:
                given = np.asarray(known[name][row], object).reshape(-1).tolist()
            elif stored == "string":
                given = generator.choice(_WORDS, shape).reshape(-1).tolist()
            elif stored == "int64":
                given = generator.integers(0, 2, shape).reshape(-1).tolist()
            else:
                given = generator.standard_normal(shape).reshape(-1).tolist()
            if stored == "string":
                values.bytes_list.value.extend(item.encode() if isinstance(item, str) else item for item in given)
            elif stored == "int64":
                values.int64_list.value.extend(given)
            else:
                values.float_list.value.extend(given)
        records[row] = record.SerializeToString(deterministic=True)
    return records


def _name_features(*, features: Mapping[str, Any]) -> list[str]:
    return list(features)


@takes("examples", "string", examples=_serialize_examples, gives=_name_features)
def parse_examples(serialized: tf.Tensor, *, features: Mapping[str, Mapping[str, Any]]) -> dict[str, tf.Tensor]:
    """Parses serialized `tf.train.Example` records.

    Args:
        serialized: Records, string `[batch]`.
        features: Name -> `{shape, dtype, default}`, all optional: the shape of one example's values (default a single
            one; `[null]` for a list of any length, which is filled up with zeros or empty strings), their dtype
            (default float32), and what stands in where a record lacks the feature (default: that is an error).

    Returns:
        Name -> tensor `[batch, *shape]`. A record holds floats as float32 and integers as int64; a dtype beside these
        and string is converted to.
    """
    import numpy as np
    import tensorflow as tf

    from exporter.errors import ArgumentError

    specs: dict[str, Any] = {}
    for name, feature in features.items():
        unknown = [key for key in feature if key not in ("shape", "dtype", "default")]
        if unknown:
            raise ArgumentError(f"`features.{name}.{unknown[0]}` is not known. Allowed: shape, dtype, default.")
        shape, stored = feature.get("shape", []), _find_stored_dtype(feature.get("dtype", "float32"))
        if list(shape) == [None]:
            specs[name] = tf.io.FixedLenSequenceFeature([], stored, allow_missing=True)
        elif None in shape:
            raise ArgumentError(f"`features.{name}.shape` is {shape}. Expected numbers, or [null] for any length.")
        else:
            default = feature.get("default")
            filled = None if default is None else np.broadcast_to(np.asarray(default), shape).tolist()
            specs[name] = tf.io.FixedLenFeature(shape, stored, filled)
    parsed = tf.io.parse_example(serialized, specs)
    return {name: tf.cast(parsed[name], features[name].get("dtype", "float32")) for name in features}


def _find_stored_dtype(dtype: str) -> str:
    """Returns the dtype in which a record holds values."""
    if dtype == "string":
        return "string"
    return "int64" if "int" in dtype or dtype == "bool" else "float32"


@takes()
def cast(values: Any, *, dtype: str) -> Any:
    """Converts numbers to another dtype.

    Args:
        values: A tensor, or a mapping of tensors.
        dtype: Such as `float32`. A float becomes an integer by cutting its fraction off.

    Returns:
        The same structure.
    """
    import tensorflow as tf

    return tf.nest.map_structure(lambda value: tf.cast(value, dtype), values)
