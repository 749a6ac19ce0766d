"""The first page: what to type, on one screen."""

import textwrap
from collections.abc import Iterable

from exporter.cli.help.pages import list_topics
from exporter.saving.formats import FORMATS

WIDTH, HEIGHT = 80, 24

_PAGE = """\
exporter: saves a Keras model, and proves that what is published is the same.

usage: exporter [MODEL | RECIPE.yaml | MODULE:NAME] [-o PATH] [KEY=VALUE ...]
       exporter COMMAND ...

  exporter old.h5 -o new.keras        a model's file or directory, written anew
  exporter old.h5                     to exports/old, as a SavedModel
  exporter train.py:build model.x=3   a function's model, or a model by name
  exporter mine.yaml seed=3           a recipe of your own
  exporter -cn digits                 a recipe that comes along; see recipes
  exporter -m save_format=tf,keras    a sweep: one job for each value
  exporter                            the digits, trained, to exports/digits

flags     -o PATH           where the artifact goes; the suffix is the format
          -cn NAME, -cd DIR a recipe by its name; a directory of your own ones
          --cfg job         print the config, and run nothing; --version
{lists}"""


def write_front_page(commands: Iterable[str]) -> str:
    """Writes the page.

    Args:
        commands: The names of the commands.
    """
    lists = {
        "formats": ", ".join(FORMATS),
        "commands": ", ".join(commands),
        "help": f"exporter help TOPIC | COMMAND | KEY; topics: {', '.join(list_topics())}",
    }
    return _PAGE.format(lists="".join(_write_list(name, text) for name, text in lists.items()))


def _write_list(name: str, text: str) -> str:
    lines = textwrap.wrap(
        text, WIDTH - 1, initial_indent=f"{name:<10}", subsequent_indent=" " * 10, break_on_hyphens=False
    )
    return "".join(f"{line}\n" for line in lines)
