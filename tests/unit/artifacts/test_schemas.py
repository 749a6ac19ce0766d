"""The published JSON Schemas: made from the classes, true of what is written, and strict about what is wrong."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from json_validators import make_validator
from sample_receipt import RECEIPT

from exporter import compose
from exporter.artifacts.json_schemas import RECEIPT_SCHEMA, RECIPE_SCHEMA, build_receipt_schema, build_recipe_schema
from exporter.config.directories import CONFIG_DIRECTORY, RECIPES_DIRECTORY
from exporter.exporting.provenance import describe_recipe

RECIPES = sorted(RECIPES_DIRECTORY.glob("*.yaml"))


@pytest.mark.parametrize(
    ("path", "build"),
    [(RECEIPT_SCHEMA, build_receipt_schema), (RECIPE_SCHEMA, build_recipe_schema)],
    ids=["receipt", "recipe"],
)
def test_the_file_is_what_the_classes_say(path: Path, build: Any) -> None:
    # To write it anew: python -m exporter.artifacts.json_schemas
    assert path.read_text(encoding="utf-8") == json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


def test_a_receipt_is_valid() -> None:
    make_validator(RECEIPT_SCHEMA).validate(json.loads(RECEIPT.to_json()))


@pytest.mark.parametrize("key", ["schema_version", "files", "recipe", "checks"])
def test_a_receipt_without_a_key_is_not(key: str) -> None:
    receipt = json.loads(RECEIPT.to_json())
    del receipt[key]
    with pytest.raises(jsonschema.ValidationError, match=f"^'{key}' is a required property"):
        make_validator(RECEIPT_SCHEMA).validate(receipt)


@pytest.mark.parametrize("path", [CONFIG_DIRECTORY / "config.yaml", *RECIPES], ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    make_validator(RECIPE_SCHEMA).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_a_composed_recipe_is_valid() -> None:
    make_validator(RECIPE_SCHEMA).validate(describe_recipe(compose("digits")))


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"save_fromat": "tf"}, "save_fromat"),
    "unknown key below": ({"verify": {"mod": "full"}}, "verify"),
    "bad enum": ({"save_format": "tf2"}, "save_format"),
    "text for a number": ({"seed": "abc"}, "seed"),
    "number for a list": ({"options": {"extra_tags": 3}}, "options"),
    "unknown key of an endpoint": ({"signatures": {"serve": {"methd": "predict"}}}, "signatures"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_recipe_is_not(fault: str) -> None:
    change, key = FAULTS[fault]
    sound = yaml.safe_load((RECIPES_DIRECTORY / "digits.yaml").read_text(encoding="utf-8"))
    recipe = {**copy.deepcopy(sound), **change}
    [error] = make_validator(RECIPE_SCHEMA).iter_errors(recipe)
    assert key in str(list(error.absolute_path) or error.message)


def test_every_key_says_what_it_means() -> None:
    schema = build_recipe_schema()
    kinds = {"": schema, **schema["$defs"]}
    silent = [
        f"{kind}.{key}"
        for kind, each in kinds.items()
        for key, value in each["properties"].items()
        if not value.get("description")
    ]
    # The classes that these hold say it.
    assert set(silent) <= {
        *(".layout", ".options", ".verify", "OptionsConfig.experimental_sharding_callback"),
        *("VerifyConfig.mode", "MeasureConfig.mode", "LayoutConfig.kind"),
    }
