"""What older versions of Keras wrote, and how much of it comes back; `files/gen_*.txt` made it with them.

`python -m saving.legacy.support` prints the table of `exporter help old-models`: writer, form, kind, and what is kept.
"""

import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

import exporter
from exporter.saving.legacy.parts.findings import LeftOutWarning

FILES = Path(__file__).parent / "files"


class Scale(keras.layers.Layer):
    def __init__(self, units: int = 4, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.units = units

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.w


class Sub(keras.Model):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.d1 = keras.layers.Dense(6, activation="relu")
        self.bn = keras.layers.BatchNormalization()
        self.drop = keras.layers.Dropout(0.2)
        self.d2 = keras.layers.Dense(2)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.d2(self.drop(self.bn(self.d1(inputs), training=training), training=training))


def my_loss(expected: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(expected - predicted))


# What the user has to give.
CODE: dict[str, dict[str, Any]] = {
    "custom_reg": {"Scale": Scale},
    "subclassed": {"Sub": Sub},
    "customloss": {"my_loss": my_loss},
}


NO_STATE = "The file does not hold the optimizer's state, which begins anew."
# What is not exact, and what is said of it.
FROZEN = "The file does not say that base was frozen: its optimizer has no slots for it."
PARTLY = {
    "keras-2.0.5-h5-nested": [FROZEN],
    "keras-2.3.1-h5-nested": [FROZEN],
    "tf-2.15-keras-cnn_adam_leg": [NO_STATE],
    "tf-2.15-keras-lstm": [NO_STATE],
    "keras-2.3.1-h5-conv1d": ["Its Nadam changed the momentum at another pace (`schedule_decay`) than today's."],
}
REFUSED = {
    "keras-3.0.5-h5-prep_str": "does not hold what was adapted, the words or bounds of StringLookup 'lookup'.\n"
    "Save the model as `.keras` with the version that wrote this file: that holds them.",
    "tf-2.4-h5-features": "The model has parts that Keras 3 has no counterpart for:\n"
    "  DenseFeatures of tf.keras 1.15 to 2.15 computes feature columns.\n"
    "Save the model as a SavedModel, `model.save(directory)`, with the version that wrote this file: it holds the "
    "computation, and `load_model` takes it. Or give a class of your own that computes the same: "
    "model.custom_objects.DenseFeatures=my_package.DenseFeatures, in Python "
    "custom_objects={'DenseFeatures': DenseFeatures}.",
}
# What a person calls the kinds.
_WORDS = {
    "attention": "attention",
    "bidir": "bidirectional",
    "cnn": "convolutions",
    "cnn_adam": "convolutions with Adam",
    "cnn_adam_leg": "legacy Adam",
    "conv1d": "one-dimensional convolutions",
    "custom_reg": "registered layer",
    "customloss": "custom loss",
    "gru": "GRU",
    "lambda": "lambda",
    "lstm": "LSTM",
    "merged": "merged branches",
    "mixed": "mixed precision",
    "multi": "several inputs and outputs",
    "nested": "nested model",
    "oplambda": "TensorFlow functions",
    "features": "feature columns",
    "former": "random crops and Fourier features",
    "functions": "more TensorFlow functions",
    "gated": "highway and maxout",
    "local": "locally connected",
    "prep_str": "word lookup",
    "prep_text": "text vectorization",
    "schedule": "learning-rate schedule",
    "subclassed": "subclassed",
    "transfer": "frozen backbone",
}


@dataclass(frozen=True)
class Case:
    """One file."""

    path: Path

    @property
    def id(self) -> str:
        return "-".join([self.path.parent.parent.name, self.path.suffix[1:], self.path.parent.name])

    @property
    def kind(self) -> str:
        return self.path.parent.name

    def load(self) -> tuple[keras.Model, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = exporter.load_model(self.path, CODE.get(self.kind), safe_mode=self.kind != "lambda")
        return model, [str(each.message) for each in caught if issubclass(each.category, LeftOutWarning)]

    def read_expected(self) -> dict[str, np.ndarray]:
        with np.load(self.path.parent / "expected.npz", allow_pickle=True) as stored:
            return dict(stored)


CASES = [Case(path) for path in sorted(FILES.rglob("*")) if path.suffix in (".h5", ".keras")]


@dataclass
class Comparison:
    """How a loaded model differs from what the writer recorded."""

    difference: float
    lacking: list[str] = field(default_factory=list)


def compare(case: Case, model: keras.Model) -> Comparison:
    """Compares predictions, weights and slots with what was recorded, and the slots with those in the file."""
    expected = case.read_expected()
    outputs = model(_to_tensors(_unflatten("x", expected)), training=False)
    pairs = zip(_flatten(outputs), _flatten(_unflatten("y", expected)), strict=True)
    found = Comparison(max(float(np.abs(np.asarray(a, float) - np.asarray(b, float)).max()) for a, b in pairs))
    weights = [np.asarray(weight) for weight in model.weights]
    slots = [np.asarray(variable) for variable in model.optimizer.variables]
    reshaped = "keras-1" in case.id and case.kind in ("lstm", "gru", "bidir", "conv1d")
    for name, value in expected.items():
        if name.startswith("w#") and value.dtype.kind in "fiu" and not reshaped and not _holds(weights, value):
            found.lacking.append(name)
    for name, value in read_slots(case.path):
        if not reshaped and value.shape != (1,) and not _holds(slots, value):
            found.lacking.append(name)
    steps = expected.get("opt.iterations")
    if steps is not None and int(model.optimizer.iterations) != int(steps):
        found.lacking.append("iterations")
    return found


def read_slots(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the optimizer's variables in a file, by their names."""
    is_zip = zipfile.is_zipfile(path)
    content = zipfile.ZipFile(path).read("model.weights.h5") if is_zip else path.read_bytes()
    with h5py.File(BytesIO(content), "r") as file:
        group = file.get("optimizer" if is_zip else "optimizer_weights")
        found: list[tuple[str, np.ndarray]] = []
        if group is not None:
            group.visititems(
                lambda name, node: found.append((name, node[()])) if isinstance(node, h5py.Dataset) else None
            )
    yield from found


def list_table() -> Iterator[str]:
    """Gives the table of the page `old-models`: what is kept of the files of each writer, in each form."""
    yield "| writer | form | comes in exactly | partly, or refused |"
    yield "| --- | --- | --- | --- |"
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in CASES:
        groups.setdefault((case.path.parent.parent.name, case.path.suffix), []).append(case)
    for (writer, form), cases in groups.items():
        exact = [_WORDS[case.kind] for case in cases if case.id not in PARTLY and case.id not in REFUSED]
        others = [f"{_WORDS[case.kind]}: {' '.join(PARTLY[case.id])}" for case in cases if case.id in PARTLY]
        refused = [f"{_WORDS[case.kind]}: {_shorten(REFUSED[case.id])}" for case in cases if case.id in REFUSED]
        others += [" ".join(each.split("\n")).replace(": holds", ": it holds") for each in refused]
        name = writer.replace("tf-", "TensorFlow ").replace("keras-", "Keras ")
        yield f"| {name} | `{form}` | {', '.join(exact)} | {' '.join(others).replace(': does', ': it does')} |"


def _shorten(message: str) -> str:
    """Leaves the one part of several that is refused, without the sentences around it."""
    return message.split("\n")[1].strip() if message.startswith("The model has parts") else message


def _holds(arrays: list[np.ndarray], value: np.ndarray) -> bool:
    return any(each.shape == value.shape and np.array_equal(each, value) for each in arrays)


def _unflatten(prefix: str, stored: dict[str, np.ndarray]) -> Any:
    keys = [key for key in stored if key == prefix or key.startswith((f"{prefix}/", f"{prefix}#"))]
    if keys == [prefix]:
        return stored[prefix]
    if keys[0].startswith(f"{prefix}/"):
        return {key.partition("/")[2]: stored[key] for key in keys}
    return [stored[f"{prefix}#{number}"] for number in range(len(keys))]


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_to_tensors(child) for child in value]
    return keras.ops.convert_to_tensor(value.astype(str) if value.dtype.kind in "UO" else value)


def _flatten(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        return [np.asarray(value[key]) for key in sorted(value)]
    return [np.asarray(each) for each in value] if isinstance(value, (list, tuple)) else [np.asarray(value)]


if __name__ == "__main__":
    print("\n".join(list_table()))
