"""JSON Schemas of what people and programs read and write: the receipt, and the recipe.

They are derived from the classes that hold the two, and stand in the package as files, for editors and for programs
in other languages. The dialect is that of https://json-schema.org/draft/2020-12.
"""

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import SCHEMA_VERSION
from exporter.config import JobConfig, read_keys
from exporter.config.checking import list_choices

Schema = dict[str, Any]

RECIPE_VERSION = 1

RECEIPT_SCHEMA = Path(__file__).parents[1] / "data" / "receipt.schema.json"
RECIPE_SCHEMA = Path(__file__).parents[1] / "data" / "recipe.schema.json"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}

# OmegaConf fills these in: `${...}` is another value, and `???` one that is still to be given.
_INTERPOLATION = {"type": "string", "pattern": r"^\?\?\?$|\$\{.+\}"}


def build_receipt_schema() -> Schema:
    """Builds the schema of the receipt."""
    builder = _Builder(is_recipe=False)
    schema = builder.describe(Receipt)
    return {
        "$schema": _DIALECT,
        "$id": f"urn:keras-exporter:receipt:{SCHEMA_VERSION}",
        "title": "Receipt of an export",
        **schema,
        "$defs": builder.definitions,
    }


def build_recipe_schema() -> Schema:
    """Builds the schema of a recipe: a file of YAML for `exporter -cn NAME`."""
    builder = _Builder(is_recipe=True)
    schema = builder.describe(JobConfig)
    root = builder.definitions.pop(schema["$ref"].rpartition("/")[2])
    root["properties"] |= {
        "defaults": {"type": "array", "description": "what the recipe starts from, as Hydra composes it"},
        "hydra": {"type": "object", "description": "the settings of Hydra, such as a sweep's"},
    }
    return {
        "$schema": _DIALECT,
        "$id": f"urn:keras-exporter:recipe:{RECIPE_VERSION}",
        "title": "Recipe of an export",
        **root,
        "$defs": builder.definitions,
    }


class _Builder:
    def __init__(self, is_recipe: bool) -> None:
        self.definitions: dict[str, Schema] = {}
        self._is_recipe = is_recipe

    def describe(self, kind: Any) -> Schema:
        """Describes the values of a type."""
        if kind is Any:
            return {}
        if kind in _SCALARS:
            return {"type": _SCALARS[kind]}
        if choices := list_choices(kind):
            return {"enum": choices}
        if is_dataclass(kind):
            return self._refer(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            # A function itself is nothing that a file can say.
            return {"anyOf": [self.describe(each) for each in arguments if get_origin(each) is not Callable]}
        if origin in (list, tuple):
            return {"type": "array", "items": self.describe(arguments[0])}
        if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
            keys = {} if arguments[0] is str else {"propertyNames": self.describe(arguments[0])}
            return {
                "type": "object",
                **keys,
                "additionalProperties": self._allow_interpolation(self.describe(arguments[1])),
            }
        raise TypeError(f"{kind} has no schema")

    def _refer(self, kind: Any) -> Schema:
        name = kind.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # a class may hold itself
            hints = read_keys(kind)
            words = _read_comments(kind) if self._is_recipe else _read_attributes(kind)
            properties = {}
            for key, hint in hints.items():
                described = self._allow_interpolation(self.describe(hint))
                text = words.get(key)
                properties[key] = {"description": text, **described} if text else described
            self.definitions[name] = {
                "description": (kind.__doc__ or "").split("\n")[0],
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
            }
            if not self._is_recipe:  # a recipe says only what differs
                self.definitions[name]["required"] = list(properties)
        return {"$ref": f"#/$defs/{name}"}

    def _allow_interpolation(self, described: Schema) -> Schema:
        if not self._is_recipe or not described or described == {"type": "string"}:
            return described
        return {"anyOf": [*described.get("anyOf", [described]), _INTERPOLATION]}


def _read_comments(kind: Any) -> dict[str, str]:
    """Reads the comment behind each field of a schema class, and of those that it extends."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        pattern = re.compile(r"^    (\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)
        found |= dict(pattern.findall(inspect.getsource(owner)))
    return found


def _read_attributes(kind: Any) -> dict[str, str]:
    """Reads the section `Attributes` of a class and of those that it extends."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        section = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")[2]
        entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in entries}
    return found


def write_schemas() -> None:
    """Writes both schemas to their files: `python -m exporter.artifacts.json_schemas`, anew."""
    for path, schema in ((RECEIPT_SCHEMA, build_receipt_schema()), (RECIPE_SCHEMA, build_recipe_schema())):
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
