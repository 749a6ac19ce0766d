"""Files that were given to one source and belong to another: told by their bytes, without TensorFlow."""

from __future__ import annotations

import shlex
from pathlib import Path

from exporter.saving.formats import find_format
from exporter.saving.formats.format import read_head
from exporter.saving.layout.documents import is_yaml_configuration
from exporter.saving.layout.tensor_bundle import is_checkpoint

_HDF5 = b"\x89HDF\r\n\x1a\n"
# What Keras's files of weights have: those of Keras 3, and those in the legacy layout.
_LAYERS = {"layers", "_layer_checkpoint_dependencies"}
_LAYER_NAMES = {"layer_names", "layer_names0"}
# How much of a file may be blank before its configuration begins.
_HEAD_BYTES = 64


def explain_no_model(path: Path) -> str | None:
    """Says which source takes what `model=file` does not; None for what may be a model.

    Args:
        path: A file or a directory that is there.
    """
    if path.is_dir():
        if find_format(path) is None and (path / "checkpoint").is_file():
            prefix = next((each.with_suffix("") for each in sorted(path.glob("*.index"))), path / "PREFIX")
            return f"{path} is a checkpoint: weights without a model. {_word_weights(prefix)}"
        return None
    if is_checkpoint(path.with_suffix("")) and path.suffix.startswith((".index", ".data-")):
        return f"{path} is a part of a checkpoint: weights without a model. " + _word_weights(path.with_suffix(""))
    language = _find_language(path)
    if language:
        remedy = f"model=architecture {shlex.quote(f'model.config={path}')} model.weights=WEIGHTS"
        return f"{path} is {language}: the configuration of a model without its weights. Use {remedy}"
    if _holds_weights_alone(path):
        return f"{path} holds weights without a model. {_word_weights(path)}"
    return None


def explain_no_configuration(path: Path) -> str | None:
    """Says which source takes what is no configuration; None for what may be one.

    Args:
        path: A file or a directory that is there.
    """
    found = find_format(path)
    if found is None or not found.holds_model:
        return None
    if path.is_file() and _holds_weights_alone(path):
        return f"{path} holds weights. Set `model.weights` to it, and `model.config` to the model's JSON"
    return f"{path} is {found.noun}, which holds the whole model. Use {word_file(path)}"


def word_checkpoint(prefix: str) -> str:
    """Says what takes a checkpoint, by the prefix that it was given by."""
    return f"{prefix} is the prefix of a checkpoint: weights without a model. {_word_weights(Path(prefix))}"


def word_file(path: Path) -> str:
    """Writes how a whole model is loaded, as a shell takes it."""
    return f"model=file {shlex.quote(f'model.filepath={path}')}"


def _word_weights(path: Path) -> str:
    return f"Use model=architecture model.config=CONFIG.json {shlex.quote(f'model.weights={path}')}"


def _find_language(path: Path) -> str:
    """Names the language of a configuration by how the file begins; empty where it is none."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    return "JSON" if head.startswith(b"{") else "YAML" if is_yaml_configuration(head) else ""


def _holds_weights_alone(path: Path) -> bool:
    """Tells whether a file is one of Keras's files of weights: in the layout of Keras 3, or in the legacy one."""
    if not read_head(path).startswith(_HDF5):
        return False
    try:
        import h5py

        with h5py.File(path) as file:
            is_model = "model_config" in file.attrs
            return not is_model and (_LAYERS & set(file) != set() or _LAYER_NAMES & set(file.attrs) != set())
    except (ImportError, OSError, RuntimeError):  # whoever reads it says so
        return False
