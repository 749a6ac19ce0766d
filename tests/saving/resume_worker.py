"""One process of a resume test: it makes and saves models, or loads them and trains them on.

`main` runs the cases of the command line `ROLE FOLDER CASE...`, where the role is `make`, `resume` or `stock`. Each
case has a sub-folder of its own. What went on in a case is pickled there; an error in one case is its outcome.
"""

import codecs
import gc
import marshal
import os
import pickle
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context

from exporter import load_model, save_model
from exporter.errors import ExporterError
from exporter.saving.rebuilding.model_configuration import serialize_model
from exporter.saving.state.collecting import Array, collect, collect_state, to_array

from .zoo import CASES, Case, Data
from .zoo.case import BATCH, ROWS, STEPS_BEFORE, Way

ARTIFACTS = {"h5": "model.h5", "tf": "model", "keras": "model.keras"}


@dataclass(slots=True)
class Outcome:
    """What a model did from the moment of the save on.

    Attributes:
        facts: Trainable flags, dtype policies and the compile configuration, before it went on.
        state: Every variable at that moment, by path.
        predictions: The leaves of its predictions on the rows to come.
        logs: What it logged while it was trained on.
        continued: Every variable in the end.
    """

    facts: dict[str, Any]
    state: dict[str, Array]
    predictions: list[Array]
    logs: dict[str, Any]
    continued: dict[str, Array]


@dataclass(slots=True)
class Report:
    """What happened in one case, and in one format where it was loaded.

    Attributes:
        reached: The run, or None if it failed.
        error: The traceback of a failure.
        warnings: What was warned of while it was saved or loaded.
        refusals: The error text and the files that were left, by the format that refused.
        failures: The traceback of each format that could not be saved.
        changes: What a save changed of the model or of the process.
    """

    reached: Outcome | None = None
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """The run of a case that did not fail."""
        if self.reached is None:
            raise ValueError("the run did not come to its end")
        return self.reached


def train(model: keras.Model, data: Data, way: Way) -> dict[str, Any]:
    """Trains for one epoch and returns what was logged."""
    if way == "none":
        return {}
    if way == "fit":
        history = model.fit(
            data.x, data.y, sample_weight=data.sample_weight, batch_size=BATCH, shuffle=False, verbose=0
        )
        return dict(history.history)
    batches = [data.take(start, start + BATCH) for start in range(0, ROWS, BATCH)]
    logs = [
        model.train_on_batch(batch.x, batch.y, batch.sample_weight, return_dict=True)
        for batch in batches
        if len(keras.tree.flatten(batch.x)[0])
    ]
    return {"batches": logs}


def go_on(model: keras.Model, case: Case, trains: bool = True, eagerly: bool = False) -> Outcome:
    """Predicts, and trains on if it is to; eagerly, that takes half of the time and comes to the same bits."""
    data = case.data().take(STEPS_BEFORE * BATCH, ROWS)
    facts, state = describe(model), copy_state(model)
    with run_eagerly(model, case) if eagerly else nullcontext():
        predicted = model.predict(data.x, batch_size=BATCH, verbose=0) if case.predicts else []
        predictions = keras.tree.flatten(predicted)
        logs = train(model, data, case.after) if trains else {}
    return Outcome(facts, state, predictions, logs, copy_state(model))


@contextmanager
def run_eagerly(model: keras.Model, case: Case) -> Iterator[None]:
    """Lets a model run its operations one by one inside the block, unless its case says that it cannot."""
    before = model.run_eagerly
    model.run_eagerly = before or not case.in_graphs
    yield
    model.run_eagerly = before


def copy_state(model: keras.Model) -> dict[str, Array]:
    """Copies every variable."""
    return {path: np.array(to_array(variable)) for path, variable in collect_state(model).items()}


def describe(model: keras.Model) -> dict[str, Any]:
    """Describes what is not a variable: flags, policies, configurations."""
    state = collect(model)
    facts: dict[str, Any] = {f"{path} is trainable": variable.trainable for path, variable in state.variables.items()}
    for saveable in state.tree:
        target = saveable.target
        if isinstance(target, (keras.layers.Layer, keras.optimizers.Optimizer)):
            facts[f"class of {saveable.path}"] = type(target).__qualname__
        if isinstance(target, keras.layers.Layer):
            facts[f"flags of {saveable.path}"] = (target.trainable, target.dtype_policy.name)
    for path, trained in state.optimizers.items():
        facts[f"variables of {path}"] = trained
    facts["compiled"] = model.compiled
    if model.compiled:
        facts["execution"] = (model.run_eagerly, model.jit_compile, model.steps_per_execution)
    facts |= dict(_flatten("configuration", serialize_model(model)))
    return facts


def _flatten(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Lists the leaves of a configuration; which of its objects are one in memory is not part of it."""
    if isinstance(node, dict) and node.get("class_name") == "__lambda__":
        # The marshalled bytes also tell which objects Python shares; the instructions and constants do not.
        code = marshal.loads(codecs.decode(node["config"]["code"].encode(), "base64"))
        yield path, (code.co_code, code.co_consts, code.co_names)
    elif isinstance(node, (dict, list, tuple)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            if key != "shared_object_id":
                yield from _flatten(f"{path}/{key}", child)
    else:
        yield path, node


def watch(model: keras.Model) -> dict[str, Any]:
    """Takes down everything that a save must not change: of the model, and of the process."""
    seen: dict[str, Any] = dict(copy_state(model))
    for saveable in collect(model).tree:
        for name, value in vars(saveable.target).items():
            seen[f"attribute {saveable.path}.{name}"] = _Identity(value)
            if isinstance(value, (list, dict, set)):
                seen[f"items of {saveable.path}.{name}"] = [_Identity(item) for item in value]
    for path, variable in collect_state(model).items():
        seen[f"variable {path}"] = (_Identity(variable), _Identity(variable.value), variable.trainable, variable.name)
    if model.compiled and model._compile_config is not None:
        seen["compile configuration"] = {name: _Identity(value) for name, value in model._compile_config.config.items()}
    seen["losses"] = len(model.losses)
    seen |= dict(_flatten("configuration", serialize_model(model)))
    seen["Keras's names"] = dict(global_state.get_global_attribute("object_name_uids"))
    seen["Keras's global state"] = sorted(vars(global_state.GLOBAL_STATE_TRACKER))
    generator = global_state.get_global_attribute("global_seed_generator")
    seen["Keras's global seed"] = None if generator is None else np.array(generator.state)
    seen["dtype policy"] = keras.config.dtype_policy().name
    seen["random"] = random.getstate()
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    seen["numpy.random"] = (kind, keys.tolist(), rest)
    seen["tf.random"] = (context.global_seed(), getattr(context.context(), "_rng", random).getstate())
    seen["tf.random generator"] = tf.random.get_global_generator().state.numpy()
    seen["warning filters"] = list(warnings.filters)
    seen["working directory"] = os.getcwd()
    return seen


class _Identity:
    """Equal to itself alone; it keeps its object alive, so that no other one takes its address."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"{self.value!r:.200}"


def compare(expected: Mapping[str, Any], received: Mapping[str, Any]) -> list[str]:
    """Names every entry in which two mappings differ; arrays are compared bit for bit."""
    found = [f"{key} is missing" for key in expected if key not in received]
    found += [f"{key} is new" for key in received if key not in expected]
    for key in expected:
        if key not in received:
            continue
        first, second = expected[key], received[key]
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            found += compare_arrays(key, first, second)
        elif first != second and not (first != first and second != second):
            found.append(f"{key} was {first!r:.300} and is {second!r:.300}")
    return found


def compare_arrays(name: str, expected: Array, received: Array) -> list[str]:
    """Compares two arrays bit for bit."""
    if expected.dtype != received.dtype or expected.shape != received.shape:
        return [f"{name} was {expected.dtype}{expected.shape} and is {received.dtype}{received.shape}"]
    if expected.tobytes() == received.tobytes():
        return []
    if expected.dtype.kind not in "fiuV" or expected.size == 0:
        return [f"{name} differs"]
    difference = np.abs(expected.astype("float64") - received.astype("float64")).max()
    return [f"{name} differs by up to {difference:.3g}"]


@contextmanager
def record_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Records every warning but the one that the project's tests ignore everywhere; see `pyproject.toml`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
        yield caught


def make(case: Case, folder: Path) -> Report:
    """Builds, trains and saves a model in every format, and goes on with it.

    It is trained eagerly: what comes back from the SavedModel is trained in graphs, and has to come to the same bits.
    """
    report = Report()
    keras.utils.set_random_seed(1)
    model = case.build()
    with run_eagerly(model, case):
        train(model, case.data().take(0, STEPS_BEFORE * BATCH), case.before)
    if case.spoil is not None:
        case.spoil(model)
    before = watch(model)
    for save_format, name in ARTIFACTS.items():
        with record_warnings() as caught:
            try:
                save_model(model, folder / name, save_format=save_format)
            except ExporterError as error:
                report.refusals[save_format] = (str(error), sorted(os.listdir(folder)))
            except Exception:
                report.failures[save_format] = traceback.format_exc()
        report.warnings += [f"{save_format}: {item.message}" for item in caught]
        report.changes += [f"{save_format}: {change}" for change in compare(before, watch(model))]
    report.reached = go_on(model, case, eagerly=True)
    return report


def resume(case: Case, artifact: Path) -> Report:
    """Loads a model with our own reader and goes on with it: in graphs where it is that of the SavedModel."""
    return _load_and_go_on(
        case,
        lambda: load_model(artifact, dict(case.custom_objects), safe_mode=case.safe_mode),
        eagerly=artifact.name != ARTIFACTS["tf"],
    )


def resume_with_stock(case: Case, artifact: Path) -> Report:
    """Loads a model with Keras's own reader and goes on with it; from HDF5 it cannot go on, it lacks the slots."""
    return _load_and_go_on(
        case,
        lambda: keras.models.load_model(artifact, custom_objects=dict(case.custom_objects), safe_mode=case.safe_mode),
        trains=artifact.suffix != ".h5",
        eagerly=True,
    )


def _load_and_go_on(case: Case, load: Callable[[], keras.Model], trains: bool = True, *, eagerly: bool) -> Report:
    report = Report()
    # Another seed than that of the original: nothing may come from the process.
    keras.utils.set_random_seed(99)
    with record_warnings() as caught:
        model = load()
    report.warnings = [str(item.message) for item in caught]
    report.reached = go_on(model, case, trains, eagerly)
    return report


def run(role: str, folder: Path, identity: str) -> None:
    """Runs one case in one role, and writes what happened."""
    case, place = CASES[identity], folder / identity
    place.mkdir(exist_ok=True)
    if role == "make":
        _write(place / "make.pickle", lambda: make(case, place))
    go = resume if role == "resume" else resume_with_stock
    for save_format in {"make": (), "resume": ARTIFACTS, "stock": case.stock_formats}[role]:
        name = ARTIFACTS[save_format]
        if (place / name).exists():
            _write(place / f"{role}-{save_format}.pickle", partial(go, case, place / name))
    (place / f"{role}.done").touch()


def _write(path: Path, act: Callable[[], Report]) -> None:
    keras.utils.clear_session(free_memory=False)
    try:
        report = act()
    except Exception:
        report = Report(error=traceback.format_exc())
    path.write_bytes(pickle.dumps(report))


def main() -> None:
    """Runs the cases of the command line."""
    role, folder, *identities = sys.argv[1:]
    # Hundreds of graphs are traced here, of many small objects: with Python's own threshold, a tenth of the time goes
    # into looking for garbage among them.
    gc.freeze()
    gc.set_threshold(50_000)
    # With one thread, sums are always added up in the same order.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # TensorFlow rewrites a graph before it runs, for speed: here that takes longer than what it saves, and changes the
    # last bits. Without it, a graph gives what its operations give one by one.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    # The marks of a function that was traced often are for people at a terminal.
    warnings.simplefilter("ignore")
    for identity in identities:
        run(role, Path(folder), identity)
