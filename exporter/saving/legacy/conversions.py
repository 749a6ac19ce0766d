"""Weights whose arrays have another form today (`preprocess_weights_for_loading` in keras/engine/saving.py of 2.2)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from exporter.errors import ArtifactError
from exporter.typing.structures import Config

Arrays = list[Any]

_NESTING = ("Sequential", "Model", "Functional", "Network")
_CONVOLUTIONS = {"Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D"}
# Keras 1 listed the arrays of each gate; where those of today's kernel are.
_GATES = {"LSTM": (0, 6, 3, 9), "GRU": (0, 3, 6), "ConvLSTM2D": (0, 6, 3, 9)}


def convert_weights(config: Config, arrays: Arrays, version: str, backend: str) -> Arrays:
    """Gives the arrays of a layer the form of today.

    Args:
        config: The layer's configuration, as older Keras wrote it.
        arrays: Its arrays in the order of the file.
        version: The version of Keras that wrote it.
        backend: What it computed with; Theano's convolutions turn their kernels round.
    """
    class_name, inner = str(config.get("class_name")), config.get("config")
    settings = inner if isinstance(inner, dict) else {}
    if class_name in ("TimeDistributed",) and isinstance(settings.get("layer"), dict):
        return convert_weights(settings["layer"], arrays, version, backend)
    if class_name == "Bidirectional" and isinstance(settings.get("layer"), dict):
        half = len(arrays) // 2
        backward = settings.get("backward_layer") or settings["layer"]
        return [
            *convert_weights(settings["layer"], arrays[:half], version, backend),
            *convert_weights(backward, arrays[half:], version, backend),
        ]
    if class_name == "CuDNNLSTM":
        return _convert_cudnn(arrays, 4, lambda bias: sum(np.split(bias, 2)))
    if class_name == "CuDNNGRU":
        return _convert_cudnn(arrays, 3, lambda bias: bias.reshape((2, -1)))
    if version.startswith("1"):
        arrays = _convert_keras_1(class_name, settings, arrays)
    if backend == "theano" and class_name.replace("Convolution", "Conv") in _CONVOLUTIONS and arrays:
        turned = np.asarray(arrays[0])
        arrays = [np.flip(turned, tuple(range(turned.ndim - 2))), *arrays[1:]]
    if class_name in _NESTING and any(_is_converted(layer, version, backend) for layer in _list_inside(inner)):
        raise ArtifactError(
            "A model inside of a model has layers whose weights have another form today, which is read of the "
            "outermost model only. Save the inner model alone, and build the outer one anew."
        )
    return arrays


def _convert_cudnn(arrays: Arrays, gates: int, bias: Callable[[Any], Any]) -> Arrays:
    """Converts a fused layer, whose gates each are the other way round."""
    if len(arrays) != 3:
        raise ArtifactError(f"A CuDNN layer has 3 weights, and the file has {len(arrays)} for it.")
    kernel, recurrent, offsets = map(np.asarray, arrays)

    def turn(gate: Any) -> Any:
        return gate.T.reshape(gate.shape, order="F")

    def each(turning: Callable[[Any], Any], kernels: Any) -> Any:
        return np.hstack([turning(gate) for gate in np.hsplit(kernels, gates)])

    return [each(turn, kernel), each(np.transpose, recurrent), bias(offsets)]


def _convert_keras_1(class_name: str, settings: Config, arrays: Arrays) -> Arrays:
    is_first = settings.get("dim_ordering") == "th"
    if class_name in _GATES and len(arrays) == 3 * len(_GATES[class_name]):
        places = _GATES[class_name]
        axis = -1
        parts = [[np.asarray(arrays[place + kind]) for place in places] for kind in range(3)]
        if is_first and class_name == "ConvLSTM2D":
            parts = [[np.transpose(each, (2, 3, 1, 0)) if each.ndim == 4 else each for each in kind] for kind in parts]
        return [np.concatenate(kind, axis=axis) for kind in parts]
    if class_name in ("Convolution1D", "Conv1D", "AtrousConvolution1D"):
        kernel = np.asarray(arrays[0])
        if kernel.ndim == 4:
            is_old = kernel.shape[1] == 1 and kernel.shape[3] == settings.get("nb_filter")
            kernel = kernel if is_old else np.transpose(kernel, (2, 3, 1, 0))
            return [kernel[:, 0, :, :], *arrays[1:]]
    if is_first and class_name in ("Convolution2D", "AtrousConvolution2D"):
        return [np.transpose(np.asarray(arrays[0]), (2, 3, 1, 0)), *arrays[1:]]
    if class_name == "Convolution3D" and is_first:
        return [np.transpose(np.asarray(arrays[0]), (2, 3, 4, 1, 0)), *arrays[1:]]
    if class_name == "Deconvolution2D":
        order = (2, 3, 0, 1) if is_first else (0, 1, 3, 2)
        return [np.transpose(np.asarray(arrays[0]), order), *arrays[1:]]
    return arrays


def _list_inside(inner: Any) -> list[Config]:
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    found = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return found + [each for layer in found for each in _list_inside(layer.get("config"))]


def _is_converted(layer: Config, version: str, backend: str) -> bool:
    """Tells whether the arrays of a layer have another form today."""
    settings = layer["config"] if isinstance(layer.get("config"), dict) else {}
    inside = settings.get("layer")
    if isinstance(inside, dict):
        return _is_converted(inside, version, backend)
    class_name = str(layer.get("class_name"))
    is_convolution = class_name.replace("Convolution", "Conv") in _CONVOLUTIONS
    if class_name.startswith("CuDNN") or (backend == "theano" and is_convolution):
        return True
    is_first = settings.get("dim_ordering") == "th"
    old = class_name in _GATES or class_name in ("Convolution1D", "Deconvolution2D") or (is_first and is_convolution)
    return version.startswith("1") and old
