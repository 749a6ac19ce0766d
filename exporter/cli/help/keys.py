"""The keys of a recipe and of the command line."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from exporter.artifacts.json_schemas import build_recipe_schema
from exporter.cli.help.recipes import read_purpose
from exporter.config import JobConfig, read_keys
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.sources import SOURCES

Schema = Mapping[str, Any]


class Key(NamedTuple):
    """A key, or a group of them.

    Attributes:
        name: Its dotted name.
        text: Its values, its meaning and its default.
        choices: The values that are allowed, where they can be listed.
        options: Of a group: the meaning of each option, by its name.
    """

    name: str
    text: str
    choices: list[str]
    options: dict[str, str]


def list_rows() -> list[tuple[str, str]]:
    """Gives each key with its values and its meaning; those of a group follow the options of the group."""
    rows = []
    for key in list_keys():
        rows.append((key.name, key.text))
        for option, purpose in key.options.items():
            rows.append((f"{key.name}={option}", purpose))
            if key.name == "model" and (names := list_arguments(option)):
                rows.append(("", ", ".join(names)))
    return rows


def list_arguments(source: str) -> list[str]:
    """Gives the keys of a source of models.

    Args:
        source: Its name; one without a function has none that are known.
    """
    names = SOURCES[source].function.__annotations__ if source in SOURCES else ()
    return [f"model.{name}" for name in names if name not in ("report", "return")]


@cache
def list_keys() -> list[Key]:
    """Gives every key, those of a group behind the group."""
    root = build_recipe_schema()
    own = {key: root["properties"][key] for key in read_keys(JobConfig)}
    return [found for key, schema in own.items() for found in _describe(key, schema, root["$defs"])]


def _describe(key: str, schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Key]:
    members = [schema, *schema.get("anyOf", ())]
    choices = _list_choices(members)
    meaning = schema.get("description", "")
    words = [" | ".join(choices), meaning, "" if "default:" in meaning else _word_default(key)]
    files = sorted((CONFIG_DIRECTORY / key).glob("*.yaml"))
    options = {file.stem: read_purpose(file.read_text(encoding="utf-8")) for file in files}
    yield Key(key, "; ".join(filter(None, words)), choices, options)
    for member in members:
        if "$ref" in member:
            inside = definitions[member["$ref"].rpartition("/")[2]]
            for name, below in inside["properties"].items():
                yield from _describe(f"{key}.{name}", below, definitions)


def _list_choices(members: list[Schema]) -> list[str]:
    values = [name for each in members for name in each.get("enum", ())]
    values += [word for each in members if each.get("type") == "boolean" for word in ("true", "false")]
    return [*values, *("null" for each in members if values and each.get("type") == "null")]


def _word_default(key: str) -> str:
    value: Any = _read_defaults()
    for name in key.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    is_said = not isinstance(value, dict) and value != "???" and "${" not in str(value)
    return f"default: {yaml.safe_dump(value, default_flow_style=True).partition(chr(10))[0]}" if is_said else ""


@cache
def _read_defaults() -> dict[str, Any]:
    """Reads what the primary config says, with the option of each group that it takes."""
    config: dict[str, Any] = yaml.safe_load((CONFIG_DIRECTORY / "config.yaml").read_text(encoding="utf-8"))
    for entry in config.pop("defaults"):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            file = CONFIG_DIRECTORY / group / f"{option}.yaml"
            if file.is_file():
                config[group] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return config
