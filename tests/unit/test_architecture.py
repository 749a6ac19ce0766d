"""The plan of the house: which room may import from which, and who alone knows a heavy or a private library."""

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import exporter

PACKAGE = Path(exporter.__file__).parent

# From the ground up: what the modules of a room may import from other rooms, also inside of their functions. A room
# below another, such as `saving.layout` below `saving`, is one of its own.
ROOMS: dict[str, str] = {
    "typing": "",
    "text": "",
    "errors": "text",
    "processes": "text errors",
    "saving.private_api": "typing",
    "saving.contents": "text",
    "saving.layout": "typing errors processes",
    "saving.compatibility": "typing saving.layout",
    "storage": "text errors processes",
    "storage.remote": "text errors saving.layout storage",
    "saving.safety": "typing errors processes saving.private_api saving.layout",
    "saving.safety.graphs": "typing errors saving.layout",
    "saving.configuration": "text errors saving.contents storage.remote",
    "saving.state": "typing errors saving.private_api saving.configuration",
    "saving.graph": (
        "typing text errors saving.private_api saving.contents saving.layout saving.safety.graphs "
        "saving.configuration saving.state"
    ),
    "saving.deployment": "errors processes saving.contents saving.layout saving.graph",
    "saving.deployment.runtimes": "errors processes saving.contents saving.layout saving.deployment",
    "saving.deployment.converters": (
        "processes saving.contents saving.layout saving.deployment saving.deployment.runtimes"
    ),
    "saving.legacy.classes": "typing",
    "saving.requests": "typing processes saving.safety saving.deployment saving.legacy.classes",
    "saving.rebuilding": (
        "typing text errors processes saving.private_api saving.contents saving.layout saving.compatibility "
        "saving.configuration saving.state saving.requests"
    ),
    "saving.legacy.parts": "typing text errors saving.private_api saving.legacy.classes",
    "saving.legacy": (
        "typing errors saving.private_api saving.layout saving.configuration saving.requests saving.rebuilding "
        "saving.legacy.classes saving.legacy.parts"
    ),
    "saving.functions": (
        "typing text errors saving.private_api saving.layout saving.configuration saving.state saving.graph "
        "saving.requests saving.rebuilding"
    ),
    "saving.revival": (
        "typing text errors saving.layout saving.safety saving.configuration saving.state saving.graph "
        "saving.requests saving.rebuilding saving.functions"
    ),
    "saving.revival.foreign": (
        "typing text errors saving.private_api saving.layout saving.configuration saving.graph saving.rebuilding "
        "saving.functions saving.revival"
    ),
    "saving.formats.parts": (
        "typing text errors saving.private_api saving.contents saving.layout saving.compatibility "
        "saving.configuration saving.state saving.requests saving.legacy.parts saving.legacy"
    ),
    "saving.formats.hdf5": (
        "typing errors saving.private_api saving.contents saving.layout saving.safety saving.configuration "
        "saving.state saving.requests saving.rebuilding saving.legacy.parts saving.legacy saving.formats.parts"
    ),
    "saving.formats.keras_archive": (
        "typing errors saving.private_api saving.contents saving.layout saving.safety saving.configuration "
        "saving.state saving.requests saving.rebuilding saving.formats.parts"
    ),
    "saving.formats.saved_model.keras_2": (
        "typing text errors saving.contents saving.layout saving.configuration saving.requests saving.legacy.parts "
        "saving.legacy saving.revival.foreign"
    ),
    "saving.formats.saved_model": (
        "typing text errors saving.private_api saving.contents saving.layout saving.compatibility saving.safety "
        "saving.safety.graphs saving.configuration saving.state saving.graph saving.requests saving.rebuilding "
        "saving.functions saving.revival saving.revival.foreign saving.formats.parts saving.formats.keras_archive "
        "saving.formats.saved_model.keras_2"
    ),
    "saving.formats": (
        "text errors processes saving.contents saving.layout saving.graph saving.deployment "
        "saving.deployment.runtimes saving.requests saving.formats.hdf5 saving.formats.keras_archive "
        "saving.formats.saved_model"
    ),
    "config": "text errors saving.deployment saving.formats",
    "saving": (
        "typing text errors processes saving.private_api saving.contents saving.layout saving.compatibility storage "
        "storage.remote saving.configuration saving.state saving.graph saving.requests saving.rebuilding "
        "saving.legacy.parts saving.formats.parts saving.formats.hdf5 saving.formats.saved_model.keras_2 "
        "saving.formats.saved_model saving.formats"
    ),
    "artifacts": "text errors saving.contents saving.layout storage storage.remote saving.formats config",
    "artifacts.inspection.records": "saving.contents storage",
    "artifacts.inspection.showing": (
        "text saving.contents storage saving.formats artifacts artifacts.inspection.records"
    ),
    "artifacts.inspection": (
        "typing text errors processes saving.contents saving.layout saving.compatibility storage saving.safety "
        "saving.safety.graphs saving.state saving.deployment.runtimes saving.formats artifacts "
        "artifacts.inspection.records artifacts.inspection.showing"
    ),
    "models": "typing text errors processes saving.private_api saving.contents saving.state saving.graph config",
    "models.training": "typing errors processes saving.private_api saving.state saving.graph models",
    "sources": (
        "text errors saving.layout storage storage.remote saving.safety saving.configuration saving.requests "
        "saving.legacy saving.formats.saved_model saving.formats saving artifacts.inspection models"
    ),
    "transforms": "errors sources",
    "models.endpoints": (
        "typing text errors processes saving.private_api saving.state saving.graph saving.formats.saved_model config "
        "transforms models models.training"
    ),
    "verification.comparing": (
        "typing text errors processes saving.private_api saving.contents saving.layout saving.state saving.graph "
        "saving.formats config artifacts models models.training"
    ),
    "verification.checks.state": (
        "typing saving.private_api saving.contents saving.state saving.rebuilding artifacts verification.comparing"
    ),
    "verification.checks.answers": (
        "typing text processes saving.private_api saving.contents saving.graph config artifacts models "
        "models.training models.endpoints verification.comparing"
    ),
    "verification.checks": (
        "typing saving.contents saving.graph config artifacts models models.training verification.comparing"
    ),
    "verification.deployment.quality": (
        "text errors processes saving.graph saving.deployment config artifacts models models.endpoints sources"
    ),
    "verification.deployment": (
        "typing text errors processes saving.contents saving.layout saving.state saving.deployment "
        "saving.deployment.runtimes saving.formats config artifacts models models.training verification.comparing "
        "verification.deployment.quality"
    ),
    "verification.environments": (
        "typing text errors processes saving.contents saving.state saving.graph saving.deployment saving.formats "
        "config artifacts models models.training verification.comparing verification.deployment"
    ),
    "verification": (
        "typing errors processes saving.private_api saving.contents saving.configuration saving.state saving.graph "
        "saving.formats.saved_model saving.formats config saving artifacts models models.training models.endpoints "
        "sources verification.comparing verification.checks verification.deployment verification.environments"
    ),
    "verification.answers": (
        "text errors processes saving.contents saving.layout saving.graph saving.formats.saved_model saving.formats "
        "saving artifacts.inspection models verification.deployment"
    ),
    "verification.regressions": (
        "text errors saving.contents saving.graph config artifacts artifacts.inspection models.endpoints "
        "verification.deployment.quality verification.answers"
    ),
    "exporting.destinations": (
        "text errors saving.contents saving.layout storage storage.remote saving.safety saving.formats config saving "
        "artifacts"
    ),
    "exporting": (
        "text errors processes saving.contents saving.layout saving.compatibility storage storage.remote "
        "saving.deployment saving.requests saving.formats.saved_model saving.formats config saving artifacts "
        "transforms models models.endpoints sources verification.comparing verification.deployment.quality "
        "verification.deployment verification.environments verification verification.regressions "
        "exporting.destinations"
    ),
    "exporting.dry_run": (
        "text errors processes saving.contents saving.compatibility storage.remote saving.deployment saving.requests "
        "saving.formats config saving artifacts models models.endpoints verification exporting.destinations exporting"
    ),
    "sweeps.records": "text errors saving.layout storage storage.remote saving.formats config artifacts exporting",
    "sweeps.tables": "text errors saving.contents storage sweeps.records",
    "sweeps.showing": (
        "text errors saving.contents storage storage.remote saving.formats artifacts sweeps.records sweeps.tables"
    ),
    "sweeps": (
        "text errors processes storage storage.remote config artifacts exporting sweeps.records sweeps.tables "
        "sweeps.showing"
    ),
    "cli.help": "text errors saving.formats config artifacts transforms sources",
    "cli": (
        "text errors processes storage storage.remote saving.formats config artifacts sources exporting.destinations "
        "exporting sweeps.records sweeps cli.help"
    ),
    "cli.rerunning": (
        "text errors storage.remote saving.formats config artifacts artifacts.inspection transforms sources exporting "
        "cli"
    ),
    "cli.commands.recipes": (
        "text errors saving.layout storage.remote config artifacts artifacts.inspection models sources exporting "
        "exporting.dry_run cli.help cli"
    ),
    "cli.commands": (
        "text errors processes saving.contents saving.layout storage storage.remote saving.formats config artifacts "
        "artifacts.inspection verification.deployment verification.environments "
        "verification verification.answers exporting cli cli.rerunning"
    ),
    "cli.commands.explaining": "text errors saving.formats config cli.help cli.commands",
    "cli.commands.sweeps": "text sweeps.tables sweeps.showing",
    "cli.commands.versions": (
        "text saving.contents storage.remote artifacts artifacts.inspection.showing exporting.destinations cli.commands"
    ),
    "api": (
        "errors config artifacts artifacts.inspection.showing artifacts.inspection exporting exporting.dry_run cli "
        "cli.commands cli.commands.versions"
    ),
    "__main__": "processes cli.help cli cli.commands",
}
FLOOR_OF = {room: number for number, room in enumerate(ROOMS)}
# Entries directly below `exporter/`: what someone reads first.
MOST_ENTRIES = 20
# Modules of one room; a package's `__init__` is its sign on the door.
MOST_MODULES = 9
MOST_LINES = 500
MOST_LINES_OF_A_FUNCTION = 60
# May import the public names of Hydra and OmegaConf; what is private, only `cli/hydra_private.py`.
KNOW_HYDRA = ("cli.main", "cli.composing", "cli.hydra_private", "cli.preflight", "models.instantiating")
# Load a SavedModel with TensorFlow: the first after a look at its graph, those of revival only when the first calls
# them, and the last in another environment what was looked at here.
LOAD_GRAPHS = {Path("saving", "formats", "saved_model", "reading.py")} | {
    *(Path("saving", "revival", name) for name in ("models.py", "foreign/reviving.py")),
    Path("verification", "environments", "visitor.py"),
}

FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def name_module(file: Path) -> str:
    """Names a module below `exporter`, a package by its folder."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(file): file for file in FILES}


def find_room(module: str) -> str:
    """Names the smallest room that a module is in."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default=module)


def list_own_imports(file: Path) -> Iterator[str]:
    """Gives the modules of ours that a module imports anywhere."""
    for name, _ in list_imports(file):
        head, _, rest = name.partition(".")
        if head == "exporter" and rest:
            found = rest if rest in MODULES else rest.rpartition(".")[0]
            yield found if found in MODULES else rest


@cache
def list_imports(file: Path) -> list[tuple[str, bool]]:
    """Gives every imported name, and whether it is imported when the module is."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} line {node.lineno}: write the whole name of the module"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [(name, id(node) not in inside) for name in names]
    return found


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


def list_packages(module: str) -> list[str]:
    """Gives a module after the packages that it is in."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def test_the_house_is_small_enough_to_be_seen_at_once() -> None:
    entries = [entry.name for entry in PACKAGE.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES
    assert not [name for name in entries if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room.replace(".", "/")).is_dir()])
def test_a_room_has_few_modules(room: str) -> None:
    modules = [file for file in (PACKAGE / room.replace(".", "/")).glob("*.py") if not file.name.startswith("__")]
    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_and_its_functions_are_short(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    long = {each.name: each.end_lineno - each.lineno + 1 for each in functions if each.end_lineno}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_a_room_imports_only_from_rooms_below_it() -> None:
    for room, allowed in ROOMS.items():
        assert [below for below in allowed.split() if FLOOR_OF[below] >= FLOOR_OF[room]] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    room = find_room(module)
    others = {find_room(other) for other in list_own_imports(MODULES[module])} - {room}
    assert others <= set(ROOMS[room].split())


def test_a_room_may_import_nothing_that_it_does_not_need() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, file in MODULES.items():
        room = find_room(module)
        used[room] |= {find_room(other) for other in list_own_imports(file)} - {room}
    assert used == {room: set(allowed.split()) for room, allowed in ROOMS.items()}


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {}
    for module, file in MODULES.items():
        # Python imports a package before what is in it, and then the package may not need that module in turn.
        imported = {above for other in list_own_imports(file) for above in list_packages(other)}
        arrows[module] = imported - {module, *list_packages(module)}
    assert list(graphlib.TopologicalSorter(arrows).static_order())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_private_code_of_keras_and_tensorflow_is_imported_in_one_place(file: Path) -> None:
    private = [name for name, _ in list_imports(file) if name.startswith(("keras.src", "tensorflow.python"))]
    assert not private or file.relative_to(PACKAGE) == Path("saving", "private_api.py")


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


@pytest.mark.parametrize("module", MODULES)
def test_few_modules_know_hydra(module: str) -> None:
    known = {name.partition(".")[0] for name, _ in list_imports(MODULES[module])} & {"hydra", "omegaconf"}
    assert not known or any(room in KNOW_HYDRA for room in list_packages(module))


@pytest.mark.parametrize("module", MODULES)
def test_private_code_of_hydra_is_used_in_one_place(module: str) -> None:
    # What keeps something for the whole process is as private as what has an underscore.
    private = [
        name
        for name, _ in list_imports(MODULES[module])
        if re.match(r"(hydra|omegaconf)\b.*\._|hydra\.core\.singleton\b|omegaconf\.base", name)
    ]
    assert not private or module == "cli.hydra_private"


def test_the_public_surface() -> None:
    assert exporter.__all__ == [
        "ArgumentError",
        "ArtifactError",
        "Comparison",
        "ExportConfig",
        "ExportError",
        "ExporterError",
        "Fault",
        "Forecast",
        "ForeignFileError",
        "Inspection",
        "LeftOutWarning",
        "LockTimeoutError",
        "MissingDependencyError",
        "ModelError",
        "NotAModelError",
        "ProofError",
        "Receipt",
        "RefusedExportError",
        "RegressionError",
        "SignatureComparison",
        "SpaceError",
        "TargetExistsError",
        "UsageError",
        "Verification",
        "Versions",
        "check",
        "compose",
        "diff",
        "export",
        "inspect",
        "load_model",
        "rerun",
        "save_model",
        "verify",
        "versions",
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
