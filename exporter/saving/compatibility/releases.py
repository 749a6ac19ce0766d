"""Makes the table of what each release of Keras 3 brought, out of the releases themselves.

`python -m exporter.saving.compatibility.releases FOLDER` downloads every release into a folder and writes
`exporter/data/keras_releases.json`: classes and functions by the names that configurations have for them, and the
arguments of each class, where the first release did not have them.
"""

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from exporter.saving.compatibility.history import TABLE, Version, parse_version

_RELEASE = re.compile(r"\b3\.\d+\.\d+\b")


@dataclass(slots=True)
class _Class:
    names: list[str]
    bases: list[str]
    arguments: dict[str, ast.expr | None] | None
    hands_on: bool


@dataclass(slots=True)
class _Release:
    classes: dict[str, list[_Class]] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)

    def list_arguments(self, name: str, seen: frozenset[str] = frozenset()) -> dict[str, ast.expr | None]:
        """Lists what the constructor of a class takes, or hands on to those of its bases, with the defaults."""
        found: dict[str, ast.expr | None] = {}
        for each in self.classes.get(name, ()):
            found = (each.arguments or {}) | found
            if each.arguments is None or each.hands_on:
                for base in sorted(set(each.bases) - seen):
                    found = self.list_arguments(base, seen | {name}) | found
        return found


def download_releases(folder: Path) -> None:
    """Downloads every release of Keras 3 that the package index lists and the folder lacks."""
    pip = [sys.executable, "-m", "pip"]
    listed = subprocess.run([*pip, "index", "versions", "keras"], check=True, capture_output=True, text=True).stdout
    for version in sorted(set(_RELEASE.findall(listed))):
        if not list(folder.glob(f"keras-{version}-*.whl")):
            subprocess.run([*pip, "download", "--no-deps", f"keras=={version}", "--dest", folder], check=True)


def make_table(wheels: Iterable[Path]) -> dict[str, object]:
    """Compares the releases.

    Args:
        wheels: One of each.

    Returns:
        The content of the table's file.
    """
    releases = {parse_version(wheel.name.split("-")[1]): _read_release(wheel) for wheel in wheels}
    first, *_ = ordered = sorted(releases)
    since: dict[str, dict[str, Version]] = {}
    for version in ordered:
        for name, arguments in _list_names(releases[version]):
            known = since.setdefault(name, {})
            for argument in ("", *arguments):
                known.setdefault(argument, version)
    news = {name: {each: v for each, v in known.items() if v != first} for name, known in sorted(since.items())}
    news = {name: _without_first(known) for name, known in news.items() if known}
    of_today = dict(_list_names(releases[ordered[-1]]))
    defaults = {
        name: _read_defaults({each: of_today.get(name, {}).get(each) for each in sorted(known) if each})
        for name, known in news.items()
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "releases": [_show(version) for version in ordered],
        "since": {name: {each: _show(known[each]) for each in sorted(known)} for name, known in news.items()},
        "defaults": {name: known for name, known in defaults.items() if known},
    }


def _read_defaults(arguments: Mapping[str, ast.expr | None]) -> dict[str, object]:
    """Reads those defaults that are written out, as a configuration has them."""
    found: dict[str, object] = {}
    for name, default in arguments.items():
        with suppress(ValueError):
            if default is not None:
                value = ast.literal_eval(default)
                found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _without_first(known: Mapping[str, Version]) -> dict[str, Version]:
    """Leaves out the arguments that a class has had since it is there."""
    return {argument: version for argument, version in known.items() if not argument or version != known.get("")}


def _show(version: Version) -> str:
    return ".".join(map(str, version))


def _list_names(release: _Release) -> Iterator[tuple[str, dict[str, ast.expr | None]]]:
    for name in release.functions:
        yield name, {}
    for name, classes in release.classes.items():
        for each in classes:
            for path in each.names:
                yield path, release.list_arguments(name)


def _read_release(wheel: Path) -> _Release:
    release = _Release()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("keras/src/") and name.endswith(".py") and not name.endswith("_test.py"):
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                for node in ast.walk(ast.parse(archive.read(name))):
                    _add(release, module, node)
    return release


def _add(release: _Release, module: str, node: ast.AST) -> None:
    if isinstance(node, ast.FunctionDef):
        release.functions.update(_list_exported(node))
    elif isinstance(node, ast.ClassDef):
        constructor = next((each for each in node.body if _is_constructor(each)), None)
        taken = constructor.args if isinstance(constructor, ast.FunctionDef) else None
        release.classes.setdefault(node.name, []).append(
            _Class(
                # An operation that a Functional model holds is named by its module.
                names=[*_list_exported(node), f"{module}.{node.name}"],
                bases=[name for base in node.bases if (name := getattr(base, "id", getattr(base, "attr", "")))],
                arguments=None if taken is None else _list_taken(taken),
                hands_on=taken is not None and taken.kwarg is not None,
            )
        )


def _list_taken(taken: ast.arguments) -> dict[str, ast.expr | None]:
    places = [*taken.posonlyargs, *taken.args]
    defaults = [*[None] * (len(places) - len(taken.defaults)), *taken.defaults]
    named = dict(zip((each.arg for each in taken.kwonlyargs), taken.kw_defaults, strict=True))
    return dict(zip((each.arg for each in places[1:]), defaults[1:], strict=True)) | named


def _is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _list_exported(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Lists the public names that `@keras_export` gives."""
    found: list[str] = []
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "keras_export" and call.args:
            names = ast.literal_eval(call.args[0])
            found += [names] if isinstance(names, str) else names
    return found


if __name__ == "__main__":
    download_releases(Path(sys.argv[1]))
    table = make_table(Path(sys.argv[1]).glob("keras-3.*.whl"))
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
