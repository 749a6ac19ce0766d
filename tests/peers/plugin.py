"""A pytest plugin that puts our save core behind Keras's own entry points, and notes how each test ended.

It runs in a process of its own, whose `keras` is never whole again: every way to save or load a whole model that
Keras's tests take leads to `exporter.save_model` and `exporter.load_model`. Inside our core the entry points are
stock Keras's again, so that what it hands to stock Keras is read by stock Keras.
"""

import functools
import gc
import importlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras.src.export import saved_model as stock_export
from keras.src.export.export_utils import make_tf_tensor_spec
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_api, saving_lib

import exporter
import exporter.saving.formats.hdf5.reading  # takes a function of Keras by name, so it comes before that is replaced
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.graph.inputs import Inputs, describe_inputs, extract_leaves

# TensorFlow puts this module in the place of `tf.saved_model` when it is imported by name, as AutoGraph does midway.
tensorflow_saved_model = importlib.import_module("tensorflow.saved_model")

OUTCOMES = pytest.StashKey[dict[str, dict[str, Any]]]()

_calls: Counter[str] = Counter()
_inside: list[str] = []
_exported: dict[str, Inputs] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, required=True, help="where to write how each test ended, as JSON")
    parser.addoption("--as-saved-model", action="store_true", help="write a SavedModel beside every path given")
    parser.addoption("--leave-out", action="append", default=[], help="a pattern of tests that do not run")


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow traces a graph in many small objects: less often than Python does, and not among what was imported.
    gc.freeze()
    gc.set_threshold(50_000)
    config.addinivalue_line("markers", "requires_trainable_backend: Keras's own mark; TensorFlow is one")
    config.stash[OUTCOMES] = {}
    if config.getoption("--as-saved-model"):
        patch_entry_points(save_beside, load_beside)
    else:
        patch_entry_points(save, load)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    patterns = config.getoption("--leave-out")
    items[:] = [item for item in items if not any(fnmatchcase(_name(item), pattern) for pattern in patterns)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    _calls.clear()
    result = yield
    item.config.stash[OUTCOMES][_name(item)].update(_calls)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    passed = {"name": _name(item), "outcome": "passed", "text": ""}
    outcome = item.config.stash[OUTCOMES].setdefault(_name(item), passed)
    if report.failed or (report.skipped and outcome["outcome"] == "passed"):
        outcome.update(outcome=report.outcome, text=_summarize(report))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    outcomes = list(session.config.stash[OUTCOMES].values())
    session.config.getoption("--outcomes").write_text(json.dumps(outcomes))


def _name(item: pytest.Item) -> str:
    owner = item.getparent(pytest.Class)
    module = item.getparent(pytest.Module)
    if owner is None or module is None:
        raise pytest.UsageError(f"{item.nodeid} is not a test of a class")
    return f"{module.obj.__name__}::{owner.name}::{item.name}"


def _summarize(report: Any) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return str(report.longreprtext)


def patch_entry_points(save: Callable[..., None], load: Callable[..., keras.Model]) -> None:
    """Replaces every function of Keras that saves or loads a whole model."""

    def save_by_suffix(
        model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **keywords: Any
    ) -> None:
        if zipped is False:  # an unzipped archive: our SavedModel directory is one
            keywords["save_format"] = "tf"
        save(model, filepath, overwrite=overwrite, **keywords)

    def save_as_keras(model: Any, filepath: Any, weights_format: str = "h5", zipped: bool = True) -> None:
        save(model, filepath, save_format="keras" if zipped else "tf")

    def save_as_hdf5(model: Any, filepath: Any, overwrite: bool = True, include_optimizer: bool = True) -> None:
        save(model, filepath, overwrite=overwrite, include_optimizer=include_optimizer, save_format="h5")

    for owner, name, replacement in (
        (saving_api, "save_model", save_by_suffix),
        (saving_api, "load_model", load),
        (saving_lib, "save_model", save_as_keras),
        (saving_lib, "load_model", load),
        (legacy_h5_format, "save_model_to_hdf5", save_as_hdf5),
        (legacy_h5_format, "load_model_from_hdf5", load),
        (keras.saving, "save_model", save_by_suffix),
        (keras.saving, "load_model", load),
        (keras.models, "save_model", save_by_suffix),
        (keras.models, "load_model", load),
        (stock_export, "export_saved_model", export_as_saved_model),
        (keras.src.export, "export_saved_model", export_as_saved_model),
        (tensorflow_saved_model, "load", load_saved_model),
    ):
        setattr(owner, name, _reroute(getattr(owner, name), replacement))


def _reroute(stock: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if _inside:
            return stock(*arguments, **keywords)
        _inside.append(stock.__name__)
        try:
            return ours(*arguments, **keywords)
        finally:
            _inside.pop()

    return call


def save(model: Any, filepath: Any, **keywords: Any) -> None:
    _calls["saves"] += 1
    exporter.save_model(model, filepath, **keywords)


def load(filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True) -> keras.Model:
    _calls["loads"] += 1
    return exporter.load_model(filepath, custom_objects, compile, safe_mode)


def save_beside(model: Any, filepath: Any, **keywords: Any) -> None:
    """Saves a SavedModel in place of the file that Keras's test asks for."""
    if isinstance(filepath, (str, os.PathLike)):
        filepath = _beside(filepath)
        keywords["save_format"] = "tf"
    save(model, filepath, **keywords)


def load_beside(filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True) -> keras.Model:
    """Loads that SavedModel."""
    if isinstance(filepath, (str, os.PathLike)) and _beside(filepath).exists():
        filepath = _beside(filepath)
    return load(filepath, custom_objects, compile, safe_mode)


def _beside(filepath: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(filepath)}.saved_model")


def export_as_saved_model(model: Any, filepath: Any, verbose: Any = None, input_signature: Any = None) -> None:
    signatures = None
    if input_signature is not None:
        specs = tf.nest.map_structure(make_tf_tensor_spec, list(input_signature))
        signatures = tf.function(lambda *inputs: {"output_0": model(*inputs)}, input_signature=specs)
    save(model, filepath, save_format="tf", signatures=signatures)
    _exported[os.fspath(filepath)] = describe_inputs(model)


def load_saved_model(path: str, *arguments: Any, **keywords: Any) -> Any:
    """Loads with TensorFlow, and gives `serving_default` the positional face that Keras's tests call `serve`."""
    root = tf.saved_model.load(path, *arguments, **keywords)
    if path in _exported:
        root.serve = functools.partial(_serve, root.signatures[SERVING_DEFAULT], _exported[path])
    return root


def _serve(endpoint: Any, inputs: Inputs, *arguments: Any) -> Any:
    names = [leaf.name for leaf in inputs.leaves]
    if set(names) != set(endpoint.structured_input_signature[1]):  # a signature of the test's own
        names = list(endpoint.structured_input_signature[1])
    leaves = [tf.convert_to_tensor(leaf) for leaf in extract_leaves(inputs, arguments)]
    outputs = endpoint(**dict(zip(names, leaves, strict=True)))
    ordered = [outputs[name] for name in sorted(outputs)]
    return ordered[0] if len(ordered) == 1 else ordered
