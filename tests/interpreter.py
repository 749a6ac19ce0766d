"""Programs, each in a new child of an interpreter that has imported TensorFlow once: `python -m interpreter`."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from exporter.processes.fresh_process import FreshProcess, answer_in_children


class Interpreter:
    """Runs programs that share nothing but what TensorFlow imports; use it as a context manager."""

    def __init__(self) -> None:
        self._process = FreshProcess("interpreter")

    def run(self, program: str, folder: Path) -> None:
        """Runs a program as a script.

        Args:
            program: Its text.
            folder: The working directory.
        """
        self._process.begin()
        reply = self._process.ask("run", timeout=1500, program=program, folder=str(folder))
        assert "error" not in reply, f"{program}\n{reply['error']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.close()


class _Child:
    def run(self, program: str, folder: str) -> dict[str, Any]:
        import os

        os.chdir(folder)
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        return {}


if __name__ == "__main__":
    import exporter
    import exporter.saving.formats.saved_model.reading  # noqa: F401  it imports TensorFlow and Keras

    answer_in_children(_Child)
