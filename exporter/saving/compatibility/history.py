"""What a configuration needs of Keras: the release that brought each class, function and argument in it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from exporter.saving.layout.documents import list_mappings
from exporter.typing.structures import JSON

TABLE = Path(__file__).parents[2] / "data" / "keras_releases.json"

Version = tuple[int, ...]

# The oldest release that the tests let open what is written: nothing is said of those before.
OLDEST_TRIED: Version = (3, 5, 0)

# Since then, an optimizer that accumulates gradients has its variables in the order of today.
_ACCUMULATING = "gradient_accumulation_steps"
_ORDERED_ANEW: Version = (3, 10, 0)

# What a text in a configuration may stand for, by the end of its key.
_FUNCTIONS = {"activation": "keras.activations", "loss": "keras.losses", "metrics": "keras.metrics"}

# Where the classes are that the HDF5 files of Keras 3 name without their module.
_WITHOUT_MODULE = ("keras.layers", "keras.optimizers", "keras.initializers", "keras.losses", "keras.metrics")

# The format that names an optimizer by its class alone, and those that no release finds by that.
_BY_NAME = "h5"
_NOT_BY_NAME = ("Lamb",)

# As numbers, these are those of 3.10 and 3.20.
_AMBIGUOUS = ("3.1", "3.2")


@dataclass(frozen=True, slots=True)
class Releases:
    """The table.

    Attributes:
        date: When it was made.
        first: The first release that it knows.
        last: The last one.
        since: The release of each name that the first one lacks, under "", and of each argument, under its name.
        defaults: What each of these arguments is where it is not given, by the names of class and argument.
    """

    date: str
    first: Version
    last: Version
    since: Mapping[str, Mapping[str, Version]]
    defaults: Mapping[str, Mapping[str, JSON]]


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a configuration needs, and that Keras has not always had.

    Attributes:
        name: The class or function, by the name that the configuration has for it.
        argument: The argument of the class; empty where the class itself is meant.
        since: The release that brought it.
    """

    name: str
    argument: str
    since: Version

    def __str__(self) -> str:
        what = f"the argument {self.argument!r} of {self.name}" if self.argument else self.name
        return f"{what}, since Keras {show_version(self.since)}"


def parse_version(text: str) -> Version:
    """Reads a version such as `3.9` or `3.9.2`."""
    return tuple(int(part) for part in text.split("."))


def show_version(version: Version) -> str:
    """Writes a version as people do."""
    return ".".join(map(str, version))


@cache
def read_releases() -> Releases:
    """Reads the table, without Keras."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    since = {name: {key: parse_version(v) for key, v in known.items()} for name, known in table["since"].items()}
    first, *_, last = map(parse_version, table["releases"])
    return Releases(table["date"], first, last, since, table["defaults"])


def find_needs(config: JSON) -> list[Need]:
    """Finds what a configuration needs and the first release of Keras 3 did not have.

    Args:
        config: Of a model, as `keras.saving.serialize_keras_object` makes it.

    Returns:
        Each need once, the newest first.
    """
    found = dict.fromkeys(need for node in list_mappings(config) for need in _find_needs_of_node(node))
    return sorted(found, key=lambda need: (need.since, need.name, need.argument), reverse=True)


def find_oldest_keras(config: JSON) -> Version:
    """Returns the oldest release that opens what has this configuration, of those that were tried."""
    return max((OLDEST_TRIED, *(need.since for need in find_needs(config))))


def name_oldest_keras(config: dict[str, JSON], format_name: str) -> str:
    """Names the oldest release that opens an artifact, of those that were tried; empty where none does.

    Args:
        config: Of its model, with its `compile_config`.
        format_name: That of the artifact's format.
    """
    compiled = config.get("compile_config")
    optimizers = list_mappings(compiled.get("optimizer") if isinstance(compiled, dict) else None)
    if format_name == _BY_NAME and any(node.get("class_name") in _NOT_BY_NAME for node in optimizers):
        return ""
    return show_version(find_oldest_keras(config))


def explain_incompatible(config: JSON, wanted: str) -> list[str]:
    """Says what a release of Keras lacks of what a configuration needs.

    Args:
        config: Of a model.
        wanted: The release, such as `3.9`.
    """
    version = (*parse_version(wanted), 0, 0)[:3]
    return [str(need) for need in find_needs(config) if need.since > version]


def explain_release(text: str) -> str | None:
    """Says why a text names no release that can be asked for; None where it does."""
    last = read_releases().last
    try:
        version = (*parse_version(text), 0, 0)[:3]
    except ValueError:
        version = ()
    if text in _AMBIGUOUS:
        return f"received {text!r}, which is also how YAML reads {text}0; expected '{text}.0' or '{text}0.0'"
    if not OLDEST_TRIED <= version <= (*last[:2], 10_000):
        return (
            f"received {text!r}; expected a release of Keras from {show_version(OLDEST_TRIED[:2])} to "
            f"{show_version(last[:2])}, such as 3.9 or 3.10.0"
        )
    return None


def name_class(node: Mapping[str, JSON]) -> str | None:
    """Returns the name that a mapping has for the class of its object; None where it describes none."""
    module, name = node.get("module"), node.get("class_name")
    if not isinstance(name, str):
        return None
    if isinstance(module, str):
        return f"{module}.{name}"
    known = read_releases().since
    return next((path for where in _WITHOUT_MODULE if (path := f"{where}.{name}") in known), None)


def _find_needs_of_node(node: Mapping[str, JSON]) -> Iterator[Need]:
    since, name = read_releases().since, name_class(node)
    known = since.get(name or "", {})
    config = node.get("config")
    for argument, version in known.items():
        if not argument or (isinstance(config, dict) and argument in config):
            yield Need(name or "", argument, version)
    if isinstance(config, dict) and config.get(_ACCUMULATING):
        yield Need(name or "", _ACCUMULATING, _ORDERED_ANEW)
    for key, value in node.items():
        module = next((module for end, module in _FUNCTIONS.items() if key.endswith(end)), None)
        for text in value if isinstance(value, list) else [value]:
            function = f"{module}.{text}" if module and isinstance(text, str) else ""
            if "" in since.get(function, {}):
                yield Need(function, "", since[function][""])
