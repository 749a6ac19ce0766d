"""The save core: a Keras model to and from an artifact on disk, in the exact same state."""

from exporter.saving.api import load_model, save_model

__all__ = ["load_model", "save_model"]
