"""Lists the recipes that come with the package, prints one of them, or writes a copy to edit."""

import argparse
import shlex
import sys
from pathlib import Path

from exporter.cli.help.recipes import read_purpose
from exporter.config.checking import suggest
from exporter.config.directories import RECIPES_DIRECTORY
from exporter.errors import ExportError, Fault, TargetExistsError, UsageError
from exporter.text.showing import print_line

_BESIDE = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the recipe to print; without it, all are listed")
    parser.add_argument(
        "--copy",
        metavar="FILE",
        nargs="?",
        const=_BESIDE,
        help="write a copy to edit instead of printing it; without FILE to ./my_NAME.yaml; nothing is overwritten",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    recipes = {path.stem: path for path in sorted(RECIPES_DIRECTORY.glob("*.yaml"))}
    if arguments.name is None:
        if arguments.copy is not None:
            raise UsageError([Fault("--copy", "goes with the NAME of a recipe", "the command line")])
        _print_list(recipes)
        return 0
    name = arguments.name.removesuffix(".yaml")
    if name not in recipes:
        message = f"no recipe of this name; allowed: {', '.join(recipes)}{suggest(name, recipes)}"
        raise UsageError([Fault(name, message, "the command line")])
    text = recipes[name].read_text(encoding="utf-8")
    if arguments.copy is None:
        print(text, end="")
        return 0
    target = Path(f"my_{name}.yaml" if arguments.copy == _BESIDE else arguments.copy).expanduser()
    write_new(target, text, "--copy")
    from exporter.artifacts.json_schemas import RECIPE_SCHEMA

    print_line(f"{target} is yours to edit. It runs with")
    print_line(f"  {shlex.join(['exporter', str(target)])}")
    print("Many editors complete and check it with this line at its top:")
    print(f"  # yaml-language-server: $schema={RECIPE_SCHEMA}")
    return 0


def _print_list(recipes: dict[str, Path]) -> None:
    from exporter.text.page import Page, make_console

    page = Page(make_console(sys.stdout))
    page.rows([(name, read_purpose(path.read_text(encoding="utf-8"))) for name, path in recipes.items()])
    print("\nexporter -cn NAME runs one, exporter recipes NAME prints it, and --copy writes a copy to edit.")


def write_new(target: Path, text: str, flag: str) -> None:
    """Writes a recipe where there is nothing yet.

    Args:
        target: Its file.
        text: It.
        flag: With which another file is named.

    Raises:
        UsageError: It has not the name of a recipe.
        TargetExistsError: There is something.
        ExportError: It could not be written.
    """
    if target.suffix != ".yaml":
        raise UsageError([Fault(flag, f"received {target}; expected the name of a .yaml file", "the command line")])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TargetExistsError(
            f"{target} exists and is not overwritten. Give another name with {flag} FILE, or move it away."
        ) from None
    except OSError as error:
        raise ExportError(f"{target} could not be written: {error}. Choose another FILE.") from error
