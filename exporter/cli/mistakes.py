"""What was probably meant by what was typed, as it would have to be typed."""

import dataclasses
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from exporter.cli.preflight.overrides import quote
from exporter.config import JobConfig, read_keys
from exporter.config.checking import locate, without_none
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.errors import Fault
from exporter.exporting.references import name_arguments
from exporter.sources import SOURCES

# What other programs call our keys, where the name itself does not tell.
_SYNONYMS = {
    "filepath": ("out", "outfile", "output", "output_file", "output_path", "dest", "destination"),
    "save_format": ("format", "fmt"),
    "model.filepath": ("checkpoint", "in", "infile", "input", "model_file", "model_path", "source"),
    "include_optimizer": ("optimizer",),
    "overwrite": ("force",),
    "quantize": ("quantization",),
}
_BY_SYNONYM = {name: key for key, names in _SYNONYMS.items() for name in names}
# How alike a name and the key that was meant are at least.
_ALIKE = 0.7
# What has a meaning of its own in a value.
_SPECIAL = re.compile(r"[\s=(){}\[\]\"'$,\\]")


def take_key_flags(arguments: Sequence[str], flags: Collection[str]) -> tuple[list[str], list[Fault]]:
    """Takes out of a command line the keys that were written as flags, such as `--save-format h5`.

    Args:
        arguments: The words of the command line.
        flags: Those that there are.

    Returns:
        The other words, and the faults, each with the words that say the same.
    """
    kept: list[str] = []
    faults: list[Fault] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        meant = [flag for flag in flags if flag.startswith(name)] if name.startswith("--") else []
        if len(meant) > 1 and name not in (*flags, "--"):
            faults.append(Fault(name, f"which flag is it: {', '.join(meant)}?"))
            continue
        key = None if meant else _find_key_of_flag(name)
        if key is None:
            kept.append(word)
            continue
        if not equals and words and _is_value_of(key, words[0]):
            value = words.pop(0)
        line = f"-o {shlex.quote(value or 'PATH')}" if key == "filepath" else word_setting(key, _write_value(value))
        faults.append(Fault(name, f"keys are written without dashes: {line}"))
    return kept, faults


def _find_key_of_flag(name: str) -> str | None:
    if name.startswith("--"):
        return find_key(name[2:])
    # With one dash only what is a key to the letter: `-oNAME` gives a value too.
    plain = _simplify(name[1:]) if name.startswith("-") else ""
    return plain if plain in read_keys(JobConfig) else _BY_SYNONYM.get(plain)


def _is_value_of(key: str, word: str) -> bool:
    if word.startswith("-"):
        return False
    return word.lower() in ("true", "false") if _is_switch(key) else True


def _write_value(text: str) -> str:
    is_special = _SPECIAL.search(text) is not None and not text.startswith(("[", "{"))
    return quote(text) if is_special else text


def _is_switch(key: str) -> bool:
    return without_none(locate(key, JobConfig)[0]) is bool


def find_key(name: str, siblings: Collection[str] = ()) -> str | None:
    """Finds the key that somebody meant, or None.

    Args:
        name: A dotted name, or a name of a flag.
        siblings: The names that are allowed in place of its last part.
    """
    plain = _simplify(name)
    parent, dot, last = name.rpartition(".")
    near = get_close_matches(last, siblings, n=1, cutoff=0.6) if dot else []
    if near:
        return f"{parent}.{near[0]}"
    keys = {_simplify(key): key for key in (*_list_model_keys(), *_list_keys(JobConfig))}
    leaves = {key.rpartition(".")[2]: key for key in reversed(keys.values())}
    for known in (keys, _BY_SYNONYM, leaves):
        if plain in known:
            return known[plain]
    for known in (keys, leaves):
        if found := get_close_matches(plain, known, n=1, cutoff=_ALIKE):
            return known[found[0]]
    return None


def _simplify(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _list_keys(schema: Any, above: str = "") -> Iterator[str]:
    """Lists the dotted keys of a schema class, those above first."""
    hints = read_keys(schema)
    yield from (f"{above}{name}" for name in hints)
    for name, hint in hints.items():
        if dataclasses.is_dataclass(without_none(hint)):
            yield from _list_keys(without_none(hint), f"{above}{name}.")


def _list_model_keys() -> list[str]:
    return [f"model.{name}" for each in SOURCES.values() for name in name_arguments(each.function)]


def word_setting(key: str, value: str) -> str:
    """Writes the words that give a key a value, as a shell takes them; a model's file needs two.

    Args:
        key: Its dotted name.
        value: In Hydra's grammar; nothing for one that is still to be given.
    """
    if key == "model" and value and not (CONFIG_DIRECTORY / "model" / f"{value}.yaml").is_file():
        key = "model.filepath"
    line = shlex.quote(f"{key}={value or ('true' if _is_switch(key) else 'VALUE')}")
    return f"model=file {line}" if key == "model.filepath" else line


def explain_unknown_key(path: str, value: str | None, allowed: Sequence[str]) -> str:
    """Says that a key does not exist, which ones do, and what was probably meant, as it is typed.

    Args:
        path: Its dotted name.
        value: What was typed behind it; None where the key was to be removed.
        allowed: The keys that are allowed in place of its last part.
    """
    if not allowed:
        return "unknown key; the value above it is not a mapping"
    key = find_key(path, allowed)
    meant = "" if key is None else f"; did you mean {key if value is None else word_setting(key, value)}?"
    return f"unknown key; allowed: {', '.join(allowed)}{meant}"
