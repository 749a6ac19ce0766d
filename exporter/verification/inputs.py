"""Makes what a model, an artifact and its endpoints are asked: it is drawn to fit, or read from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from exporter.config import VerifyConfig
from exporter.models.endpoints.building import BuiltEndpoint
from exporter.models.endpoints.declarations import EVALUATE, PREDICT, TRAIN
from exporter.models.endpoints.served_tensors import flatten_leaf, flatten_leaves
from exporter.models.predictions import (
    Drawing,
    Predictor,
    choose_batch_sizes,
    draw_batch,
    match_arrays,
    read_batch,
    read_file,
)
from exporter.models.training.batches import make_batch, read_targets
from exporter.models.training.step_data import UndrawableError
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.graph.inputs import InputLeaf, Inputs, describe_inputs
from exporter.saving.graph.signatures import canonicalize
from exporter.sources._stored import find_file
from exporter.typing.keras import Model
from exporter.typing.tensorflow import ConcreteFunction
from exporter.verification.comparing.asked import EndpointInputs, MethodInputs, VerificationInputs
from exporter.verification.drawings import find_drawing

# A ragged row has fewer items than this.
_LONGEST_ROW = 5


class _UnknownError(Exception):
    """No example of an input can be made; the text says why."""


def prepare_inputs(model: Model, settings: VerifyConfig, seed: int, signatures: object = None) -> VerificationInputs:
    """Draws or reads the batches of a verification.

    Args:
        model: The model that will be verified.
        settings: Which batch sizes, or which file.
        seed: Of the drawn batches.
        signatures: The endpoints: name -> `BuiltEndpoint`, or as `save_model` takes them; None for the model's own
            `serving_default`.

    Returns:
        The batches.

    Raises:
        ModelError: The model's inputs are not known.
        UsageError: `settings.data` cannot be read or does not fit the model.
    """
    inputs = describe_inputs(model)
    predictor = Predictor(model, inputs)
    if settings.data is not None:
        path = find_file(settings.data, "verify.data")
        batch = read_batch(path, inputs)
        targets = read_targets(path, len(batch[0]))
        origin = f"{len(batch[0])} samples of {settings.data}"
        maker = _Maker(model, predictor, inputs, (batch,), seed, (len(batch[0]),), Drawing(), path, targets)
    else:
        sizes = choose_batch_sizes(inputs.leaves, settings.batch_sizes)
        drawing = find_drawing(model, inputs, predictor, max(sizes), seed) if sizes else Drawing()
        batches = tuple(draw_batch(model, inputs, size, seed, drawing) for size in sizes)
        origin = f"batch size{'s' if len(sizes) > 1 else ''} {', '.join(map(str, sizes))}, seeded inputs"
        maker = _Maker(model, predictor, inputs, batches, seed, sizes, drawing, None, {})
    endpoints = _list_endpoints(inputs, signatures)
    steps = ("", PREDICT, TRAIN, EVALUATE)
    own = {(each.method, repr(each.takes)): each for each in endpoints if each.method not in steps}
    return VerificationInputs(
        inputs,
        maker.batches,
        origin,
        seed,
        maker.sizes,
        predictor,
        tuple(maker.make(endpoint) for endpoint in endpoints),
        tuple(maker.make_method(endpoint) for endpoint in own.values()),
        maker.data,
        maker.targets,
    )


def _list_endpoints(inputs: Inputs, signatures: object) -> list[BuiltEndpoint]:
    if signatures is None:
        every = frozenset(leaf.name for leaf in inputs.leaves)
        return [BuiltEndpoint(SERVING_DEFAULT, PREDICT, None, inputs, inputs.leaves, every, None, inputs, ())]
    built = signatures.values() if isinstance(signatures, Mapping) else []
    if all(isinstance(endpoint, BuiltEndpoint) for endpoint in built) and built:
        return list(built)
    listed = []
    for name, function in canonicalize(signatures).items():
        own = _describe_function_inputs(function)
        every = frozenset(leaf.name for leaf in own.leaves)
        listed.append(BuiltEndpoint(name, "", function, own, own.leaves, every, None, own, ()))
    return listed


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes what endpoints are asked."""

    model: Model
    predictor: Predictor
    inputs: Inputs
    batches: tuple[tuple[Array, ...], ...]
    seed: int
    sizes: tuple[int, ...]
    drawing: Drawing
    data: Path | None
    targets: Mapping[str, Array]

    def make(self, endpoint: BuiltEndpoint) -> EndpointInputs:
        why = ""
        batches: tuple[tuple[Array, ...], ...] = ()
        try:
            batches = self._make_batches(endpoint)
        except (_UnknownError, UndrawableError) as error:
            why = str(error)
        moves = endpoint.method != PREDICT
        by_sample = not any(tensor.ragged_rank or tensor.sparse for tensor in endpoint.tensors)
        return EndpointInputs(endpoint.name, endpoint.inputs, batches, why, moves, endpoint.function, by_sample)

    def make_method(self, endpoint: BuiltEndpoint) -> MethodInputs:
        """Makes what the method of an endpoint is asked, without the steps before it."""
        takes = endpoint.takes
        flat = flatten_leaves(takes.leaves)
        direct = replace(
            endpoint,
            inputs=Inputs(flat, tuple(range(len(flat)))),
            tensors=takes.leaves,
            own=frozenset(leaf.name for leaf in takes.leaves),
            preprocess=None,
        )
        return MethodInputs(endpoint.method, endpoint.keywords, takes, self._make_batches(direct)[-1])

    def _make_batches(self, endpoint: BuiltEndpoint) -> tuple[tuple[Array, ...], ...]:
        own = {leaf.name: leaf for leaf in self.inputs.leaves}
        if {leaf.name: leaf for leaf in endpoint.tensors} == own and endpoint.own >= own.keys():
            order = [leaf.name for leaf in self.inputs.leaves]
            if not any(leaf.sparse for leaf in self.inputs.leaves) or endpoint.function is None:
                return tuple(
                    tuple(batch[order.index(leaf.name)] for leaf in endpoint.tensors) for batch in self.batches
                )
        sizes = choose_batch_sizes(endpoint.tensors, self.sizes)
        return tuple(self._make_batch(endpoint, size) for size in sizes)

    def _make_batch(self, endpoint: BuiltEndpoint, size: int) -> tuple[Array, ...]:
        generator = np.random.default_rng([self.seed, size, 2])
        known = self._read_known(endpoint)
        made = endpoint.make_examples(generator, size)
        if endpoint.method in (TRAIN, EVALUATE):
            known = {**self._make_step_arrays(endpoint, size), **known}
        drawn = [tensor for tensor in endpoint.tensors if tensor.name not in known and tensor.name not in made]
        for tensor in drawn:
            if tensor.dtype == "string" and tensor.name not in endpoint.own:
                raise _UnknownError(
                    f"no example of its input {tensor.name!r} can be made; name a file with an array of that name in "
                    "`verify.data`, or decorate the function with exporter.transforms.takes"
                )
        dense = [tensor for tensor in drawn if not tensor.ragged_rank]
        arrays = draw_batch(self.model, Inputs(tuple(dense), ()), size, self.seed, self.drawing)
        parts: dict[str, Array] = dict(zip([tensor.name for tensor in dense], arrays, strict=True))
        flat: dict[str, Array] = {}
        for tensor in endpoint.tensors:
            if tensor.ragged_rank:
                flat.update(self._draw_ragged(generator, tensor, size))
            else:
                array = next(values[tensor.name] for values in (known, made, parts) if tensor.name in values)
                flat.update(_take_apart(tensor, array))
        return tuple(flat[leaf.name] for leaf in endpoint.inputs.leaves)

    def _read_known(self, endpoint: BuiltEndpoint) -> dict[str, Array]:
        """Reads the arrays of the file that are named like the endpoint's own inputs."""
        if self.data is None:
            return {}
        arrays = read_file(self.data)
        leaves = [leaf for leaf in endpoint.tensors if leaf.name in arrays and not leaf.ragged_rank and not leaf.sparse]
        return dict(zip([leaf.name for leaf in leaves], match_arrays(self.data, arrays, leaves), strict=True))

    def _make_step_arrays(self, endpoint: BuiltEndpoint, size: int) -> dict[str, Array]:
        """Makes the data of a training step, by the names of what the step takes."""
        batch = next((batch for batch in self.batches if len(batch[0]) == size), None)
        if batch is None:
            batch = draw_batch(self.model, self.inputs, size, self.seed, self.drawing)
        answer = self.predictor.answer(batch)
        targets = self.targets if self.data is not None and len(batch[0]) == size else {}
        made = make_batch(self.model, self.inputs, batch, answer, self.seed, targets, self.data if targets else None)
        arrays = list(made.arrays)
        generator = np.random.default_rng([self.seed, size, 3])
        if len(arrays) < len(endpoint.takes.leaves):  # weights that the model was trained without
            arrays.append(generator.uniform(0.5, 1.5, [size]))
        return {
            leaf.name: array.astype(object if leaf.dtype == "string" else find_dtype(leaf.dtype))
            for leaf, array in zip(endpoint.takes.leaves, arrays, strict=True)
        }

    def _draw_ragged(self, generator: np.random.Generator, tensor: InputLeaf, size: int) -> dict[str, Array]:
        values, *splits = flatten_leaf(tensor)
        drawn: dict[str, Array] = {}
        rows = size
        for split in splits:
            lengths = generator.integers(0, _LONGEST_ROW, rows)
            drawn[split.name] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            rows = int(lengths.sum())
        [drawn[values.name]] = draw_batch(self.model, Inputs((values,), ()), rows, self.seed, self.drawing)
        return drawn


def _take_apart(tensor: InputLeaf, array: Array) -> dict[str, Array]:
    """Returns the arrays by which one is served."""
    if not tensor.sparse:
        return {tensor.name: array}
    sparse = tf.sparse.from_dense(tf.constant(array, tensor.dtype))
    parts = (sparse.indices, sparse.values, sparse.dense_shape)
    return {leaf.name: part.numpy() for leaf, part in zip(flatten_leaf(tensor), parts, strict=True)}


def _describe_function_inputs(function: ConcreteFunction) -> Inputs:
    """Reads what a traced function takes, each tensor under the name that it is served by."""
    leaves = [
        InputLeaf(spec.name, tuple(spec.shape.as_list()), spec.dtype.name, isinstance(spec, tf.SparseTensorSpec))
        for spec in tf.nest.flatten(function.structured_input_signature)
    ]
    return Inputs(tuple(leaves), tuple(range(len(leaves))))
