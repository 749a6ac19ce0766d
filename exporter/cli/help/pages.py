"""The pages of `exporter help TOPIC`: a folder of Markdown, where each file is a topic.

The second paragraph of a page is its summary. A list of what there is stands between `<!-- list NAME -->` and
`<!-- /list -->`; `python -m exporter.cli.help.pages` writes all of them anew.
"""

import re
from functools import cache
from pathlib import Path

from exporter.cli.help import list_rows

PAGES_DIRECTORY = Path(__file__).parents[2] / "data" / "help"
LIST = re.compile(r"(<!-- list ([\w-]+) -->\n)(.*?)(<!-- /list -->)", re.DOTALL)


@cache
def list_topics() -> dict[str, str]:
    """Gives the summary of each topic, by its name."""
    return {file.stem: read_page(file.stem).split("\n\n")[1] for file in sorted(PAGES_DIRECTORY.glob("*.md"))}


def read_page(topic: str) -> str:
    """Reads a page.

    Args:
        topic: Its name.
    """
    return (PAGES_DIRECTORY / f"{topic}.md").read_text(encoding="utf-8")


def list_sections() -> dict[str, str]:
    """Gives each section of every page with its heading, by the name that asks for it, such as exit-codes."""
    sections: dict[str, str] = {}
    for topic in list_topics():
        for section in re.split(r"^#(?=# )", read_page(topic), flags=re.MULTILINE)[1:]:
            heading = section.partition("\n")[0].removeprefix("#")
            sections.setdefault(name_topic(heading), section)
    return sections


def name_topic(words: str) -> str:
    """Writes words as the name of a topic or a section is written.

    Args:
        words: As they were typed, or a heading.
    """
    return re.sub(r"[^\w.]+|_", "-", words.lower()).strip("-")


def fill_lists(text: str) -> str:
    """Writes the lists of a page anew, as tables.

    Args:
        text: The page.
    """
    return LIST.sub(lambda found: f"{found[1]}{_write_table(found[2])}{found[4]}", text)


def _write_table(name: str) -> str:
    rows = [("", ""), ("---", "---"), *((f"`{key}`" if key else "", _escape(text)) for key, text in list_rows(name))]
    return "".join(f"| {key} | {text} |\n" for key, text in rows)


def _escape(text: str) -> str:
    """Lets Markdown show a text as it is, but for what stands in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    shown = [part if part.startswith("`") else re.sub(r"[<>*_\[\]]", r"\\\g<0>", part) for part in parts]
    return "".join(shown).replace("|", r"\|")


if __name__ == "__main__":
    for file in PAGES_DIRECTORY.glob("*.md"):
        file.write_text(fill_lists(file.read_text(encoding="utf-8")), encoding="utf-8")
