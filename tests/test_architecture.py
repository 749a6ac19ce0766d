"""The floors of the house: a module imports only from lower ones, and few know the heavy libraries."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import exporter

PACKAGE = Path(exporter.__file__).parent

# From the ground up. Modules of one floor may import each other.
FLOORS = [
    {
        *("config", "errors", "_environment", "_staging", "_exchange", "_locks", "_signals", "_arrays", "_schema"),
        *("_paths", "_collector", "_companions", "_text", "_logs", "_own_files"),
    },
    {"stores"},
    {"saving", "safety"},
    {
        *("sources", "transforms", "endpoints", "proof"),
        *("options", "layouts", "remote_layouts", "publishing", "manifests", "receipts", "serving_requests", "signing"),
        *("_limits", "_references", "provenance", "_page", "_receipt_table", "_terminal"),
    },
    {"jobs", "sweeps", "inspection", "schemas"},
    {"commands", "cli", "__main__", "exporting", "rerunning", "_hydra", "_preflight", "_interpolations"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}
KNOW_HYDRA = {"cli", "_hydra", "_preflight", "_interpolations"}
# Load a SavedModel with TensorFlow: the first after a look at its graph, the second only when the first calls it.
LOAD_GRAPHS = {Path("saving", "saved_model.py"), Path("saving", "revival.py")}
# Calls what a recipe names, and is told by Hydra how: the one step upwards, taken when it is needed.
UPWARDS = {("sources", "_hydra")}

FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def name_room(file: Path) -> str:
    """Names the module, or the package directly below `exporter` that it is in."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def list_imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Gives every imported name, and whether it is imported when the module is."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} line {node.lineno}: write the whole name of the module"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name, id(node) not in inside


def list_graph_loads(source: str) -> list[str]:
    """Lists what a module names of TensorFlow that loads a SavedModel, called or handed on."""
    tree = ast.parse(source)
    named = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    named += [name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in (a.name for a in node.names)]
    named += [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    return [name for name in named if _LOADS_A_GRAPH.search(name)]


# `tf.saved_model.load`, the older names below `tf.compat.v1`, an import of them under another name, Keras's layer.
_LOADS_A_GRAPH = re.compile(r"(^|\.)saved_model\.(load|load_v2|loader)\b|^tensorflow\..*\bsaved_model$|\bTFSMLayer$")


def test_every_module_has_its_floor() -> None:
    assert {name_room(file) for file in FILES} <= set(FLOOR_OF)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(file: Path) -> None:
    room = name_room(file)
    for name, is_early in list_imports(file):
        parts = name.split(".")
        if parts[0] != "exporter" or len(parts) == 1:
            continue
        other = parts[1]
        if (room, other) in UPWARDS:
            assert not is_early, f"{name} is imported early"
        elif other in FLOOR_OF:
            assert FLOOR_OF[other] <= FLOOR_OF[room], f"{name} is on a higher floor"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_private_code_of_keras_and_tensorflow_is_imported_in_one_place(file: Path) -> None:
    private = [name for name, _ in list_imports(file) if name.startswith(("keras.src", "tensorflow.python"))]
    assert not private or file.relative_to(PACKAGE) == Path("saving", "internals.py")


def test_a_graph_is_loaded_only_where_it_is_checked_first() -> None:
    loading = {file.relative_to(PACKAGE) for file in FILES if list_graph_loads(file.read_text(encoding="utf-8"))}
    assert loading == LOAD_GRAPHS


@pytest.mark.parametrize(
    "line",
    [
        "tf.saved_model.load(path)",
        "load = tf.saved_model.load",
        "tf.compat.v1.saved_model.load_v2(path)",
        "tf.compat.v1.saved_model.loader.load(session, tags, path)",
        "from tensorflow import saved_model",
        "from tensorflow.saved_model import load as read",
        "import tensorflow.compat.v1.saved_model as graphs",
        "keras.layers.TFSMLayer(path)",
    ],
)
def test_a_load_of_a_graph_is_seen_however_it_is_written(line: str) -> None:
    assert list_graph_loads(line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_top_floor_knows_hydra(file: Path) -> None:
    known = {name.partition(".")[0] for name, _ in list_imports(file)}
    assert name_room(file) in KNOW_HYDRA or not known & {"hydra", "omegaconf"}


@pytest.mark.parametrize(
    "file", [file for file in FILES if name_room(file) == "saving"], ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_the_save_core_knows_nothing_of_configs(file: Path) -> None:
    assert not [name for name, _ in list_imports(file) if name.startswith("exporter.config")]


@pytest.mark.parametrize(
    "module",
    [
        "exporter",
        "exporter.cli",
        "exporter.jobs",
        "exporter.saving",
        "exporter.sources",
        "exporter._terminal",
        "exporter.sweeps.conducting",
        "exporter.sweeps.worker",
        "exporter.inspection",
        "exporter.commands",
    ],
)
def test_an_import_loads_neither_tensorflow_nor_keras_nor_h5py(
    module: str, blocked_environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], env=blocked_environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_public_surface() -> None:
    assert exporter.__all__ == [
        "ArgumentError",
        "ArtifactError",
        "ExportConfig",
        "ExportError",
        "ExporterError",
        "Fault",
        "ForeignFileError",
        "LockTimeoutError",
        "MissingDependencyError",
        "ModelError",
        "NotAModelError",
        "ProofError",
        "Receipt",
        "SpaceError",
        "TargetExistsError",
        "UsageError",
        "compose",
        "export",
        "load_model",
        "save_model",
    ]
    for name in exporter.__all__:
        assert getattr(exporter, name).__name__ == name
    assert dir(exporter) == exporter.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'exporter' has no attribute 'savemodel'$"):
        _ = exporter.savemodel


def test_every_error_of_ours_is_public() -> None:
    from exporter import errors

    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined <= set(exporter.__all__)
