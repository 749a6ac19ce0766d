"""The keys of a recipe and of the command line."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from exporter.artifacts.json_schemas import build_recipe_schema
from exporter.cli.help.recipes import read_purpose
from exporter.config import JobConfig, read_keys
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.sources import SOURCES

Schema = Mapping[str, Any]


def list_rows() -> list[tuple[str, str]]:
    """Gives each key with its values and its meaning; those of a group follow the options of the group."""
    root = build_recipe_schema()
    own = {key: root["properties"][key] for key in read_keys(JobConfig)}
    return [row for key, schema in own.items() for row in _describe(key, schema, root["$defs"])]


def _describe(key: str, schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[tuple[str, str]]:
    members = [schema, *schema.get("anyOf", ())]
    words = [_word_values(members), schema.get("description", ""), _word_default(key)]
    yield key, "; ".join(filter(None, words))
    for option in sorted((CONFIG_DIRECTORY / key).glob("*.yaml")):
        yield f"{key}={option.stem}", read_purpose(option.read_text(encoding="utf-8"))
        source = SOURCES.get(option.stem) if key == "model" else None
        if source is not None:
            names = list(source.function.__annotations__)
            yield "", ", ".join(f"model.{name}" for name in names if name not in ("report", "return"))
    for member in members:
        if "$ref" in member:
            inside = definitions[member["$ref"].rpartition("/")[2]]
            for name, below in inside["properties"].items():
                yield from _describe(f"{key}.{name}", below, definitions)


def _word_values(members: list[Schema]) -> str:
    values = [name for each in members for name in each.get("enum", ())]
    values += ["true | false" for each in members if each.get("type") == "boolean"]
    return " | ".join([*values, *("null" for each in members if values and each.get("type") == "null")])


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
