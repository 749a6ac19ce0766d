"""What holds state in a model beside Keras's own variables and layers.

A layer may keep a `tf.Variable`, a `tf.Module`, a lookup table or a `tf.random.Generator`, and it may keep any of
these, Keras's variables and whole layers in objects of its own, such as a `types.SimpleNamespace`. Keras and its
archives do not follow such attributes. They are found here by the path of attributes that leads to them.
"""

import math
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.private_api import AutoTrackable, IndexLookup, LookupInterface
from exporter.typing.keras import Variable
from exporter.typing.tensorflow import LookupTable, TFVariable

Array = np.ndarray[Any, np.dtype[Any]]

_CONTAINERS = (list, tuple, dict)
_KERAS_LEAVES = (keras.Variable, keras.random.SeedGenerator)
_LEAVES = (*_KERAS_LEAVES, tf.Variable, LookupInterface)

# The tables of Keras's own lookups hold the vocabulary, which the layer saves as a file of its own, and the counts of
# an `adapt` that is under way.
_VOCABULARY_TABLES = frozenset({"lookup_table", "token_counts", "token_document_counts"})
# What TensorFlow notes of its own objects, which refers to their attributes once more.
_BOOKKEEPING = "_self_"
# Objects of these packages hold no state of a model beyond what is named above.
_FRAMEWORKS = frozenset({"exporter", "keras", "tensorflow", "numpy", "h5py", "google", "ml_dtypes", "wrapt", "absl"})

_KEYS, _VALUES, _LENGTHS = "keys.npy", "values.npy", ".lengths.npy"


def find_attributes(target: object, is_saveable: Callable[[object], bool]) -> Iterator[tuple[str, object]]:
    """Finds the objects that Keras would address by themselves and that stand in plain objects of a layer.

    Args:
        target: The layer, or any other object that Keras addresses.
        is_saveable: Tells what Keras addresses by itself.

    Returns:
        The path of attributes and items below `target`, such as `parts/first`, and the object.
    """
    owner: type = target.__class__
    if _is_of_keras(owner):
        return
    for place, value, inside in _walk(target, is_saveable):
        if inside and is_saveable(value):
            yield place, value


def find_leaves(target: object, is_saveable: Callable[[object], bool]) -> Iterator[tuple[str, object]]:
    """Finds the variables, random generators and lookup tables among the attributes of an object.

    Args:
        target: The layer, or any other object that Keras addresses.
        is_saveable: Tells what Keras addresses by itself; nothing inside of that is found.

    Returns:
        The path below `target`, and a `keras.Variable`, a `keras.random.SeedGenerator`, a `tf.Variable` or a table.
    """
    owner: type = target.__class__
    native = not _is_of_keras(owner)
    for place, value, inside in _walk(target, is_saveable):
        if isinstance(value, _LEAVES) and (native or (isinstance(value, _KERAS_LEAVES) and not inside)):
            yield place, value


@cache
def _is_of_keras(kind: type) -> bool:
    """Returns whether a class is Keras's own.

    What somebody attaches to an object of such a class is not made again by the class's code, and not used by it: a
    SavedModel holds it as an attachment, and it is no state of the model.
    """
    return kind.__module__.partition(".")[0] == "keras"


def _walk(target: object, is_saveable: Callable[[object], bool]) -> Iterator[tuple[str, object, bool]]:
    """Gives every leaf and every saveable object, with its path and whether it stands inside of a plain object."""
    skipped = _VOCABULARY_TABLES if isinstance(target, IndexLookup) else frozenset()
    visited = {id(target)}
    # An own stack: a chain of objects may be deeper than Python's recursion limit.
    stack = [iter([(name, value, False) for name, value in _list_attributes(target) if name not in skipped])]
    while stack:
        for place, value, inside in stack[-1]:
            kind: type = value.__class__
            if not _is_followed(kind) or id(value) in visited:
                continue
            visited.add(id(value))
            if issubclass(kind, _LEAVES) or is_saveable(value):
                yield place, value, inside
                continue
            items: Sequence[tuple[object, object]]
            if issubclass(kind, _CONTAINERS):
                items = _list_items(value)
            else:
                items, inside = _list_attributes(value), True
            stack.append(iter([(f"{place}/{key}", item, inside) for key, item in items]))
            break
        else:
            stack.pop()


def _list_attributes(owner: object) -> list[tuple[str, object]]:
    own = getattr(owner, "__dict__", {})
    slots = [name for kind in type(owner).__mro__ for name in _list_slots(kind) if name not in own]
    named = {**own, **{name: getattr(owner, name) for name in slots if hasattr(owner, name)}}
    followed = [(name, item) for name, item in named.items() if _is_followed(item.__class__)]
    return sorted((pair for pair in followed if not pair[0].startswith(_BOOKKEEPING)), key=lambda pair: pair[0])


def _list_slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))


def _list_items(container: Any) -> list[tuple[object, object]]:
    pairs = container.items() if isinstance(container, dict) else enumerate(container)
    return [(key, item) for key, item in pairs if _is_followed(item.__class__)]


@cache
def _is_followed(kind: type) -> bool:
    """Returns whether objects of this type are state, or may hold such as an attribute or an item.

    Followed are containers, TensorFlow's modules and trackable objects, and plain objects: namespaces and those of
    classes that are neither Python's own nor a framework's.
    """
    if issubclass(kind, (*_LEAVES, *_CONTAINERS, tf.Module, AutoTrackable, types.SimpleNamespace)):
        return True
    if hasattr(kind, "_obj_type"):  # what Keras addresses by itself
        return True
    if issubclass(kind, (type, types.ModuleType, types.FunctionType)):
        return False
    package = kind.__module__.partition(".")[0]
    return package not in _FRAMEWORKS and package not in sys.stdlib_module_names


_wrapped: "weakref.WeakValueDictionary[int, Variable]" = weakref.WeakValueDictionary()


def wrap_variable(value: TFVariable) -> Variable:
    """Returns a Keras variable over a variable of TensorFlow; the same one for as long as it lives.

    Args:
        value: The variable, whose memory both share.
    """
    known = _wrapped.get(id(value))
    if known is None or known.value is not value:
        name = value.name.partition(":")[0].rpartition("/")[2] or "variable"
        known = keras.Variable(
            lambda shape, dtype: tf.zeros((), dtype),
            shape=(),
            dtype=value.dtype.name,
            trainable=bool(value.trainable),
            name=name,
        )
        known._value = value
        known._shape = tuple(value.shape)
        known._path = value.name.partition(":")[0]
        _wrapped[id(value)] = known
    return known


@dataclass(frozen=True, slots=True)
class TableRecord:
    """What an artifact says of a lookup table, beside its entries; see `Table`."""

    key_dtype: str
    value_dtype: str
    unused: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table of TensorFlow.

    Attributes:
        resource: The object that owns it.
        key_dtype: The name of the dtype of its keys.
        value_dtype: The name of the dtype of its values.
        changes: Whether entries can be put into it; a static one holds what its class gave it.
        unused: The keys that stand for an empty and for a deleted entry, where it has such.
    """

    resource: LookupTable
    key_dtype: str
    value_dtype: str
    changes: bool
    unused: tuple[Any, ...] = ()

    @classmethod
    def of(cls, table: LookupTable) -> "Table":
        """Describes a table."""
        unused = [getattr(table, name) for name in ("_empty_key", "_deleted_key") if hasattr(table, name)]
        keys = tuple(_to_plain(np.asarray(key).tolist()) for key in unused)
        return cls(table, table.key_dtype.name, table.value_dtype.name, hasattr(table, "insert"), keys)

    @classmethod
    def restored(cls, resource: LookupTable, record: "TableRecord") -> "Table":
        """Describes a table that TensorFlow loaded with the functions that use it, and with its entries.

        Args:
            resource: The object that owns it.
            record: What is known of it.
        """
        return cls(resource, record.key_dtype, record.value_dtype, False, record.unused)

    def describe(self) -> "TableRecord":
        """Returns what is recorded of it."""
        return TableRecord(self.key_dtype, self.value_dtype, self.unused)

    def export(self) -> tuple[Array, Array]:
        """Returns its keys and its values, in an order that does not depend on how they came in."""
        keys, values = tf.raw_ops.LookupTableExportV2(
            table_handle=self.resource.resource_handle,
            Tkeys=tf.as_dtype(self.key_dtype),
            Tvalues=tf.as_dtype(self.value_dtype),
        )
        keys, values = keys.numpy(), values.numpy()
        rows = keys.reshape(len(keys), math.prod(keys.shape[1:]))
        for key in self.unused:
            used = ~(rows == np.asarray(key, rows.dtype).reshape(1, -1)).all(axis=1)
            keys, values, rows = keys[used], values[used], rows[used]
        order = sorted(range(len(rows)), key=lambda number: rows[number].tolist())
        return keys[order], values[order]

    def fill(self, keys: Array, values: Array) -> None:
        """Replaces all of its entries.

        Args:
            keys: As `export` returned them.
            values: Likewise.

        Raises:
            ValueError: They are not of the shapes that it takes.
        """
        former, _ = self.export()
        table = self.resource
        if len(former):
            table.remove(tf.constant(former.reshape(self._shape_keys(former)), table.key_dtype))
        if len(keys):
            shape = tuple(getattr(table, "_value_shape", values.shape[1:]))
            shaped = values.reshape(len(keys), *shape)
            try:
                table.insert(
                    tf.constant(keys.reshape(self._shape_keys(keys)), table.key_dtype),
                    tf.constant(shaped, table.value_dtype),
                )
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(error.message) from error

    def _shape_keys(self, keys: Array) -> tuple[int, ...]:
        # A dense table gives keys that are single numbers as rows of one.
        single = keys.ndim == 2 and keys.shape[1] == 1 and np.ndim(self.unused[0] if self.unused else 0) == 0
        return (len(keys),) if single else keys.shape

    def to_files(self) -> dict[str, bytes]:
        """Returns its entries as files by name: NumPy arrays; one of strings is their bytes and their lengths."""
        keys, values = self.export()
        return {**_to_files(_KEYS, keys), **_to_files(_VALUES, values)}

    def restore(self, read: Callable[[str], bytes], path: str) -> None:
        """Gives it the entries of files.

        Args:
            read: Returns a file by its name in `to_files`.
            path: Of the table in the state, for errors.

        Raises:
            ArtifactError: The files are damaged, or it is a static table that holds something else.
        """
        keys = _from_files(_KEYS, self.key_dtype, read, path)
        values = _from_files(_VALUES, self.value_dtype, read, path)
        if len(keys) != len(values):
            raise ArtifactError(f"The lookup table {path!r} is damaged: {len(keys)} keys and {len(values)} values.")
        if self.changes:
            try:
                self.fill(keys, values)
            except ValueError as error:
                raise ArtifactError(
                    f"The lookup table {path!r} does not take the entries of the file: {error}"
                ) from error
            return
        own = self.export()
        if any(
            _to_files("", first) != _to_files("", second) for first, second in zip(own, (keys, values), strict=True)
        ):
            raise ArtifactError(
                f"The lookup table {path!r} of the rebuilt model holds other entries than the saved one, and cannot be "
                "changed. Load it with the code with which it was saved."
            )


def _to_plain(key: object) -> object:
    return key.decode(errors="surrogateescape") if isinstance(key, bytes) else key


def _to_files(name: str, array: Array) -> dict[str, bytes]:
    if array.dtype != object:
        return {name: _to_npy(array)}
    flat = [bytes(item) for item in array.reshape(-1)]
    lengths = np.array([len(item) for item in flat], np.int64).reshape(array.shape)
    return {name: _to_npy(np.frombuffer(b"".join(flat), np.uint8)), name + _LENGTHS: _to_npy(lengths)}


def _to_npy(array: Array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _from_files(name: str, dtype: str, read: Callable[[str], bytes], path: str) -> Array:
    try:
        if dtype != "string":
            return _from_npy(read(name), tf.as_dtype(dtype).as_numpy_dtype)
        content, lengths = _from_npy(read(name), np.uint8).tobytes(), _from_npy(read(name + _LENGTHS), np.int64)
        ends = np.cumsum(lengths.reshape(-1)).tolist()
        if lengths.size and (lengths.min() < 0 or ends[-1] != len(content)):
            raise ValueError("its strings do not end where the file does")
        items = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return np.array(items, object).reshape(lengths.shape)
    except (ValueError, EOFError, OSError, OverflowError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"The lookup table {path!r} is damaged: {error}") from error


def _from_npy(content: bytes, dtype: npt.DTypeLike) -> Array:
    array: Array = np.load(BytesIO(content), allow_pickle=False)
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"its entries are of the type {array.dtype} instead of {np.dtype(dtype)}")
    return array
