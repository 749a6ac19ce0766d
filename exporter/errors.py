"""Errors that a user can mend.

Every message says what happened, what was expected, what was received and how to fix it. Each class is
also the built-in error that a Python caller would expect, so `except ValueError` keeps working, and each
carries the exit code with which the command line ends.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ENOSPC
from typing import Any

from exporter.text.showing import escape_line, print_line


class ExporterError(Exception):
    """A fault with a remedy: the command line prints its message without a traceback.

    Names and other people's errors are a part of many messages: each argument is one line of the message, in which
    everything is escaped that is not printable, so that no value begins a line or steers a terminal.

    Attributes:
        exit_code: The process's exit code when the error reaches the command line.
        is_refusal: Whether nothing is wrong but that a format does not have what is asked of it: in a sweep that is a
            row with its reason, and no failure.
    """

    exit_code: int = 3
    is_refusal: bool = False

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(escape_line, lines)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not as built-in errors do it, which call the class with the whole message as if it were one line.
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[ExporterError], arguments: tuple[object, ...]) -> ExporterError:
    """Makes an error of another process again, without its constructor, which may take anything."""
    error = OSError.__new__(kind) if issubclass(kind, OSError) else Exception.__new__(kind)
    error.args = arguments
    return error


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a recipe or a command line.

    Attributes:
        path: The dotted config path, such as `options.extra_tags`, or the argument as it was typed.
        message: What was received, what is allowed, and how to fix it.
        place: Where it was written: the command line, or the file of a recipe; empty when that is not known.
        is_refusal: Whether the value is sound, and only the format that is asked for does not have it.
    """

    path: str
    message: str
    place: str = ""
    is_refusal: bool = False


# Of one recipe that are written out.
MOST_FAULTS = 20


class UsageError(ExporterError, ValueError):
    """A recipe or a command line that cannot be run; holds every fault that was found, not only the first."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        self.is_refusal = bool(faults) and all(fault.is_refusal for fault in faults)
        lines = [f"{fault.path}: {fault.message}" for fault in self.faults[:MOST_FAULTS]]
        if len(self.faults) > MOST_FAULTS:
            lines.append(f"and {len(self.faults) - MOST_FAULTS:,} more")
        super().__init__(*lines)


class ExportError(ExporterError, RuntimeError):
    """The model could not be built, saved or published."""


class ArgumentError(ExportError, ValueError):
    """An argument of the save core, or a combination of them, that is not allowed."""


class ModelError(ExportError, ValueError):
    """A model that cannot be saved as it is, or not in this format."""


class RefusedExportError(ModelError):
    """A model that the converter of a format cannot convert as it was asked to; the message gives its reason."""

    is_refusal = True


class NotAModelError(ExportError, TypeError):
    """Something that is not a Keras 3 model was given in place of one."""


class TargetExistsError(ExportError, FileExistsError):
    """The target exists and `overwrite` is false."""


class SpaceError(ExportError, OSError):
    """The file system has too little space for what would be written."""

    errno = ENOSPC


class ForeignFileError(ExportError, OSError):
    """A link, a directory, a pipe or another user's file stands where a file of ours is needed; it was left alone."""


class LockTimeoutError(ExportError, TimeoutError):
    """Somebody has held a lock for longer than anyone waits."""


class MissingDependencyError(ExportError, ImportError):
    """A package that this format or feature needs is not installed."""


class ArtifactError(ExportError, ValueError):
    """A file or directory that is damaged, incomplete or not an artifact that can be loaded."""


class RegressionError(ExportError):
    """The artifact that was written is worse than the one that it was held against; nothing was published.

    Attributes:
        checks: Every comparison that was made, as `exporter.artifacts.records.Check`, also those that passed.
    """

    exit_code = 5

    def __init__(self, *lines: str, checks: Sequence[Any] = ()) -> None:
        self.checks = tuple(checks)
        super().__init__(*lines)


def print_error(message: str) -> None:
    """Prints what ended a command, as all of them do.

    Args:
        message: Of an error of ours, whose lines are its own.
    """
    for number, line in enumerate(message.split("\n")):
        print_line(line if number else f"exporter: {line}", file=sys.stderr)


class ProofError(ExportError):
    """The artifact that was written is not the same model; nothing was published.

    Attributes:
        checks: Every comparison that was made, as `exporter.artifacts.records.Check`, also those that passed.
    """

    exit_code = 4

    def __init__(self, *lines: str, checks: Sequence[Any] = ()) -> None:
        self.checks = tuple(checks)
        super().__init__(*lines)
