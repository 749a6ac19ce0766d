"""What may stand in place of the last word of a command line."""

import argparse
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise

from exporter.cli.commands import COMMANDS, make_parser
from exporter.cli.commands.explaining.helping import list_words, summarize
from exporter.cli.commands.explaining.scripts import SCRIPTS
from exporter.cli.help import Rows, list_rows
from exporter.cli.help.keys import list_arguments, list_keys
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.saving.formats import FORMATS

FLAGS = {
    "-o": "where the artifact goes",
    "-cn": "a recipe by its name",
    "-cd": "a directory with recipes of your own",
    "-m": "a sweep",
    "--cfg": "print the config, and run nothing",
    "--resolve": "with --cfg: without interpolations",
    "--info": "what Hydra knows",
    "--help": "one screen of what to type",
    "--version": "of exporter, TensorFlow and Keras",
}
_SHOWN = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_PATHS = (
    "filepath",
    "calibration.data",
    "layout.against",
    "model.config",
    "model.filepath",
    "model.weights",
    "verify.data",
    "verify.environments",
)
_LAUNCHERS = "hydra/launcher"


def list_candidates(words: Sequence[str]) -> Rows:
    """Gives the words that may stand in place of the last one, each with what it means.

    Args:
        words: Of the command line, without the name of the program; the last one is what was typed so far.
    """
    *before, typed = words or [""]
    if before and before[0] in COMMANDS:
        found = _follow_command(before[0], before[1:], typed)
    else:
        found = _follow_export(before, typed)
        if not before:
            found = [*_name_commands(), *found]
    return list(dict.fromkeys((word, text) for word, text in found if word.startswith(typed)))


def _name_commands() -> Rows:
    return [(name, summarize(module)) for name, module in COMMANDS.items()]


def _follow_export(before: Sequence[str], typed: str) -> Rows:
    last = before[-1] if before else ""
    if last in ("-cn", "--config-name"):
        return _list_recipes(before)
    if last in ("-cd", "--config-dir"):
        return _list_paths(typed, ())
    if last == "-o":
        return _list_paths(typed)
    if last in _SHOWN:
        return [(word, "") for word in _SHOWN[last]]
    if typed.startswith("-"):
        return list(FLAGS.items())
    if "=" in typed:
        return _list_values(typed)
    suffixes = [".yaml", ".py", *(suffix for each in FORMATS.values() if each.holds_model for suffix in each.suffixes)]
    return [*_list_paths(typed, suffixes), *_list_keys(typed)]


def _follow_command(name: str, before: Sequence[str], typed: str) -> Rows:
    actions = make_parser(name)._actions
    flags = {flag: each for each in actions for flag in each.option_strings if each.help is not argparse.SUPPRESS}
    asked = flags.get(before[-1]) if before else None
    if typed.startswith("-"):
        return [(flag, each.help or "") for flag, each in flags.items()]
    if asked is not None and asked.nargs != 0:
        return _list_recipes(before) if asked.dest == "config_name" else _list_paths(typed)
    [*positional] = (each for each in actions if not each.option_strings)
    found: Rows = []
    for each in positional:
        if each.dest == "overrides":
            found += _follow_export((), typed) if each is positional[0] else _list_overrides(typed)
        elif each.dest == "topic":
            found += [(word, "") for word in list_words()]
        elif each.dest == "shell":
            found += [(word, "") for word in SCRIPTS]
        elif each.dest == "name":
            found += list_rows("recipes")
        else:
            found += _list_paths(typed)
    return found


def _list_overrides(typed: str) -> Rows:
    return _list_values(typed) if "=" in typed else _list_keys(typed)


def _list_keys(typed: str) -> Rows:
    """Gives the keys at the level of what was typed, and the groups that have more below them."""
    depth = typed.count(".")
    texts = {key.name: key.text for key in list_keys()}
    texts |= {name: "" for option in _list_options("model") for name in list_arguments(option)}
    found = [(f"{name}=", text) for name, text in texts.items() if name.count(".") == depth]
    found += [(f"{name.rpartition('.')[0]}.", "") for name in texts if name.count(".") == depth + 1 and typed]
    return [*found, (f"{_LAUNCHERS}=", "where the jobs of a sweep run")] if typed else found


def _list_values(typed: str) -> Rows:
    """Gives values of a key; of several for a sweep, those of the last one."""
    key, _, value = typed.partition("=")
    name = key.lstrip("+")
    begun = typed[: len(typed) - len(value.rpartition(",")[2])]
    if name in _PATHS:
        return [(f"{key}={path}", text) for path, text in _list_paths(value)]
    options = _list_options(name)
    choices = [each for found in list_keys() if found.name == name for each in found.choices if not options]
    known = [*options.items(), *((choice, "") for choice in choices)]
    taken = value.split(",")[:-1]
    return [(f"{begun}{word}", text) for word, text in known if word not in taken]


def _list_options(group: str) -> dict[str, str]:
    if group == _LAUNCHERS:
        return {file.stem: "" for file in sorted((CONFIG_DIRECTORY / _LAUNCHERS).glob("*.yaml"))}
    return next((key.options for key in list_keys() if key.name == group), {})


def _list_recipes(before: Sequence[str]) -> Rows:
    own: Rows = []
    for flag, directory in pairwise(before):
        if flag in ("-cd", "--config-dir"):
            own += [
                (path.rpartition("/")[2][: -len(".yaml")], "")
                for path, _ in _list_paths(f"{directory}/", (".yaml",))
                if path.endswith(".yaml")
            ]
    return [*own, *list_rows("recipes")]


def _list_paths(typed: str, suffixes: Sequence[str] | None = None) -> Rows:
    """Gives directories, each with a slash, and files.

    Args:
        typed: What their paths begin with.
        suffixes: One of which a file has to have; None for any.
    """
    above, slash, name = typed.rpartition("/")
    return [(f"{above}{slash}{entry}", "") for entry in _scan(f"{above}{slash}", suffixes, name.startswith("."))]


def _scan(directory: str, suffixes: Sequence[str] | None, with_hidden: bool) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(os.path.expanduser(directory) or "."), key=lambda each: each.name)
        for each in entries:
            if each.name.startswith(".") and not with_hidden:
                continue
            if each.is_dir():
                yield f"{each.name}/"
            elif suffixes is None or each.name.endswith(tuple(suffixes)):
                yield each.name
    except OSError:  # there is no such directory, or nobody may read it
        return
