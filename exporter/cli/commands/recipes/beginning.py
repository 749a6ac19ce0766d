"""Writes a recipe for a model: a file, or a function or a model in a module: exporter init model.keras -o mine.yaml.

The recipe says what differs from the defaults, runs as it stands, and is yours to edit. Nothing of the model is run,
and TensorFlow is not imported.
"""

import argparse
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.cli.commands.recipes.listing import write_new
from exporter.errors import Fault, UsageError
from exporter.text.showing import escape_interpolations, escape_line, print_line

if TYPE_CHECKING:
    from exporter.artifacts.inspection import Inspection

_SUFFIX = "${exporter.suffix:${save_format}}"
_OPTIONS = """
# What can be changed is listed by `exporter help keys`, such as:
#
#   save_format: keras        # by the suffix of filepath, where it has one
#   include_optimizer: false  # the optimizer's state and the compile configuration
#   strict: true              # what the format cannot hold is an error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a model's file or directory, or MODULE.py:NAME")
    parser.add_argument("-o", metavar="FILE", dest="output", help="where the recipe goes (default: ./NAME.yaml)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.cli.composing import own_hydra
    from exporter.cli.shorthands import expand, make_importable

    with own_hydra():
        found = expand([arguments.model])
    make_importable(found.directories)  # nothing of them is imported, but its arguments are looked up
    group, _, value = "=".join(each.partition("=")[2] for each in found.overrides).partition("=")
    if group not in ("file", "custom"):
        expected = "expected the file or the directory of a model, or MODULE.py:NAME"
        raise UsageError([Fault(arguments.model, expected, "the command line")])
    value = json.loads(value) if value.startswith('"') else value.strip("'")
    name = value.rpartition(".")[2] if group == "custom" else Path(value).stem
    target = Path(arguments.output or f"{name}.yaml").expanduser()
    if group == "custom":
        _check_importable(found.directories, target)
        text = _write_for_function(value, name)
    else:
        text = _write_for_file(value, name)
    write_new(target, text.replace("RECIPE", shlex.quote(str(target))), "-o")
    print_line(f"{target} is yours to edit. It runs with")
    print_line(f"  exporter {shlex.quote(str(target))}")
    return 0


def _check_importable(directories: list[str], target: Path) -> None:
    """Refuses a recipe that would not find its module: it is looked for beside it, and where it is run."""
    known = {os.path.realpath(each) for each in (os.getcwd(), target.absolute().parent)}
    for directory in directories:
        if os.path.realpath(directory) not in known:
            remedy = shlex.quote(os.path.join(directory, target.name))
            raise UsageError([Fault("-o", f"the module would not be found from there: write it with -o {remedy}")])


def _write_for_file(path: str, name: str) -> str:
    from exporter.artifacts.inspection import inspect_artifact
    from exporter.sources._presets import is_preset
    from exporter.storage.remote import is_url

    told: list[str] = []
    needed: Mapping[str, str] = {}
    if not is_url(path) and not is_preset(Path(path)):
        inspection = inspect_artifact(Path(path).expanduser())
        told = list(_describe(inspection))
        needed = _find_needed(Path(path).expanduser(), inspection)
    head = _write_head([f"Exports {path}, a model that is on disk already.", *told])
    lines = ["model:", f"  filepath: {_quote(path)}"]
    if needed:
        lines += ["  custom_objects:  # where the classes of its own are"]
        lines += [f"    {_quote(each)}: {_quote(place)}" for each, place in needed.items()]
    return f"{head}\ndefaults:\n  - config\n  - override model: file\n  - _self_\n\n" + "\n".join(
        [*lines, f"filepath: {_quote(f'exports/{name}-export', _SUFFIX)}", _OPTIONS]
    )


def _write_for_function(target: str, name: str) -> str:
    from exporter.models.definitions import find_definition

    definition = find_definition(target)
    known, required = (definition.list_parameters() if definition is not None else None) or ((), ())
    given = [each for each in required if each != "report"]
    others = [each for each in known if each not in (*given, "report")]
    head = _write_head([f"Exports the model {target}."])
    lines = ["model:", f"  _target_: {target}"]
    lines += [f"  {each}: ???  # it has no default" for each in given]
    if others:
        lines += [f"  # It also takes {', '.join(others)}."]
    return f"{head}\ndefaults:\n  - config\n  - override model: custom\n  - _self_\n\n" + "\n".join(
        [*lines, f"filepath: {_quote(f'exports/{name}', _SUFFIX)}", _OPTIONS]
    )


def _write_head(told: list[str]) -> str:
    tells = "Before it is run, this tells what each format can hold:"
    lines = [*told, "", "  exporter RECIPE", "", tells, "", "  exporter check RECIPE"]
    return "\n".join(f"# {escape_line(line)}".rstrip() for line in lines)


def _describe(inspection: "Inspection") -> Iterator[str]:
    """Says in comments what is known of a model."""
    architecture = inspection.architecture
    if architecture is not None:
        yield f"It is {architecture.class_name} {architecture.name!r}, written by {inspection.writer}."
        for each in architecture.inputs:
            yield f"It takes {each.name}: {each.dtype} {list(each.shape or ())}.".replace("None", "null")
    if inspection.optimizer is not None:
        yield f"Its optimizer is {inspection.optimizer.class_name}."


def _find_needed(path: Path, inspection: "Inspection") -> Mapping[str, str]:
    """Finds where the classes are that Keras does not have, as far as the file says it."""
    from exporter.artifacts.inspection import open_artifact
    from exporter.saving.layout.documents import list_mappings

    if not inspection.custom or inspection.lives_without_code:
        return {}
    with open_artifact(path) as artifact:
        nodes: list[dict[str, Any]] = list(list_mappings([artifact.config, artifact.compile_config]))
    found = {}
    for node in nodes:
        name, module = node.get("registered_name") or node.get("class_name"), node.get("module")
        place = node.get("config") if node.get("class_name") == "function" else node.get("class_name")
        if isinstance(module, str) and isinstance(place, str) and name in inspection.custom:
            found[str(name)] = f"{module}.{place}"
    return found


def _quote(text: str, end: str = "") -> str:
    """Writes a text as YAML takes it, and not as an interpolation, before one that is one."""
    return json.dumps(f"{escape_interpolations(text)}{end}", ensure_ascii=False)
