"""Unit tests need neither TensorFlow nor another process, and no plugin: `pytest tests/unit` takes seconds."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

_HEAVY = ("tensorflow", "keras", "tf_keras", "ray")


class _Blocker:
    """Refuses what would make a unit test a slow one."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in _HEAVY:
            raise RuntimeError(f"a unit test imports {name}; move it to another tier")
        return None


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test fail that imports TensorFlow or starts a process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a unit test starts a process; move it to another tier")

    monkeypatch.setattr(sys, "meta_path", [_Blocker(), *sys.meta_path])
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
