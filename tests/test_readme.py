"""The README is true: every command of it runs, and prints what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.DOTALL)
FILES = re.findall(r"```(?:yaml|python)\n(# (my_models\.py|mine\.yaml).*?)```", README, re.DOTALL)
PYTHON = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if not block.startswith("# my_models")
]


def _run(command: str, directory: Path) -> str:
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
    return done.stdout.replace(str(directory), "/home/you")


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


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Runs all commands of the README in one directory, in their order."""
    directory = tmp_path_factory.mktemp("readme")
    for text, name in FILES:
        (directory / name).write_text(text, encoding="utf-8")
    printed = [_run(command, directory) for command, _ in CONSOLE]
    script = directory / "blocks.py"
    script.write_text("\n".join(PYTHON), encoding="utf-8")
    printed.append(_run(f"{sys.executable} {script}", directory))
    return directory, printed


@pytest.mark.xdist_group("readme")
@pytest.mark.parametrize("number", range(len(CONSOLE)), ids=[command[:60] for command, _ in CONSOLE])
def test_a_command_prints_what_is_shown(session: tuple[Path, list[str]], number: int) -> None:
    _, printed = session
    assert _without_measures(printed[number]) == _without_measures(CONSOLE[number][1])


@pytest.mark.xdist_group("readme")
def test_the_python_blocks_run(session: tuple[Path, list[str]]) -> None:
    directory, printed = session
    assert re.search(r"^proven \S+from_python\.h5 \d+$", printed[-1], re.MULTILINE), printed[-1]
    assert "(1, 10)" in printed[-1], printed[-1]
    assert "Traceback" not in printed[-1], printed[-1]
    assert {path.name for path in (directory / "exports").iterdir()} >= {"digits", "dense", "dense.h5", "dense.keras"}


@pytest.mark.xdist_group("benchmark")
def test_the_benchmark_prints_ratios() -> None:
    [command] = [line for line in README.splitlines() if line.startswith("python tests/benchmarks/")]
    printed = _run(command.replace("python", sys.executable, 1), ROOT)
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│")}
    assert set(rows) == {"exporter-tf", "exporter-h5", "exporter-keras", "keras-h5", "raw"}, printed
    assert len(re.findall(r"\d+\.\d+", rows["raw"])) == 6, printed


def test_every_named_test_file_exists() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_recipe_is_listed() -> None:
    listed = set(re.findall(r"`exporter -cn (\w+)", README))
    assert listed == {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
