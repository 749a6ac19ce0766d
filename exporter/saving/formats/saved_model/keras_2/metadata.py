"""What Keras 2 noted of the objects in a SavedModel: beside the graph, or in TensorFlow 2.0 to 2.4 inside of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.contents import LAYERS, SERVING_DEFAULT, Omission, Tensor
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.messages import DTYPES, SavedMetadata
from exporter.saving.layout.names import KERAS_2_METADATA
from exporter.saving.requests import LoadRequest
from exporter.typing import messages
from exporter.typing.structures import Config

_IDENTIFIERS = "_tf_keras_"
_MODELS = frozenset({"_tf_keras_model", "_tf_keras_network", "_tf_keras_sequential"})


@dataclass(frozen=True, slots=True)
class Metadata:
    """The notes, by the number of the object.

    Attributes:
        texts: Each as JSON.
        children: The objects inside of each, by name.
        inputs: What `serving_default` takes, by name; nothing if there is none, or it is of any rank.
    """

    texts: Mapping[int, str]
    children: Mapping[int, Mapping[str, int]]
    inputs: Mapping[str, Tensor]

    def read(self, number: int) -> Config:
        """Reads one of them; empty where there is none."""
        text = self.texts.get(number)
        content = {} if text is None else parse_json(text, f"The metadata of the object {number}")
        if not isinstance(content, dict):
            raise ArtifactError(f"The metadata of the object {number} is damaged: it is no mapping.")
        return cast(Config, content)

    def name_layers(self, number: int) -> dict[str, str]:
        """Names the layers of a model, each with the name of the child that it is."""
        named: dict[str, str] = {}
        for child, place in self.children.get(number, {}).items():
            if child.startswith("layer-") and place in self.texts:
                named[str(self.read(place).get("name"))] = child
        return named


def name_lost(graph: messages.MetaGraphDef, request: LoadRequest, why: str) -> tuple[Omission, ...]:
    """Names what a model is without that was revived from the functions which Keras 2 saved.

    Args:
        graph: The graph of the SavedModel.
        request: What was asked of the load.
        why: The layers could not be rebuilt.

    Returns:
        The layers and what comes with them; nothing if the root object is no model of Keras 2.
    """
    objects = graph.object_graph_def.nodes
    if not objects or objects[0].user_object.identifier not in _MODELS:
        return ()
    lost = [Omission(LAYERS, f"the SavedModel's own could not be rebuilt, it lives on as its functions: {why}")]
    if request.compile and any(child.local_name == "optimizer" for child in objects[0].children):
        why = "the SavedModel's own could not be rebuilt without the layers: compile the model anew"
        lost.append(Omission("optimizer and compile configuration", why))
    return tuple(lost)


def read_metadata(path: Path, graph: messages.MetaGraphDef) -> Metadata | None:
    """Reads the notes of a SavedModel.

    Args:
        path: The directory.
        graph: Its graph.

    Returns:
        The notes; None if its root object is no model of Keras 2.

    Raises:
        ArtifactError: They are damaged.
    """
    objects = graph.object_graph_def.nodes
    file = path / KERAS_2_METADATA
    if file.is_file():
        try:
            nodes = SavedMetadata.FromString(file.read_bytes()).nodes
        except (DecodeError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file} is damaged: {error}.") from error
        notes = {node.node_id: (node.identifier, node.metadata) for node in nodes}
    else:
        notes = {
            number: (each.user_object.identifier, each.user_object.metadata) for number, each in enumerate(objects)
        }
    if notes.get(0, ("", ""))[0] not in _MODELS or not notes[0][1]:
        return None
    return Metadata(
        {number: text for number, (kind, text) in notes.items() if kind.startswith(_IDENTIFIERS) and text},
        {number: {child.local_name: child.node_id for child in each.children} for number, each in enumerate(objects)},
        _read_inputs(graph),
    )


def _read_inputs(graph: messages.MetaGraphDef) -> dict[str, Tensor]:
    taken = next((entry.value.inputs for entry in graph.signature_def if entry.key == SERVING_DEFAULT), ())
    if any(entry.value.tensor_shape.unknown_rank for entry in taken):
        return {}
    return {
        entry.key: Tensor(
            tuple(None if dim.size < 0 else dim.size for dim in entry.value.tensor_shape.dim),
            DTYPES.get(entry.value.dtype, "float32"),
        )
        for entry in sorted(taken, key=lambda entry: entry.key)
    }
