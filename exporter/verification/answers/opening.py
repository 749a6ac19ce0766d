"""An artifact of any format, opened to be asked. What it computes runs here: this has to be a confined process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.artifacts.inspection import open_artifact
from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat
from exporter.verification.answers.trusting import import_trusted

Ask = Callable[[str, Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Askable:
    """An artifact that can be asked.

    Attributes:
        endpoints: What it takes and returns; a file without endpoints has its model as the one that servers ask.
        ask: Asks an endpoint with an array per input, and returns an array per output.
    """

    endpoints: Mapping[str, Endpoint]
    ask: Ask


@contextmanager
def open_askable(path: Path, trusted: Sequence[str] = ()) -> Iterator[Askable]:
    """Opens an artifact; nothing of it is run that `safe_mode` refuses.

    Args:
        path: The artifact.
        trusted: Modules and packages whose classes and functions it may have.

    Yields:
        It, as long as it is open.

    Raises:
        ArtifactError: It cannot be opened, or it holds weights alone.
    """
    with open_artifact(path) as artifact:
        kind, graph = artifact.format, artifact.graph
        custom_objects = import_trusted(artifact, trusted) if trusted else {}
    chosen = FORMATS.get(kind)
    if isinstance(chosen, DeployedFormat):
        from exporter.verification.deployment.reverification import opened

        with opened(path, chosen) as runtime:
            yield Askable(endpoints=runtime.endpoints, ask=runtime.ask)
    elif graph is not None:
        yield Askable(endpoints=graph.signatures, ask=_open_graph(path, graph.tags))
    elif kind == "weights":
        raise ArtifactError(f"{path} holds weights alone, and nothing that computes. Give an artifact with a model.")
    else:
        yield _open_model(path, custom_objects)


def _open_graph(path: Path, tags: tuple[str, ...]) -> Ask:
    import tensorflow as tf

    from exporter.models.predictions import convert_output
    from exporter.saving.formats.saved_model.reading import load_graph

    loaded = load_graph(path, tags, safe_mode=True)  # its variables live as long as the function below

    def ask(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        function = loaded.signatures[name]
        specs: Mapping[str, Any] = function.structured_input_signature[1]
        given = {key: tf.constant(array, specs[key].dtype) for key, array in arrays.items()}
        return {key: convert_output(value) for key, value in function(**given).items()}

    return ask


def _open_model(path: Path, custom_objects: Mapping[str, Any]) -> Askable:
    from exporter.models.predictions import Predictor
    from exporter.saving.api import load_model
    from exporter.saving.graph.inputs import describe_inputs

    model = load_model(path, custom_objects)
    inputs = describe_inputs(model)
    predictor = Predictor(model, inputs)
    taken = {leaf.name: Tensor(leaf.shape, leaf.dtype) for leaf in inputs.leaves}
    endpoint = Endpoint(taken, predictor.describe_outputs())
    return Askable(
        endpoints={SERVING_DEFAULT: endpoint},
        ask=lambda _, arrays: predictor([arrays[leaf.name] for leaf in inputs.leaves]),
    )
