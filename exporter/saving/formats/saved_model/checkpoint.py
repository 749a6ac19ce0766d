"""The variables of a SavedModel as TensorFlow's own writer laid them out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.tensor_bundle import OBJECT_GRAPH
from exporter.saving.rebuilding.record import StateRecord
from exporter.saving.state.collecting import Array


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The variables of a SavedModel as TensorFlow's own writer laid them out."""

    path: Path
    keys: Mapping[str, str]
    reader: Any

    @classmethod
    def open(cls, path: Path, record: StateRecord) -> "Checkpoint":
        """Finds the key of each variable in the checkpoint."""
        with damage_explained(path, "variables", LOAD_FAULTS):
            reader = tf.train.load_checkpoint(os.fspath(path / "variables" / "variables"))
            graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))

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
        """Reads one variable."""
        if path not in self.keys:
            raise ArtifactError(f"The checkpoint of {self.path} has no value of {path!r}: the artifact is incomplete.")
        with damage_explained(self.path, path, LOAD_FAULTS):
            value = self.reader.get_tensor(self.keys[path])
        return np.asarray(value)

    def read_entries(self, address: str) -> dict[str, Array]:
        """Reads the variables of one object."""
        prefix = f"{address}/vars/" if address else "vars/"
        return {path.removeprefix(prefix): self.read(path) for path in self.keys if path.startswith(prefix)}
