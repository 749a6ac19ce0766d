"""A network from its description, with weights from a file or none."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError, ArtifactError, ExportError
from exporter.models.importing import import_custom_objects, suggest
from exporter.saving.layout.documents import is_yaml_configuration, parse_json, parse_yaml_configuration
from exporter.sources._mistaken import explain_no_configuration
from exporter.sources._registry import source
from exporter.sources._stored import find_file
from exporter.storage.remote import is_url

if TYPE_CHECKING:
    import keras

_IMAGENET_CLASSES = 1000
_EXPECTED = "Expected the text of `model.to_json()` or `model.to_yaml()`, or the config.json of a .keras archive."


def _find_application_faults(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Finds the numbers of which no network is made."""
    classes, shape = arguments.get("classes", _IMAGENET_CLASSES), arguments.get("input_shape")
    faults = []
    if isinstance(classes, int) and classes < 1:
        faults.append(("classes", f"received {classes}; expected a number of classes from 1"))
    elif arguments.get("weights") == "imagenet" and classes != _IMAGENET_CLASSES:
        faults.append(("classes", _explain_imagenet(arguments.get("name"), classes)))
    if isinstance(shape, list) and (len(shape) != 3 or any(isinstance(size, int) and size < 1 for size in shape)):
        faults.append(("input_shape", f"received {shape}; expected [height, width, channels], each from 1"))
    return faults


def _explain_imagenet(name: object, classes: object) -> str:
    return (
        f"The imagenet weights of {name} know {_IMAGENET_CLASSES} classes, and classes={classes} was asked for. "
        f"Set `model.classes={_IMAGENET_CLASSES}`, or `model.weights=null` to train the network afresh."
    )


@source("weights", words=("imagenet",), check=_find_application_faults)
def application(
    name: str,
    weights: str | None = None,
    input_shape: Sequence[int] | None = None,
    classes: int = _IMAGENET_CLASSES,
    compile: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Build an image classifier of `keras.applications`.

    Args:
        name: The name of the function in `keras.applications`, such as `MobileNetV2`.
        weights: None for random start values, `imagenet` for those that Keras downloads, or the path of a file that
            holds weights for exactly this network.
        input_shape: Height, width and channels of an image; by default those of the network's publication.
        classes: The number of classes.
        compile: The arguments of `keras.Model.compile`; optimizer, loss and metrics by their Keras names or configs.
            None leaves the model uncompiled.

    Returns:
        The model.

    Raises:
        ArgumentError: There is no network of that name, it does not take these arguments, or the file of weights is
            missing or does not fit.
        ArtifactError: The file of weights is damaged, refused, or holds none.
        ExportError: The weights could not be downloaded.
    """
    build = _find_application(name)
    if weights == "imagenet" and classes != _IMAGENET_CLASSES:
        raise ArgumentError(_explain_imagenet(name, classes))
    if weights is not None and weights != "imagenet":
        find_file(weights, "model.weights", may_be_checkpoint=True)
    shape = None if input_shape is None else tuple(input_shape)
    try:
        # Keras prints the progress of a download where the summary belongs.
        with contextlib.redirect_stdout(sys.stderr):
            model = build(weights="imagenet" if weights == "imagenet" else None, input_shape=shape, classes=classes)
    except ValueError as error:
        raise ArgumentError(
            f"keras.applications.{name} does not take input_shape={shape}, classes={classes}: {_quote(error)}"
        ) from error
    except Exception as error:
        # Keras raises a bare Exception when a download fails, so only its text tells it from a defect.
        if not str(error).startswith("URL fetch failure"):
            raise
        raise ExportError(
            f"The imagenet weights of {name} could not be downloaded: {error}. Connect to the network once (Keras "
            "keeps the file in ~/.keras/models), set `model.weights` to the path of a weights file, or set "
            "`model.weights=null` for random start values."
        ) from error
    if weights is not None and weights != "imagenet":
        _load_weights(model, weights)
    if compile is not None:
        _compile(model, compile)
    return model


def _find_faults(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Finds a whole model, or weights, in the place of the configuration."""
    config = arguments["config"]
    if not isinstance(config, str) or is_url(config):
        return []
    mistaken = explain_no_configuration(Path(config).expanduser())
    return [] if mistaken is None else [("config", mistaken)]


@source("config", "weights", check=_find_faults, checkpoints=("weights",))
def architecture(
    config: str,
    weights: str,
    custom_objects: Mapping[str, str] | Sequence[str] | None = None,
    compile: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
    """Build a model from its Keras configuration, JSON or YAML, and read its weights from a second file.

    Args:
        config: The path of a text: that of `model.to_json()` of any Keras, of `model.to_yaml()` of Keras 1 and 2, or
            the `config.json` of a `.keras` archive.
        weights: The path of a file of weights or of a whole model: HDF5 or a `.keras` archive, whatever its name; or
            of a TensorFlow checkpoint, without `.index`.
        custom_objects: The classes and functions that the configuration names: name in it -> dotted name, or only the
            dotted names.
        compile: The arguments of `keras.Model.compile`; optimizer, loss and metrics by their Keras names or configs.
            None keeps the compile configuration of that text, if it has one.
        safe_mode: Refuse a configuration that holds Python code of its own, such as a Lambda layer, or names what is
            neither a part of Keras's models nor in `custom_objects`.

    Returns:
        The model.

    Raises:
        ArgumentError: A file is missing, the weights do not fit, or a dotted name cannot be imported.
        ArtifactError: The text does not describe a Keras model, or the file of weights is damaged or holds none,
            or one of them is refused.
    """
    config_path = find_file(config, "model.config")
    weights_path = find_file(weights, "model.weights", may_be_checkpoint=True)
    objects = import_custom_objects(custom_objects)
    from exporter.saving.safety.memory import limit_variables

    content = _read_configuration(config_path, config)
    # Files of weights hold no more numbers than bytes.
    stored = [weights_path] if weights_path.exists() else weights_path.parent.glob(f"{weights_path.name}.data-*")
    with limit_variables(sum(each.stat().st_size for each in stored) if safe_mode else None):
        model = _build(content, config, objects, safe_mode)
    _load_weights(model, weights)
    if compile is not None:
        _compile(model, compile)
    return model


def _build(content: Any, config: str, objects: Mapping[str, Any], safe_mode: bool) -> keras.Model:
    """Build the model of a configuration; one that Keras 1 or 2 wrote is translated first."""
    import keras

    from exporter.saving.configuration.faults import LOAD_FAULTS
    from exporter.saving.legacy.loading import build_model
    from exporter.saving.requests import LoadRequest

    request = LoadRequest(objects, safe_mode=safe_mode)
    try:
        if isinstance(content, dict) and {"class_name", "config"} <= content.keys() and "module" not in content:
            model = build_model(content, str(content.get("keras_version", "2")), repr(config), request)
        else:
            request.check(content)
            model = request.deserialize(content)
    except ArtifactError as error:
        raise ArtifactError(f"{config!r} cannot be built: {error}") from error
    except LOAD_FAULTS as error:
        raise ArtifactError(
            f"{config!r} does not describe a model that Keras can build: {_quote(error)} "
            "Name the classes of your own in `model.custom_objects`."
        ) from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"{config!r} holds a {type(model).__name__}, not the description of a model. {_EXPECTED}")
    built: keras.Model = model
    return built


def _read_configuration(path: Path, shown: str) -> Any:
    content = path.read_bytes()
    parse = parse_yaml_configuration if is_yaml_configuration(content) else parse_json
    try:
        return parse(content, repr(shown))
    except ArtifactError as error:
        raise ArtifactError(f"{error} {_EXPECTED}") from error


def _find_application(name: str) -> Callable[..., keras.Model]:
    import keras

    networks = {
        function_name: function
        for function_name, function in vars(keras.applications).items()
        if inspect.isfunction(function)
    }
    if name not in networks:
        nearest = suggest(name, list(networks)) or f" Known: {', '.join(sorted(networks))}."
        raise ArgumentError(f"There is no network {name!r} in keras.applications.{nearest}")
    return networks[name]


def _quote(error: Exception) -> str:
    """Quote Keras's reason as one sentence, without the whole configuration or the lists that it adds."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    reason = re.split(r"Full object config:|Target variable:|\n\nList of objects", reason)[0]
    return f"{' '.join(reason.split()).rstrip('.')}."


def _load_weights(model: keras.Model, weights: str) -> None:
    """Read the weights; a mismatch is the fault of the two paths that were given together."""
    from exporter.saving.configuration.faults import LOAD_FAULTS
    from exporter.saving.given_weights import load_weights

    path = find_file(weights, "model.weights", may_be_checkpoint=True)
    try:
        with warnings.catch_warnings():
            # Keras only warns where it leaves random start values in place of the file's.
            warnings.filterwarnings("error", message="Skipping nested container")
            # A file of weights need not hold the state of an optimizer.
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            load_weights(model, path)
    except ArtifactError:
        raise
    except (*LOAD_FAULTS, UserWarning) as error:
        raise ArgumentError(
            f"The weights in {weights!r} could not be read into the model {model.name!r}: {_quote(error)} "
            "Set `model.weights` to a file that was written for exactly this network."
        ) from error


def _compile(model: keras.Model, arguments: Mapping[str, Any]) -> None:
    import keras

    interpreters: dict[str, Callable[[Any], Any]] = {
        "optimizer": keras.optimizers.get,
        "loss": keras.losses.get,
        "metrics": _get_metric,
        "weighted_metrics": _get_metric,
    }
    allowed = list(inspect.signature(keras.Model.compile).parameters)[1:]
    for key in arguments:
        if key not in allowed:
            raise ArgumentError(
                f"`model.compile.{key}` is not an argument of keras.Model.compile.{suggest(key, allowed)} "
                f"Allowed: {', '.join(allowed)}."
            )
    try:
        model.compile(**{key: _interpret(value, interpreters.get(key)) for key, value in arguments.items()})
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"`model.compile` is not something that Keras can compile with: {_quote(error)} Give the Keras name, such "
            "as `adam`, or a config with class_name and config."
        ) from error


def _interpret(value: Any, interpreter: Callable[[Any], Any] | None) -> Any:
    """Make objects of Keras configs, and check Keras names now: Keras itself would only look them up when training."""
    if interpreter is None:
        return value
    if isinstance(value, Mapping):
        if "class_name" in value:
            return interpreter(dict(value))
        return {key: _interpret(entry, interpreter) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_interpret(entry, interpreter) for entry in value]
    if isinstance(value, str):
        interpreter(value)
    return value


def _get_metric(identifier: Any) -> Any:
    import keras

    # These three are chosen by the loss's shape inside `compile`, and nowhere else.
    if identifier in ("acc", "ce", "crossentropy"):
        return identifier
    return keras.metrics.get(identifier)
