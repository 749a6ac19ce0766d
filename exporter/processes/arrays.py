"""Arrays between two processes: a file that keeps every dtype, also those that NumPy's own files lose."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_HEADER = "header"


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays by name to an `.npz` file without pickles.

    `bfloat16` and the small floats are kept as their bytes, strings as UTF-8 bytes.

    Args:
        path: The file to write.
        arrays: Name -> array of any numeric dtype, bool, bytes or `str`.
    """
    header: dict[str, list[Any]] = {}
    members: dict[str, Array] = {}
    for index, (name, array) in enumerate(arrays.items()):
        header[name] = [str(index), array.dtype.name, list(array.shape)]
        if array.dtype.kind in "OSU":
            header[name][1] = "string"
            encoded = [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()]
            members[f"{index}/lengths"] = np.array([len(item) for item in encoded], np.int64)
            members[str(index)] = np.frombuffer(b"".join(encoded), np.uint8)
        else:
            members[str(index)] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    members[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **members)


def read_arrays(path: Path) -> dict[str, Array]:
    """Reads what `write_arrays` wrote.

    Args:
        path: The file.

    Returns:
        Name -> array; strings as an object array of `bytes`.
    """
    arrays: dict[str, Array] = {}
    with np.load(path, allow_pickle=False) as members:
        header = json.loads(members[_HEADER].tobytes())
        for name, (member, dtype, shape) in header.items():
            raw = members[member]
            if dtype == "string":
                ends = np.cumsum(members[f"{member}/lengths"]).tolist()
                text = raw.tobytes()
                items = [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=False)]
                array = np.empty(len(items), object)
                array[:] = items
                arrays[name] = array.reshape(shape)
            else:
                arrays[name] = raw.view(find_dtype(dtype)).reshape(shape)
    return arrays


def find_dtype(name: str) -> np.dtype[Any]:
    """Returns the dtype of this name; `bfloat16` and the small floats are those of `ml_dtypes`."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype


def largest_difference(first: Array, second: Array) -> float | None:
    """Returns how far two arrays are apart.

    Args:
        first: An array.
        second: An array of the same shape.

    Returns:
        The largest absolute difference of the numbers, infinity where only one of the two is not a number;
        None where the elements are no numbers.
    """
    if first.dtype.kind in "OSU" or first.size == 0:
        return None
    precise = np.complex128 if first.dtype.kind == "c" else np.float64
    left, right = first.astype(precise), second.astype(precise)
    if not np.array_equal(np.isnan(left), np.isnan(right)):
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.where((left == right) | np.isnan(left), 0.0, np.abs(left - right))
    return float(difference.max())


def is_same(first: Array, second: Array) -> bool:
    """Returns whether two arrays have the same dtype, shape and bits, any NaN being equal to any other."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.kind in "OSU":
        return bool((first == second).all())
    if first.dtype.kind in "biu":
        return np.array_equal(first, second)
    if np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes():
        return True
    both_missing = np.isnan(first) & np.isnan(second)
    return bool(both_missing.any() and ((first == second) | both_missing).all())
