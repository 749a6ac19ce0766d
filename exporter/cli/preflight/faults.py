"""The faults of a recipe and its overrides, each with the place that it was written at."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from exporter.cli import hydra_private
from exporter.errors import Fault
from exporter.text.hiding import hide
from exporter.text.showing import shorten

_LONGEST_MESSAGE = 900  # characters; what was received may be a whole file


class FaultList:
    """What is wrong so far: in order, and each once, since the jobs of a sweep share most of theirs.

    Attributes:
        recipe: The name of the primary config.
        place: Where the overrides are from, such as `the command line`.
        given: The overrides that could be parsed.
    """

    def __init__(self, loader: hydra_private.ConfigLoaderImpl, recipe: str, place: str) -> None:
        self.recipe = recipe
        self.place = place
        self.given: Sequence[Override] = ()
        self._loader = loader
        self._faults: dict[Fault, None] = {}

    @property
    def listed(self) -> list[Fault]:
        """All of them."""
        return list(self._faults)

    def add(self, path: str, message: str, place: str = "") -> None:
        """Adds a fault.

        Args:
            path: The dotted path that it is of.
            message: What is wrong.
            place: Where it was written; nothing where that is not known.
        """
        self._faults[Fault(path, shorten(message, _LONGEST_MESSAGE), place)] = None

    def add_typed(self, path: str, message: str) -> None:
        """Adds a fault of an override."""
        self.add(path, message, self.place)

    def add_of_recipe(self, path: str, message: str) -> None:
        """Adds a fault of the recipe's file."""
        file = self._find_recipe_file()
        self.add(path, message, self.recipe if file is None else relate(file))

    def add_composed(self, path: str, message: str) -> None:
        """Adds a fault of the composed config, with the place that its path was written at."""
        file = self._find_recipe_file()
        if any(_is_related(path, override.key_or_group) for override in self.given):
            self.add_typed(path, message)
        elif file is not None and (number := _find_line(file, path)) is not None:
            self.add(path, f"{message} (line {number})", relate(file))
        else:
            # A value contradicts another one of its group, which was typed.
            groups = {override.key_or_group.partition(".")[0] for override in self.given}
            self.add(path, message, self.place if path.partition(".")[0] in groups else "")

    def _find_recipe_file(self) -> Path | None:
        name = hydra_private.name_file(self.recipe)
        for source in self._loader.get_sources():
            if source.scheme() == "file" and source.is_config(self.recipe):
                return Path(source.path) / name
        return None


def _is_related(path: str, other: str) -> bool:
    """Whether one of two dotted paths is the other or lies inside it."""
    path = path.partition("[")[0]
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def _find_line(file: Path, path: str) -> int | None:
    """Finds the line of a recipe that sets a dotted path, or that sweeps over it."""
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    for names in (path.partition("[")[0].split("."), ["hydra", "sweeper", "params", path]):
        node, mark = root, None
        for name in names:
            entries = node.value if isinstance(node, yaml.MappingNode) else []
            key, node = next(((key, value) for key, value in entries if key.value == name), (None, None))
            mark = None if key is None else key.start_mark
        if mark is not None:
            return int(mark.line) + 1
    return None


def relate(file: Path) -> str:
    """Writes a path relative to the caller's directory where it is inside it."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def word_error(error: BaseException, count: int = 1) -> str:
    """Gives the first lines of an error as one, or the name of its type where it says nothing.

    Args:
        error: What Hydra or OmegaConf raised.
        count: How many lines.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return hide(" ".join(lines[:count])) or type(error).__name__
