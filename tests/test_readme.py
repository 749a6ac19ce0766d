"""The README and the pages of help are true: every command of theirs runs, and prints what they show."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "exporter" / "data" / "help"
README = ROOT / "README.md"
# In the order in which their commands run: what those of the first two write, the others look at.
FILES = list(dict.fromkeys([README, PAGES / "recipes.md", *sorted(PAGES.glob("*.md"))]))
TEXTS = {file.name: file.read_text(encoding="utf-8") for file in FILES}
OLD_FILE = ROOT / "tests" / "saving" / "legacy" / "files" / "tf-2.15" / "cnn_adam" / "keras.keras"
# Commands that other tests run, by what they hold, with the file of the test.
ELSEWHERE = {
    ".venv": ".ci/run",
    "://my-bucket": "tests/test_readme_stores.py",
    "tests/benchmarks/": "tests/test_readme.py",
    "exporter -cn reexport": "tests/cli/test_recipes.py",
}


class Command(NamedTuple):
    name: str
    line: str
    shown: str | None


def _list_commands() -> Iterator[Command]:
    """Gives every command, in order; one in a block of `bash` has to succeed, one of `console` prints what follows."""
    for name, text in TEXTS.items():
        for kind, block in re.findall(r"^```(bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if kind == "console":
                line, _, shown = block.removeprefix("$ ").partition("\n")
                yield Command(name, line, shown)
                continue
            for line in block.splitlines():
                yield Command(name, re.sub(r" +# .*", "", line), None)


def _is_run_elsewhere(command: Command) -> bool:
    return any(part in command.line for part in ELSEWHERE)


COMMANDS = [each for each in _list_commands() if not _is_run_elsewhere(each)]
MODULES = [
    found
    for text in TEXTS.values()
    for found in re.findall(r"```\w+\n(# (my_\w+\.py|mine\.yaml).*?)```", text, re.DOTALL)
]
PYTHON = [
    block
    for text in TEXTS.values()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if not block.startswith("# my_")
]


def _run(command: str, directory: Path) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    return done.returncode, done.stdout.replace(str(directory), "/home/you")


def _without_measures(text: str) -> list[str]:
    """Drops what differs from machine to machine: durations, sizes, versions, digests, dates, and who came first."""
    text = re.sub(r"^(smallest|fastest|lowest|least)\b( [\w ]+?)?  .*", r"\1\2 #", text, flags=re.MULTILINE)
    text = re.sub(r"^(\d+) ◆ ", r"\1   ", text, flags=re.MULTILINE)  # it depends on what was measured
    text = re.sub(r"\b\d+(\.\d+)? (s|ms|µs|B|kB|MB)\b", "#", text)
    text = re.sub(r"accuracy \d\.\d+( \([+-]\d\.\d+\))?", "accuracy #", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b|\b0\.\d{4}\b", "#", text)
    text = re.sub(r"\b\d\.\de[+-]\d\d\b|\b\d+\.\d%", "#", text)
    text = re.sub(r"\b\d+\.\d+\.\d+\b", "#", text)
    text = re.sub(r"sha256 [0-9a-f]+", "sha256 #", text)
    text = re.sub(r"sweeps/[\d/-]+", "sweeps/#", text)
    return [re.sub(r" +", " ", line).rstrip() for line in text.strip().splitlines()]


class Session(NamedTuple):
    directory: Path
    printed: dict[str, tuple[int, str]]
    by_python: str


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Runs all commands in one directory, each once, and then what is Python in one process."""
    directory = tmp_path_factory.mktemp("readme")
    shutil.copy(OLD_FILE, directory / "old.keras")
    for text, name in MODULES:
        (directory / name).write_text(text, encoding="utf-8")
    printed: dict[str, tuple[int, str]] = {}
    for each in COMMANDS:
        if each.line not in printed:
            printed[each.line] = _run(each.line, directory)
    script = directory / "blocks.py"
    script.write_text("\n".join(PYTHON), encoding="utf-8")
    return Session(directory, printed, _run(f"{sys.executable} {script}", directory)[1])


@pytest.mark.xdist_group("readme")
@pytest.mark.parametrize("command", [pytest.param(each, id=f"{each.name}: {each.line[:60]}") for each in COMMANDS])
def test_a_command_does_what_is_said(session: Session, command: Command) -> None:
    code, printed = session.printed[command.line]
    if command.shown is None:
        assert code == 0, printed
    else:
        assert _without_measures(printed) == _without_measures(command.shown)


@pytest.mark.xdist_group("readme")
def test_the_python_blocks_run(session: Session) -> None:
    assert re.search(r"^proven \S+from_python\.h5 \d+$", session.by_python, re.MULTILINE), session.by_python
    assert "(1, 10)" in session.by_python, session.by_python
    assert "Traceback" not in session.by_python, session.by_python
    written = {path.name for path in (session.directory / "exports").iterdir()}
    assert written >= {"digits", "dense", "dense.h5", "dense.keras", "mine.keras"}


@pytest.mark.xdist_group("benchmark")
def test_the_benchmark_prints_ratios() -> None:
    [command] = [each.line for each in _list_commands() if each.line.startswith("python tests/benchmarks/")]
    _, printed = _run(command.replace("python", sys.executable, 1), ROOT)
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│")}
    assert set(rows) == {"exporter-tf", "exporter-h5", "exporter-keras", "keras-h5", "raw"}, printed
    assert len(re.findall(r"\d+\.\d+", rows["raw"])) == 6, printed


def test_what_is_run_elsewhere_is_run_there() -> None:
    for each in _list_commands():
        if ".venv/" in each.line:
            assert each.name == "README.md"
            script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
            assert re.search(r"find_command '(.*)' user", script)
            assert any(words in each.line for words in (".venv/bin/pip install . &&", "'.[test]'"))
        elif "-cn reexport" in each.line:  # whose recipe says the same words, which the test reads
            assert each.line in (ROOT / "recipes" / "reexport.yaml").read_text(encoding="utf-8")
        else:
            assert _is_run_elsewhere(each) or each in COMMANDS
