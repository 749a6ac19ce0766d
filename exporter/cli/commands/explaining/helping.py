"""Explains a topic, a command or a key; without one, lists the topics."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module

from exporter.cli.help import Rows, list_rows
from exporter.cli.help.pages import list_sections, list_topics, name_topic, read_page
from exporter.errors import Fault, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("topic", metavar="TOPIC", nargs="*", help="a topic, a section of one, a command or a key")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.cli.commands import COMMANDS, run_command

    typed = " ".join(arguments.topic)
    topic = name_topic(typed)
    if not topic:
        others = [("COMMAND", "A command."), ("KEY", "A key, such as save_format or verify.mode.")]
        print("exporter help WORD explains one of these, or a section of their pages:\n")
        topics = {**list_topics(), "commands": "What there is beside the export itself."}
        _print([*sorted(topics.items()), *others])
    elif topic == "commands":
        _print([(name, summarize(module)) for name, module in COMMANDS.items()], "exporter ")
    elif topic in list_topics():
        _show(read_page(topic))
    elif typed in COMMANDS:
        return run_command([typed, "--help"])
    elif rows := _find_keys(typed):
        _print(rows)
    elif section := list_sections().get(topic):
        _show(section)
    else:
        near = get_close_matches(typed, list_words(), n=1) or get_close_matches(topic, list_words(), n=1)
        meant = f"; did you mean {shlex.join(['exporter', 'help', near[0]])}?" if near else "; see exporter help"
        raise UsageError([Fault(typed, f"there is no such topic, command or key{meant}", "the command line")])
    return 0


def list_words() -> Iterator[str]:
    """Gives all that can be asked for: topics and their sections, commands and keys."""
    from exporter.cli.commands import COMMANDS

    yield from ("commands", *list_topics(), *COMMANDS)
    yield from (key for key, _ in list_rows("keys") if key)
    yield from list_sections()


def _find_keys(name: str) -> Rows:
    """Finds the lines of a key and of those below it."""
    rows = list_rows("keys")
    begun = [key == name or key.startswith((f"{name}.", f"{name}=")) for key, _ in rows]
    # A line without a name belongs to the one before it.
    return [row for number, row in enumerate(rows) if begun[number] or (not row[0] and begun[number - 1])]


def summarize(module: str) -> str:
    """Gives the first paragraph of what a command says of itself.

    Args:
        module: Of the command.
    """
    text = import_module(f"exporter.cli.commands.{module}").__doc__ or ""
    return " ".join(text.partition("\n\n")[0].split())


def _print(rows: Rows, prefix: str = "") -> None:
    from exporter.text.page import Page, make_console

    Page(make_console(sys.stdout)).rows([(f"{prefix}{name}" if name else "", text) for name, text in rows])


def _show(text: str) -> None:
    from exporter.cli.help.showing import show_page
    from exporter.text.page import make_console

    show_page(text, make_console(sys.stdout))
