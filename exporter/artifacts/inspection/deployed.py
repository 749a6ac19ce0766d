"""An artifact that holds what endpoints compute, opened without TensorFlow and without computing anything."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from exporter.artifacts.inspection.artifacts import Artifact, parse_inputs, parse_recipe_note
from exporter.artifacts.inspection.graphs import Graph
from exporter.artifacts.inspection.tensors import StoredTensor
from exporter.errors import ArtifactError
from exporter.saving.deployment.runtimes.base import FileContent
from exporter.saving.formats import find_format
from exporter.saving.formats.deployed import DeployedFormat, describe_quantization
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.names import INPUTS, RECIPE, VERSIONS


def open_deployed(path: Path, stack: ExitStack) -> Artifact:
    """Opens an artifact of any writer; see `Format.inspect`."""
    chosen = find_format(path)
    assert isinstance(chosen, DeployedFormat)
    content = chosen.find_runtime().read_file(path)
    document = content.document
    notes = document.notes if document else {}
    versions = _read_versions(notes.get(VERSIONS), path)
    exporter = f"exporter {versions['exporter']}" if "exporter" in versions else "exporter"
    return Artifact(
        path=path,
        format=chosen.name,
        writer=f"{exporter} with {content.writer}".removesuffix(" with ") if document else content.writer or "unknown",
        computation=describe_quantization(document) if document else "",
        tensors={
            name: StoredTensor(each.dtype, each.shape, each.size, each.read) for name, each in content.constants.items()
        },
        graph=_describe_graph(content),
        versions=versions,
        recipe=parse_recipe_note(notes.get(RECIPE), path),
        inputs=parse_inputs(notes.get(INPUTS), path),
        shards=1,
    )


def _describe_graph(content: FileContent) -> Graph:
    signatures = content.document.endpoints if content.document else content.endpoints
    return Graph(
        tags=(),
        graphs=len(signatures),
        signatures=signatures,
        method_names={},
        operations=content.operations,
        reaching_out=content.foreign,
        functions=(),
        aliases={},
        has_gradients=False,
        has_saver=False,
        assets=(),
        tensorflow_version="",
        oldest_tensorflow="",
    )


def _read_versions(text: Any, path: Path) -> dict[str, str]:
    if text is None:
        return {}
    versions = parse_json(text, f"The versions inside {path}")
    if not isinstance(versions, dict):
        raise ArtifactError(f"The versions inside {path} are damaged: expected a mapping.")
    return {str(name): str(version) for name, version in versions.items()}
