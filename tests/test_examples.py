"""The examples in the docstrings of the public functions run as they stand."""

import inspect
import textwrap
import types
from pathlib import Path

import pytest

import exporter

FUNCTIONS = [name for name in exporter.__all__ if isinstance(getattr(exporter, name), types.FunctionType)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_a_function_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    documentation = inspect.cleandoc(getattr(exporter, name).__doc__ or "")
    example = textwrap.dedent(documentation.partition("Example:\n")[2])
    assert f"exporter.{name}(" in example
    values = {"exporter": exporter}
    exec(compile(example, f"<example of {name}>", "exec"), values)
