"""The pages of help are complete, hold what there is, and are read at any width."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from exporter.cli.commands.explaining.helping import list_words
from exporter.cli.help import LISTS
from exporter.cli.help.pages import LIST, PAGES_DIRECTORY, fill_lists, list_sections, list_topics, name_topic, read_page
from exporter.cli.help.showing import show_page

PACKAGE = PAGES_DIRECTORY.parents[1]
ROOT = PACKAGE.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {"README": README, **{topic: read_page(topic) for topic in list_topics()}}
ASKED = re.compile(r"exporter help ([a-z][\w.-]*(?:=\w+)?)")
WIDTHS = (60, 100, 120)


@pytest.mark.parametrize("topic", list_topics())
def test_a_page_has_a_title_a_summary_and_lists_of_what_there_is(topic: str) -> None:
    text = read_page(topic)
    assert re.match(r"# [^\n]+\n\n[^\n]+\.\n\n", text)
    assert len(list_topics()[topic]) <= 62  # one line of a terminal, with the name
    assert fill_lists(text) == text, "python -m exporter.cli.help.pages"


def test_every_list_stands_on_a_page() -> None:
    assert {found[2] for text in TEXTS.values() for found in LIST.finditer(text)} == set(LISTS)


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) <= 250
    listed = re.findall(r"^\| \[([\w-]+)\]\(exporter/data/help/([\w-]+)\.md\) \| (.*) \|$", README, re.MULTILINE)
    assert listed == [(topic, topic, summary) for topic, summary in list_topics().items()]


def test_what_is_referred_to_is_there() -> None:
    words = {name_topic(word) for word in list_words()}
    texts = {**TEXTS, **{str(file): file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py")}}
    asked = {(name, word) for name, text in texts.items() for word in ASKED.findall(text)}
    assert {(name, word) for name, word in asked if name_topic(word.rstrip(".")) not in words} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    folder = ROOT if name == "README" else PAGES_DIRECTORY
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", TEXTS[name], flags=re.DOTALL))
    assert [link for link in links if not link.startswith("https://") and not (folder / link).is_file()] == []
    named = re.findall(r"`(tests/[\w./]+)`", TEXTS[name])
    assert [path for path in named if (ROOT / "tests").is_dir() and not (ROOT / path).exists()] == []


def test_every_error_that_is_explained_is_one_of_ours() -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    said = re.sub(r'"\n\s+f?"', "", sources)
    rows = list_sections()["common-errors"].splitlines()[4:]
    parts = [part for row in rows for part in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(parts) > 20
    assert [part for part in parts if part not in said] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("topic", list_topics())
def test_a_page_is_shown_whole_at_any_width(topic: str, width: int) -> None:
    shown = io.StringIO()
    show_page(read_page(topic), Console(file=shown, width=width))
    lines = shown.getvalue().splitlines()
    # What is indented like code is never broken, and a path or a word that is longer than the line stands alone.
    too_long = [line for line in lines if len(line) > width and not line.startswith("    ")]
    assert too_long == []
    assert [line for line in lines if line != line.rstrip()] == []
    text = re.sub(
        r"<!--.*?-->|\]\([\w-]+\.md\)|^```\w*$|<[^>]*>", " ", read_page(topic), flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"^\|[^|]*(?=.*\n\| ---)", "", text, flags=re.MULTILINE)  # what a row is: it shows
    expected = set(re.findall(r"\w{4,}", text))
    # A word that is longer than its column is broken.
    together = re.sub(r"\s", "", shown.getvalue())
    assert {word for word in expected if word not in together} == set()


def test_a_page_of_the_folder_is_a_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables.md").write_text("# Tables\n\nHow they are shown.\n\n## In a narrow place\n\nBelow.\n")
    monkeypatch.setattr("exporter.cli.help.pages.PAGES_DIRECTORY", tmp_path)
    list_topics.cache_clear()
    try:
        assert list_topics() == {"tables": "How they are shown."}
        assert list_sections() == {"in-a-narrow-place": "# In a narrow place\n\nBelow.\n"}
    finally:
        list_topics.cache_clear()
