"""The proof: a fresh process loads what was written and is compared with the model that it was made from.

The model is only read. Its predictions, its state and its endpoints are computed here; the other side of the
comparison comes from `prover.py`.
"""

import tempfile
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter._arrays import Array, is_same, largest_difference, read_arrays, write_arrays
from exporter.config import VerifyMode
from exporter.errors import Fault, ProofError, UsageError
from exporter.proof.calls import call_endpoint, variables_kept
from exporter.proof.facts import describe_model, describe_variables, find_differences, read_values
from exporter.proof.fresh_process import FreshProcess, wait_seconds
from exporter.proof.predictions import Predictor
from exporter.proof.training_data import TrainingBatch, UndrawableError, make_batch
from exporter.proof.training_steps import everything_kept, take_step, warnings_kept_back
from exporter.proof.trials import EndpointTrial, Trial
from exporter.receipts import Check
from exporter.saving.contents import Endpoint, LeftOut
from exporter.saving.signatures import Inputs, find_captured, name_outputs, read_endpoints
from exporter.saving.state import to_array, walk

# How many names a failed check lists: enough to see a pattern.
_NAMES_SHOWN = 3

_TRAINING_STEP = "training step"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof found.

    Attributes:
        checks: Every comparison, in order; all passed.
        left_out: What the artifact turned out not to hold for readers other than ours.
    """

    checks: tuple[Check, ...]
    left_out: tuple[LeftOut, ...]


def warm_up(process: FreshProcess) -> None:
    """Lets the fresh process make its devices, with as many threads as this one.

    Args:
        process: The fresh process; it may have proven other artifacts before.
    """
    process.tell(
        "start",
        threads=[
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ],
    )


def prove(
    process: FreshProcess,
    model: keras.Model,
    staged: Path,
    trial: Trial,
    *,
    mode: VerifyMode,
    include_optimizer: bool,
    tags: Sequence[str] = (),
    safe_mode: bool = False,
) -> Proof:
    """Proves that a staged artifact is the model.

    Args:
        process: The fresh process, warmed up.
        model: The model that the artifact was made from; it is not changed.
        staged: The artifact.
        trial: The batches to compare on.
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
        everything_kept(model),
        warnings_kept_back(),
        tempfile.TemporaryDirectory(prefix="exporter-proof-") as exchange,
    ):
        session = _Session(process, model, staged, trial, Path(exchange), include_optimizer, safe_mode)
        checks, left_out = session.reload() if mode is VerifyMode.RELOAD else session.compare(tags)
    failed = [check for check in checks if not check.passed]
    if failed:
        lines = "\n".join(f"  {check.name}: {check.figure}; {check.detail}" for check in failed)
        raise ProofError(
            f"The artifact that was written is not the same model: {len(failed)} of {len(checks)} checks failed, and "
            f"nothing was published.\n{lines}\n"
            "Please report it with the model; `verify=none` publishes without a proof.",
            checks,
        )
    return Proof(tuple(checks), tuple(left_out))


class _Session:
    """One proof: the requests are sent ahead, and this side computes its half while the other loads."""

    def __init__(
        self,
        process: FreshProcess,
        model: keras.Model,
        staged: Path,
        trial: Trial,
        exchange: Path,
        include_optimizer: bool,
        safe_mode: bool,
    ) -> None:
        self._safe_mode = safe_mode
        self._process = process
        self._model = model
        self._staged = staged
        self._trial = trial
        self._exchange = exchange
        self._include_optimizer = include_optimizer
        self._timeout = wait_seconds(_measure(staged))
        # A model that is run eagerly may hold Python code that cannot be traced; a SavedModel was traced already.
        self._eager = bool(model.run_eagerly) and not staged.is_dir()
        self._custom_objects = list_custom_objects(model)

    def reload(self) -> tuple[list[Check], list[LeftOut]]:
        """Loads and predicts; nothing is compared."""
        self._send_batches()
        self._send_open("exporter")
        self._send_predict("predicted")
        opened, predicted = self._receive("open"), self._receive("predict")
        loaded = self._check_load(opened)
        if not loaded.passed:
            return [loaded], []
        if "error" in predicted:
            return [loaded, Check("predictions", False, "the loaded model cannot predict", predicted["error"])], []
        return [loaded, Check("predictions", True, "predicted, not compared", self._trial.origin)], []

    def compare(self, tags: Sequence[str]) -> tuple[list[Check], list[LeftOut]]:
        """Compares everything."""
        is_saved_model = self._staged.is_dir()
        twin = not is_saved_model or (self._staged / "config.json").is_file()
        predictor = Predictor(self._model, self._trial.inputs, eager=True) if self._eager else self._trial.predictor
        self._send_batches()
        self._send_open("exporter")
        self._process.send("describe", include_optimizer=True)
        self._send_predict("predicted")

        facts = describe_model(self._model, self._include_optimizer)
        answers = [predictor.answer(batch) for batch in self._trial.batches]
        reference = [name_outputs(self._model, answer) for answer in answers]
        step = self._plan_step(answers)
        if isinstance(step, TrainingBatch):
            self._send_train(step)
        endpoints = [endpoint for endpoint in self._trial.endpoints if endpoint.batches] if is_saved_model else []
        if twin:
            self._send_open("keras")
            self._send_predict("stock")
        for number, endpoint in enumerate(endpoints):
            self._send_serve(endpoint, number, tags)
        expected = self._take_step(step) if isinstance(step, TrainingBatch) else {}

        loaded = self._check_load(self._receive("open"))
        described, predicted = self._receive("describe"), self._receive("predict")
        trained = self._receive("train") if isinstance(step, TrainingBatch) else {}
        stock = [self._receive("open"), self._receive("predict")] if twin else []
        served = [self._receive("serve") for _ in endpoints]
        if not loaded.passed:
            return [loaded], []

        checks = [loaded, self._check_outputs("predictions", predicted, "predicted", reference)]
        checks += self._check_state(facts, described)
        left_out: list[LeftOut] = []
        outcome = self._check_step(step, expected, trained) if isinstance(step, TrainingBatch) else step
        if isinstance(outcome, Check):
            checks.append(outcome)
        else:
            left_out.append(outcome)
        if is_saved_model:
            declared = {endpoint.name: endpoint.describe(predictor) for endpoint in self._trial.endpoints}
            checks.append(_check_signatures(self._staged, declared))
            left_out += [
                LeftOut(f"proof of endpoint {endpoint.name}", endpoint.why_none, intended=True)
                for endpoint in self._trial.endpoints
                if not endpoint.batches
            ]
        for number, (endpoint, reply) in enumerate(zip(endpoints, served, strict=True)):
            outcome = self._check_endpoint(endpoint, number, reply, predictor)
            if isinstance(outcome, Check):
                checks.append(outcome)
            else:
                left_out.append(outcome)
        if stock:
            check = self._check_stock(stock[0], stock[1], reference)
            if check.passed:
                checks.append(check)
            else:
                # Not every state can be said in stock Keras's own layout, so this is no fault of the artifact.
                why = f"keras.models.load_model: {check.figure}; {check.detail}"
                left_out.append(LeftOut("stock Keras", why))
        return checks, left_out

    def _plan_step(self, answers: Sequence[Any]) -> TrainingBatch | Check | LeftOut:
        """Makes the batch for the training step, or says why there is none to take."""
        if not self._model.compiled:
            return Check(_TRAINING_STEP, True, "none to take", "the model is not compiled")
        if not self._include_optimizer:
            return Check(_TRAINING_STEP, True, "none to take", "include_optimizer is false")
        trial = self._trial
        largest = max(range(len(trial.batches)), key=lambda number: len(trial.batches[number][0]))
        try:
            return make_batch(
                self._model,
                trial.inputs,
                trial.batches[largest],
                answers[largest],
                trial.seed,
                trial.targets,
                trial.data,
            )
        except UndrawableError as error:
            return self._leave_step_out(f"no batch could be drawn for the model, since {error}")

    def _leave_step_out(self, why: str) -> LeftOut:
        remedy = "; name a batch with its targets in `verify.data`" if not self._trial.targets else ""
        return LeftOut(f"proof of a {_TRAINING_STEP}", f"{why}{remedy}", intended=True)

    def _take_step(self, batch: TrainingBatch) -> dict[str, Any] | LeftOut:
        """Takes the step with the model and returns what it made of the variables; the model stays as it was."""
        try:
            with self._kept():
                take_step(self._model, batch.specs, batch.arrays, self._trial.seed)
                spoiled = [variable.path for variable in self._model.trainable_variables if _has_missing(variable)]
                stepped = describe_variables(self._model)
        except Exception as error:  # the loss and the step may be anybody's code
            text = f"{type(error).__name__}: {_find_first_line(error)}"
            if self._trial.targets:
                message = f"the model cannot be trained on the arrays of '{self._trial.data}': {text}"
                raise UsageError([Fault("verify.data", message)]) from error
            return self._leave_step_out(f"the model takes none on a batch that was drawn for it: {text}")
        if spoiled:  # nothing can be told from them: every NaN is like any other
            return self._leave_step_out(
                f"after one step on this batch these weights are no numbers: {_shorten(spoiled)}"
            )
        return stepped

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Puts back what a training step changes, also where only the saved functions of a model know of it."""
        functions = [endpoint.function for endpoint in self._trial.endpoints if endpoint.function is not None]
        variables = [variable for function in functions for variable in find_captured(function, tf.Variable)]
        with everything_kept(self._model), variables_kept(variables):
            yield

    def _check_step(
        self, batch: TrainingBatch, expected: dict[str, Any] | LeftOut, reply: Mapping[str, Any]
    ) -> Check | LeftOut:
        if isinstance(expected, LeftOut):
            return expected
        if "error" in reply:
            return Check(_TRAINING_STEP, False, "the loaded model cannot be trained", reply["error"])
        received = reply["variables"]
        paths = list(dict.fromkeys((*expected, *received)))
        changed = [path for path in expected if path in received and expected[path] != received[path]]
        differences: dict[str, float | None] = {}
        if changed:
            unstable, differences = self._repeat_step(batch, changed, expected, received)
            if unstable >= set(changed):
                measured = [difference for difference in differences.values() if difference is not None]
                return self._leave_step_out(
                    f"the same step from the same state differs from itself in {len(unstable)} of {len(paths)} tensors "
                    f"and leaves nothing to compare with; the artifact's differs by up to {max(measured):.3g}"
                )
        check = _check_variables(_TRAINING_STEP, paths, expected, received, differences)
        return replace(check, detail=f"1 step, batch of {batch.size}, {check.detail}") if check.passed else check

    def _repeat_step(
        self, batch: TrainingBatch, changed: Sequence[str], expected: Mapping[str, Any], received: Mapping[str, Any]
    ) -> tuple[set[str], dict[str, float | None]]:
        """Takes the step once more on both sides.

        Returns:
            The variables of which one side made something else than before, and how far both sides are apart in
            those that `changed`.
        """
        self._send_open("exporter")
        self._send_train(batch)
        file = self._exchange / "values"
        self._process.send("values", paths=changed, include_optimizer=True, values=str(file))
        with self._kept():
            take_step(self._model, batch.specs, batch.arrays, self._trial.seed)
            again = describe_variables(self._model)
            ours = {path: array.copy() for path, array in read_values(self._model, changed).items()}
        replies = [self._receive(request) for request in ("open", "train", "values")]
        if any("error" in reply for reply in replies):
            return set(), {}
        theirs = read_arrays(file)
        unstable = {path for path in expected if again.get(path) != expected[path]}
        unstable |= {path for path in received if replies[1]["variables"].get(path) != received[path]}
        return unstable, {path: _measure_difference(ours[path], theirs[path]) for path in changed}

    def _send_batches(self) -> None:
        _write_batches(self._exchange / "batches", self._trial.inputs, self._trial.batches)

    def _send_open(self, reader: str) -> None:
        self._process.send(
            "open",
            path=str(self._staged),
            reader=reader,
            custom_objects=self._custom_objects,
            safe_mode=self._safe_mode,
        )

    def _send_predict(self, name: str) -> None:
        self._process.send(
            "predict",
            inputs=self._trial.inputs.to_json(),
            batches=str(self._exchange / "batches"),
            count=len(self._trial.batches),
            outputs=str(self._exchange / name),
            eager=self._eager,
        )

    def _send_train(self, batch: TrainingBatch) -> None:
        file = self._exchange / "training"
        _write_batches(file, batch.specs, [batch.arrays])
        self._process.send("train", specs=batch.specs.to_json(), batch=str(file), seed=self._trial.seed)

    def _send_serve(self, endpoint: EndpointTrial, number: int, tags: Sequence[str]) -> None:
        batches = self._exchange / f"batches-{number}"
        _write_batches(batches, endpoint.inputs, endpoint.batches)
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
        )

    def _receive(self, request: str) -> dict[str, Any]:
        return self._process.receive(request, self._timeout)

    def _check_load(self, reply: Mapping[str, Any]) -> Check:
        if "error" not in reply:
            return Check("load", True, reply["class_name"], "exporter.load_model in a fresh process")
        own = sorted({name for name, module, _ in self._custom_objects if module == "__main__"})
        hint = (
            f" The main script defines {', '.join(own)}, and a fresh process cannot import it: use a module for them."
            if own
            else ""
        )
        return Check("load", False, "the artifact cannot be loaded", f"{reply['error']}{hint}")

    def _check_outputs(
        self, name: str, reply: Mapping[str, Any], file: str, reference: Sequence[Mapping[str, Array]]
    ) -> Check:
        if "error" in reply:
            return Check(name, False, "the loaded model cannot predict", reply["error"])
        return _compare_outputs(name, read_arrays(self._exchange / file), reference, self._trial.origin)

    def _check_state(self, facts: Mapping[str, Any], reply: Mapping[str, Any]) -> Iterator[Check]:
        if "error" in reply:
            yield Check("state", False, "the loaded model's state cannot be read", reply["error"])
            return
        expected, received = facts["variables"], reply["variables"]
        groups: dict[str, list[str]] = {}
        for path in dict.fromkeys((*expected, *received)):
            groups.setdefault(_find_kind(path), []).append(path)
        differing = [path for path in expected if path in received and expected[path] != received[path]]
        differences = self._measure_differences(differing) if differing else {}
        for kind in ("weights", "optimizer", "random state"):
            if kind in groups:
                yield _check_variables(kind, groups[kind], expected, received, differences)
        layers = f"{len(facts['trainable']) - 1} layers"  # the model itself stands among them
        revived = set(reply["revived"]) - set(facts["revived"])
        if revived:
            layers += f", {len(revived - {''})} of them revived without their code"
        # A call makes layers that hold nothing, such as those of a preprocessor, and the next call makes them again.
        fleeting = set(facts["stateless"]) - set(reply["trainable"])
        flags = {path: flag for path, flag in facts["trainable"].items() if path not in fleeting}
        yield _check_equal("trainable flags", flags, reply["trainable"], layers)
        # The saved functions of a revived layer hold what its inner layers compute in; only it has a policy.
        policies = reply["dtype_policies"]
        known = {
            path: name
            for path, name in facts["dtype_policies"].items()
            if path in policies or path not in revived | fleeting
        }
        yield _check_equal("dtype policies", known, policies, layers)
        if facts["acquired"] or reply["acquired"]:
            number = f"{len(facts['acquired'])} layers, adapted or quantized"
            yield _check_equal("acquired", facts["acquired"], reply["acquired"], number)
        if facts["compile"] is not None or reply["compile"] is not None:
            yield _check_equal("compile", facts["compile"], reply["compile"], "optimizer, loss, metrics and settings")

    def _measure_differences(self, paths: Sequence[str]) -> dict[str, float | None]:
        """Ships the tensors whose digests differ: only then it is worth the time."""
        self._send_open("exporter")
        file = self._exchange / "values"
        self._process.send("values", paths=paths, include_optimizer=True, values=str(file))
        for request in ("open", "values"):
            if "error" in self._receive(request):
                return {}
        ours, theirs = read_values(self._model, paths), read_arrays(file)
        return {path: _measure_difference(ours[path], theirs[path]) for path in paths}

    def _check_endpoint(
        self, endpoint: EndpointTrial, number: int, reply: Mapping[str, Any], predictor: Predictor
    ) -> Check | LeftOut:
        if "error" in reply:
            return Check(endpoint.name, False, "the endpoint cannot be called", reply["error"])
        served = read_arrays(self._exchange / f"served-{number}")
        origin = "endpoint, tf.saved_model.load"
        if endpoint.function is None:
            return _compare_outputs(endpoint.name, served, [predictor(batch) for batch in endpoint.batches], origin)
        reference, state = call_endpoint(endpoint.function, endpoint.inputs, endpoint.batches, endpoint.moves_state)
        check = _compare_outputs(endpoint.name, served, reference, origin)
        if check.passed and endpoint.moves_state:
            check = _compare_states(check, state, reply["state"])
        if check.passed:
            return check
        again, state_again = call_endpoint(endpoint.function, endpoint.inputs, endpoint.batches, endpoint.moves_state)
        itself = {f"{n}/{key}": array for n, answer in enumerate(again) for key, array in answer.items()}
        if _compare_outputs(endpoint.name, itself, reference, "").passed and state == state_again:
            return check
        why = "called twice from the same state, it answers differently, which leaves nothing to compare with"
        return LeftOut(f"proof of endpoint {endpoint.name}", f"{why}; the artifact's: {check.figure}", intended=True)

    def _check_stock(
        self, opened: Mapping[str, Any], predicted: Mapping[str, Any], reference: Sequence[Mapping[str, Array]]
    ) -> Check:
        if "error" in opened:
            return Check("stock Keras", False, "it cannot open the artifact", opened["error"])
        check = self._check_outputs("stock Keras", predicted, "stock", reference)
        return replace(check, detail="keras.models.load_model") if check.passed else check


def _write_batches(path: Path, inputs: Inputs, batches: Sequence[Sequence[Array]]) -> None:
    write_arrays(
        path,
        {
            f"{number}/{leaf.name}": array
            for number, batch in enumerate(batches)
            for leaf, array in zip(inputs.leaves, batch, strict=True)
        },
    )


def _has_missing(variable: keras.Variable) -> bool:
    return bool(np.isnan(to_array(variable).astype(np.float32)).any())


def _find_first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _measure(staged: Path) -> int:
    if not staged.is_dir():
        return staged.stat().st_size
    return sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())


def _measure_difference(first: Array, second: Array) -> float | None:
    return largest_difference(first, second) if first.shape == second.shape else None


def _find_kind(path: str) -> str:
    if path.split("/")[0] == "optimizer":
        return "optimizer"
    return "random state" if "seed_generators" in path.split("/") else "weights"


def _check_variables(
    kind: str,
    paths: Sequence[str],
    expected: Mapping[str, Sequence[Any]],
    received: Mapping[str, Sequence[Any]],
    differences: Mapping[str, float | None],
) -> Check:
    missing = [path for path in paths if path not in received]
    added = [path for path in paths if path not in expected]
    changed = [path for path in paths if path in expected and path in received and expected[path] != received[path]]
    count = f"{len(paths)} tensor{'s' if len(paths) != 1 else ''}"
    if not (missing or added or changed):
        return Check(kind, True, "bit-equal", count, difference=0.0)
    faults = {"missing": missing, "added": added, "changed": changed}
    figures = [f"{len(found)} {word}" for word, found in faults.items() if found]
    measured = [difference for path in changed if (difference := differences.get(path)) is not None]
    if measured:
        figures.append(f"largest difference {max(measured):.3g}")
    names = _shorten([*missing, *added, *changed])
    return Check(kind, False, f"of {count}, {', '.join(figures)}", names, difference=max(measured, default=None))


def _check_equal(name: str, expected: Any, received: Any, detail: str) -> Check:
    differences = find_differences(expected, received)
    if not differences:
        return Check(name, True, "equal", detail)
    plural = "s" if len(differences) != 1 else ""
    return Check(name, False, f"{len(differences)} difference{plural}", _shorten(differences))


def _check_signatures(staged: Path, declared: Mapping[str, Endpoint]) -> Check:
    read = read_endpoints(staged)
    differences = [name for name in {**declared, **read} if declared.get(name) != read.get(name)]
    if differences:
        return Check("signatures", False, f"{len(differences)} differ from what was declared", _shorten(differences))
    plural = "s" if len(read) != 1 else ""
    return Check("signatures", True, "equal", f"names, shapes, dtypes of {len(read)} endpoint{plural}")


def _compare_states(check: Check, expected: Sequence[str], received: Sequence[str]) -> Check:
    """Compares the variables that the calls of an endpoint changed."""
    if not expected and not received:
        return check
    count = f"{len(expected)} variable{'s' if len(expected) != 1 else ''}"
    wrong = max((Counter(expected) - Counter(received)).total(), (Counter(received) - Counter(expected)).total())
    if wrong:
        return replace(check, passed=False, figure=f"{wrong} changed otherwise than the model's, which changes {count}")
    return replace(check, detail=f"{check.detail}, {count} changed")


def _compare_outputs(
    name: str, received: Mapping[str, Array], reference: Sequence[Mapping[str, Array]], detail: str
) -> Check:
    expected = {f"{number}/{key}": array for number, outputs in enumerate(reference) for key, array in outputs.items()}
    if expected.keys() != received.keys():
        outputs = sorted({key.split("/", 1)[1] for key in received})
        return Check(name, False, "other outputs than the model's", f"received {_shorten(outputs)}")
    differing = [key for key, array in expected.items() if not is_same(array, received[key])]
    if not differing:
        return Check(name, True, "bit-equal", detail, difference=0.0)
    for key in differing:
        ours, theirs = expected[key], received[key]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            figure = f"{theirs.dtype} {theirs.shape} instead of {ours.dtype} {ours.shape}"
            return Check(name, False, figure, detail)
    differences = [largest_difference(expected[key], received[key]) for key in differing]
    largest = max((difference for difference in differences if difference is not None), default=None)
    figure = "different strings" if largest is None else f"largest difference {largest:.3g}"
    return Check(name, False, figure, detail, difference=largest)


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown


def list_custom_objects(model: keras.Model) -> list[tuple[str, str, str]]:
    """Lists the classes and functions that are not Keras's own and that the model's configuration names.

    Args:
        model: A built model.

    Returns:
        Name in the configuration, module, and qualified name inside the module, each.
    """
    found: dict[tuple[str, str, str], None] = {}

    def add(value: Any) -> None:
        module = getattr(value, "__module__", None) or "builtins"
        if module.split(".")[0] not in ("keras", "tensorflow", "builtins"):
            for name in dict.fromkeys((value.__name__, keras.saving.get_registered_name(value))):
                found[name, module, value.__qualname__] = None

    for saveable in walk(model):
        add(type(saveable.target))
        for value in vars(saveable.target).values():
            for function in _find_functions(value, depth=2):
                add(function)
    if model.compiled:
        for function in _find_functions(model._compile_config.config, depth=3):
            add(function)
    return list(found)


def _find_functions(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, types.FunctionType):
        yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from _find_functions(item, depth - 1)
