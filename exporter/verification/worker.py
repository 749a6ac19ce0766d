"""What runs in the fresh process of a verification: `python -m exporter.verification`.

It reads requests from its standard input, one JSON object a line, and answers each with one. It ends when its
standard input closes. What a question asks and what the answer means is known by the checks, on both sides.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.models.predictions import Predictor, convert_batch, convert_output
from exporter.models.randomness import choose_seed, seed_generators
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.durations import measure_calls
from exporter.saving.api import load_model
from exporter.saving.formats.saved_model.reading import load_graph
from exporter.saving.graph.inputs import Inputs
from exporter.verification.checks import load_checks
from exporter.verification.comparing.base import Message, Reader
from exporter.verification.comparing.batches import read_batches
from exporter.verification.comparing.calls import name_answers
from exporter.verification.comparing.facts import find_revived
from exporter.verification.custom_objects import import_objects

Reply = dict[str, Any]

# What a request may name: what is imported while this process has nothing else to do.
_ANSWERS = {check.name: check.answer for check in load_checks() if check.answer is not None}


class VerificationWorker:
    """The artifact as the fresh process sees it.

    Each public method answers the request of its name; arguments and replies are plain data.
    """

    def __init__(self) -> None:
        self._loaded: Any = None

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

    def open(
        self, path: str, reader: str, objects: Sequence[Mapping[str, object]], safe_mode: bool, tags: Sequence[str]
    ) -> Reply:
        """Loads the artifact, for the questions that follow.

        What it does not hold is drawn anew, with a seed that nobody knows: never what its maker drew.

        Args:
            path: Of the staged artifact.
            reader: See `exporter.verification.comparing.base.Reader`.
            objects: What it needs: see `exporter.verification.custom_objects.import_objects`.
            safe_mode: Whether code inside the artifact is refused. One that was written a moment ago from the caller's
                own model holds the caller's own code.
            tags: Of the graph that TensorFlow alone loads.

        Returns:
            The class of what was loaded, which of its layers live on without their code, and what was imported.
        """
        self._loaded = None  # a machine may only hold one
        seed_generators(choose_seed())
        if reader == Reader.TENSORFLOW:
            self._loaded = load_graph(Path(path), tags, safe_mode)
            return {"class_name": type(self._loaded).__name__, "revived": [], "imported": {}}
        load = load_model if reader == Reader.EXPORTER else keras.models.load_model
        custom_objects, imported = import_objects(objects)
        self._loaded = load(path, custom_objects=custom_objects, safe_mode=safe_mode)
        class_name, revived = type(self._loaded).__name__, find_revived(self._loaded)
        return {"class_name": class_name, "revived": revived, "imported": imported}

    def answer(self, check: str, facts: Mapping[str, object], arrays: str | None, answer: str) -> Reply:
        """Answers the question of a check about what was loaded.

        Args:
            check: The name of a check in `exporter.verification.checks.CHECKS`.
            facts: Of the question.
            arrays: The file with those of the question; None where it has none.
            answer: The file to write for those of the answer, if it has any.

        Returns:
            The `facts` of the answer.
        """
        if self._loaded is None:
            raise ValueError("nothing is loaded")
        question = Message(facts, {} if arrays is None else read_arrays(Path(arrays)))
        found = _ANSWERS[check](self._loaded, question)
        if found.arrays:
            write_arrays(Path(answer), found.arrays)
        return {"facts": found.facts}

    def measure(
        self,
        path: str,
        tags: Sequence[str] | None,
        endpoint: str,
        objects: Sequence[Mapping[str, object]],
        inputs: Mapping[str, object],
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
            The durations and the memory of `exporter.artifacts.records.Measurements`.
        """
        described = Inputs.from_json(inputs)
        [arrays] = read_batches(read_arrays(Path(batch)), described, [0])
        self._loaded = None
        gc.collect()
        seed_generators(choose_seed())

        def load() -> Any:
            if tags is None:
                self._loaded = load_model(path, custom_objects=import_objects(objects)[0], safe_mode=False)
            else:
                self._loaded = load_graph(Path(path), tags, safe_mode=False)
            return self._loaded

        def prepare(loaded: Any) -> Callable[[], object]:
            if tags is None:
                return partial(Predictor(loaded, described, eager), arrays)
            return partial(self._make_call(endpoint, described), arrays)

        # An answer is an array in this process's memory: nothing is pending on a device.
        return measure_calls(load, prepare, warm_up, runs)

    def _make_call(self, endpoint: str, described: Inputs) -> Callable[[Sequence[Array]], dict[str, Array]]:
        function = self._loaded.signatures[endpoint]

        def call(batch: Sequence[Array]) -> dict[str, Array]:
            tensors = convert_batch(described, batch)
            answer = function(**{leaf.name: tensor for leaf, tensor in zip(described.leaves, tensors, strict=True)})
            return {name: convert_output(value) for name, value in name_answers(answer).items()}

        return call
