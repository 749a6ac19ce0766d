"""What runs in the fresh process of a proof: `python -m exporter._prover`.

It reads requests from its standard input, one JSON object a line, and answers each with one. It ends when its
standard input closes. The requests only read: what they find is compared by `verification.py` on the other side.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import keras
import tensorflow as tf

from exporter._arrays import Array, read_arrays, write_arrays
from exporter._facts import describe_model, describe_variables, read_values
from exporter.predictions import Predictor
from exporter.saving import load_model
from exporter.saving.signatures import Inputs
from exporter.serving import call_endpoint
from exporter.training_steps import take_step

Reply = dict[str, Any]


class Prover:
    """The artifact as the fresh process sees it.

    Each public method answers the request of its name; arguments and replies are plain data.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._predictor: Predictor | None = None
        self._served: Any = None

    def start(self, threads: Sequence[int]) -> Reply:
        """Makes TensorFlow's devices and thread pools while the main process builds its model.

        Args:
            threads: How many threads TensorFlow uses within and between operations in the main process, 0 for
                its own choice. They decide in which order sums are computed.

        Returns:
            Nothing but that it was done.
        """
        tf.config.threading.set_intra_op_parallelism_threads(threads[0])
        tf.config.threading.set_inter_op_parallelism_threads(threads[1])
        # The first traced function pays for what TensorFlow imports late.
        tf.function(lambda value: value + 1)(tf.constant(1))
        return {}

    def open(self, path: str, reader: str, custom_objects: Sequence[Sequence[str]]) -> Reply:
        """Loads the artifact.

        Args:
            path: Of the staged artifact.
            reader: `exporter` for our `load_model`, `keras` for stock Keras.
            custom_objects: Name in the configuration, module, and qualified name inside the module, each.

        Returns:
            The class of the loaded model.
        """
        self._model = self._predictor = self._served = None  # a machine may only hold one
        load = load_model if reader == "exporter" else keras.models.load_model
        # The artifact was written a moment ago from the caller's own model, so code inside it is the caller's own.
        self._model = load(path, custom_objects=_import_objects(custom_objects), safe_mode=False)
        return {"class_name": type(self._model).__name__}

    def predict(self, inputs: Mapping[str, Any], batches: str, outputs: str, count: int, eager: bool) -> Reply:
        """Predicts batches with the loaded model.

        Args:
            inputs: What the model takes, as `Inputs.to_json` says it.
            batches: File with the arrays `<batch>/<leaf>`.
            outputs: File to write, with the arrays `<batch>/<output>`.
            count: The number of batches.
            eager: Whether the model is called as it is, untraced.

        Returns:
            Nothing but that it was done.
        """
        described = Inputs.from_json(inputs)
        if self._predictor is None:
            self._predictor = Predictor(self._model, described, eager)
        predicted: dict[str, Array] = {}
        for number, batch in enumerate(_read_batches(batches, described, count)):
            predicted.update({f"{number}/{name}": array for name, array in self._predictor(batch).items()})
        write_arrays(Path(outputs), predicted)
        return {}

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

        Returns:
            The `state` after the last call: see `exporter.serving.call_endpoint`.
        """
        described = Inputs.from_json(inputs)
        self._model = self._predictor = None
        if self._served is None:
            self._served = tf.saved_model.load(path, tags=list(tags))
        function = self._served.signatures[endpoint]
        answers, state = call_endpoint(function, described, _read_batches(batches, described, count), moves_state)
        served = {f"{number}/{name}": array for number, answer in enumerate(answers) for name, array in answer.items()}
        write_arrays(Path(outputs), served)
        return {"state": state}

    def describe(self, include_optimizer: bool) -> Reply:
        """Describes the state of the loaded model.

        Args:
            include_optimizer: Whether the optimizer is part of the state.

        Returns:
            See `exporter._facts.describe_model`.
        """
        return describe_model(self._model, include_optimizer)

    def train(self, specs: Mapping[str, Any], batch: str, seed: int) -> Reply:
        """Trains the loaded model for one step.

        Args:
            specs: What the batch is made of, as `Inputs.to_json` says it.
            batch: File with the arrays `0/<leaf>`.
            seed: Of the process's random generators.

        Returns:
            The `variables` after the step: see `exporter._facts.describe_variables`.
        """
        described = Inputs.from_json(specs)
        [arrays] = _read_batches(batch, described, 1)
        take_step(self._model, described, arrays, seed)
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


def _read_batches(path: str, inputs: Inputs, count: int) -> list[list[Array]]:
    arrays = read_arrays(Path(path))
    return [[arrays[f"{number}/{leaf.name}"] for leaf in inputs.leaves] for number in range(count)]


def _import_objects(custom_objects: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Imports what can be imported: an artifact that needs none of it, or revives it, loads all the same."""
    found: dict[str, Any] = {}
    for name, module, qualified_name in custom_objects:
        try:
            value: Any = importlib.import_module(module)
            for part in qualified_name.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError):
            continue
        found[name] = value
    return found


def _answer(requests: IO[str], replies: IO[str]) -> None:
    prover = Prover()
    for line in requests:
        arguments: dict[str, Any] = json.loads(line)
        method: Callable[..., Reply] = getattr(prover, arguments.pop("request"))
        try:
            reply = method(**arguments)
        except Exception as error:  # it is no fault of this process: the other side names it and stops
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
            # Keras adds the configuration of what it cannot find, which is as long as the model is large.
            reply = {"error": f"{type(error).__name__}: {text.partition(' Full object config')[0]}"}
            traceback.print_exc()  # among this process's complaints, which are shown if it dies
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Answers requests until the standard input closes."""
    # Whatever prints, in Python or below it, must not end up between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    _answer(sys.stdin, replies)


if __name__ == "__main__":
    main()
