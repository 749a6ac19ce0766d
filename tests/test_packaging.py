"""What is in the wheel and in the source distribution, and that the command works from the wheel."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the source distribution; the wheel is built from the latter."""
    folder = tmp_path_factory.mktemp("distributions")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    [file] = distributions.glob("keras_exporter-0.1.0-py3-none-any.whl")
    return file


def list_files(folder: str, suffix: str) -> set[str]:
    return {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob(f"*{suffix}")}


def test_the_wheel_holds_the_package_and_its_yaml(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    yaml = {f"exporter/{name}" for folder in ("conf", "recipes") for name in list_files(folder, ".yaml")}
    data = {file for file in list_files("exporter/data", "") if (ROOT / file).is_file()}
    expected = list_files("exporter", ".py") | {"exporter/py.typed"} | yaml | data
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "keras_exporter-0.1.0.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_holds_what_builds_and_tests_it(distributions: Path) -> None:
    [file] = distributions.glob("keras_exporter-0.1.0.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert list_files("exporter", ".py") | list_files("conf", ".yaml") | list_files("recipes", ".yaml") <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/conftest.py", "exporter/py.typed"} <= names


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("keras_exporter-0.1.0.dist-info/METADATA").decode()
        scripts = archive.read("keras_exporter-0.1.0.dist-info/entry_points.txt").decode()
    assert scripts == "[console_scripts]\nexporter = exporter.__main__:main\n"
    lines = metadata.splitlines()
    for line in ("Name: keras-exporter", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        assert line in lines
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    assert required
    assert all("<" in line and ">=" in line for line in required), "a dependency has no bounds"


def test_what_is_imported_is_what_is_required() -> None:
    imported = set()
    for file in (ROOT / "exporter").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"exporter"}
    # The package `google` belongs to many distributions.
    homes = {"google": "protobuf", "google_crc32c": "google-crc32c", "hydra": "hydra-core", "yaml": "pyyaml"}
    homes["tensorflow_serving"] = "tensorflow-serving-api"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split("[<>=]", line)[0] for line in project["dependencies"]}
    extras = {extra: lines for extra, lines in project["optional-dependencies"].items() if extra != "test"}
    optional = {re.split("[<>=[]", line)[0] for lines in extras.values() for line in lines}
    named = {homes.get(name, name.replace("_", "-")) for name in packages}
    assert required <= named <= required | optional


def test_the_command_works_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "-cn", "digits", "--info", "searchpath"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert str(folder / "exporter" / "conf") in done.stdout
    assert str(folder / "exporter" / "recipes") in done.stdout


@pytest.mark.xdist_group("together")
def test_the_tests_of_a_group_run_in_one_worker(request: pytest.FixtureRequest, worker_id: str) -> None:
    # Without a word of it, pytest-xdist keeps no groups with a pytest that it does not know.
    assert worker_id == "master" or request.node.nodeid.endswith("@together")
