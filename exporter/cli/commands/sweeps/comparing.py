"""Compares two sweeps, job by job: what is smaller, faster, more accurate or proven now, and what is not any more.

Jobs belong together that have the same values for the keys that either sweep varies.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from exporter.text.showing import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("before", metavar="SWEEP_A", help="the directory of the earlier sweep")
    parser.add_argument("after", metavar="SWEEP_B", help="the directory of the later one")
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.sweeps.tables.history import load_sweep
    from exporter.sweeps.tables.pairs import pair_jobs

    before, after = (load_sweep(Path(each).expanduser()) for each in (arguments.before, arguments.after))
    pairs = pair_jobs(before, after)
    if arguments.json:
        print(write_json({"pairs": [asdict(pair) for pair in pairs]}), end="")
    else:
        from exporter.sweeps.showing.comparison import print_comparison

        print_comparison(before, after, pairs)
    return 0
