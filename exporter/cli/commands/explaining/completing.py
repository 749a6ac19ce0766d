"""Prints what lets a shell complete the words of exporter: commands, files, keys and their values.

In bash, or at the end of ~/.bashrc: eval "$(exporter completion bash)". In zsh the same with zsh; in fish:
exporter completion fish | source.
"""

import argparse
import sys

from exporter.cli.commands.explaining.scripts import SCRIPTS
from exporter.errors import Fault, UsageError
from exporter.text.printable import escape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("shell", metavar="SHELL", nargs="?", choices=SCRIPTS, help=", ".join(SCRIPTS))
    # The shell itself asks with it; see `scripts`.
    parser.add_argument("--words", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    if arguments.words:
        from exporter.cli.commands.explaining.candidates import list_candidates

        words = sys.stdin.read().split("\0")[:-1]
        for word, text in list_candidates(words):
            if word.isprintable():
                print(f"{word}\t{escape(text)}")
    elif arguments.shell is None:
        raise UsageError([Fault("SHELL", f"expected one of {', '.join(SCRIPTS)}", "the command line")])
    else:
        print(SCRIPTS[arguments.shell], end="")
    return 0
