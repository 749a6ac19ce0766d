"""A process that has none of the code of `revival_models`: it loads what was saved there, and goes on with it.

`python -m saving.revival_worker FOLDER CASE...`. What is in a case's sub-folder is all that is known: the artifact and
the data. What happened is pickled there as plain data; an error in one case is the outcome of that case.
"""

import gc
import os
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from exporter import load_model, save_model
from exporter.errors import ArgumentError
from exporter.saving.state.collecting import Array, collect_state, to_array

BATCH = 4
ROWS_BEFORE, ROWS_AFTER = 12, 8
ROWS = ROWS_BEFORE + ROWS_AFTER
CALLED = 3  # rows of a call
DATA = "data.pickle"
ARTIFACT = "model"
EXPECTED = "expected.pickle"
RECEIVED = "received.pickle"

# Stands in the folder when the process that makes the cases has ended.
ENDED = "ended"

Data = Mapping[str, Any]
Outcome = dict[str, Any]


def take(data: Data, start: int, stop: int) -> dict[str, Any]:
    """Returns the rows from `start` to `stop` of `x`, `y` and `sample_weight`."""
    return {name: keras.tree.map_structure(lambda leaf: leaf[start:stop], part) for name, part in data.items()}


def to_tensors(data: Data) -> dict[str, Any]:
    """Makes tensors of everything if there are words in it, which Keras does not take as arrays."""
    if all(leaf.dtype.kind != "U" for leaf in keras.tree.flatten(data)):
        return dict(data)
    return {
        name: keras.tree.map_structure(
            lambda leaf: tf.constant(leaf.astype(object) if leaf.dtype.kind == "U" else leaf), part
        )
        for name, part in data.items()
    }


def train(model: keras.Model, data: Data) -> dict[str, Any]:
    """Trains for one epoch and returns what was logged."""
    return dict(model.fit(**data, batch_size=BATCH, shuffle=False, verbose=0).history)


def copy_state(model: keras.Model) -> dict[str, Array]:
    """Copies every variable of the model and its optimizer."""
    return {path: np.array(to_array(variable)) for path, variable in collect_state(model).items()}


def predict(model: keras.Model, data: Data, thoroughly: bool) -> dict[str, Any]:
    """Asks a model in batches of other sizes than it was trained with; returns the leaves and their structure."""
    # As a graph for any batch, like the artifact's: TensorFlow computes the last bit of some functions otherwise if it
    # runs operation by operation, or knows the size of the batch.
    batch = keras.tree.map_structure(lambda leaf: tf.constant(leaf[:CALLED]), data["x"])
    specs = keras.tree.map_structure(lambda leaf: tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype), batch)
    answers = {"call": tf.function(lambda batch: model(batch), input_signature=[specs], autograph=False)(batch)}
    if thoroughly:
        answers["predict"] = model.predict(data["x"], batch_size=3, verbose=0)
    leaves = {f"{name}/{path}": np.asarray(leaf) for name, answer in answers.items() for path, leaf in flatten(answer)}
    return {**leaves, "structure": repr(keras.tree.map_structure(lambda leaf: None, answers["call"]))}


def flatten(structure: Any) -> list[tuple[str, Any]]:
    """Lists the leaves of a nested structure with their places in it."""
    return [("/".join(map(str, path)), leaf) for path, leaf in keras.tree.flatten_with_path(structure)]


@contextmanager
def without_graphs(model: keras.Model) -> Iterator[None]:
    """Lets a model run its steps without a graph inside the block, unless XLA is to compile them."""
    before = model.run_eagerly
    model.run_eagerly = before or not model.jit_compile
    model.train_function = model.test_function = model.predict_function = None  # made anew, for the new mode
    yield
    model.run_eagerly = before


def go_on(
    model: keras.Model, data: Data, plan: Mapping[str, Any], thoroughly: bool = True, eagerly: bool = True
) -> Outcome:
    """Asks, evaluates and trains a model from the moment of the save on.

    Eagerly, that takes half of the time and comes to the same bits.
    """
    with without_graphs(model) if eagerly else nullcontext():
        return _go_on(model, take(data, ROWS_BEFORE, ROWS), plan, thoroughly)


def _go_on(model: keras.Model, rest: Data, plan: Mapping[str, Any], thoroughly: bool) -> Outcome:
    outcome: Outcome = {
        "trainable variables": [describe_variable(variable) for variable in model.trainable_variables],
        "weights": [describe_variable(variable) for variable in model.weights],
        "state": copy_state(model),
        "predictions": predict(model, rest, thoroughly),
    }
    if plan["trains"]:
        if thoroughly:
            outcome["evaluation"] = model.evaluate(**rest, batch_size=3, verbose=0, return_dict=True)
            outcome["evaluation in order"] = model.evaluate(**rest, batch_size=BATCH, verbose=0)
        for path, variable in collect_state(model).items():  # asking may change what a layer keeps
            variable.assign(outcome["state"][path])
        outcome["history"] = train(model, rest)
        outcome["continued"] = copy_state(model)
    return outcome


def describe_variable(variable: keras.Variable) -> tuple[str, tuple[int, ...], str]:
    """Returns what a person sees of a variable."""
    return variable.name, tuple(variable.shape), variable.dtype


def recompile(model: keras.Model, data: Data, state: Mapping[str, Array]) -> Outcome:
    """Puts a model back into a state, compiles it anew and trains it."""
    for path, variable in collect_state(model, include_optimizer=False).items():
        variable.assign(state[path])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mean_absolute_error", jit_compile=False, run_eagerly=True)
    history = train(model, take(data, ROWS_BEFORE, ROWS))
    return {"loss": np.array(history["loss"]), "continued": copy_state(model)}


def freeze(model: keras.Model, data: Data) -> dict[str, bool]:
    """Freezes the first layer that has weights, trains, and tells of each weight whether it is the same."""
    layer = next(layer for layer in model.layers if layer.trainable_variables)
    layer.trainable = False
    model.compile("sgd", "mean_absolute_error", jit_compile=False, run_eagerly=True)
    before = {variable.path: np.array(variable) for variable in model.weights if variable.dtype == "float32"}
    frozen = {variable.path for variable in layer.weights}
    train(model, take(data, 0, ROWS_BEFORE))
    after = {variable.path: np.array(variable) for variable in model.weights}
    same = {path: np.array_equal(value, after[path]) for path, value in before.items()}
    return {
        "frozen": all(equal for path, equal in same.items() if path in frozen),
        "others": all(equal for path, equal in same.items() if path not in frozen),
    }


def load(path: Path) -> tuple[keras.Model, list[str]]:
    """Loads a model, and returns it with what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(path)
    return model, [str(item.message) for item in caught]


def serve(path: Path, data: Data) -> dict[str, Array]:
    """Asks the endpoint of a SavedModel through TensorFlow alone."""
    endpoint = tf.saved_model.load(str(path)).signatures["serving_default"]
    specs = endpoint.structured_input_signature[1]
    leaves = keras.tree.flatten(take(data, ROWS_BEFORE, ROWS_BEFORE + CALLED)["x"])
    tensors = {
        name: tf.cast(leaf, spec.dtype) if spec.dtype != tf.string else leaf
        for (name, spec), leaf in zip(sorted(specs.items()), leaves, strict=True)
    }
    return {name: np.asarray(value) for name, value in endpoint(**tensors).items()}


def summarize(model: keras.Model) -> str:
    """Returns what `summary` prints."""
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=76)
    return "\n".join(lines)


def train_with_weights(model: keras.Model, data: Data) -> str:
    """Trains with sample weights, as the original never was; returns the text of the error, if that cannot be."""
    try:
        train(model, {**take(data, 0, BATCH), "sample_weight": np.ones(BATCH, "float32")})
    except ArgumentError as error:
        return str(error)
    return ""


def revive(place: Path, plan: Mapping[str, Any], data: Data) -> Outcome:
    """Does with one artifact everything that is tested."""
    received: Outcome = {}
    # Another seed than that of the original: nothing may come from the process.
    keras.utils.set_random_seed(99)
    model, received["warnings"] = load(place / ARTIFACT)
    received["class"] = type(model).__name__
    received["layers"] = {layer.name: (type(layer).__name__, describe_origin(layer)) for layer in model.layers}
    received["inputs"] = list(getattr(model, "input_names", []))
    received["compiled"] = model.compiled
    received["summary"] = summarize(model)
    received["served"] = serve(place / ARTIFACT, data)

    save_model(model, place / "again", save_format="tf")
    save_model(model, place / "small", save_format="tf", include_optimizer=False)
    received["first"] = go_on(model, data, plan, eagerly=False)
    if plan["recompiled"]:
        received["weighted"] = train_with_weights(model, data)
        received["recompiled"] = recompile(model, data, received["first"]["state"])
        received["freezing"] = freeze(model, data)
    del model  # what the functions need has to live on by itself
    again, received["warnings again"] = load(place / "again")
    received["second"] = go_on(again, data, plan, thoroughly=False)
    small, received["warnings small"] = load(place / "small")
    received["small"] = {"compiled": small.compiled, **predict(small, take(data, ROWS_BEFORE, ROWS), thoroughly=False)}
    return received


def describe_origin(layer: keras.layers.Layer) -> str:
    """Tells a revived layer from a real one."""
    return "revived" if type(layer).__module__ == "exporter.saving.revival" else type(layer).__module__.split(".")[0]


def write(path: Path, act: Callable[[], Outcome]) -> None:
    """Pickles what `act` returns, or the traceback of its failure, in one step."""
    keras.utils.clear_session(free_memory=False)
    start = time.perf_counter()
    try:
        outcome = act()
    except Exception:
        outcome = {"error": traceback.format_exc()}
    outcome["seconds"] = time.perf_counter() - start
    staged = path.with_suffix(".staged")
    staged.write_bytes(pickle.dumps(outcome))
    staged.rename(path)


def prepare_process() -> None:
    """Lets sums always be added up in the same order, keeps warnings for those who record them, and saves time."""
    # The graphs are of many small objects: a tenth of the time would go into looking for garbage among them.
    gc.freeze()
    gc.set_threshold(50_000)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # What rewrites a graph for speed takes longer here than it saves, and changes the last bits: without it, a graph
    # gives what its operations give one by one.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    warnings.simplefilter("ignore")


def main() -> None:
    """Revives the cases of the command line, each as soon as it is there."""
    folder, *identities = sys.argv[1:]
    prepare_process()
    for identity in identities:
        place = Path(folder, identity)
        while not (place / EXPECTED).exists() and not Path(folder, ENDED).exists():
            time.sleep(0.1)
        expected = pickle.loads((place / EXPECTED).read_bytes())
        if "error" not in expected:
            data = to_tensors(pickle.loads((place / DATA).read_bytes()))
            write(place / RECEIVED, partial(revive, place, expected, data))
    unwanted = sorted(name for name in sys.modules if name.endswith(("revival_models", "zoo", "conftest")))
    Path(folder, "modules.txt").write_text("\n".join(unwanted))


if __name__ == "__main__":
    main()
