"""Words that stand for overrides and flags: a model's file, a recipe's file, and a function of the user's own."""

import ast
import os
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from exporter.cli.composing import open_loader
from exporter.cli.hydra_private import name_file
from exporter.cli.preflight.overrides import quote
from exporter.config import JobConfig, read_keys
from exporter.config.checking import suggest
from exporter.config.directories import RECIPES_DIRECTORY
from exporter.errors import Fault, UsageError
from exporter.saving.formats import find_by_suffix, find_format
from exporter.sources._mistaken import explain_no_model
from exporter.sources._presets import is_preset
from exporter.storage.remote import is_url
from exporter.text.showing import escape_interpolations, show

_TARGET = re.compile(r"(?P<module>.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")
# In a directory that holds models, such as the versions for a server.
_MOST_ENTRIES = 1_000
_RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(kw_only=True)
class Expansion:
    """What the words of a command line stand for.

    Attributes:
        overrides: In Hydra's grammar.
        config_dir: The directory of the recipe; None for none.
        config_name: Its name; None for the primary config.
        source: The file or directory that the model was given by; None where it was not given like that.
        directories: Where modules of the user's own are looked for, behind all others.
    """

    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    source: Path | None = None
    directories: list[str] = field(default_factory=list)


def expand(
    words: Sequence[str],
    outputs: Sequence[str] = (),
    config_dir: str | None = None,
    config_name: str | None = None,
    commands: Collection[str] = (),
) -> Expansion:
    """Finds what the words of a command line stand for.

    Args:
        words: Those that are no flags.
        outputs: What was given with `-o`.
        config_dir: What was given with `--config-dir`.
        config_name: What was given with `--config-name`.
        commands: The names of the commands, one of which may have been meant.

    Raises:
        UsageError: With every fault of these words. What is neither of them nor an override is left to its check.
    """
    expander = _Expander(Expansion(config_dir=config_dir, config_name=config_name))
    if words and (remedy := _find_command(words, commands)):
        raise UsageError([Fault(show(words[0]), f"there is no such command{remedy}")])
    for word in words:
        if word in commands:
            line = shlex.join(["exporter", word, *(each for each in words if each != word)])
            expander.faults.append(Fault(word, f"a command stands first: {line}"))
        else:
            expander.take(word)
    expander.take_outputs(outputs)
    expander.check_model()
    if expander.faults:
        raise UsageError(expander.faults)
    found = expander.found
    if found.config_dir is not None:
        found.directories.append(os.path.abspath(found.config_dir))
    return found


def make_importable(directories: Sequence[str]) -> None:
    """Lets this process import from directories, behind all others: what is installed is not shadowed."""
    sys.path.extend(each for each in dict.fromkeys(directories) if each not in sys.path)


def name_elsewhere(source: Path) -> str:
    """Gives the override by which an export of a model does not replace the file that it comes from."""
    name = escape_interpolations(f"exports/{source.stem}-export")
    variant = "${exporter.variant:${include_optimizer},${quantize}}${exporter.suffix:${save_format}}"
    return f"filepath={quote(name + variant)}"


def _find_command(words: Sequence[str], commands: Collection[str]) -> str:
    """Says which command the first word was probably meant to be; nothing where it is something else."""
    first, *others = words
    if "=" in first or first.startswith("~") or first in commands or os.path.exists(first):
        return ""
    near = get_close_matches(first, commands, n=1, cutoff=0.7)
    return f"; did you mean {shlex.join(['exporter', near[0], *others])}?" if near else ""


class _Expander:
    """Takes one word after the other, and keeps what is wrong with them."""

    def __init__(self, found: Expansion) -> None:
        self.found = found
        self.faults: list[Fault] = []
        self._recipe: str | None = None
        self._model: str | None = None

    def take(self, word: str) -> None:
        path = _expand_home(word)
        if not word or _is_override(word, path):
            self.found.overrides.append(word)
        elif path.suffix in _RECIPE_SUFFIXES and not path.is_dir():
            self._take_recipe(word, path)
        elif (target := _TARGET.fullmatch(word)) and not path.exists():
            self._take_target(word, target["module"], target["name"])
        elif is_url(word) or _exists(path) or find_by_suffix(path):
            self._take_model(word, path)
        elif (os.sep in word or path.suffix) and (near := get_close_matches(path.name, _list_names(path.parent), n=1)):
            meant = shlex.quote(str(path.with_name(near[0])))
            self._refuse(word, f"there is no such file; did you mean exporter {meant}?")
        elif os.sep in word:
            self._refuse(word, "there is no such file")
        else:
            self.found.overrides.append(word)  # whose check knows the recipes, groups and keys that were meant

    def take_outputs(self, outputs: Sequence[str]) -> None:
        if len(outputs) > 1:
            self._refuse("-o", f"received {' and '.join(map(show, outputs))}; an export has one path")
        elif outputs and any(each.startswith("filepath=") for each in self.found.overrides):
            self._refuse("-o", "stands for filepath=, which is given as well: leave one of them out")
        elif outputs and not outputs[0]:
            self._refuse("-o", "received ''; expected the path of a file or a directory")
        elif outputs:
            self.found.overrides.append(f"filepath={_quote_text(outputs[0])}")

    def check_model(self) -> None:
        """Refuses overrides that would put another model in the place of the one that was given by a word."""
        if self._model is not None:
            for override in self.found.overrides[2:]:
                if override.lstrip("+").partition("=")[0] in ("model", "model.filepath", "model._target_"):
                    self._refuse(override, f"an export has one model, and {self._model} is given as well")

    def _refuse(self, word: str, message: str) -> None:
        self.faults.append(Fault(show(word), message))

    def _take_recipe(self, word: str, path: Path) -> None:
        given = self._recipe or self.found.config_name
        message = None
        if not path.is_file():
            known = [each for each in _list_names(path.parent) if Path(each).suffix in _RECIPE_SUFFIXES]
            comes_along = (RECIPES_DIRECTORY / f"{path.stem}.yaml").is_file()
            meant = f"; did you mean -cn {path.stem}?" if comes_along else suggest(path.name, known)
            message = f"there is no such file{meant}"
        elif reason := explain_no_model(path):  # the YAML of a network, by Keras
            message = reason
        elif path.suffix != ".yaml":
            message = f"the name of a recipe ends with .yaml: mv {shlex.join([word, str(path.with_suffix('.yaml'))])}"
        elif given is not None:
            message = f"a run has one recipe, and {given} is given as well"
        elif self.found.config_dir is not None:
            message = f"--config-dir {self.found.config_dir} is given as well: leave it out, or write -cn {path.stem}"
        elif shadow := _find_other_recipe(path):
            message = f"{shadow} has that name and would run in its place; rename yours, such as my_{path.name}"
        if message is not None:
            self._refuse(word, message)
            return
        self._recipe = word
        self.found.config_dir, self.found.config_name = str(path.parent), path.stem

    def _take_model(self, word: str, path: Path) -> None:
        if not is_url(word) and _exists(path) and (reason := _explain_no_model(word, path)):
            self._refuse(word, reason)
        elif self._is_the_only_model(word):
            self.found.overrides[:0] = ["model=file", f"model.filepath={_quote_text(word)}"]
            self.found.source = None if is_url(word) else path

    def _take_target(self, word: str, module: str, name: str) -> None:
        if module.endswith(".py"):
            path = _expand_home(module)
            if message := _explain_module(path, name):
                self._refuse(word, message)
                return
            directory, module = _find_module(path)
            if message := _explain_shadow(path, directory, module):
                self._refuse(word, message)
                return
            self.found.directories.append(directory)
        if self._is_the_only_model(word):
            self.found.overrides[:0] = ["model=custom", f"model._target_={quote(f'{module}.{name}')}"]

    def _is_the_only_model(self, word: str) -> bool:
        if self._model is not None:
            self._refuse(word, f"an export has one model, and {self._model} is given as well: export it by itself")
        self._model = self._model or word
        return self._model is word


def _expand_home(word: str) -> Path:
    try:
        return Path(word).expanduser()
    except RuntimeError:  # `~name` removes a key, and nobody is called like that
        return Path(word)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, which may still be a long override
        return False


def _list_names(directory: Path) -> list[str]:
    try:
        return sorted(each.name for each in directory.iterdir())
    except OSError:
        return []


def _is_override(word: str, path: Path) -> bool:
    """Whether a word is KEY=VALUE, or ~KEY: a file may have such a name, and then only a key of ours is none."""
    key, equals, _ = word.partition("=")
    root = re.split(r"[./@]", key.lstrip("+~"))[0]
    if root in (*read_keys(JobConfig), "hydra"):
        return bool(equals) or word.startswith("~")
    if not equals or is_url(word):
        return False
    return not (_exists(path) or (os.sep in key and find_by_suffix(path)))


def _quote_text(text: str) -> str:
    return quote(escape_interpolations(text))


def _find_other_recipe(path: Path) -> str | None:
    """Finds the recipe that Hydra would take for this one, because it has the same name and stands before it."""
    for source in open_loader(path.parent).get_sources():
        if source.scheme() == "file" and source.is_config(path.stem):
            found = Path(source.path, name_file(path.stem))
            return None if found.samefile(path) else str(found)
    return None


def _explain_no_model(word: str, path: Path) -> str | None:
    """Says why something that is there is not the file of a model, and what to type; None for what may be one."""
    try:
        if not (path.is_file() or path.is_dir()):
            return "is neither a file nor a directory"
        if path.suffix == ".py":
            return f"is a module: name what makes the model in it: {_suggest_target(word, path)}"
        if (reason := explain_no_model(path)) is not None:
            return reason
        found = find_format(path)
        if found is not None:
            shown = shlex.join(["exporter", "inspect", word])
            what = f"is {found.noun}, which holds no model of Keras; to look at it: {shown}"
            return None if found.holds_model else what
        if find_by_suffix(path) is not None or is_preset(path):
            return None  # whoever reads it says what is wrong
        inside = [name for name in _list_names(path)[:_MOST_ENTRIES] if _holds_model(path / name)]
        if inside:
            newest = max(inside, key=lambda name: int(name) if name.isdecimal() else -1)
            return f"is no model, and holds some: {shlex.join(['exporter', os.path.join(word, newest)])}"
    except OSError:
        return None
    kinds = ".keras, .h5 or .hdf5 file, a SavedModel directory or a preset of KerasHub"
    return f"is no model: expected a {kinds}, a recipe as exporter NAME.yaml, or KEY=VALUE"


def _holds_model(path: Path) -> bool:
    """Tells whether there is a model; what is no file, such as a pipe, is not opened."""
    found = find_format(path) if path.is_file() or path.is_dir() else None
    return found is not None and found.holds_model


def _list_definitions(path: Path) -> tuple[list[str], bool]:
    """Lists what a module defines, functions first, and tells whether that is all, as far as can be seen."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return [], False
    functions: list[str] = []
    others: list[str] = []
    imported: list[str] = []
    is_all = True
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            functions.append(node.name)
        elif isinstance(node, ast.Assign) and all(isinstance(each, ast.Name) for each in node.targets):
            others += [each.id for each in node.targets if isinstance(each, ast.Name)]
        elif isinstance(node, ast.Import | ast.ImportFrom) and node.names[0].name != "*":
            imported += [each.asname or each.name for each in node.names]
        elif not isinstance(node, ast.Expr) and not _is_for_scripts(node):
            is_all = False
    return [each for each in functions + others + imported if not each.startswith("_")], is_all


def _is_for_scripts(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__ == ")


def _suggest_target(word: str, path: Path) -> str:
    first = next(iter(_list_definitions(path)[0]), "build")
    return shlex.join(["exporter", f"{word}:{first}"])


def _explain_module(path: Path, name: str) -> str | None:
    if not path.is_file():
        return f"there is no file {path}{suggest(path.name, _list_names(path.parent))}"
    if not all(part.isidentifier() for part in (path.stem, *_find_module(path)[1].split("."))):
        name = re.sub(r"\W|^(?=\d)", "_", path.stem)
        return f"Python imports no module of this name; rename it, such as {name}.py"
    known, is_all = _list_definitions(path)
    if not is_all or name.partition(".")[0] in known:
        return None
    return f"there is no {name} in {path}; it defines {', '.join(known) or 'nothing'}{suggest(name, known)}"


def _find_module(path: Path) -> tuple[str, str]:
    """Gives the directory that a module is imported from, which is the one above its packages, and its dotted name."""
    path = Path(os.path.abspath(path))
    directory, parts = path.parent, [path.stem]
    while (directory / "__init__.py").is_file() and directory != directory.parent:
        parts.insert(0, directory.name)
        directory = directory.parent
    return str(directory), ".".join(parts)


def _explain_shadow(path: Path, directory: str, module: str) -> str | None:
    """Says what would be imported in place of a module of the user's own, which never shadows what is installed."""
    package = module.partition(".")[0]
    try:
        found = find_spec(package)
    except ValueError:
        found = None
    if found is None or found.origin is None:
        return None
    own = os.path.realpath(os.path.join(directory, package))
    if os.path.realpath(found.origin) in (f"{own}.py", os.path.join(own, "__init__.py"), os.path.realpath(path)):
        return None
    place = found.origin if found.has_location else "Python itself"
    remedy = f"rename yours, such as my_{package}"
    return f"the module {package} of {place} has that name and would be imported in its place; {remedy}"
