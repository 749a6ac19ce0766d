"""The exit codes of the command."""

import signal

from exporter.errors import ExportError, ProofError, RegressionError, UsageError

UNEXPECTED = 1

_SIGNALS = {signal.SIGHUP: "the terminal was closed", signal.SIGINT: "interrupted", signal.SIGTERM: "told to end"}
_CODES = {
    0: "done and proven, or done as far as `verify` asked",
    UNEXPECTED: "an unexpected error; its traceback is in the run's log. Of diff: the two differ",
    UsageError.exit_code: "a fault in the command line or the recipe; nothing was run",
    ExportError.exit_code: "the export failed; what was at filepath is unchanged",
    ProofError.exit_code: "the proof failed; nothing was published",
    RegressionError.exit_code: "a regression against layout.against; nothing was published",
    **{128 + number: words for number, words in _SIGNALS.items()},
}


def list_rows() -> list[tuple[str, str]]:
    """Gives each code with its meaning."""
    worst = "runs all its jobs, unless on_error=stop, and ends with the worst code: 1, then 4, then 5, then 3, then 2"
    return [*((str(code), words) for code, words in _CODES.items()), ("a sweep", worst)]
