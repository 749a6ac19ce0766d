"""A SavedModel directory: for TensorFlow, for stock Keras, and for our own `load_model`.

TensorFlow reads `saved_model.pb` and `variables/`. Keras reads `config.json`, `metadata.json` and
`model.weights.h5`: an unzipped archive. The weights lie on disk once: the checkpoint's data file is an HDF5 file,
`model.weights.h5` is a relative link to it, and the checkpoint's index names the offsets of its datasets. Our own
record is in `assets.extra/exporter/`, a place that TensorFlow and TF Serving leave alone.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import tensorflow as tf

from exporter.saving.compatibility.graphs import find_oldest_tensorflow, list_operations
from exporter.saving.compatibility.history import show_version
from exporter.saving.contents import SERVING_DEFAULT, TWIN, ContentItem, Contents, Omission, OmissionKind
from exporter.saving.formats.keras_archive import write_metadata
from exporter.saving.formats.parts.contents import describe_contents
from exporter.saving.formats.saved_model.graph_and_variables import write_fingerprint, write_graph_and_variables
from exporter.saving.formats.saved_model.root import list_functions, make_root, tables_kept, trace_attachments
from exporter.saving.formats.saved_model.save_options import check_namespaces, keeps_replicas
from exporter.saving.functions.records import Functions, FunctionsHolder
from exporter.saving.functions.tracing import trace_functions
from exporter.saving.graph.captures import explain_lost, find_lost, refuse_unholdable
from exporter.saving.graph.endpoints import describe_endpoints, read_meta_graph
from exporter.saving.graph.inputs import describe_inputs
from exporter.saving.graph.signatures import canonicalize, holds_tables, trace_serving, undo_call_effects
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.names import (
    ASSETS,
    CHECKSUMS,
    CONFIG,
    DATA,
    FUNCTIONS,
    GRAPH,
    METADATA,
    OURS,
    OWN_CONFIG,
    STATE,
    WEIGHTS,
)
from exporter.saving.private_api import saving_context
from exporter.saving.rebuilding.record import StateRecord, describe_state, save_assets
from exporter.saving.requests import SaveRequest
from exporter.saving.safety.graphs.registry import read_registry
from exporter.saving.state.collecting import State, collect, hold_captured
from exporter.saving.state.replicas import add_replicas, on_one_device
from exporter.typing.keras import Model
from exporter.typing.structures import Config, Nested
from exporter.typing.tensorflow import ConcreteFunction, Resource, Tensor


@dataclass(frozen=True, slots=True)
class _Traced:
    """What is written of a model.

    Attributes:
        state: Its state.
        config: Its configuration; None if it has none that makes the same model again.
        endpoints: The signatures, by name.
        functions: What it lives on as without its code, with the description of that; None if it is Keras's own.
        left_out: What is not held.
    """

    state: State
    config: Config | None
    endpoints: Mapping[str, ConcreteFunction]
    functions: tuple[FunctionsHolder, Functions] | None
    left_out: tuple[Omission, ...] = ()

    def list_functions(self) -> list[ConcreteFunction]:
        """Lists the functions that it lives on as."""
        return list(list_functions(self.functions[0])) if self.functions else []


def write_saved_model(request: SaveRequest) -> Contents:
    """Writes a SavedModel directory.

    Raises:
        ModelError: The model's inputs are not known, or it uses custom operations that may not be saved.
    """
    # What is revived without its code can only be trained through with the gradients that it defined.
    options = request.options or tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    request = replace(request, options=options)
    state = add_replicas(collect(request.model, request.include_optimizer))
    one_device = nullcontext() if keeps_replicas(options) else on_one_device(request.model)
    with undo_call_effects(request.model), one_device:
        return _write_directory(request, _trace(request, state))


def _trace(request: SaveRequest, state: State) -> _Traced:
    model, config = request.model, request.config
    left_out: tuple[Omission, ...] = ()
    with saving_context(request.options):
        functions = trace_functions(request, state, config)
        lost = find_lost(model, list_functions(functions[0])) if functions else []
        if lost:
            left_out = (_hold_lost(model, lost),)
            state, config = add_replicas(collect(model, request.include_optimizer)), None
            functions = trace_functions(request, state, config)
        if request.signatures is None:
            call = None if functions is None or holds_tables(model) else _get_inference(functions[0])
            endpoints = {SERVING_DEFAULT: trace_serving(model, describe_inputs(model), call)}
        else:
            endpoints = canonicalize(request.signatures)
        traced = _Traced(state, config, endpoints, functions, left_out)
        own = {f"the model ({each.name})": each for each in traced.list_functions()}
        named = {**endpoints, **trace_attachments(model), **own}
        check_namespaces(named, request.options.namespace_whitelist)
    return traced


def _write_directory(request: SaveRequest, traced: _Traced) -> Contents:
    model, state, staged = request.model, traced.state, request.target
    holder, described = traced.functions or (None, None)
    (staged / OURS).mkdir(parents=True)
    checksums = Checksums()
    # A layer's assets come first: TensorFlow adds its own to the same directory.
    assets = save_assets(state, staged / ASSETS)
    record = describe_state(model, state, request.include_optimizer, assets)
    (staged / STATE).write_text(record.to_json())
    for name, note in request.notes.items():
        (staged / OURS / name).write_bytes(note)
    if described is not None:
        (staged / FUNCTIONS).write_text(described.to_json())

    functions = [*traced.endpoints.values(), *traced.list_functions()]
    build_root = partial(make_root, model, state, functions, holder)
    with tables_kept(functions), _remarks_kept_back():
        reason = write_graph_and_variables(build_root, staged, traced.endpoints, request.options, state, checksums)
    for path in sorted((staged / ASSETS).rglob("*")):
        if path.is_file():
            checksums.add_part(path.relative_to(staged).as_posix(), path.read_bytes())
    no_twin = _write_configuration(staged, traced.config, record, reason, checksums)
    write_fingerprint(staged)
    for name in (STATE, FUNCTIONS, GRAPH):
        if (staged / name).is_file():
            checksums.add_part(name, (staged / name).read_bytes())
    (staged / CHECKSUMS).write_bytes(checksums.to_json())

    contents = _describe(request, traced, assets, no_twin)
    meta_graph = read_meta_graph(staged)
    oldest = show_version(find_oldest_tensorflow(meta_graph.graph_def))
    return replace(
        contents,
        signatures=describe_endpoints(meta_graph),
        oldest_tensorflow=oldest,
        libraries=read_registry().find_libraries(list_operations(meta_graph.graph_def)),
    )


def _write_configuration(
    staged: Path, config: Config | None, record: StateRecord, reason: str | None, checksums: Checksums
) -> tuple[Omission, ...]:
    """Writes what stock Keras reads, or the configuration alone. Returns what is left out by that."""
    if config is None:
        return ()
    if reason is None:
        (staged / CONFIG).write_bytes(checksums.add_part(CONFIG, json.dumps(config).encode()))
        (staged / METADATA).write_bytes(write_metadata(record, {}, checksums))
        (staged / WEIGHTS).symlink_to(DATA)
        return ()
    (staged / OWN_CONFIG).write_bytes(checksums.add_part(OWN_CONFIG, json.dumps(config).encode()))
    why = f"stock keras.models.load_model needs one data file, and {reason}"
    return (Omission(TWIN, why, kind=OmissionKind.TWIN),)


def _describe(
    request: SaveRequest, traced: _Traced, assets: tuple[str, ...], no_twin: tuple[Omission, ...]
) -> Contents:
    described = traced.functions[1] if traced.functions else None
    names = set() if described is None else _list_traced(described)
    contents = describe_contents(request, traced.state, traced.config or {}, assets, names)
    held, left_out = contents.held, (*contents.left_out, *traced.left_out, *no_twin)
    if described is not None:
        held = (*held, _describe_functions(described))
        left_out += tuple(
            Omission(name, f"{why}. Without the code of {type(request.model).__name__} a loaded model refuses it")
            for name, why in described.lost.items()
        )
    return replace(contents, held=held, left_out=left_out, oldest_keras="" if no_twin else contents.oldest_keras)


def _list_traced(functions: Functions) -> set[str]:
    """Returns the classes whose computation is held, by the names that the configuration gives them."""
    return {name.rpartition(">")[2] for unit in functions.units for name in unit.needs}


def _hold_lost(model: Model, lost: Sequence[object]) -> Omission:
    """Makes what only the functions of a model lead to part of its state.

    Raises:
        ModelError: It is neither a variable nor a table.
    """
    refuse_unholdable(model, lost)
    hold_captured(model, cast(Sequence[Resource], lost))
    why = (
        f"the model uses {explain_lost(lost)}, which is no attribute of the model or of a layer. The artifact holds "
        "the model as TensorFlow functions instead. Keep it as an attribute of the layer that uses it, to have the "
        "configuration saved"
    )
    return Omission("Keras configuration", why)


def _describe_functions(functions: Functions) -> ContentItem:
    needs = dict.fromkeys(name for unit in functions.units for name in (*unit.needs, *functions.missing))
    kinds = ["inference", "training"] if any(unit.trains for unit in functions.units) else ["inference"]
    kinds += ["prediction step"] if functions.prediction is not None else []
    kinds += ["training step"] if functions.steps else []
    return ContentItem("functions", f"{', '.join(kinds)}: it lives on without the code of {', '.join(needs)}")


def _get_inference(holder: FunctionsHolder) -> Callable[..., Nested[Tensor]]:
    def call(*tensors: Tensor) -> Nested[Tensor]:
        outputs: Nested[Tensor]
        outputs, _ = holder.units["model"].inference(*tensors)
        return outputs

    return call


@contextmanager
def _remarks_kept_back() -> Iterator[None]:
    """Keeps back what TensorFlow says while it writes, such as where: that is a path which is gone in the end."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
