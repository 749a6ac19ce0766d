"""How the folder's models are exported: with declared endpoints, as a recipe would."""

from pathlib import Path

import keras

from exporter import save_model
from exporter.config import SignatureConfig
from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints


def export(model: keras.Model, path: Path, **declared: SignatureConfig) -> None:
    """Writes a model with endpoints.

    Args:
        model: A built model.
        path: The directory.
        **declared: The endpoints by name, as they stand under `signatures`; none for `serving_default`.
    """
    with kept_for_endpoints(model, declared):
        endpoints = build_endpoints(model, declared)
        save_model(model, path, signatures={name: built.function for name, built in endpoints.items()} or None)
