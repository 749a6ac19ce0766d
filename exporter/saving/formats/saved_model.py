"""A SavedModel directory: for TensorFlow, for stock Keras, and for our own `load_model`.

TensorFlow reads `saved_model.pb` and `variables/`. Keras reads `config.json`, `metadata.json` and
`model.weights.h5`: an unzipped archive. The weights lie on disk once: the checkpoint's data file is an HDF5 file,
`model.weights.h5` is a relative link to it, and the checkpoint's index names the offsets of its datasets. Our own
record is in `assets.extra/exporter/`, a place that TensorFlow and TF Serving leave alone.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_debug_info_pb2
from tensorflow.core.protobuf import fingerprint_pb2, meta_graph_pb2, saved_model_pb2, trackable_object_graph_pb2

from exporter.errors import ArtifactError
from exporter.saving.configuration.configurations import Config
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.contents import SERVING_DEFAULT, TWIN, Contents, Holding, LeftOut, OmissionKind
from exporter.saving.formats.holdings import describe_holdings
from exporter.saving.formats.keras_archive import (
    read_keras_directory,
    write_metadata,
)
from exporter.saving.formats.save_options import check_namespaces, keeps_replicas
from exporter.saving.formats.weights_file import write_weights
from exporter.saving.graph.captures import explain_lost, find_lost, refuse_unholdable
from exporter.saving.graph.functions import Functions, trace_functions
from exporter.saving.graph.gradients import settle_gradients
from exporter.saving.graph.names import canonicalize_names
from exporter.saving.graph.revival import is_at_hand, revive_foreign, revive_model
from exporter.saving.graph.saver import add_saver
from exporter.saving.graph.signatures import (
    calls_undone,
    canonicalize,
    describe_inputs,
    find_captured,
    holds_tables,
    read_endpoints,
    trace_serving,
)
from exporter.saving.layout.checksums import Checksums, damage_explained
from exporter.saving.layout.datasets import Stored, lay_out_file, write_file
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.names import (
    ASSETS,
    CHECKSUMS,
    CONFIG,
    DATA,
    DEBUG_INFO,
    FINGERPRINT,
    FUNCTIONS,
    GRAPH,
    INDEX,
    METADATA,
    OURS,
    OWN_CONFIG,
    SHARDS,
    STATE,
    WEIGHTS,
)
from exporter.saving.layout.tensor_bundle import KEY_SUFFIX, BundleEntry, encode_string, write_index
from exporter.saving.private_api import AutoTrackable, Trackable, make_fingerprint, saving_context, write_graph
from exporter.saving.rebuilding.record import StateReader, StateRecord, describe_state, revive_state, save_assets
from exporter.saving.safety.files import check_directory
from exporter.saving.safety.graphs.operations import check_graph
from exporter.saving.safety.memory import limit_variables
from exporter.saving.state.collecting import Array, State, collect, hold_captured
from exporter.saving.state.kinds import Kind, find_kind
from exporter.saving.state.replicas import add_replicas, on_one_device

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def write_saved_model(
    model: keras.Model,
    config: Config | None,
    staged: Path,
    include_optimizer: bool,
    signatures: Any,
    options: tf.saved_model.SaveOptions | None,
    notes: Mapping[str, bytes],
    steps: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Contents:
    """Writes a SavedModel directory.

    Args:
        model: A built model.
        config: Its configuration; None if it has none that makes the same model again.
        staged: The directory to write.
        include_optimizer: Whether the optimizer and the compile configuration are saved.
        signatures: What `tf.saved_model.save` takes, or None for `serving_default` from the model itself.
        options: What `tf.saved_model.save` takes, or None.
        notes: Files that are kept inside, by name.
        steps: What endpoints use of the model's training and is traced already; see `trace_functions`.

    Returns:
        What was written.

    Raises:
        ModelError: The model's inputs are not known, or it uses custom operations that may not be saved.
    """
    # What is revived without its code can only be trained through with the gradients that it defined.
    options = options or tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    state = add_replicas(collect(model, include_optimizer))
    one_device = nullcontext() if keeps_replicas(options) else on_one_device(model)
    with calls_undone(model), one_device:
        return _write_directory(model, state, config, staged, include_optimizer, signatures, options, notes, steps)


def _write_directory(
    model: keras.Model,
    state: State,
    config: Config | None,
    staged: Path,
    include_optimizer: bool,
    signatures: Any,
    options: tf.saved_model.SaveOptions,
    notes: Mapping[str, bytes],
    steps: Mapping[str, Callable[[Any], Any]] | None,
) -> Contents:
    left_out: list[LeftOut] = []
    with saving_context(options):
        functions = trace_functions(model, state, config, include_optimizer, steps)
        lost = find_lost(model, _list_functions(functions[0])) if functions else []
        if lost:
            left_out.append(_hold_lost(model, lost))
            state, config = add_replicas(collect(model, include_optimizer)), None
            functions = trace_functions(model, state, config, include_optimizer, steps)
        if signatures is None:
            call = None if functions is None or holds_tables(model) else _get_inference(functions[0])
            endpoints = {SERVING_DEFAULT: trace_serving(model, describe_inputs(model), call)}
        else:
            endpoints = canonicalize(signatures)
        own = list(_list_functions(functions[0])) if functions else []
        traced = [*endpoints.values(), *own]
        named = {**endpoints, **_trace_attachments(model), **{f"the model ({each.name})": each for each in own}}
        check_namespaces(named, options.namespace_whitelist)
    holder, described = functions or (None, None)

    (staged / OURS).mkdir(parents=True)
    checksums = Checksums()
    # A layer's assets come first: TensorFlow adds its own to the same directory.
    assets = save_assets(state, staged / ASSETS)
    record = describe_state(model, state, include_optimizer, assets)
    (staged / STATE).write_text(record.to_json())
    for name, note in notes.items():
        (staged / OURS / name).write_bytes(note)

    if described is not None:
        (staged / FUNCTIONS).write_text(described.to_json())

    build_root = partial(_build_root, model, state, traced, holder)
    with _tables_kept(traced), _remarks_kept_back():
        reason = _write_graph_and_variables(build_root, staged, endpoints, options, state, checksums)
    for path in sorted((staged / ASSETS).rglob("*")):
        if path.is_file():
            checksums.add_part(path.relative_to(staged).as_posix(), path.read_bytes())
    if config is not None and reason is None:
        (staged / CONFIG).write_bytes(checksums.add_part(CONFIG, json.dumps(config).encode()))
        (staged / METADATA).write_bytes(write_metadata(record, {}, checksums))
        (staged / WEIGHTS).symlink_to(DATA)
    elif config is not None:
        (staged / OWN_CONFIG).write_bytes(checksums.add_part(OWN_CONFIG, json.dumps(config).encode()))
        why = f"stock keras.models.load_model needs one data file, and {reason}"
        left_out.append(LeftOut(TWIN, why, kind=OmissionKind.TWIN))
    _write_fingerprint(staged)
    for name in (STATE, FUNCTIONS, GRAPH):
        if (staged / name).is_file():
            checksums.add_part(name, (staged / name).read_bytes())
    (staged / CHECKSUMS).write_bytes(checksums.to_json())

    names = set() if described is None else _list_traced(described)
    contents = describe_holdings(model, state, config or {}, assets, include_optimizer, names)
    held = contents.held
    if described is not None:
        held = (*held, _describe_functions(described))
        left_out += [
            LeftOut(name, f"{why}. Without the code of {type(model).__name__} a loaded model refuses it")
            for name, why in described.lost.items()
        ]
    left_out = [*contents.left_out, *left_out]
    return replace(contents, held=held, left_out=tuple(left_out), signatures=read_endpoints(staged))


def _list_traced(functions: Functions) -> set[str]:
    """Returns the classes whose computation is held, by the names that the configuration gives them."""
    return {name.rpartition(">")[2] for unit in functions.units for name in unit.needs}


def _hold_lost(model: keras.Model, lost: Sequence[Any]) -> LeftOut:
    """Makes what only the functions of a model lead to part of its state.

    Raises:
        ModelError: It is neither a variable nor a table.
    """
    refuse_unholdable(model, lost)
    hold_captured(model, lost)
    why = (
        f"the model uses {explain_lost(lost)}, which is no attribute of the model or of a layer. The artifact holds "
        "the model as TensorFlow functions instead. Keep it as an attribute of the layer that uses it, to have the "
        "configuration saved"
    )
    return LeftOut("Keras configuration", why)


def _describe_functions(functions: Functions) -> Holding:
    needs = dict.fromkeys(name for unit in functions.units for name in (*unit.needs, *functions.missing))
    kinds = ["inference", "training"] if any(unit.trains for unit in functions.units) else ["inference"]
    kinds += ["prediction step"] if functions.prediction is not None else []
    kinds += ["training step"] if functions.steps else []
    return Holding("functions", f"{', '.join(kinds)}: it lives on without the code of {', '.join(needs)}")


def _build_root(model: keras.Model, state: State, traced: Sequence[Any], functions: Any, whole: bool) -> Any:
    """Makes the object whose attributes `tf.saved_model.load` gives back.

    It is not the model itself: TensorFlow would rename the model's inputs, and converters leave its variables
    uninitialised.
    """
    root = AutoTrackable()
    weights = list(model.weights)
    root.variables = [variable.value for variable in weights]
    root.trainable_variables = [variable.value for variable in weights if variable.trainable]
    root.non_trainable_variables = [variable.value for variable in weights if not variable.trainable]
    for name, value in _find_attachments(model):
        if not hasattr(root, name):
            setattr(root, name, value)
    root.exporter = AutoTrackable()
    used = {id(variable) for function in traced for variable in function.variables}
    # Slots, and the values of other replicas, are in the checkpoint; a server need not hold them in memory too.
    root.exporter.state = {
        path: variable.value
        for path, variable in state.variables.items()
        if whole
        or id(variable.value) in used
        or find_kind(path, state.optimizers) not in (Kind.OPTIMIZER, Kind.REPLICAS)
    }
    root.exporter.tables = {path: table.resource for path, table in state.tables.items()}
    if functions is not None:
        root.exporter.functions = functions
    root.exporter.captured = _find_captured(root, traced)
    root.exporter.resources = _find_resources(traced)
    return root


def _get_inference(holder: Any) -> Callable[..., Any]:
    def call(*tensors: Any) -> Any:
        outputs, _ = holder.units["model"].inference(*tensors)
        return outputs

    return call


def _find_captured(root: Any, functions: Iterable[Any]) -> list[tf.Variable]:
    """Finds the variables that functions use beyond the state, such as those of metrics."""
    known = {id(variable) for variable in root.exporter.state.values()}
    captured: dict[int, tf.Variable] = {}
    for function in functions:
        # A function has its variables in an order of chance, and what it captures in the order of its use.
        variables = {id(variable.handle): variable for variable in function.variables if id(variable) not in known}
        for tensor in function.captured_inputs:
            if id(tensor) in variables:
                captured.setdefault(id(tensor), variables[id(tensor)])
    return list(captured.values())


def _list_functions(holder: Any) -> Iterator[Any]:
    for unit in holder.units.values():
        yield unit.inference.get_concrete_function()
        if hasattr(unit, "training"):
            yield unit.training.get_concrete_function()
    for name in ("train", "test", "reset", "results"):
        if hasattr(holder, name):
            yield getattr(holder, name).get_concrete_function()


def _trace_attachments(model: keras.Model) -> dict[str, Any]:
    """Traces the attached functions whose shapes are known, as TensorFlow will do when it saves them."""
    return {
        name: value.get_concrete_function()
        for name, value in _find_attachments(model)
        if isinstance(value, tf.types.experimental.PolymorphicFunction) and value.input_signature is not None
    }


def _find_attachments(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Finds what a user attached to the model: functions, variables, tables, assets, modules."""
    own = (keras.layers.Layer, keras.Variable, keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss)
    for owner in type(model).__mro__:
        if owner.__module__.partition(".")[0] == "keras":
            break
        for name, value in vars(owner).items():
            if isinstance(value, tf.types.experimental.PolymorphicFunction):
                yield name, getattr(model, name)
    for name, value in vars(model).items():
        public = not name.startswith("_") and not name.endswith(("train_function", "test_function", "predict_function"))
        function = isinstance(value, tf.types.experimental.PolymorphicFunction)
        resource = isinstance(value, (tf.Variable, tf.Module, tf.saved_model.Asset))
        table = isinstance(value, tf.saved_model.experimental.TrackableResource)
        if public and not isinstance(value, own) and (function or resource or table):
            yield name, value


def _find_resources(functions: Iterable[Any]) -> list[Any]:
    """Finds the lookup tables that functions use, wherever they were made: TensorFlow wants them in the object graph.

    Others stay out, such as the table in which a text layer counts tokens while it adapts.
    """
    kind = tf.saved_model.experimental.TrackableResource
    return list({id(table): table for function in functions for table in find_captured(function, kind)}.values())


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


@contextmanager
def _tables_kept(functions: Iterable[Any]) -> Iterator[None]:
    """Takes back the names that TensorFlow gives to tables when it saves them: the next trace would hold them."""
    tables = [vars(table) for table in _find_resources(functions)]
    names = [table.get("_table_name") for table in tables]
    try:
        yield
    finally:
        for table, name in zip(tables, names, strict=True):
            if "_table_name" in table:
                table["_table_name"] = name


def _write_graph_and_variables(
    build_root: Callable[..., Any],
    staged: Path,
    endpoints: Mapping[str, Any],
    options: tf.saved_model.SaveOptions,
    state: State,
    checksums: Checksums,
) -> str | None:
    """Writes what TensorFlow reads. Returns why the variables are not one HDF5 file, or None if they are."""
    reason = _find_reason_for_tensorflow(options)
    if reason is None:
        nodes = write_graph(build_root(whole=False), staged, endpoints, _without_saver(options)) or []
        strange = [node for node in nodes if not isinstance(node, tf.Variable) and _serializes_itself(node)]
        if not nodes:
            reason = f"TensorFlow {tf.__version__} writes them in its own way only"
        elif strange:
            reason = f"{type(strange[0]).__name__} is saved by TensorFlow's own code"
    if reason is not None:
        tf.saved_model.save(build_root(whole=True), str(staged), endpoints, options)

    saved_model = saved_model_pb2.SavedModel.FromString((staged / GRAPH).read_bytes())
    meta_graph = saved_model.meta_graphs[0]
    settle_gradients(meta_graph)
    _canonicalize(meta_graph, staged)
    if reason is None:
        paths = {id(variable.value): path for path, variable in state.variables.items()}
        variables = {
            number: (paths.get(id(node), f"captured/{number}"), node)
            for number, node in enumerate(nodes)
            if isinstance(node, tf.Variable)
        }
        if not options.experimental_skip_saver:
            add_saver(meta_graph, {number: path + KEY_SUFFIX for number, (path, _) in variables.items()})
        object_graph = _describe_checkpoint(meta_graph.object_graph_def, variables)
        _write_checkpoint(staged / "variables", state, variables, object_graph, checksums)
    (staged / GRAPH).write_bytes(saved_model.SerializeToString(deterministic=True))
    return reason


def _canonicalize(meta_graph: meta_graph_pb2.MetaGraphDef, staged: Path) -> None:
    """Gives functions names that do not depend on what was traced before, in the graph and in its debug information."""
    file = staged / DEBUG_INFO
    if not file.is_file():
        canonicalize_names(meta_graph)
        return
    debug_info = graph_debug_info_pb2.GraphDebugInfo.FromString(file.read_bytes())
    canonicalize_names(meta_graph, debug_info)
    file.write_bytes(debug_info.SerializeToString(deterministic=True))


def _without_saver(options: tf.saved_model.SaveOptions) -> tf.saved_model.SaveOptions:
    fields = {name: getattr(options, name) for name in options.__slots__}
    return tf.saved_model.SaveOptions(**{**fields, "experimental_skip_saver": True})


def _find_reason_for_tensorflow(options: tf.saved_model.SaveOptions) -> str | None:
    if options.experimental_sharding_callback is not None:
        return "experimental_sharding_callback spreads the variables over several"
    if options.experimental_io_device is not None:
        return "experimental_io_device lets TensorFlow write them on another device"
    if keeps_replicas(options):
        return "experimental_variable_policy writes every replica's variables"
    return None


def _serializes_itself(node: Any) -> bool:
    """Whether a checkpoint holds something of the object beyond variables, such as a mutable table's rows."""
    if not isinstance(node, Trackable):
        return False
    own = type(node)
    return (
        own._serialize_to_tensors is not Trackable._serialize_to_tensors
        or own._gather_saveables_for_checkpoint is not Trackable._gather_saveables_for_checkpoint
        # One that was loaded has the saved functions that save and restore it.
        or bool(getattr(node, "_self_saveable_object_factories", None))
    )


def _describe_checkpoint(object_graph: Any, variables: Mapping[int, tuple[str, tf.Variable]]) -> bytes:
    """Returns the object graph of a checkpoint: that of the SavedModel, with each variable's key."""
    described = trackable_object_graph_pb2.TrackableObjectGraph()
    for number, node in enumerate(object_graph.nodes):
        copy = described.nodes.add()
        for child in node.children:
            copy.children.add(node_id=child.node_id, local_name=child.local_name)
        if number in variables:
            path, variable = variables[number]
            copy.attributes.add(
                name="VARIABLE_VALUE", full_name=variable._shared_name, checkpoint_key=path + KEY_SUFFIX
            )
            copy.has_checkpoint_values.value = True
    return bytes(described.SerializeToString(deterministic=True))


def _write_checkpoint(
    directory: Path,
    state: State,
    variables: Mapping[int, tuple[str, tf.Variable]],
    object_graph: bytes,
    checksums: Checksums,
) -> None:
    """Writes the variables as one HDF5 file, and the index that makes a checkpoint of it."""
    directory.mkdir(exist_ok=True)
    with lay_out_file() as layout:
        placed = write_weights(layout, state)
        for path, variable in variables.values():
            if path not in placed:
                placed[path] = layout.add(path, variable.numpy)
        checksums.tensors.update(layout.checksums.tensors)
        checksums.structure = layout.close()
        encoded, checksum = encode_string(object_graph)
        write_file(directory / Path(DATA).name, layout, behind=encoded)
    entries = {path + KEY_SUFFIX: _describe_entry(stored) for path, stored in placed.items()}
    offset = checksums.structure.size
    entries[_OBJECT_GRAPH] = BundleEntry(tf.string.as_datatype_enum, (), offset, len(encoded), checksum)
    write_index(directory / Path(INDEX).name, entries)


def _describe_entry(stored: Stored) -> BundleEntry:
    dtype = tf.as_dtype(stored.dtype).as_datatype_enum
    return BundleEntry(dtype, stored.shape, stored.offset, stored.size, stored.checksum)


def _write_fingerprint(staged: Path) -> None:
    """Writes `fingerprint.pb`, whose uuid is a function of the content instead of a random number."""
    (staged / FINGERPRINT).unlink(missing_ok=True)
    if not make_fingerprint(staged):
        return
    fingerprint = fingerprint_pb2.FingerprintDef.FromString((staged / FINGERPRINT).read_bytes())
    fingerprint.uuid = ""
    content = hashlib.sha256(fingerprint.SerializeToString(deterministic=True))
    content.update((staged / GRAPH).read_bytes())
    index = staged / INDEX
    if index.is_file():
        content.update(index.read_bytes())
    fingerprint.uuid = str(int.from_bytes(content.digest()[:16], "big"))
    (staged / FINGERPRINT).write_bytes(fingerprint.SerializeToString(deterministic=True))


def read_saved_model(
    path: Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a SavedModel directory that we or Keras wrote; see `exporter.load_model`."""
    check_directory(path)
    if not (path / STATE).is_file():
        if (path / CONFIG).is_file():
            return read_keras_directory(path, custom_objects, compile, safe_mode)
        if safe_mode:
            check_graph(path / GRAPH)
        return revive_foreign(path)
    with damage_explained(path, CHECKSUMS, (OSError,)):
        sealed = (path / CHECKSUMS).read_bytes()
    checksums = Checksums.from_json(sealed, path)

    def read(name: str) -> bytes:
        with damage_explained(path, name, (OSError,)):
            content = (path / name).read_bytes()
        return checksums.check_part(name, content, path)

    record = StateRecord.from_json(read(STATE))
    own_config = next((place for place in (CONFIG, OWN_CONFIG) if (path / place).is_file()), None)
    if own_config is None and {CONFIG, OWN_CONFIG} & checksums.parts.keys():
        raise ArtifactError(f"{path} lacks its configuration: it is incomplete.")
    config = None if own_config is None else parse_json(read(own_config), f"{path}, {own_config}")
    if FUNCTIONS in checksums.parts:
        functions = Functions.from_json(read(FUNCTIONS))
        needs = {name for unit in functions.units for name in unit.needs}
        needs |= set(functions.missing if compile else ())
        if config is None or not all(is_at_hand(name, custom_objects) for name in needs):
            if safe_mode:
                check_graph(path / GRAPH)
            read(GRAPH)
            for name in checksums.parts:
                if name.startswith(f"{ASSETS}/"):
                    read(name)
            with limit_variables(_count_stored(path) if safe_mode else None):
                return revive_model(path, record, functions, config, custom_objects, compile, safe_mode)
    if (path / CONFIG).is_file():
        return read_keras_directory(path, custom_objects, compile, safe_mode, (record, checksums))
    if config is None:
        raise ArtifactError(
            f"{path} holds no configuration of the model; its functions are there with `tf.saved_model.load`."
        )
    checkpoint = _Checkpoint.open(path, record)
    reader = StateReader(
        variable=checkpoint.read,
        entries=lambda address: checkpoint.read_entries(address),
        asset=lambda name: read(f"{ASSETS}/{name}"),
    )
    with limit_variables(_count_stored(path) if safe_mode else None):
        return revive_state(config, record, reader, custom_objects, compile, safe_mode)


def load_graph(path: Path, tags: Sequence[str], safe_mode: bool) -> Any:
    """Loads a SavedModel as TensorFlow does, after a look at what its graph does.

    Args:
        path: The directory.
        tags: Of the graph.
        safe_mode: Whether a graph that does more than compute is refused.

    Returns:
        What `tf.saved_model.load` returns.

    Raises:
        ArtifactError: It is refused.
    """
    if safe_mode:
        check_graph(path / GRAPH)
    return tf.saved_model.load(str(path), tags=list(tags))


def _count_stored(path: Path) -> int:
    """Returns how many numbers the variables can hold at most: as many as they have bytes."""
    return sum(file.stat().st_size for file in path.glob(SHARDS))


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The variables of a SavedModel as TensorFlow's own writer laid them out."""

    path: Path
    keys: Mapping[str, str]
    reader: Any

    @classmethod
    def open(cls, path: Path, record: StateRecord) -> "_Checkpoint":
        with damage_explained(path, "variables", LOAD_FAULTS):
            reader = tf.train.load_checkpoint(os.fspath(path / "variables" / "variables"))
            graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))

        def child(number: int, name: str) -> int:
            for reference in graph.nodes[number].children:
                if reference.local_name == name and 0 <= reference.node_id < len(graph.nodes):
                    return int(reference.node_id)
            raise ArtifactError(f"The checkpoint of {path} has no object {name!r}: the artifact is incomplete.")

        state = child(child(0, "exporter"), "state")
        variables = {name: graph.nodes[child(state, name)] for name in record.variables}
        lost = [name for name, node in variables.items() if not node.attributes]
        if lost:
            raise ArtifactError(f"The checkpoint of {path} has no value of {lost[0]!r}: the artifact is incomplete.")
        return cls(path, {name: node.attributes[0].checkpoint_key for name, node in variables.items()}, reader)

    def read(self, path: str) -> Array:
        if path not in self.keys:
            raise ArtifactError(f"The checkpoint of {self.path} has no value of {path!r}: the artifact is incomplete.")
        with damage_explained(self.path, path, LOAD_FAULTS):
            value = self.reader.get_tensor(self.keys[path])
        return np.asarray(value)

    def read_entries(self, address: str) -> dict[str, Array]:
        prefix = f"{address}/vars/" if address else "vars/"
        return {path.removeprefix(prefix): self.read(path) for path in self.keys if path.startswith(prefix)}
