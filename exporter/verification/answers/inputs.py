"""What a person asks an endpoint with: JSON as TF Serving takes it, arrays in an `.npz` file, or an image."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exporter.errors import ArgumentError, ArtifactError
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor, format_tensor
from exporter.saving.layout.documents import parse_json
from exporter.text.showing import find_first_line, list_first, show

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
SUFFIXES = (".json", ".npz", *IMAGES)

# The forms of TF Serving's REST interface: by row and by column.
INSTANCES, INPUTS = "instances", "inputs"

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was read of a file, before it is known what an endpoint takes.

    Attributes:
        name: Of the file.
        form: In which form the answer is given: `instances` or `inputs`.
        content: By that form: a list, or values by input; of an image its bytes.
        endpoint: Which the file asks; None where it does not say.
    """

    name: str
    form: str
    content: Any
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an endpoint is asked with.

    Attributes:
        arrays: One for each input.
        notes: What was done to make them.
    """

    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = field(default=())


def read_question(path: Path) -> Question:
    """Reads a file.

    Args:
        path: With one of the known suffixes.

    Raises:
        ArgumentError: It cannot be read, or is no question.
    """
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as members:
                return Question(name=path.name, form=INPUTS, content={name: members[name] for name in members.files})
        content = path.read_bytes()
    except Exception as error:  # NumPy and zip raise much
        raise ArgumentError(f"{path} cannot be read: {find_first_line(error)}") from error
    if path.suffix.lower() in IMAGES:
        return Question(name=path.name, form=INSTANCES, content=content)
    return _read_json(content, path)


def _read_json(content: bytes, path: Path) -> Question:
    try:
        value = parse_json(content, path.name)
    except ArtifactError as error:
        raise ArgumentError(str(error)) from error
    forms = [form for form in (INSTANCES, INPUTS) if isinstance(value, dict) and form in value]
    if not isinstance(value, dict) or len(forms) != 1:
        raise ArgumentError(
            f'{path.name} is no request: expected {{"instances": [...]}} with a value for each sample, or '
            '{"inputs": {...}} with all samples of each input, as TF Serving takes them.'
        )
    unknown = sorted(value.keys() - {*forms, "signature_name"})
    endpoint = value.get("signature_name")
    if unknown or not isinstance(endpoint, str | None):
        wrong = f"the key {show(unknown[0])}" if unknown else f"signature_name {show(endpoint)}"
        raise ArgumentError(f"{path.name} has {wrong}; expected {forms[0]}, and signature_name with a name.")
    return Question(name=path.name, form=forms[0], content=value[forms[0]], endpoint=endpoint)


def choose_endpoint(endpoints: Mapping[str, Endpoint], asked: str | None, question: Question) -> str:
    """Chooses the endpoint: the one that was named, the only one, or the one that a server takes.

    Raises:
        ArgumentError: There is no such endpoint, or two were named.
    """
    if asked is not None and question.endpoint not in (None, asked):
        raise ArgumentError(
            f"{question.name} asks the endpoint {show(question.endpoint)}, and --endpoint says {show(asked)}. Leave "
            "one of them out."
        )
    name = asked or question.endpoint or (next(iter(endpoints)) if len(endpoints) == 1 else SERVING_DEFAULT)
    if name not in endpoints:
        there = "; ".join(describe_inputs(each, endpoint) for each, endpoint in endpoints.items())
        raise ArgumentError(f"There is no endpoint {show(name)}. Give one of these with --endpoint: {there or 'none'}.")
    return name


def describe_inputs(name: str, endpoint: Endpoint) -> str:
    """Says what an endpoint takes, in a line."""
    taken = [f"{each} {format_tensor(tensor)}" for each, tensor in endpoint.inputs.items()]
    return f"{name} takes {list_first(taken, 20) or 'nothing'}"


def fit_question(question: Question, name: str, endpoint: Endpoint) -> Given:
    """Makes the arrays that an endpoint takes of what was read.

    Args:
        question: What was read.
        name: Of the endpoint.
        endpoint: What it takes.

    Raises:
        ArgumentError: It does not fit; every fault is named, and what the endpoint takes.
    """
    expected = f"{describe_inputs(name, endpoint)}."
    if isinstance(question.content, bytes):
        return _fit_image(question, endpoint, expected)
    values = _by_input(question, endpoint, expected)
    arrays, faults = {}, []
    for key in sorted(values.keys() - endpoint.inputs.keys()):
        faults.append(f"it has {show(key)}, which is no input")
    for key, tensor in endpoint.inputs.items():
        if key not in values:
            faults.append(f"it lacks {show(key)}")
            continue
        try:
            arrays[key] = _make_array(values[key], tensor)
        except _DoesNotFitError as error:
            faults.append(f"{show(key)} {error}")
    if faults:
        raise ArgumentError(f"{question.name} does not fit: {'; '.join(faults)}. {expected}")
    return Given(arrays=arrays)


class _DoesNotFitError(Exception):
    """A value that does not fit an input; the text says why."""


def _by_input(question: Question, endpoint: Endpoint, expected: str) -> dict[str, Any]:
    """Sorts the values by input: a single one need not be named."""
    content, names = question.content, list(endpoint.inputs)
    if question.form == INPUTS:
        if isinstance(content, dict) and not _is_bytes(content):
            return content
        return {names[0]: content} if len(names) == 1 else _refuse_unnamed(question, expected)
    if not isinstance(content, list) or not content:
        raise ArgumentError(f"{question.name} has no list of samples under instances. {expected}")
    if all(isinstance(each, dict) and not _is_bytes(each) for each in content):
        keys = {key for each in content for key in each}
        if any(each.keys() != keys for each in content):
            raise ArgumentError(f"{question.name} has samples with different inputs. {expected}")
        return {key: [each[key] for each in content] for key in sorted(keys)}
    return {names[0]: content} if len(names) == 1 else _refuse_unnamed(question, expected)


def _refuse_unnamed(question: Question, expected: str) -> dict[str, Any]:
    raise ArgumentError(f"{question.name} does not name its inputs, and there are several or none. {expected}")


def _make_array(value: Any, tensor: Tensor) -> Array:
    array = value if isinstance(value, np.ndarray) else _read_values(value, tensor.dtype)
    shape = tensor.shape
    fits = shape is None or (
        len(shape) == array.ndim and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    )
    if not fits:
        raise _DoesNotFitError(f"has the shape ({', '.join(map(str, array.shape))})")
    if tensor.dtype == "string":
        if array.dtype.kind not in "SUO":
            raise _DoesNotFitError(f"is {array.dtype}")
        texts = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
        made = np.empty(array.size, object)
        made[:] = texts
        return made.reshape(array.shape)
    wanted = find_dtype(tensor.dtype)
    kinds = {"b": "b", "i": "iu", "u": "iu"}.get(wanted.kind, "iuf" if wanted.kind != "c" else "iufc")
    own = array.dtype == wanted  # also those that NumPy does not have by itself
    if not own and array.size and array.dtype.kind not in kinds:
        raise _DoesNotFitError(f"is {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(wanted)
    is_held = (
        np.array_equal(converted, array) if wanted.kind in "biu" else not (_finite(array) & ~_finite(converted)).any()
    )
    if not is_held:
        raise _DoesNotFitError(f"has numbers that {tensor.dtype} cannot hold")
    return np.asarray(converted)


def _finite(array: Array) -> Array:
    return np.asarray(np.isfinite(array))


def _read_values(value: Any, dtype: str) -> Array:
    """Makes an array of nested lists."""
    if dtype == "string":
        value = _decode(value)
    try:
        array = np.array(value, object if dtype == "string" else None)
        if array.dtype.kind in "fO" and "int" in dtype:  # as NumPy reads integers of which one is above 2^63 - 1
            integers = np.array(value, object)
            if all(type(each) is int for each in integers.ravel().tolist()):
                array = np.array(value, np.uint64 if min(integers.ravel(), default=0) >= 0 else np.int64)
    except ValueError:
        raise _DoesNotFitError("has rows of different lengths") from None
    except OverflowError:
        raise _DoesNotFitError(f"has numbers that {dtype} cannot hold") from None
    if dtype == "string" and any(not isinstance(each, bytes) for each in array.ravel().tolist()):
        raise _DoesNotFitError('has something else than texts, or {"b64": ...}, in rows of one length')
    if dtype != "string" and array.dtype.kind not in "biuf":
        raise _DoesNotFitError("has something else than numbers")
    return array


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if isinstance(value, str):
        return value.encode()
    if not _is_bytes(value):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _DoesNotFitError("has a b64 that is none") from None


def _is_bytes(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _fit_image(question: Question, endpoint: Endpoint, expected: str) -> Given:
    """Makes the tensor of an image that an endpoint takes: decoded, in its size and with its channels."""
    if len(endpoint.inputs) != 1:
        raise ArgumentError(f"{question.name} is one image, and the endpoint has several inputs or none. {expected}")
    [(name, tensor)] = endpoint.inputs.items()
    if tensor.dtype == "string":  # it decodes images itself
        shape = tuple(1 for _ in tensor.shape or ())
        array = np.empty(shape, object)
        array[...] = question.content
        return Given(arrays={name: _checked(array, tensor, question, expected)}, notes=("its bytes, as they are",))
    place = _find_place(tensor)
    if place is None:
        raise ArgumentError(f"{question.name} is an image, and the endpoint takes none. {expected}")
    height, width, channels, axes = place
    import tensorflow as tf

    try:
        image = tf.io.decode_image(question.content, channels=channels or 3, expand_animations=False)
    except tf.errors.OpError as error:
        raise ArgumentError(f"{question.name} is no image that can be read: {find_first_line(error)}") from error
    size = (int(image.shape[0]), int(image.shape[1]))
    wanted = (height or size[0], width or size[1])
    pixels = np.asarray(image if wanted == size else tf.image.resize(image, wanted, antialias=True))
    dtype = find_dtype(tensor.dtype)
    if dtype.kind in "iu":
        pixels = np.clip(np.rint(pixels), 0, min(255, np.iinfo(dtype).max))
    pixels = np.asarray(pixels.astype(dtype))
    if axes == "HW":
        pixels = pixels[..., 0]
    array = pixels if len(tensor.shape or ()) == pixels.ndim else pixels[np.newaxis]
    shown = format_tensor(Tensor(tuple(array.shape), tensor.dtype))
    note = f"{size[1]} x {size[0]} pixels became {shown}, with values from 0 to 255"
    return Given(arrays={name: _checked(array, tensor, question, expected)}, notes=(note,))


def _find_place(tensor: Tensor) -> tuple[int | None, int | None, int | None, str] | None:
    """Finds height, width and channels in the shape of an input; None where that is no image's."""
    shape = tensor.shape
    if shape is None or find_dtype(tensor.dtype).kind not in "iufV" or len(shape) not in (3, 4):
        return None
    is_batch = len(shape) == 4 or shape[0] is None
    if (len(shape) == 4 or not is_batch) and (shape[-1] in _CHANNELS or shape[-1] is None):
        return shape[-3], shape[-2], shape[-1], "HWC"
    return (shape[-2], shape[-1], 1, "HW") if len(shape) == 3 and shape[0] in (None, 1) else None


def _checked(array: Array, tensor: Tensor, question: Question, expected: str) -> Array:
    try:
        return _make_array(array, tensor)
    except _DoesNotFitError as error:
        raise ArgumentError(f"{question.name} does not fit: it {error}. {expected}") from error
