"""What `exporter inspect` says of an artifact."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.artifacts.inspection.artifacts import Artifact, Config, check_parts, find_oldest_reader, open_artifact
from exporter.artifacts.inspection.configurations import list_custom, list_inputs, list_layers, list_random
from exporter.artifacts.inspection.records import (
    Architecture,
    Group,
    InspectionFields,
    Layer,
    OptimizerState,
    ReceiptSummary,
    TensorSummary,
)
from exporter.artifacts.inspection.showing.inspection_page import show_inspection
from exporter.artifacts.inspection.tensors import StoredTensor
from exporter.artifacts.manifest import Integrity, is_bare
from exporter.artifacts.receipt import Receipt
from exporter.errors import ArtifactError
from exporter.saving.contents import TWIN, ContentItem, Omission, OmissionKind, format_bytes
from exporter.saving.formats import FORMATS
from exporter.saving.state.kinds import Kind, find_kind, is_below
from exporter.storage.digests import FileRecord, digest_files, record_files
from exporter.storage.exchange import read_whole
from exporter.storage.sidecars import name_receipt
from exporter.text.page import Shown
from exporter.text.showing import escape_line, list_first, write_json

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1

# Where the optimizer counts its steps: ours and Keras's, an inner optimizer first; TensorFlow's; the legacy names.
_STEP_PATHS = (
    *("optimizer/inner_optimizer/vars/0", "optimizer/vars/0", "optimizer/_iterations"),
    *("optimizer/iteration", "optimizer/iter"),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Inspection(InspectionFields, Shown):
    """Everything that an artifact says of itself, as a person, a notebook and a file show it."""

    def __repr__(self) -> str:
        """Names the artifact in one line; all of it is in `to_json`."""
        return escape_line(f"<Inspection of {self.path}: {self.format}, {self.total_bytes} bytes>")

    def show(self, console: "Console") -> None:
        """Prints what `exporter inspect` prints."""
        show_inspection(self, console)

    def to_json(self) -> str:
        """Returns it as indented JSON that ends with a newline."""
        return write_json(asdict(self))


def inspect_artifact(path: Path) -> Inspection:
    """Reads what an artifact says of itself. TensorFlow and Keras are not imported.

    Args:
        path: A SavedModel directory, an HDF5 file or a `.keras` archive, by whomever it was written.

    Returns:
        What it says.

    Raises:
        ArtifactError: There is no artifact, or it is damaged.
    """
    try:
        return read_whole(path, lambda: _inspect(path))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def _inspect(path: Path) -> Inspection:
    with open_artifact(path) as artifact:
        files = record_files(path, path.name)
        groups = name_groups(artifact)
        optimizer = read_optimizer(artifact)
        graph = artifact.graph
        return Inspection(
            schema_version=SCHEMA_VERSION,
            path=str(path.absolute()),
            format=artifact.format,
            writer=artifact.writer,
            architecture=describe_architecture(artifact),
            groups=sum_groups(artifact, groups),
            tensors={
                name: TensorSummary(dtype=tensor.dtype, shape=tensor.shape, group=groups[name])
                for name, tensor in artifact.tensors.items()
            },
            optimizer=optimizer,
            signatures=graph.signatures if graph else {},
            method_names=graph.method_names if graph else {},
            tags=graph.tags if graph else (),
            options=_describe_options(artifact),
            operations=graph.operations if graph else {},
            functions=len(graph.functions) if graph else 0,
            reaching_out=graph.reaching_out if graph else (),
            held=_list_held(artifact, groups, optimizer),
            missing=_list_missing(artifact, groups, optimizer),
            custom=_list_custom(artifact),
            lives_without_code=artifact.functions is not None,
            versions=artifact.versions,
            recipe=artifact.recipe,
            files=files,
            total_bytes=sum(record.size for record in files),
            receipt=_read_receipt(path, files),
            oldest_keras=find_oldest_reader(artifact),
            oldest_tensorflow=graph.oldest_tensorflow if graph else "",
        )


def describe_architecture(artifact: Artifact) -> Architecture | None:
    """Describes the model in brief, where there is a configuration.

    Args:
        artifact: The artifact.
    """
    config = artifact.config
    if config is None or "class_name" not in config:
        return None
    arguments = config.get("config")
    name = arguments.get("name", "") if isinstance(arguments, dict) else ""
    layers = tuple(
        replace(layer, parameters=_count_below(artifact.tensors, layer)) for layer in list_layers(artifact.config)
    )
    return Architecture(
        class_name=str(config["class_name"]),
        name=str(name or config.get("name", "")),
        layers=layers,
        inputs=list_inputs(config),
    )


def _count_below(tensors: Mapping[str, StoredTensor], layer: Layer) -> int | None:
    prefixes = (f"{layer.address}/", f"{layer.name}/")
    below = [
        tensor for path, tensor in tensors.items() if path.startswith(prefixes) and find_kind(path) is not Kind.RANDOM
    ]
    known = any(path.startswith("layers/") for path in tensors)
    return sum(tensor.parameters for tensor in below) if below or known else None


def name_groups(artifact: Artifact) -> dict[str, str]:
    """Names the group of each tensor.

    Args:
        artifact: The artifact.

    Returns:
        The group by the tensor's path.
    """
    return {path: _name_group(path, tensor, artifact.optimizers) for path, tensor in artifact.tensors.items()}


def _name_group(path: str, tensor: StoredTensor, optimizers: Collection[str]) -> str:
    kind = find_kind(path, optimizers)
    if kind is not Kind.WEIGHTS:
        return kind.value
    if path.startswith(("metrics/", "keras_api/metrics/", "captured/")):
        return "metrics"
    if path.startswith("_all_variables/"):
        return "copies of weights"  # `model.export` writes them twice
    if tensor.trainable is None:
        return "weights"
    return "trainable weights" if tensor.trainable else "non-trainable weights"


def sum_groups(artifact: Artifact, groups: Mapping[str, str]) -> tuple[Group, ...]:
    """Sums up the tensors of each group.

    Args:
        artifact: The artifact.
        groups: The group of each tensor.

    Returns:
        The groups in the order of their first tensor.
    """
    members: dict[str, list[StoredTensor]] = {}
    for path, name in groups.items():
        members.setdefault(name, []).append(artifact.tensors[path])
    return tuple(
        Group(
            name=name,
            tensors=len(tensors),
            parameters=sum(tensor.parameters for tensor in tensors),
            bytes=sum(tensor.size for tensor in tensors),
        )
        for name, tensors in members.items()
    )


def read_optimizer(artifact: Artifact) -> OptimizerState | None:
    """Reads how far the optimizer has come.

    Args:
        artifact: The artifact, open.

    Returns:
        The optimizer; None if the artifact neither names one nor holds its state.

    Raises:
        ArtifactError: The state is damaged.
    """
    config = (artifact.compile_config or {}).get("optimizer")
    kinds = {path: find_kind(path, artifact.optimizers) for path in artifact.tensors}
    tensors = {path: artifact.tensors[path] for path, kind in kinds.items() if kind is Kind.OPTIMIZER}
    if not config and not tensors:
        return None
    step = None
    for path in _STEP_PATHS:
        tensor = tensors.get(path)
        if tensor is not None and tensor.shape == () and tensor.dtype.startswith(("int", "uint")):
            step = int(tensor.read())
            break
    class_name, rate = _read_optimizer_config(config)
    return OptimizerState(class_name=class_name, step=step, learning_rate=rate)


def _read_optimizer_config(config: object) -> tuple[str, float | str | None]:
    if isinstance(config, str):
        return config, None
    if not isinstance(config, dict):
        return "optimizer", None
    arguments = config.get("config")
    arguments = arguments if isinstance(arguments, dict) else {}
    rate = arguments.get("learning_rate")
    if isinstance(rate, dict):
        rate = str(rate.get("class_name", "schedule"))
    return str(config.get("class_name", "optimizer")).removeprefix("Custom>"), rate


def _describe_options(artifact: Artifact) -> dict[str, Any]:
    graph = artifact.graph
    if graph is None or artifact.computation:
        return {}
    # Without a gradient that needed it, nothing tells whether they were asked for.
    gradients = {"experimental_custom_gradients": True} if graph.has_gradients else {}
    return {
        **gradients,
        "save_debug_info": artifact.has_debug_info,
        "function_aliases": dict(graph.aliases),
        "experimental_skip_saver": not graph.has_saver,
        "experimental_sharding_callback": artifact.shards > 1,
        "extra_tags": [tag for tag in graph.tags if tag != "serve"],
    }


def _list_custom(artifact: Artifact) -> tuple[str, ...]:
    needed = list(list_custom(artifact.config, artifact.compile_config))
    for unit in (artifact.functions or {}).get("units", ()):
        needed += unit.get("needs", ())
    needed += (artifact.functions or {}).get("missing", ())
    return tuple(dict.fromkeys(str(name) for name in needed))


def _list_held(
    artifact: Artifact, groups: Mapping[str, str], optimizer: OptimizerState | None
) -> tuple[ContentItem, ...]:
    held = [ContentItem("computation", artifact.computation)] if artifact.computation else []
    architecture = describe_architecture(artifact)
    if architecture is not None:
        layers = f" of {_count(len(architecture.layers), 'layer')}" if architecture.layers else ""
        held.append(ContentItem("configuration", f"{architecture.class_name}{layers}"))
    for group in sum_groups(artifact, groups):
        if group.name == Kind.OPTIMIZER and optimizer is not None:
            step = "" if optimizer.step is None else f" at step {optimizer.step:,}"
            held.append(ContentItem("optimizer", f"{optimizer.class_name}{step}, {_describe_group(group)}"))
        else:
            held.append(ContentItem(group.name, _describe_group(group)))
    if artifact.compile_config:
        held.append(ContentItem("compile configuration", _describe_compilation(artifact.compile_config)))
    if artifact.tables:
        kinds = (f"{path} ({each.key_dtype} to {each.value_dtype})" for path, each in artifact.tables.items())
        held.append(ContentItem("lookup tables", list_first(list(kinds))))
    files = [name for name in artifact.assets if not is_below(name, artifact.tables)]
    if files:
        held.append(ContentItem("assets", _count(len(files), "file")))
    if artifact.functions is not None:
        held.append(ContentItem("functions", "inference and training: it lives on without the code of its classes"))
    if artifact.graph is not None and artifact.has_twin:
        held.append(ContentItem(TWIN, "stock keras.models.load_model opens the directory"))
    return tuple(held)


def _list_missing(
    artifact: Artifact, groups: Mapping[str, str], optimizer: OptimizerState | None
) -> tuple[Omission, ...]:
    missing = []
    present = set(groups.values())
    if artifact.format in FORMATS and not FORMATS[artifact.format].holds_model:
        why = "it holds what endpoints compute, so nothing can be trained and no keras.Model rebuilt from it"
        return (Omission("the model itself", why, intended=True),)
    if artifact.config is None:
        words = "it has functions and variables only" if artifact.graph else "it holds weights alone"
        missing.append(Omission("configuration", f"{words}, so no keras.Model can be rebuilt from it without its code"))
    if artifact.compile_config is None and artifact.config is not None:
        missing.append(Omission("compile configuration", "it has to be compiled anew before it is trained"))
    if Kind.OPTIMIZER not in present:
        missing.append(Omission("optimizer", "its state is not there, so training starts anew"))
    elif optimizer is not None and optimizer.step is None:
        missing.append(Omission("step", "the optimizer's count of steps was not found"))
    random = list_random(artifact.config)
    if random and Kind.RANDOM not in present:
        names = ", ".join(random[:3]) + (", ..." if len(random) > 3 else "")
        missing.append(Omission("random state", f"{names} draws random numbers, so training does not go on exactly"))
    if artifact.graph is None and artifact.format != "weights":
        missing.append(Omission("endpoints", "its format has no signatures that a server runs"))
    if artifact.record is not None and artifact.graph is not None and not artifact.has_twin:
        why = "stock Keras does not open it; exporter.load_model does"
        missing.append(Omission(TWIN, why, kind=OmissionKind.TWIN))
    if artifact.graph is not None and not artifact.graph.has_saver and artifact.tensors:
        missing.append(Omission("saver", "TF Serving cannot restore the variables; it was left out on request"))
    return tuple(missing)


def _describe_group(group: Group) -> str:
    return f"{_count(group.tensors, 'tensor')}, {_count(group.parameters, 'parameter')}, {format_bytes(group.bytes)}"


def _describe_compilation(config: Config) -> str:
    parts = []
    for key, label in (("loss", "loss"), ("metrics", "metrics"), ("weighted_metrics", "weighted metrics")):
        names = name_objects(config.get(key))
        if names:
            parts.append(f"{label} {', '.join(dict.fromkeys(names))}")
    return "; ".join(parts) or "optimizer only"


def name_objects(value: object) -> list[str]:
    """Names the losses or metrics of a compile configuration, which may be nested.

    Args:
        value: A name, an object's configuration, or lists and mappings of them.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [name for item in value for name in name_objects(item)]
    if isinstance(value, dict):
        if "class_name" not in value:
            return [name for item in value.values() for name in name_objects(item)]
        arguments = value.get("config")
        if isinstance(arguments, str):
            return [arguments]
        named = arguments.get("name") if isinstance(arguments, dict) else None
        return [str(named or value["class_name"])]
    return []


def _read_receipt(path: Path, files: tuple[FileRecord, ...]) -> ReceiptSummary | None:
    beside = name_receipt(path.absolute())
    if not beside.is_file():
        return None
    try:
        receipt = Receipt.from_json(beside.read_text(encoding="utf-8"))
    except (ArtifactError, UnicodeDecodeError) as error:
        return ReceiptSummary(path=str(beside), status="", matches=False, fault=str(error))
    return ReceiptSummary(
        path=str(beside),
        status=str(receipt.status),
        matches=digest_files(receipt.files) == digest_files(files),
        fault="",
        facts=receipt.facts,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def check_sums(path: Path) -> Integrity | None:
    """Reads every tensor and record of an artifact that was saved, and holds each against its checksum inside.

    Args:
        path: The artifact.

    Returns:
        What was read; None where somebody else wrote it, or where the artifact is not as a save leaves it.

    Raises:
        ArtifactError: It is damaged.
    """
    with open_artifact(path) as artifact:
        if artifact.record is None or not is_bare(path):
            return None
        for tensor in artifact.tensors.values():
            tensor.read()
        for read in artifact.assets.values():
            read()
        if path.is_dir():
            check_parts(path)
    files = [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()] if path.is_dir() else [path]
    return Integrity(
        witnesses=("checksums",),
        files=len(files),
        bytes=sum(each.stat().st_size for each in files),
        mismatches=(),
    )
