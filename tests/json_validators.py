"""Validators of the published JSON Schemas."""

import json
from pathlib import Path
from typing import Any

import jsonschema


def make_validator(path: Path) -> Any:
    """Makes one, of a schema that is itself valid."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
