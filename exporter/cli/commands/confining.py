"""The limits of commands that run what is inside an artifact."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from exporter.processes.confinement import GIB, run_confined

# A recipe may train for hours.
_SECONDS = 86_400.0
# The others on the machine keep a quarter of it.
_SHARE = 0.75


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments `--timeout` and `--memory`."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_read_positive,
        help="stop what the artifact makes this machine compute (default: 600 and more by its size to load it, a day "
        "to make it again)",
    )
    parser.add_argument(
        "--memory",
        metavar="GIB",
        type=_read_positive,
        help="the most memory that it may take in each process (default: 4 and 16 times its size to load it, three "
        "quarters of the machine's to make it again)",
    )


def _read_positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


_read_positive.__name__ = "positive number"  # argparse names it in its errors


def run_recipe(work: str, given: Mapping[str, object], what: str, timeout: float | None, memory: float | None) -> Any:
    """Runs what makes an artifact from the recipe inside another one, within the limits that the user gave.

    Without them it may take a day, and three quarters of the machine's memory.

    Args:
        work: See `exporter.processes.confinement.run_confined`.
        given: Its arguments.
        what: See there.
        timeout: Seconds; None for what is said above.
        memory: GiB; likewise.

    Returns:
        What it returned.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = round(memory * GIB if memory else _SHARE * machine)
    return run_confined(work, given, what, timeout or _SECONDS, most)
