"""Whether both models answer what users call: `predict` and `evaluate`, with the steps that a model has of its own."""

from collections.abc import Iterator, Sequence

import keras

from exporter.artifacts.records import Check, CheckKind
from exporter.models.predictions import convert_batch, convert_output
from exporter.models.randomness import generators_seeded
from exporter.models.training.batches import TrainingBatch
from exporter.models.training.steps import compiled_anew, preserve_model
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission
from exporter.saving.graph.inputs import Inputs, build_structure
from exporter.text.failures import describe_failure
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Effect, Message
from exporter.verification.comparing.batches import name_batches, read_batches
from exporter.verification.comparing.comparisons import leave_unproven
from exporter.verification.comparing.reference import Reference

_PREDICT, _EVALUATE = "predict", "evaluate"

# The methods of a model that are called.
_CALLS = {_PREDICT: "predict", _EVALUATE: "test_on_batch"}

_PARTS = ("x", "y", "sample_weight")


def answer(model: Model, question: Message) -> Message:
    """Calls the method of the loaded model."""
    asked = question.facts
    specs = Inputs.from_json(asked["specs"])
    [arrays] = read_batches(question.arrays, specs, [0])
    with preserve_model(model), generators_seeded(asked["seed"], asked["operations"]):
        return Message(arrays=_call(model, asked["method"], specs, arrays, asked["eager"]))


def _call(model: Model, method: str, specs: Inputs, arrays: Sequence[Array], eager: bool) -> dict[str, Array]:
    """Calls `model.predict`, or what `model.evaluate` calls for each batch.

    Args:
        model: The model; random state, metrics and whatever else a call changes are changed.
        method: `predict` or `evaluate`.
        specs: What the batch is made of; the structure is `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        arrays: One array per leaf.
        eager: Whether Python runs the step, operation by operation.

    Returns:
        What was returned, each array by `0/` and its path in the structure.
    """
    tensors = convert_batch(specs, arrays)
    parts = [build_structure(structure, tensors) for structure in specs.structure]
    size = next((len(array) for array in arrays if array.ndim), 1)
    with compiled_anew(model, eager):
        if method == _PREDICT:
            found = model.predict(parts[0], batch_size=size, verbose=0)
        else:
            data = dict(zip(_PARTS, parts, strict=False))
            found = model.test_on_batch(**data, return_dict=True)  # `evaluate`, but for its pipeline of many batches
        return _name_arrays(found)


def _name_arrays(found: Nested[Tensor]) -> dict[str, Array]:
    return {
        f"0/{'_'.join(map(str, path)) or 'output'}": convert_output(value)
        for path, value in keras.tree.flatten_with_path(found)
        if value is not None
    }


class _Use(Comparison):
    def __init__(self, reference: Reference, method: str, specs: Inputs, arrays: Sequence[Array]) -> None:
        self._reference = reference
        self._method = method
        self._specs = specs
        self._arrays = arrays
        self._expected: dict[str, Array] | Omission | None = None

    def ask(self) -> Message:
        facts = {"method": self._method, "specs": self._specs.to_json(), **self._reference.describe_run()}
        return Message(facts, name_batches(self._specs, {0: self._arrays}))

    def expect(self) -> None:
        if self._method == _EVALUATE and isinstance(self._reference.first_step, Omission):
            return  # a batch that the model cannot be trained on is none to evaluate it on
        try:
            self._expected = self._call()
        except Exception as error:  # the step may be anybody's code
            why = f"the model itself cannot do it on this batch: {describe_failure(error)}"
            self._expected = leave_unproven(self._method, why)

    def _call(self, seed: int | None = None) -> dict[str, Array]:
        reference = self._reference
        with reference.kept(), reference.seeded(seed):
            return _call(reference.model, self._method, self._specs, self._arrays, reference.is_eager)

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        expected, reference, method = self._expected, self._reference, self._method
        if isinstance(expected, Omission):
            yield expected
        elif expected is not None and answer.error:
            yield Check(method, False, f"the loaded model's `{method}` fails", answer.error, kind=CheckKind.OUTPUTS)
        elif expected is not None:
            size = next((len(array) for array in self._arrays if array.ndim), 1)
            detail = f"model.{_CALLS[method]}, batch of {size}, {reference.way}"
            received = answer.read_arrays()
            yield reference.judge(method, received, expected, detail, lambda: self._call(reference.seed + 1))


def plan(reference: Reference) -> Iterator[Comparison]:
    """Compares `predict` where it takes all that a call takes, and `evaluate` where there is a batch with targets."""
    inputs, batch = reference.inputs, reference.training_batch
    if len(inputs.takes.structure) == 1:
        yield _Use(reference, _PREDICT, inputs.takes, inputs.batches[reference.largest])
    if isinstance(batch, TrainingBatch):
        yield _Use(reference, _EVALUATE, batch.specs, batch.arrays)


CHECK = CheckType(name="predict, evaluate", plan=plan, answer=answer, effect=Effect.CALLS)
