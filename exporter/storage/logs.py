"""Log records as text: without what the environment gave, and with nothing that would steer a terminal."""

import copy
import logging
import os
import textwrap
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from exporter.errors import ForeignFileError
from exporter.storage.own_files import open_own, open_to_append
from exporter.text.hiding import hide
from exporter.text.printable import escape
from exporter.text.showing import escape_lines

_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"
_INDENT = "  "

_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]  # as `logging` has it
)


class DiscreetFormatter(logging.Formatter):
    """Writes a record on one line, and its traceback on indented ones: no text of others begins a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes one record.

        Args:
            record: The record.
        """
        own = copy.copy(record)
        own.exc_text = None  # another handler may have kept it as it is
        return super().format(own)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Writes the line of a record."""
        return escape(hide(super().formatMessage(record)))

    def formatException(self, ei: _ExceptionInfo) -> str:
        """Writes a traceback."""
        return _indent(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """Writes the stack that a record was asked to hold."""
        return _indent(super().formatStack(stack_info))


def _indent(text: str) -> str:
    return textwrap.indent(escape_lines(hide(text)), _INDENT)


class OwnFileHandler(logging.FileHandler):
    """Appends records to a file of ours, and drops them where something else stands at that name.

    Hydra makes one for each job before ours begins, where no error could be told; see `check_logs`.
    """

    refusal: ForeignFileError | None = None

    def _open(self) -> TextIOWrapper:
        try:
            return open(open_to_append(Path(self.baseFilename)), "a", encoding=self.encoding)
        except ForeignFileError as error:
            self.refusal = error
            return open(os.devnull, "a", encoding=self.encoding)


def check_logs() -> None:
    """Looks for a log of this process whose records are dropped.

    Raises:
        ForeignFileError: Something else stands at its name.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, OwnFileHandler) and handler.refusal is not None:
            raise handler.refusal


def open_log(file: Path) -> logging.Handler:
    """Lets all records be written to a file too, which is made with the first of them.

    Args:
        file: The file, which is appended to.

    Returns:
        The handler, to be removed from the root logger and closed where the log ends.

    Raises:
        ForeignFileError: Something else stands at that name.
    """
    with suppress(FileNotFoundError):
        os.close(open_own(file, os.O_WRONLY))  # here, where it can be told, and not with a record
    handler = OwnFileHandler(file, encoding="utf-8", delay=True)
    handler.setFormatter(DiscreetFormatter(_FORMAT))
    logging.getLogger().addHandler(handler)
    return handler
