"""The Keras model in what `tf.keras.experimental.export_saved_model` of TensorFlow 1.14 and 1.15 wrote.

Its layers stand in a JSON beside the graphs for training, evaluation and serving, and their weights in the checkpoint.
"""

from pathlib import Path

from exporter.errors import ArtifactError
from exporter.saving.contents import Omission, note_lost
from exporter.saving.formats.saved_model.keras_2.checkpoints import load_checkpoint
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.names import EXPORTED_CONFIG, INDEX
from exporter.saving.legacy.loading import build_model
from exporter.saving.legacy.parts.findings import losses_collected
from exporter.saving.requests import LoadRequest
from exporter.typing.keras import Model

_WHAT = "optimizer and compile configuration"


def rebuild_exported(path: Path, request: LoadRequest) -> Model:
    """Rebuilds the model with its layers; no graph of it is run.

    Args:
        path: The SavedModel.
        request: What is asked of the load.

    Returns:
        The model; what it is without is noted, see `list_lost`.

    Raises:
        ArtifactError: Its layers cannot be rebuilt.
    """
    config = parse_json((path / EXPORTED_CONFIG).read_bytes(), f"{path}, {EXPORTED_CONFIG}")
    if not isinstance(config, dict):
        raise ArtifactError(f"{path}, {EXPORTED_CONFIG} is damaged: expected a mapping.")
    told: list[str] = []
    with losses_collected(told):
        model = build_model(config, str(config.get("keras_version", "2")), path, request)
    load_checkpoint(model, (path / INDEX).with_suffix(""))
    lost = [Omission("layers", each) for each in told]
    if request.compile:
        lost.append(Omission(_WHAT, "export_saved_model did not keep how the model was compiled; compile it anew"))
    note_lost(model, lost)
    return model
