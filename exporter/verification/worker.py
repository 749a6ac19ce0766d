"""What runs in the fresh process of a proof: `python -m exporter.verification`.

It reads requests from its standard input, one JSON object a line, and answers each with one. It ends when its
standard input closes. The requests only read: what they find is compared by `verification.py` on the other side.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.models.endpoints.served_tensors import flatten_leaves
from exporter.models.predictions import Predictor, convert_batch, convert_output
from exporter.models.randomness import choose_seed, generators_seeded, seed_generators
from exporter.models.training_steps import everything_kept, take_step
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.memory import measure_peak, reset_peak
from exporter.saving.api import load_model
from exporter.saving.formats.saved_model import load_graph
from exporter.saving.graph.signatures import Inputs
from exporter.verification.checks.usage import call_as_user, call_method
from exporter.verification.comparing.calls import call_endpoint, name_answers
from exporter.verification.comparing.facts import describe_model, describe_variables, find_revived, read_values
from exporter.verification.custom_objects import import_objects

Reply = dict[str, Any]


class VerificationWorker:
    """The artifact as the fresh process sees it.

    Each public method answers the request of its name; arguments and replies are plain data.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._predictor: Predictor | None = None
        self._served: Any = None

    def start(self, threads: Sequence[int], deterministic: bool = False) -> Reply:
        """Makes TensorFlow's devices and thread pools while the main process builds its model.

        Args:
            threads: How many threads TensorFlow uses within and between operations in the main process, 0 for
                its own choice. They decide in which order sums are computed.
            deterministic: Whether operations are asked to give the same bits each time.

        Returns:
            Nothing but that it was done.
        """
        tf.config.threading.set_intra_op_parallelism_threads(threads[0])
        tf.config.threading.set_inter_op_parallelism_threads(threads[1])
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        # The first traced function pays for what TensorFlow imports late.
        tf.function(lambda value: value + 1)(tf.constant(1))
        return {}

    def open(self, path: str, reader: str, objects: Sequence[Mapping[str, Any]], safe_mode: bool) -> Reply:
        """Loads the artifact.

        What it does not hold is drawn anew, with a seed that nobody knows: never what its maker drew.

        Args:
            path: Of the staged artifact.
            reader: `exporter` for our `load_model`, `keras` for stock Keras.
            objects: What it needs: see `exporter.verification.custom_objects.import_objects`.
            safe_mode: Whether code inside the artifact is refused. One that was written a moment ago from the caller's
                own model holds the caller's own code.

        Returns:
            The class of the loaded model, which of its layers live on without their code, and what was imported.
        """
        self._model = self._predictor = self._served = None  # a machine may only hold one
        seed_generators(choose_seed())
        load = load_model if reader == "exporter" else keras.models.load_model
        custom_objects, imported = import_objects(objects)
        self._model = load(path, custom_objects=custom_objects, safe_mode=safe_mode)
        class_name, revived = type(self._model).__name__, find_revived(self._model)
        return {"class_name": class_name, "revived": revived, "imported": imported}

    def predict(
        self,
        inputs: Mapping[str, Any],
        batches: str,
        outputs: str,
        numbers: Sequence[int],
        eager: bool,
        seed: int,
        operations: bool,
    ) -> Reply:
        """Predicts batches with the loaded model.

        Args:
            inputs: What the model takes, as `Inputs.to_json` says it.
            batches: File with the arrays `<batch>/<leaf>`.
            outputs: File to write, with the arrays `<batch>/<output>`.
            numbers: Of the batches to predict.
            eager: Whether the model is called as it is, untraced.
            seed: Of the process's generators, before each batch.
            operations: Whether TensorFlow's random operations are seeded, too.

        Returns:
            Nothing but that it was done.
        """
        described = Inputs.from_json(inputs)
        if self._predictor is None:
            self._predictor = Predictor(self._model, described, eager)
        predicted: dict[str, Array] = {}
        for number, batch in zip(numbers, _read_batches(batches, described, numbers), strict=True):
            with generators_seeded(seed, operations):
                predicted.update({f"{number}/{name}": array for name, array in self._predictor(batch).items()})
        write_arrays(Path(outputs), predicted)
        return {}

    def use(
        self,
        method: str,
        specs: Mapping[str, Any],
        batch: str,
        outputs: str,
        eager: bool,
        seed: int,
        operations: bool,
    ) -> Reply:
        """Calls a method of the loaded model as users do.

        Args:
            method: See `exporter.verification.checks.usage.call_as_user`.
            specs: What the batch is made of, as `Inputs.to_json` says it.
            batch: File with the arrays `0/<leaf>`.
            outputs: File to write, with the arrays `0/<output>`.
            eager: Whether Python runs it, operation by operation.
            seed: Of the process's generators.
            operations: Whether TensorFlow's random operations are seeded, too.

        Returns:
            Nothing but that it was done.
        """
        described = Inputs.from_json(specs)
        [arrays] = _read_batches(batch, described, [0])
        with everything_kept(self._model), generators_seeded(seed, operations):
            found = call_as_user(self._model, method, described, arrays, eager)
        write_arrays(Path(outputs), {f"0/{name}": array for name, array in found.items()})
        return {}

    def call(
        self,
        method: str,
        keywords: Sequence[str],
        specs: Mapping[str, Any],
        batch: str,
        outputs: str,
        eager: bool,
        seed: int,
        operations: bool,
    ) -> Reply:
        """Calls a method of the loaded model's own.

        Args:
            method: Its name.
            keywords: The names of its arguments.
            specs: The tensors that it takes, as `Inputs.to_json` says it.
            batch: File with the arrays `0/<name>` of the dense tensors by which those are served.
            outputs: File to write, with the arrays `0/<output>`.
            eager: Whether Python runs it, operation by operation.
            seed: Of the process's generators.
            operations: Whether TensorFlow's random operations are seeded, too.

        Returns:
            Whether the loaded model `has` the method, and its `variables` after the call.
        """
        described = Inputs.from_json(specs)
        [arrays] = _read_batches(batch, Inputs(flatten_leaves(described.leaves), ()), [0])
        with everything_kept(self._model), generators_seeded(seed, operations):
            found = call_method(self._model, method, keywords, described, arrays, eager)
            variables = describe_variables(self._model)
        if found is not None:
            write_arrays(Path(outputs), {f"0/{name}": array for name, array in found.items()})
        return {"has": found is not None, "variables": variables}

    def serve(
        self,
        path: str,
        tags: Sequence[str],
        endpoint: str,
        inputs: Mapping[str, Any],
        batches: str,
        outputs: str,
        count: int,
        moves_state: bool,
        safe_mode: bool,
    ) -> Reply:
        """Calls one endpoint of a SavedModel through TensorFlow alone.

        Args:
            path: Of the staged artifact.
            tags: Of the graph to load.
            endpoint: Its name.
            inputs: What the model takes, as `Inputs.to_json` says it.
            batches: File with the arrays `<batch>/<leaf>`.
            outputs: File to write, with the arrays `<batch>/<output name>`.
            count: The number of batches.
            moves_state: Whether a call may change variables, which are put back after the last one.
            safe_mode: Whether a graph that does more than compute is refused.

        Returns:
            The `state` after the last call: see `exporter.verification.comparing.calls.call_endpoint`.
        """
        described = Inputs.from_json(inputs)
        self._model = self._predictor = None
        if self._served is None:
            self._served = load_graph(Path(path), tags, safe_mode)
        function = self._served.signatures[endpoint]
        answers, state = call_endpoint(
            function, described, _read_batches(batches, described, range(count)), moves_state
        )
        served = {f"{number}/{name}": array for number, answer in enumerate(answers) for name, array in answer.items()}
        write_arrays(Path(outputs), served)
        return {"state": state}

    def measure(
        self,
        path: str,
        tags: Sequence[str] | None,
        endpoint: str,
        objects: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],
        batch: str,
        eager: bool,
        warm_up: int,
        runs: int,
    ) -> Reply:
        """Loads the artifact once more and predicts one batch many times.

        Args:
            path: Of the staged artifact.
            tags: Of the graph to load with TensorFlow alone; None for our `load_model`.
            endpoint: What is called, where TensorFlow loads it.
            objects: As for `open`.
            inputs: What the model takes, as `Inputs.to_json` says it.
            batch: File with the arrays `0/<leaf>`.
            eager: Whether the model is called as it is, untraced.
            warm_up: Predictions that are not counted.
            runs: Predictions that are.

        Returns:
            The durations and the memory of `exporter.artifacts.receipt.Measurements`.
        """
        described = Inputs.from_json(inputs)
        [arrays] = _read_batches(batch, described, [0])
        self._model = self._predictor = self._served = None
        gc.collect()
        seed_generators(choose_seed())
        reset_peak()
        size = measure_peak()
        started = time.perf_counter()
        if tags is None:
            self._model = load_model(path, custom_objects=import_objects(objects)[0], safe_mode=False)
        else:
            self._served = load_graph(Path(path), tags, safe_mode=False)
        load_seconds = time.perf_counter() - started
        predict = Predictor(self._model, described, eager) if tags is None else self._make_call(endpoint, described)
        first_seconds = _time_call(predict, arrays)
        for _ in range(warm_up):
            predict(arrays)
        durations = sorted(_time_call(predict, arrays) for _ in range(runs))
        return {
            "load_seconds": load_seconds,
            "first_seconds": first_seconds,
            "median_seconds": _find_quantile(durations, 0.5),
            "p90_seconds": _find_quantile(durations, 0.9),
            "p99_seconds": _find_quantile(durations, 0.99),
            "memory_bytes": max(measure_peak() - size, 0),
        }

    def _make_call(self, endpoint: str, described: Inputs) -> Callable[[Sequence[Array]], dict[str, Array]]:
        function = self._served.signatures[endpoint]

        def call(batch: Sequence[Array]) -> dict[str, Array]:
            tensors = convert_batch(described, batch)
            answer = function(**{leaf.name: tensor for leaf, tensor in zip(described.leaves, tensors, strict=True)})
            return {name: convert_output(value) for name, value in name_answers(answer).items()}

        return call

    def describe(self, include_optimizer: bool) -> Reply:
        """Describes the state of the loaded model.

        Args:
            include_optimizer: Whether the optimizer is part of the state.

        Returns:
            See `exporter.verification.comparing.facts.describe_model`.
        """
        return describe_model(self._model, include_optimizer)

    def train(self, specs: Mapping[str, Any], batch: str, eager: bool, seed: int, operations: bool) -> Reply:
        """Trains the loaded model for one step.

        Args:
            specs: What the batch is made of, as `Inputs.to_json` says it.
            batch: File with the arrays `0/<leaf>`.
            eager: Whether Python runs the step, operation by operation.
            seed: Of the process's generators.
            operations: Whether TensorFlow's random operations are seeded, too.

        Returns:
            The `variables` after the step: see `exporter.verification.comparing.facts.describe_variables`.
        """
        described = Inputs.from_json(specs)
        [arrays] = _read_batches(batch, described, [0])
        with generators_seeded(seed, operations):
            take_step(self._model, described, arrays, eager)
        return {"variables": describe_variables(self._model)}

    def values(self, paths: Sequence[str], include_optimizer: bool, values: str) -> Reply:
        """Writes the values of some variables.

        Args:
            paths: Of the variables.
            include_optimizer: Whether the optimizer is part of the state.
            values: File to write, with an array per path.

        Returns:
            Nothing but that it was done.
        """
        write_arrays(Path(values), read_values(self._model, paths, include_optimizer))
        return {}


def _read_batches(path: str, inputs: Inputs, numbers: Iterable[int]) -> list[list[Array]]:
    arrays = read_arrays(Path(path))
    return [[arrays[f"{number}/{leaf.name}"] for leaf in inputs.leaves] for number in numbers]


def _time_call(predict: Callable[[Sequence[Array]], Any], arrays: Sequence[Array]) -> float:
    started = time.perf_counter()
    predict(arrays)  # its answer is an array in this process's memory: nothing is pending on a device
    return time.perf_counter() - started


def _find_quantile(ordered: Sequence[float], share: float) -> float:
    """Returns the smallest duration that this share of all of them does not exceed (the nearest-rank method)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
