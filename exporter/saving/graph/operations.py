"""The operations of a graph that TensorFlow itself does not have, and the libraries that register them."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.safety.graphs.registry import read_registry

Loaded = TypeVar("Loaded")

_UNKNOWN = re.compile(r"Op type not registered '([\w>]+)'")
# What pip installs them by.
_PACKAGES = {"tensorflow_text": "tensorflow-text"}


def load_with_operations(path: Path, load: Callable[[], Loaded]) -> Loaded:
    """Loads a graph, after an import of the library that registers an operation where TensorFlow lacks it.

    Args:
        path: Of the artifact, for errors.
        load: Loads it.

    Raises:
        ArtifactError: No library that is known here, or is installed, has the operation.
    """
    imported = set[str]()
    while True:
        try:
            return load()
        except LOAD_FAULTS as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None:
                raise
            [library] = read_registry().find_libraries([unknown[1]]) or [""]
            needs = f"{path} needs the operation {unknown[1]!r}, which TensorFlow does not have. "
            if not library or library in imported:
                raise ArtifactError(f"{needs}Import the library that has it before the load.") from error
            try:
                importlib.import_module(library)
            except ImportError as missing:
                package = _PACKAGES.get(library, library)
                raise ArtifactError(f"{needs}It is in {library}, which is missing: pip install {package}") from missing
            imported.add(library)
