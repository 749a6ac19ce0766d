"""Requests to a model server, made from the inputs of the proof: some to warm it up, and one to try it with.

The records are those that TF Serving runs when it loads a version (https://www.tensorflow.org/tfx/serving/saved_model_warmup);
the body of a request is in the column format of its REST interface (https://www.tensorflow.org/tfx/serving/api_rest).
"""

import base64
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from exporter.config import ExportConfig, LayoutKind, VerifyMode
from exporter.errors import ExportError
from exporter.processes.arrays import Array, is_same
from exporter.saving.contents import SERVING_DEFAULT, ContentItem, Endpoint, Omission, format_bytes
from exporter.saving.layout.names import WARMUP
from exporter.text.showing import escape_json
from exporter.verification.comparing.asked import EndpointInputs, VerificationInputs

# An array per input. Strings are objects: `bytes` or `str`.
Batch = tuple[Array, ...]


# TF Serving refuses to load a model with more records.
_MOST_RECORDS = 1000
# What gRPC takes by default: a record need not be larger than a real request.
_LARGEST_RECORD = 4 * 1024 * 1024
# What TF Serving's `json_tensor.cc` converts.
_REST_DTYPES = {"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string"}


def list_askable(inputs: VerificationInputs | None) -> list[EndpointInputs]:
    """Lists the endpoints that a server can be asked, with what they are asked in the proof.

    Args:
        inputs: Of the proof.

    Returns:
        Those that only answer, since a request to train would change the model, and that take dense tensors.
    """
    return [
        endpoint
        for endpoint in (inputs.endpoints if inputs else ())
        if endpoint.batches and not endpoint.moves_state and not any(leaf.sparse for leaf in endpoint.inputs.leaves)
    ]


def add_warmup(
    config: ExportConfig, staged: Path, name: str, asked: Sequence[EndpointInputs]
) -> tuple[tuple[ContentItem, ...], tuple[Omission, ...]]:
    """Writes the requests that TF Serving runs when it loads the model, where a recipe wants them and they can be had.

    Args:
        config: The export, checked.
        staged: A SavedModel directory.
        name: Of the model at the server, which does not look at it.
        asked: What to ask.

    Returns:
        What was written, and what was not and why.
    """
    layout = config.layout
    if layout.warmup is False or (layout.warmup is None and layout.kind is LayoutKind.SINGLE):
        return (), ()
    why = None
    if config.verify.mode is not VerifyMode.FULL:
        why = "only a proof runs them first, and a server loads no model whose request fails; set verify=full"
    elif importlib.util.find_spec("tensorflow_serving") is None:
        why = "pip install 'keras-exporter[serving]', or set layout.warmup=false"
    if why is not None:
        return (), (Omission("warm-up requests", why),)
    return write_warmup(staged, name, asked), ()


def write_warmup(staged: Path, name: str, asked: Sequence[EndpointInputs]) -> tuple[ContentItem, ...]:
    """Writes the requests that TF Serving runs when it loads the model.

    Args:
        staged: A SavedModel directory.
        name: Of the model at the server, which does not look at it.
        asked: What to ask. A batch of more than 4 MiB is cut to fewer samples where the endpoint takes any number.

    Returns:
        What was written: nothing where there is nothing to ask.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    records = []
    for endpoint, batch in _take_turns(asked):
        inputs = {
            leaf.name: tf.make_tensor_proto(array, tf.as_dtype(leaf.dtype), array.shape)
            for leaf, array in zip(endpoint.inputs.leaves, _cut(endpoint, batch), strict=True)
        }
        model = model_pb2.ModelSpec(name=name, signature_name=endpoint.name)
        request = predict_pb2.PredictRequest(model_spec=model, inputs=inputs)
        log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        records.append(log.SerializeToString(deterministic=True))
    if not records:
        return ()
    path = staged / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    plural = "s" if len(records) != 1 else ""
    return (ContentItem("warm-up", f"{len(records)} request{plural}, {format_bytes(path.stat().st_size)}"),)


def _take_turns(asked: Sequence[EndpointInputs]) -> list[tuple[EndpointInputs, Batch]]:
    """Gives the first batch of each endpoint, then the second of each, as many as a server takes."""
    longest = max((len(endpoint.batches) for endpoint in asked), default=0)
    turns = [(each, each.batches[turn]) for turn in range(longest) for each in asked if turn < len(each.batches)]
    return turns[:_MOST_RECORDS]


def _cut(endpoint: EndpointInputs, batch: Batch, samples: int | None = None) -> Batch:
    """Cuts a batch to some samples, or to as many as a record holds, where the endpoint takes any number of them."""
    shapes = [leaf.shape for leaf in endpoint.inputs.leaves]
    if not batch or not endpoint.by_sample or not all(shape and shape[0] is None for shape in shapes):
        return batch
    if samples is None:
        each = sum(map(_measure, batch)) / max(1, len(batch[0]))
        samples = max(1, int(_LARGEST_RECORD / max(each, 1)))
    return tuple(array[:samples] for array in batch)


def _measure(array: Array) -> int:
    return sum(map(len, array.ravel().tolist())) if array.dtype.kind in "OSU" else array.nbytes


def make_body(asked: Sequence[EndpointInputs], endpoints: Mapping[str, Endpoint]) -> tuple[str, str] | None:
    """Makes one request for the REST interface: a real input, of one sample where the endpoint takes any number.

    Args:
        asked: What can be asked.
        endpoints: The inputs and outputs of the endpoints, as the SavedModel declares them.

    Returns:
        The endpoint, which is `serving_default` if there is one, and the body; None where nothing can be asked with
        JSON.

    Raises:
        ExportError: The body, read again by what the endpoint declares, is not the input.
    """
    for endpoint in sorted(asked, key=lambda endpoint: (endpoint.name != SERVING_DEFAULT, endpoint.name)):
        leaves = endpoint.inputs.leaves
        if not leaves or {leaf.dtype for leaf in leaves} - _REST_DTYPES or endpoint.name not in endpoints:
            continue
        smallest = min(endpoint.batches, key=lambda batch: sum(array.size for array in batch))
        arrays = {leaf.name: array for leaf, array in zip(leaves, _cut(endpoint, smallest, samples=1), strict=True)}
        inputs = {name: _to_json(array) for name, array in arrays.items()}
        body = escape_json(json.dumps({"signature_name": endpoint.name, "inputs": inputs}, ensure_ascii=False))
        read = read_body(body, endpoints[endpoint.name])
        if not all(is_same(read[name], _to_bytes(array)) for name, array in arrays.items()):
            raise ExportError(
                f"The request for the endpoint {endpoint.name!r} could not be read again. Please report it."
            )
        return endpoint.name, body
    return None


def read_body(body: str, endpoint: Endpoint) -> dict[str, Array]:
    """Reads the body of a request as the server does: by what the endpoint declares.

    Args:
        body: JSON.
        endpoint: The inputs that the endpoint declares.

    Returns:
        An array per input, strings as objects of `bytes`.

    Raises:
        ExportError: An input is missing or does not have the declared shape.
    """
    inputs = json.loads(body)["inputs"]
    read = {}
    for name, tensor in endpoint.inputs.items():
        if name not in inputs:
            raise ExportError(f"The request has no input {name!r}.")
        array = _from_json(inputs[name], tensor.dtype)
        shape = tensor.shape
        if shape is not None and (
            len(shape) != array.ndim
            or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True))
        ):
            raise ExportError(f"The request's input {name!r} has the shape {array.shape}, and {shape} is declared.")
        read[name] = array
    return read


def _to_json(array: Array) -> Any:
    if array.dtype.kind in "OSU":
        return _map_nested(_to_bytes(array).tolist(), _encode)
    if array.dtype.kind == "f":
        # The shortest decimals that give the same number back.
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _from_json(value: object, dtype: str) -> Array:
    if dtype != "string":
        return np.array(value, dtype)
    decoded = _map_nested(
        value, lambda item: base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()
    )
    return _to_bytes(np.array(decoded, object))


def _encode(item: bytes) -> str | dict[str, str]:
    """Gives text as it is, and what is no text as the server wants it."""
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}


def _map_nested(value: Any, function: Any) -> Any:
    return [_map_nested(item, function) for item in value] if isinstance(value, list) else function(value)


def _to_bytes(array: Array) -> Array:
    if array.dtype.kind not in "OSU":
        return array
    converted = np.empty(array.shape, object)
    for index, item in np.ndenumerate(array):
        converted[index] = item.encode() if isinstance(item, str) else bytes(item)
    return converted
