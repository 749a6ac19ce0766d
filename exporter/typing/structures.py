"""Values inside of values."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

# What `json.loads` returns.
JSON: TypeAlias = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None

# What `keras.tree` and `tf.nest` take apart: a value, or a list, tuple or dict of such.
Nested: TypeAlias = T | Sequence["Nested[T]"] | Mapping[str, "Nested[T]"]

# The configuration of an object of Keras, as `get_config` or a file gives it.
Config: TypeAlias = dict[str, Any]
