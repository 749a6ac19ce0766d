"""The proof: a fresh process loads what was written and is compared with the model that it was made from.

The model is only read. Its predictions, its state and its endpoints are computed here; the other side of the
comparison comes from `prover.py`.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.artifacts.records import Check, Loading
from exporter.config import VerifyMode
from exporter.errors import Fault, ProofError, UsageError
from exporter.models.endpoints.served_tensors import flatten_leaves
from exporter.models.predictions import Predictor
from exporter.models.randomness import choose_seed, generators_seeded, has_accelerator, operations_deterministic
from exporter.models.training_data import TrainingBatch, UndrawableError, make_batch
from exporter.models.training_steps import everything_kept, take_step, warnings_kept_back
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.fresh_process import FreshProcess, wait_seconds
from exporter.saving.contents import LeftOut
from exporter.saving.graph.signatures import InputLeaf, Inputs, find_captured, name_outputs
from exporter.saving.layout.names import CONFIG
from exporter.saving.private_api import is_op_determinism_enabled
from exporter.saving.rebuilding.compilation import ARGUMENTS
from exporter.saving.state.collecting import to_array
from exporter.saving.state.kinds import Kind, find_kind
from exporter.saving.state.replicas import on_one_device
from exporter.text.showing import find_first_line, list_first
from exporter.verification.checks.usage import CALLS, EVALUATE, PREDICT, call_as_user, call_method
from exporter.verification.comparing.asked import EndpointInputs, MethodInputs, VerificationInputs
from exporter.verification.comparing.calls import call_endpoint, variables_kept
from exporter.verification.comparing.comparisons import (
    check_equal,
    check_signatures,
    check_variables,
    compare_outputs,
    compare_states,
    find_unsteady,
    measure_difference,
)
from exporter.verification.comparing.facts import describe_model, describe_variables, read_values
from exporter.verification.custom_objects import find_needs

_TRAINING_STEP = "training step"


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What a proof found.

    Attributes:
        checks: Every comparison, in order; all passed.
        left_out: What the artifact turned out not to hold for readers other than ours.
        loading: With what the fresh process loaded it.
    """

    checks: tuple[Check, ...]
    left_out: tuple[LeftOut, ...]
    loading: Loading = field(default_factory=Loading)


def warm_up(process: FreshProcess) -> None:
    """Lets the fresh process begin a new artifact and make its devices, with as many threads as this one.

    Args:
        process: The fresh process; it may have proven other artifacts before, of which nothing is left.
    """
    process.begin()
    process.tell(
        "start",
        threads=[
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ],
        deterministic=has_accelerator(),
    )


def verify(
    process: FreshProcess,
    model: keras.Model,
    staged: Path,
    inputs: VerificationInputs,
    *,
    mode: VerifyMode,
    include_optimizer: bool,
    tags: Sequence[str] = (),
    safe_mode: bool = False,
) -> VerificationResult:
    """Proves that a staged artifact is the model.

    Args:
        process: The fresh process, warmed up.
        model: The model that the artifact was made from; it is not changed.
        staged: The artifact.
        inputs: The batches to compare on.
        mode: `full` or `reload`.
        include_optimizer: Whether the optimizer was saved.
        tags: Of the SavedModel's graph, beside `serve`.
        safe_mode: Whether code inside the artifact is refused.

    Returns:
        The checks, all of which passed.

    Raises:
        ProofError: At least one check failed; the message names each with its figure.
        ExportError: The fresh process died or did not answer.
    """
    with (
        on_one_device(model),  # as the other process has it
        everything_kept(model),
        warnings_kept_back(),
        operations_deterministic(has_accelerator()),
        tempfile.TemporaryDirectory(prefix="exporter-proof-") as exchange,
    ):
        session = _Session(process, model, staged, inputs, Path(exchange), include_optimizer, safe_mode)
        checks, left_out = session.reload() if mode is VerifyMode.RELOAD else session.compare(tags)
    failed = [check for check in checks if not check.passed]
    if failed:
        raise ProofError(
            f"The artifact that was written is not the same model: {len(failed)} of {len(checks)} checks failed, and "
            "nothing was published.",
            *(f"  {check.name}: {check.figure}; {check.detail}" for check in failed),
            "Please report it with the model; `verify=none` publishes without a proof.",
            checks=checks,
        )
    return VerificationResult(tuple(checks), tuple(left_out), session.loading)


@dataclass(frozen=True, slots=True)
class _Step:
    """A training step that the model took.

    Attributes:
        is_eager: Whether Python ran it, operation by operation.
        variables: What it made of them: see `describe_variables`.
        values: The values of some, by their paths.
    """

    is_eager: bool
    variables: Mapping[str, Any]
    values: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a method of the model's own did.

    Attributes:
        returned: See `exporter.verification.checks.usage.call_method`, as the first batch.
        variables: Those of the model afterwards: see `describe_variables`.
    """

    returned: Mapping[str, Array]
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Use:
    """A call as users make it: see `exporter.verification.checks.usage.call_as_user`."""

    method: str
    specs: Inputs
    arrays: tuple[Array, ...]


class _Session:
    """One proof: the requests are sent ahead, and this side computes its half while the other loads."""

    def __init__(
        self,
        process: FreshProcess,
        model: keras.Model,
        staged: Path,
        inputs: VerificationInputs,
        exchange: Path,
        include_optimizer: bool,
        safe_mode: bool,
    ) -> None:
        self._safe_mode = safe_mode
        self._process = process
        self._model = model
        self._staged = staged.absolute()  # the fresh process works in another directory
        self._inputs = inputs
        self._exchange = exchange
        self._include_optimizer = include_optimizer
        self._timeout = wait_seconds(_measure(staged))
        self._is_saved_model = staged.is_dir()
        # A model that is run eagerly may hold Python code that cannot be traced; a SavedModel was traced already.
        self._may_trace = self._is_saved_model or not model.run_eagerly
        self._is_eager = True
        # Of the generators that belong to no model. The model was made with another: see `VerificationWorker.open`.
        self._seed = choose_seed()
        self._random: tuple[str, ...] = ()  # the outputs that are drawn anew for each answer
        self._seeds_operations = is_op_determinism_enabled()  # TensorFlow refuses random ones without a seed
        self._needs = find_needs(model)
        self._opens_safely = safe_mode or self._needs.safe_mode
        self._loading = self._needs.to_loading()

    @property
    def loading(self) -> Loading:
        """With what the fresh process loaded the artifact."""
        return self._loading

    def reload(self) -> tuple[list[Check], list[LeftOut]]:
        """Loads and predicts; nothing is compared."""
        self._is_eager = not self._may_trace
        self._send_batches()
        self._send_open("exporter")
        loaded = self._check_load(self._receive_opened())
        if not loaded.passed:
            return [loaded], []
        self._send_predict("predicted")
        predicted = self._receive("predict")
        if "error" in predicted:
            return [loaded, Check("predictions", False, "the loaded model cannot predict", predicted["error"])], []
        return [loaded, Check("predictions", True, "predicted, not compared", self._inputs.origin)], []

    def compare(self, tags: Sequence[str]) -> tuple[list[Check], list[LeftOut]]:
        """Compares everything."""
        self._send_batches()
        self._send_open("exporter")
        facts = describe_model(self._model, self._include_optimizer)
        answers = self._ask_model()
        opened = self._receive_opened()
        loaded = self._check_load(opened)
        if not loaded.passed:
            return [loaded], []
        if self._is_eager and self._may_trace and set(opened["revived"]) != set(facts["revived"]):
            # Saved functions give other last bits than the same operations one by one.
            self._is_eager = False
            answers = self._ask_model()
        reference = self._name_answers(answers)
        step = self._plan_step(answers)
        endpoints = [endpoint for endpoint in self._inputs.endpoints if endpoint.batches] * self._is_saved_model
        has_twin = not self._is_saved_model or (self._staged / CONFIG).is_file()

        self._process.send("describe", include_optimizer=True)
        self._send_predict("predicted")
        uses = list(self._plan_uses(step))
        methods = self._inputs.methods * self._is_saved_model
        for use in uses:
            self._send_use(use)
        for number, method in enumerate(methods):
            self._send_call(method, number)
        if isinstance(step, TrainingBatch):
            self._send_train(step, self._is_eager)
        if has_twin:
            self._send_open("keras")
            self._send_predict("stock", [self._find_largest()])
        for number, endpoint in enumerate(endpoints):
            self._send_serve(endpoint, number, tags)
        expected = self._take_step(step) if isinstance(step, TrainingBatch) else None
        # A batch that the model cannot be trained on is none to evaluate it on.
        used = [
            None if use.method == EVALUATE and isinstance(expected, LeftOut) else self._try_use(use) for use in uses
        ]
        called = [self._try_call(method) for method in methods]
        asked = [self._try_endpoint(endpoint) for endpoint in endpoints]

        described, predicted = self._receive("describe"), self._receive("predict")
        use_replies = [self._receive("use") for _ in uses]
        call_replies = [self._receive("call") for _ in methods]
        trained = self._receive("train") if isinstance(step, TrainingBatch) else {}
        stock = [self._receive("open"), self._receive("predict")] if has_twin else []
        served = [self._receive("serve") for _ in endpoints]
        if "error" in predicted and self._is_eager and self._may_trace:
            self._is_eager = False
            return self.compare(tags)

        outcomes: list[Check | LeftOut] = [loaded, self._check_predictions(predicted, reference)]
        outcomes += self._check_state(facts, described)
        outcomes += [
            self._check_use(use, ours, reply)
            for use, ours, reply in zip(uses, used, use_replies, strict=True)
            if ours is not None
        ]
        outcomes += [
            self._check_call(*entry) for entry in zip(methods, called, range(len(methods)), call_replies, strict=True)
        ]
        outcomes.append(self._check_step(step, expected, trained) if isinstance(step, TrainingBatch) else step)
        if self._is_saved_model:
            predictor = self._inputs.predictor
            declared = {endpoint.name: endpoint.describe(predictor) for endpoint in self._inputs.endpoints}
            outcomes.append(check_signatures(self._staged, declared))
            outcomes += [
                LeftOut(f"proof of endpoint {endpoint.name}", endpoint.why_none, intended=True)
                for endpoint in self._inputs.endpoints
                if not endpoint.batches
            ]
        outcomes += [
            self._check_endpoint(*entry) for entry in zip(endpoints, asked, range(len(served)), served, strict=True)
        ]
        if stock:
            outcomes.append(self._check_stock(stock[0], stock[1], reference))
        return (
            [outcome for outcome in outcomes if isinstance(outcome, Check)],
            [outcome for outcome in outcomes if isinstance(outcome, LeftOut)],
        )

    @property
    def _way(self) -> str:
        return "eager" if self._is_eager else "graph"

    def _ask_model(self) -> list[Any]:
        """Asks the model each batch, and the largest one twice: what it answers may be drawn anew each time."""
        try:
            answers = self._answer(self._inputs.batches)
        except Exception:  # the code may be anybody's, and run in a graph only
            if not self._is_eager or not self._may_trace:
                raise
            self._is_eager = False
            answers = self._answer(self._inputs.batches)
        number = self._find_largest()
        [again] = self._answer([self._inputs.batches[number]], self._seed + 1)
        self._random = find_unsteady(self._name_answers([answers[number]]), self._name_answers([again]))
        if not self._random or self._seeds_operations:
            return answers
        self._seeds_operations = True
        return self._answer(self._inputs.batches)

    def _answer(self, batches: Sequence[Sequence[Array]], seed: int | None = None) -> list[Any]:
        eager = Predictor(self._model, self._inputs.takes, eager=True)
        predictor = eager if self._is_eager else self._inputs.predictor
        answers = []
        for batch in batches:
            with self._seeded(seed):
                answers.append(predictor.answer(batch))
        return answers

    def _name_answers(self, answers: Sequence[Any]) -> dict[str, Array]:
        return {
            f"{number}/{name}": array
            for number, answer in enumerate(answers)
            for name, array in name_outputs(self._model, answer).items()
        }

    def _seeded(self, seed: int | None = None) -> AbstractContextManager[None]:
        return generators_seeded(self._seed if seed is None else seed, self._seeds_operations)

    def _find_largest(self) -> int:
        batches = self._inputs.batches
        return max(range(len(batches)), key=lambda number: len(batches[number][0]))

    def _plan_step(self, answers: Sequence[Any]) -> TrainingBatch | Check | LeftOut:
        """Makes the batch for the training step, or says why there is none to take."""
        if not self._model.compiled:
            return Check(_TRAINING_STEP, True, "none to take", "the model is not compiled")
        if not self._include_optimizer:
            return Check(_TRAINING_STEP, True, "none to take", "include_optimizer is false")
        inputs = self._inputs
        largest = self._find_largest()
        try:
            return make_batch(
                self._model,
                inputs.takes,
                inputs.batches[largest],
                answers[largest],
                inputs.seed,
                inputs.targets,
                inputs.data,
            )
        except UndrawableError as error:
            return self._leave_step_out(f"no batch could be drawn for the model, since {error}")

    def _leave_step_out(self, why: str, data_helps: bool = True) -> LeftOut:
        remedy = "; name a batch with its targets in `verify.data`" if data_helps and not self._inputs.targets else ""
        return LeftOut(f"proof of a {_TRAINING_STEP}", f"{why}{remedy}", intended=True)

    def _take_step(self, batch: TrainingBatch) -> _Step | LeftOut:
        """Takes the step with the model and returns what it made of the variables; the model stays as it was."""
        ways = [self._is_eager] if not self._is_eager or not self._may_trace else [True, False]
        for is_eager in ways:
            try:
                return self._step(batch, is_eager)
            except Exception as error:  # the loss and the step may be anybody's code
                failure = error
        text = f"{type(failure).__name__}: {find_first_line(failure)}"
        if self._inputs.targets:
            message = f"the model cannot be trained on the arrays of '{self._inputs.data}': {text}"
            raise UsageError([Fault("verify.data", message)]) from failure
        return self._leave_step_out(f"the model takes none on a batch that was drawn for it: {text}")

    def _step(self, batch: TrainingBatch, is_eager: bool, paths: Sequence[str] = ()) -> _Step | LeftOut:
        with self._kept(), self._seeded():
            take_step(self._model, batch.specs, batch.arrays, is_eager)
            spoiled = [variable.path for variable in self._model.trainable_variables if _has_missing(variable)]
            stepped = describe_variables(self._model)
            values = {path: array.copy() for path, array in read_values(self._model, paths).items()}
        if spoiled:  # nothing can be told from them: every NaN is like any other
            return self._leave_step_out(
                f"after one step on this batch these weights contain NaN: {list_first(spoiled)}"
            )
        return _Step(is_eager, stepped, values)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Puts back what a training step changes, also where only the saved functions of a model know of it."""
        functions = [endpoint.function for endpoint in self._inputs.endpoints if endpoint.function is not None]
        variables = [variable for function in functions for variable in find_captured(function, tf.Variable)]
        with everything_kept(self._model), variables_kept(variables):
            yield

    def _check_step(
        self, batch: TrainingBatch, expected: _Step | LeftOut | None, reply: Mapping[str, Any]
    ) -> Check | LeftOut:
        if not isinstance(expected, _Step):
            return expected or self._leave_step_out("none was taken")
        if self._is_eager and (not expected.is_eager or ("error" in reply and self._may_trace)):
            expected, reply, _ = self._repeat_step(batch, is_eager=False)
            if isinstance(expected, LeftOut):
                return expected
        if "error" in reply:
            return Check(_TRAINING_STEP, False, "the loaded model cannot be trained", reply["error"])
        received = reply["variables"]
        paths = list(dict.fromkeys((*expected.variables, *received)))
        changed = changed_at_first = _find_changed(expected.variables, received)
        differences: dict[str, float | None] = {}
        if changed:
            self._seeds_operations = True
            again, reply, theirs = self._repeat_step(batch, expected.is_eager, changed)
            if isinstance(again, LeftOut) or "error" in reply:
                return check_variables(_TRAINING_STEP, paths, expected.variables, received, {})
            unsteady = {path for path in changed if again.variables.get(path) != expected.variables[path]}
            unsteady |= {path for path in changed if reply["variables"].get(path) != received[path]}
            differences = {
                path: measure_difference(again.values[path], theirs[path])
                for path in changed
                if path in again.values and path in theirs
            }
            expected, received = again, reply["variables"]
            changed = _find_changed(expected.variables, received)
            if changed and unsteady >= set(changed):
                measured = [difference for path in changed if (difference := differences.get(path)) is not None]
                furthest = f"; the artifact's differs by up to {max(measured):.3g}" if measured else ""
                return self._leave_step_out(
                    f"the same step from the same state differs from itself in {len(unsteady)} of {len(paths)} tensors "
                    f"and leaves nothing to compare with{furthest}",
                    data_helps=False,
                )
        check = check_variables(_TRAINING_STEP, paths, expected.variables, received, differences)
        way = "eager" if expected.is_eager else "graph"
        note = ", generators seeded" if changed_at_first or self._random else ""
        detail = f"1 {way} step, batch of {batch.size}, {check.detail}{note}"
        return replace(check, detail=detail) if check.passed else check

    def _repeat_step(
        self, batch: TrainingBatch, is_eager: bool, paths: Sequence[str] = ()
    ) -> tuple[_Step | LeftOut, dict[str, Any], dict[str, Array]]:
        """Takes the step once more on both sides.

        Returns:
            What it made of the variables on this side; the reply of the other; and the values of `paths` there.
        """
        self._send_open("exporter")
        self._send_train(batch, is_eager)
        file = self._exchange / "values"
        self._process.send("values", paths=paths, include_optimizer=True, values=str(file))
        again = self._step(batch, is_eager, paths)
        opened, trained, read = [self._receive(request) for request in ("open", "train", "values")]
        failed = next((reply for reply in (opened, trained, read) if "error" in reply), None)
        return again, failed or trained, {} if failed else read_arrays(file)

    def _plan_uses(self, step: Any) -> Iterator[_Use]:
        """Lists what is called as users call it."""
        inputs, largest = self._inputs, self._find_largest()
        if len(inputs.takes.structure) == 1:  # else a call takes more than the one argument that `predict` passes
            yield _Use(PREDICT, inputs.takes, inputs.batches[largest])
        if isinstance(step, TrainingBatch):
            yield _Use(EVALUATE, step.specs, step.arrays)

    def _use(self, use: _Use, seed: int | None = None) -> dict[str, Array]:
        with self._kept(), self._seeded(seed):
            found = call_as_user(self._model, use.method, use.specs, use.arrays, self._is_eager)
        return {f"0/{name}": array for name, array in found.items()}

    def _try_use(self, use: _Use) -> dict[str, Array] | LeftOut:
        try:
            return self._use(use)
        except Exception as error:  # the step may be anybody's code
            why = f"the model itself cannot do it on this batch: {type(error).__name__}: {find_first_line(error)}"
            return LeftOut(f"proof of {use.method}", why, intended=True)

    def _check_use(self, use: _Use, expected: dict[str, Array] | LeftOut, reply: Mapping[str, Any]) -> Check | LeftOut:
        if isinstance(expected, LeftOut):
            return expected
        if "error" in reply:
            return Check(use.method, False, f"the loaded model's `{use.method}` fails", reply["error"])
        size = next((len(array) for array in use.arrays if array.ndim), 1)
        detail = f"model.{CALLS[use.method]}, batch of {size}, {self._way}"
        received = read_arrays(self._exchange / f"used-{use.method}")
        return self._judge(use.method, received, expected, detail, lambda: self._use(use, self._seed + 1))

    def _call(self, inputs: MethodInputs, seed: int | None = None) -> _Answer:
        with self._kept(), self._seeded(seed):
            found = call_method(
                self._model, inputs.method, inputs.keywords, inputs.takes, inputs.arrays, self._is_eager
            )
            variables = describe_variables(self._model)
        return _Answer({f"0/{name}": array for name, array in (found or {}).items()}, variables)

    def _try_call(self, inputs: MethodInputs) -> _Answer | LeftOut:
        try:
            return self._call(inputs)
        except Exception as error:  # the method may be anybody's code
            why = f"the model itself cannot do it on this batch: {type(error).__name__}: {find_first_line(error)}"
            return LeftOut(f"proof of method {inputs.method}", why, intended=True)

    def _check_call(
        self, inputs: MethodInputs, expected: _Answer | LeftOut, number: int, reply: Mapping[str, Any]
    ) -> Check | LeftOut:
        name = f"method {inputs.method}"
        if isinstance(expected, LeftOut):
            return expected
        if "error" in reply:
            return Check(name, False, f"the loaded model's method `{inputs.method}` fails", reply["error"])
        if not reply["has"]:
            why = "the model that is loaded has no such method: its code is not at hand there; the endpoint holds it"
            return LeftOut(name, why)
        received = read_arrays(self._exchange / f"called-{number}")
        detail = f"model.{inputs.method}, {self._way}"
        again = cache(lambda: self._call(inputs, self._seed + 1))
        outcome = self._judge(name, received, expected.returned, detail, lambda: again().returned)
        changed = _find_changed(expected.variables, reply["variables"])
        if changed and isinstance(outcome, Check) and outcome.passed:
            steady = [path for path in changed if again().variables.get(path) == expected.variables[path]]
            if steady:
                return check_variables(name, steady, expected.variables, reply["variables"], {})
        return outcome

    def _judge(
        self,
        name: str,
        received: Mapping[str, Array],
        expected: Mapping[str, Array],
        detail: str,
        ask_again: Callable[[], Mapping[str, Array]],
    ) -> Check | LeftOut:
        """Compares answers; where the model's own differ from each other, all but those."""
        note = ", generators seeded" if self._random else ""
        check = compare_outputs(name, received, expected, f"{detail}{note}")
        if check.passed:
            return check
        unsteady = find_unsteady(expected, ask_again())
        rest = compare_outputs(name, received, expected, detail, unsteady)
        if not unsteady or not rest.passed:
            return rest if unsteady else replace(check, detail=detail)
        if {key.split("/", 1)[1] for key in expected} <= set(unsteady):
            why = "called twice from the same state, it answers differently, which leaves nothing to compare with"
            return LeftOut(f"proof of {name}", f"{why}; the artifact's: {check.figure}", intended=True)
        return replace(rest, detail=f"{detail}; without what is random: {list_first(unsteady)}")

    def _send_batches(self) -> None:
        batches = dict(enumerate(self._inputs.batches))
        _write_batches(self._exchange / "batches", self._inputs.takes, batches)

    def _send_open(self, reader: str) -> None:
        self._process.send("open", **self._describe_open(reader))

    def _describe_open(self, reader: str) -> dict[str, Any]:
        return {
            "path": str(self._staged),
            "reader": reader,
            "objects": self._needs.to_json(),
            "safe_mode": self._opens_safely,
        }

    def _send_predict(self, name: str, numbers: Sequence[int] | None = None) -> None:
        self._process.send(
            "predict",
            inputs=self._inputs.takes.to_json(),
            batches=str(self._exchange / "batches"),
            numbers=list(range(len(self._inputs.batches)) if numbers is None else numbers),
            outputs=str(self._exchange / name),
            eager=self._is_eager,
            seed=self._seed,
            operations=self._seeds_operations,
        )

    def _send_use(self, use: _Use) -> None:
        outputs = str(self._exchange / f"used-{use.method}")
        arrays = dict(zip(use.specs.leaves, use.arrays, strict=True))
        more = {"method": use.method, "outputs": outputs}
        self._send_batch("use", f"use-{use.method}", use.specs, arrays, self._is_eager, **more)

    def _send_call(self, inputs: MethodInputs, number: int) -> None:
        outputs = str(self._exchange / f"called-{number}")
        more = {"method": inputs.method, "keywords": inputs.keywords, "outputs": outputs}
        served = dict(zip(flatten_leaves(inputs.takes.leaves), inputs.arrays, strict=True))
        self._send_batch("call", f"call-{number}", inputs.takes, served, self._is_eager, **more)

    def _send_train(self, batch: TrainingBatch, is_eager: bool) -> None:
        arrays = dict(zip(batch.specs.leaves, batch.arrays, strict=True))
        self._send_batch("train", "training", batch.specs, arrays, is_eager)

    def _send_batch(
        self, request: str, name: str, specs: Inputs, arrays: Mapping[InputLeaf, Array], is_eager: bool, **more: Any
    ) -> None:
        """Sends a request about one batch, which is written to a file of that name."""
        file = self._exchange / name
        write_arrays(file, {f"0/{leaf.name}": array for leaf, array in arrays.items()})
        self._process.send(
            request,
            specs=specs.to_json(),
            batch=str(file),
            eager=is_eager,
            seed=self._seed,
            operations=self._seeds_operations,
            **more,
        )

    def _send_serve(self, endpoint: EndpointInputs, number: int, tags: Sequence[str]) -> None:
        batches = self._exchange / f"batches-{number}"
        _write_batches(batches, endpoint.inputs, dict(enumerate(endpoint.batches)))
        self._process.send(
            "serve",
            path=str(self._staged),
            tags=["serve", *tags],
            endpoint=endpoint.name,
            inputs=endpoint.inputs.to_json(),
            batches=str(batches),
            count=len(endpoint.batches),
            outputs=str(self._exchange / f"served-{number}"),
            moves_state=endpoint.moves_state,
            safe_mode=self._safe_mode,
        )

    def _receive(self, request: str) -> dict[str, Any]:
        return self._process.receive(request, self._timeout)

    def _receive_opened(self) -> dict[str, Any]:
        """Waits for the loaded model, and has it loaded once more where it holds code of its maker."""
        opened = self._receive("open")
        if "error" in opened and self._opens_safely and not self._safe_mode:
            self._opens_safely = False
            again = self._process.ask("open", self._timeout, **self._describe_open("exporter"))
            return opened if "error" in again else again
        return opened

    def _check_load(self, reply: Mapping[str, Any]) -> Check:
        if "error" not in reply:
            self._loading = replace(self._needs.to_loading(reply["imported"]), safe_mode=self._opens_safely)
            return Check("load", True, reply["class_name"], "exporter.load_model in a fresh process")
        own = self._needs.unreachable
        hint = (
            f" The main script defines {', '.join(own)}, which another process cannot import. Move this code to a "
            "module, and import it from there."
            if own
            else ""
        )
        return Check("load", False, "the artifact cannot be loaded", f"{reply['error']}{hint}")

    def _check_predictions(self, reply: Mapping[str, Any], reference: Mapping[str, Array]) -> Check | LeftOut:
        if "error" in reply:
            return Check("predictions", False, "the loaded model cannot predict", reply["error"])
        received = read_arrays(self._exchange / "predicted")
        detail = f"{self._inputs.origin}, {self._way}"
        return self._judge("predictions", received, reference, detail, self._ask_again)

    def _ask_again(self) -> dict[str, Array]:
        return self._name_answers(self._answer(self._inputs.batches, self._seed + 1))

    def _check_state(self, facts: Mapping[str, Any], reply: Mapping[str, Any]) -> Iterator[Check]:
        if "error" in reply:
            yield Check("state", False, "the loaded model's state cannot be read", reply["error"])
            return
        expected, received = facts["variables"], reply["variables"]
        groups: dict[Kind, list[str]] = {}
        for path in dict.fromkeys((*expected, *received)):
            groups.setdefault(_find_kind(path, facts), []).append(path)
        differing = [path for path in expected if path in received and expected[path] != received[path]]
        differences = self._measure_differences(differing) if differing else {}
        for kind in Kind:
            if kind in groups:
                yield check_variables(kind, groups[kind], expected, received, differences)
        layers = f"{len(facts['trainable']) - 1} layers"  # the model itself stands among them
        revived = set(reply["revived"]) - set(facts["revived"])
        if revived:
            layers += f", {len(revived - {''})} of them revived without their code"
        # A call makes layers that hold nothing, such as those of a preprocessor, and the next call makes them again.
        fleeting = set(facts["stateless"]) - set(reply["trainable"])
        flags = {path: flag for path, flag in facts["trainable"].items() if path not in fleeting}
        yield check_equal("trainable flags", flags, reply["trainable"], layers)
        # The saved functions of a revived layer hold what its inner layers compute in; only it has a policy.
        policies = reply["dtype_policies"]
        known = {
            path: name
            for path, name in facts["dtype_policies"].items()
            if path in policies or path not in revived | fleeting
        }
        yield check_equal("dtype policies", known, policies, layers)
        if facts["acquired"] or reply["acquired"]:
            number = f"{len(facts['acquired'])} layers, adapted or quantized"
            yield check_equal("LoRA, quantization", facts["acquired"], reply["acquired"], number)
        ours, theirs = facts["compile"], reply["compile"]
        if ours and theirs and (ARGUMENTS in ours) != (ARGUMENTS in theirs):
            # A model that was revived without its code has no `compile` of its own.
            ours, theirs = ({key: each[key] for key in each if key != ARGUMENTS} for each in (ours, theirs))
        if ours is not None or theirs is not None:
            yield check_equal("compile", ours, theirs, "optimizer, loss, metrics and settings")

    def _measure_differences(self, paths: Sequence[str]) -> dict[str, float | None]:
        """Ships the tensors whose digests differ: only then it is worth the time."""
        self._send_open("exporter")
        file = self._exchange / "values"
        self._process.send("values", paths=paths, include_optimizer=True, values=str(file))
        for request in ("open", "values"):
            if "error" in self._receive(request):
                return {}
        ours, theirs = read_values(self._model, paths), read_arrays(file)
        return {path: measure_difference(ours[path], theirs[path]) for path in ours.keys() & theirs.keys()}

    def _ask_endpoint(self, endpoint: EndpointInputs) -> tuple[dict[str, Array], list[str]]:
        """Asks one of the model's own endpoints; see `call_endpoint`."""
        state: list[str] = []
        if endpoint.function is None:
            answers = [self._inputs.predictor(batch) for batch in endpoint.batches]
        else:
            answers, state = call_endpoint(endpoint.function, endpoint.inputs, endpoint.batches, endpoint.moves_state)
        return {f"{n}/{name}": array for n, answer in enumerate(answers) for name, array in answer.items()}, state

    def _try_endpoint(self, endpoint: EndpointInputs) -> tuple[dict[str, Array], list[str]] | LeftOut:
        try:
            return self._ask_endpoint(endpoint)
        except tf.errors.UnimplementedError as error:
            if not is_op_determinism_enabled():
                raise
            why = f"TensorFlow has no deterministic version of an operation in it: {find_first_line(error)}"
            return LeftOut(f"proof of endpoint {endpoint.name}", why, intended=True)

    def _check_endpoint(
        self,
        endpoint: EndpointInputs,
        asked: tuple[dict[str, Array], list[str]] | LeftOut,
        number: int,
        reply: Mapping[str, Any],
    ) -> Check | LeftOut:
        if isinstance(asked, LeftOut):
            return asked
        if "error" in reply:
            return Check(endpoint.name, False, "the endpoint cannot be called", reply["error"])
        served = read_arrays(self._exchange / f"served-{number}")
        answers, state = asked
        origin = "endpoint, tf.saved_model.load"
        outcome = self._judge(endpoint.name, served, answers, origin, lambda: self._ask_endpoint(endpoint)[0])
        if not isinstance(outcome, Check) or not outcome.passed or not endpoint.moves_state:
            return outcome
        check = compare_states(outcome, state, reply["state"])
        if check.passed or self._ask_endpoint(endpoint)[1] == state:
            return check
        why = "called twice from the same state, it changes the state differently, which leaves nothing to compare with"
        return LeftOut(f"proof of endpoint {endpoint.name}", f"{why}; the artifact's: {check.figure}", intended=True)

    def _check_stock(
        self, opened: Mapping[str, Any], predicted: Mapping[str, Any], reference: Mapping[str, Array]
    ) -> Check | LeftOut:
        # Not every state can be said in stock Keras's own layout, so this is no fault of the artifact.
        reader = "keras.models.load_model"
        if "error" in opened:
            return LeftOut("stock Keras", f"{reader}: it cannot open the artifact; {opened['error']}")
        if "error" in predicted:
            return LeftOut("stock Keras", f"{reader}: the loaded model cannot predict; {predicted['error']}")
        received = read_arrays(self._exchange / "stock")
        number = self._find_largest()
        reference = {key: array for key, array in reference.items() if key.startswith(f"{number}/")}
        outcome = self._judge("stock Keras", received, reference, reader, self._ask_again)
        if isinstance(outcome, Check) and not outcome.passed:
            return LeftOut("stock Keras", f"{reader}: {outcome.figure}; {self._inputs.origin}")
        return outcome


def _write_batches(path: Path, inputs: Inputs, batches: Mapping[int, Sequence[Array]]) -> None:
    write_arrays(
        path,
        {
            f"{number}/{leaf.name}": array
            for number, batch in batches.items()
            for leaf, array in zip(inputs.leaves, batch, strict=True)
        },
    )


def _has_missing(variable: keras.Variable) -> bool:
    return bool(np.isnan(to_array(variable).astype(np.float32)).any())


def _measure(staged: Path) -> int:
    if not staged.is_dir():
        return staged.stat().st_size
    return sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())


def _find_kind(path: str, facts: Mapping[str, Any]) -> Kind:
    return Kind.TABLES if path in facts["tables"] else find_kind(path, facts["optimizers"])


def _find_changed(expected: Mapping[str, Any], received: Mapping[str, Any]) -> list[str]:
    return [path for path in expected if path in received and expected[path] != received[path]]
