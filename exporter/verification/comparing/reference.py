"""The model that an artifact is compared with: it is asked what the artifact is asked, and stays as it was."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from exporter.artifacts.records import Check, CheckKind
from exporter.config import VerifyMode
from exporter.errors import ExporterError, ExportError, Fault, ModelError, UsageError
from exporter.models.predictions import Predictor, format_leaves
from exporter.models.randomness import choose_seed, generators_seeded
from exporter.models.training.batches import TrainingBatch, make_batch
from exporter.models.training.step_data import UndrawableError
from exporter.models.training.steps import preserve_model, take_step
from exporter.processes.arrays import Array
from exporter.saving.contents import Omission
from exporter.saving.formats import find_format
from exporter.saving.formats.format import KERAS
from exporter.saving.graph.signatures import find_captured, kept_to_its_weights, name_outputs
from exporter.saving.layout.names import CONFIG
from exporter.saving.private_api import is_op_determinism_enabled
from exporter.saving.state.collecting import to_array
from exporter.text.failures import describe_failure
from exporter.text.showing import list_first
from exporter.typing.keras import Model, Variable
from exporter.typing.structures import Nested
from exporter.verification.comparing.asked import VerificationInputs
from exporter.verification.comparing.calls import variables_kept
from exporter.verification.comparing.comparisons import compare_outputs, find_unsteady, leave_unproven
from exporter.verification.comparing.facts import describe_variables, find_revived, read_values

TRAINING_STEP = "training step"


@dataclass(frozen=True, slots=True)
class Step:
    """A training step that the model took.

    Attributes:
        is_eager: Whether Python ran it, operation by operation.
        variables: What it made of them: see `describe_variables`.
        values: The values of some, by their paths.
    """

    is_eager: bool
    variables: Mapping[str, Any]
    values: Mapping[str, Array]


class Reference:
    """The model, and how both it and its artifact are asked.

    Attributes:
        model: The model.
        staged: The artifact.
        inputs: What both are asked.
        mode: Of the verification.
        include_optimizer: Whether the optimizer was saved.
        missing_code: Which code another process cannot have, in words; empty where it can have all.
        has_endpoints: Whether the artifact has endpoints.
        opens_in_keras: Whether it holds what stock Keras reads.
        may_trace: Whether the model may be run in a graph.
        is_eager: Whether Python runs both, operation by operation.
        seed: Of the generators that belong to no model. The model was made with another.
        seeds_operations: Whether TensorFlow's random operations are seeded, too.
        random: The outputs that are drawn anew for each answer.
        answers: What the model answers to each batch, in its own structure.
    """

    def __init__(
        self,
        model: Model,
        staged: Path,
        inputs: VerificationInputs,
        *,
        mode: VerifyMode,
        include_optimizer: bool,
        missing_code: str = "",
    ) -> None:
        self.model = model
        self.staged = staged
        self.inputs = inputs
        self.mode = mode
        self.include_optimizer = include_optimizer
        self.missing_code = missing_code
        saved = find_format(staged)
        self.has_endpoints = saved is not None and saved.holds_endpoints
        is_for_keras = saved is not None and KERAS in saved.readers
        self.opens_in_keras = is_for_keras and (not staged.is_dir() or (staged / CONFIG).is_file())
        # A model that is run eagerly may hold Python code that cannot be traced; a SavedModel was traced already.
        self.may_trace = self.has_endpoints or not model.run_eagerly
        self.is_eager = mode is VerifyMode.FULL or not self.may_trace
        self.seed = choose_seed()
        self.seeds_operations = is_op_determinism_enabled()  # TensorFlow refuses random ones without a seed
        self.random: tuple[str, ...] = ()
        self.answers: list[Nested[Array]] = []

    @property
    def way(self) -> str:
        """How both are run, in a word."""
        return "eager" if self.is_eager else "graph"

    @property
    def largest(self) -> int:
        """The number of the largest batch."""
        batches = self.inputs.batches
        return max(range(len(batches)), key=lambda number: len(batches[number][0]))

    def describe_run(self) -> dict[str, object]:
        """Says as plain data how the artifact's model shall be run: as this one is."""
        return {"eager": self.is_eager, "seed": self.seed, "operations": self.seeds_operations}

    def seeded(self, seed: int | None = None) -> AbstractContextManager[None]:
        """Seeds the generators of the process, and puts them back."""
        return generators_seeded(self.seed if seed is None else seed, self.seeds_operations)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Puts back what a training step changes, also where only the saved functions of a model know of it."""
        functions = [endpoint.function for endpoint in self.inputs.endpoints if endpoint.function is not None]
        variables = [variable for function in functions for variable in find_captured(function, tf.Variable)]
        with preserve_model(self.model), variables_kept(variables):
            yield

    def ask(self) -> None:
        """Asks the model each batch, and the largest one twice: what it answers may be drawn anew each time.

        Raises:
            ModelError: The model takes none of the batches that were drawn for it.
            UsageError: It does not take the one that the user named.
        """
        try:
            self.answers = self._answer(self.inputs.batches)
        except ExporterError:
            raise
        except Exception as error:  # the code may be anybody's, and run in a graph only
            if not self.is_eager or not self.may_trace:
                raise self._explain_refusal(error) from error
            self._run_in_graphs()
            return
        [again] = self._answer([self.inputs.batches[self.largest]], self.seed + 1)
        self.random = find_unsteady(self._name([self.answers[self.largest]]), self._name([again]))
        # What is traced under a seed keeps it, and would answer the same for ever, where the saved functions do not.
        if self.random and not self.seeds_operations and self.is_eager:
            self.seeds_operations = True
            self.answers = self._answer(self.inputs.batches)

    def _explain_refusal(self, error: Exception) -> ExportError | UsageError:
        text = describe_failure(error)
        if self.inputs.data is not None:
            return UsageError(
                [Fault("verify.data", f"the model does not take the arrays of '{self.inputs.data}': {text}")]
            )
        return ModelError(
            f"The model takes no batch that was drawn to verify it, and nothing was published. {text}",
            f"It says that it takes: {format_leaves(self.inputs.takes.leaves)}.",
            "Name an .npz file with an array for each of these, which the model takes, in `verify.data`, or publish "
            "without a proof: verify=none.",
        )

    def adapt(self, revived: Collection[str]) -> None:
        """Asks the model in graphs where layers of the artifact's live on as saved functions, and its own do not.

        Args:
            revived: The addresses of those layers.
        """
        if self.is_eager and self.may_trace and set(revived) != set(find_revived(self.model)):
            # Saved functions give other last bits than the same operations one by one.
            self._run_in_graphs()

    def _run_in_graphs(self) -> None:
        self.is_eager = False
        self.seeds_operations = is_op_determinism_enabled()
        self.ask()

    def in_graphs(self) -> "Reference":
        """Returns the same that is run in graphs, and was not asked yet."""
        other = Reference(
            self.model,
            self.staged,
            self.inputs,
            mode=self.mode,
            include_optimizer=self.include_optimizer,
            missing_code=self.missing_code,
        )
        other.is_eager = False
        return other

    def name_answers(self) -> dict[str, Array]:
        """Returns the answers as arrays: `<batch>/<output>` -> array."""
        return self._name(self.answers)

    def list_output_names(self) -> list[str]:
        """Lists the names of the outputs in their order, once the model was asked."""
        return list(name_outputs(self.model, self.answers[0])) if self.answers else []

    def ask_again(self) -> dict[str, Array]:
        """Asks the model once more, with another seed; returns as `name_answers` does."""
        return self._name(self._answer(self.inputs.batches, self.seed + 1))

    def _answer(self, batches: Sequence[Sequence[Array]], seed: int | None = None) -> list[Nested[Array]]:
        eager = Predictor(self.model, self.inputs.takes, eager=True)
        predictor = eager if self.is_eager else self.inputs.predictor
        answers = []
        with kept_to_its_weights(self.model):
            for batch in batches:
                with self.seeded(seed):
                    answers.append(predictor.answer(batch))
        return answers

    def _name(self, answers: Sequence[Nested[Array]]) -> dict[str, Array]:
        return {
            f"{number}/{name}": array
            for number, answer in enumerate(answers)
            for name, array in name_outputs(self.model, answer).items()
        }

    def judge(
        self,
        name: str,
        received: Mapping[str, Array],
        expected: Mapping[str, Array],
        detail: str,
        ask_again: Callable[[], Mapping[str, Array]],
    ) -> Check | Omission:
        """Compares answers; where the model's own differ from each other, all but those.

        Args:
            name: Of the check.
            received: `<batch>/<output>` -> array.
            expected: What should be the same.
            detail: What was asked.
            ask_again: Asks the model a second time, with another seed.
        """
        note = ", generators seeded" if self.random else ""
        check = compare_outputs(name, received, expected, f"{detail}{note}")
        if check.passed:
            return check
        unsteady = find_unsteady(expected, ask_again())
        rest = compare_outputs(name, received, expected, detail, unsteady)
        if not unsteady or not rest.passed:
            return rest if unsteady else replace(check, detail=detail)
        if {key.split("/", 1)[1] for key in expected} <= set(unsteady):
            why = "called twice from the same state, it answers differently, which leaves nothing to compare with"
            return leave_unproven(name, f"{why}; the artifact's: {check.figure}")
        return replace(rest, detail=f"{detail}; without what is random: {list_first(unsteady)}")

    @cached_property
    def training_batch(self) -> TrainingBatch | Check | Omission:
        """The batch for a training step, or why there is no step to take."""
        if not self.model.compiled:
            return Check(TRAINING_STEP, True, "none to take", "the model is not compiled", kind=CheckKind.TRAINING)
        if not self.include_optimizer:
            return Check(TRAINING_STEP, True, "none to take", "include_optimizer is false", kind=CheckKind.TRAINING)
        inputs, largest = self.inputs, self.largest
        batch, answer = inputs.batches[largest], self.answers[largest]
        try:
            return make_batch(self.model, inputs.takes, batch, answer, inputs.seed, inputs.targets, inputs.data)
        except UndrawableError as error:
            return self.leave_step_out(f"no batch could be drawn for the model, since {error}")

    @cached_property
    def first_step(self) -> Step | Omission:
        """What the step makes of the variables, eagerly where that can be; or why the model cannot take it."""
        ways = [self.is_eager] if not self.is_eager or not self.may_trace else [True, False]
        for is_eager in ways:
            try:
                return self.take_step(is_eager)
            except Exception as error:  # the loss and the step may be anybody's code
                failure = error
        text = describe_failure(failure)
        if self.inputs.targets:
            message = f"the model cannot be trained on the arrays of '{self.inputs.data}': {text}"
            raise UsageError([Fault("verify.data", message)]) from failure
        return self.leave_step_out(f"the model takes none on a batch that was drawn for it: {text}")

    def take_step(self, is_eager: bool, paths: Sequence[str] = ()) -> Step | Omission:
        """Takes the step.

        Args:
            is_eager: Whether Python runs it, operation by operation.
            paths: Of the variables whose values are wanted.
        """
        batch = self.training_batch
        if not isinstance(batch, TrainingBatch):
            raise TypeError("there is no step to take")
        with self.kept(), self.seeded():
            take_step(self.model, batch.specs, batch.arrays, is_eager)
            spoiled = [variable.path for variable in self.model.trainable_variables if _has_missing(variable)]
            stepped = describe_variables(self.model)
            values = {path: array.copy() for path, array in read_values(self.model, paths).items()}
        if spoiled:  # nothing can be told from them: every NaN is like any other
            return self.leave_step_out(f"after one step on this batch these weights contain NaN: {list_first(spoiled)}")
        return Step(is_eager, stepped, values)

    def leave_step_out(self, why: str, data_helps: bool = True) -> Omission:
        """Says why the step is not compared, with the remedy where a file of data is one."""
        remedy = "; name a batch with its targets in `verify.data`" if data_helps and not self.inputs.targets else ""
        return leave_unproven(f"a {TRAINING_STEP}", f"{why}{remedy}")


def _has_missing(variable: Variable) -> bool:
    return bool(np.isnan(to_array(variable).astype(np.float32)).any())
