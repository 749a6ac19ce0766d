"""Makes the table of what each release of TensorFlow brought to its graphs, out of the releases themselves.

`python -m exporter.saving.compatibility.operations FOLDER` reads every `tensorflow_cpu-*.whl` in a folder, one for
each release, and writes `exporter/data/tensorflow_releases.json`: operations, and attributes and inputs of each, where
the first release did not have them. They are those that TensorFlow's generated Python names: nothing of it is run.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from exporter.saving.compatibility.graphs import TABLE
from exporter.saving.compatibility.history import Version, parse_version, show_version

_MODULE = re.compile(r"/gen_\w+\.py$")
_CALL = re.compile(r'_apply_op_helper\(\s*"(\w+)",(.*?)\)\n', re.DOTALL)
_ARGUMENT = re.compile(r"(\w+)=")


def make_table(wheels: Iterable[Path]) -> dict[str, object]:
    """Compares the releases.

    Args:
        wheels: One of each.

    Returns:
        The content of the table's file.
    """
    releases = {parse_version(wheel.name.split("-")[1]): _read_operations(wheel) for wheel in wheels}
    first, *others = ordered = sorted(releases)
    known: dict[str, dict[str, Version]] = {}
    for version in ordered:
        for name, arguments in releases[version].items():
            entry = known.setdefault(name, {"": version})
            for argument in arguments:
                entry.setdefault(argument, version)
    since = {name: _list_news(entry, first) for name, entry in sorted(known.items())}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "releases": [_show(first), *map(_show, others)],
        "since": {name: news for name, news in since.items() if news},
    }


def _list_news(entry: dict[str, Version], first: Version) -> dict[str, str]:
    """Lists what the first release lacks: the operation, and what it has not had from its beginning."""
    begun = entry[""]
    return {
        name: _show(version)
        for name, version in sorted(entry.items())
        if version != first and (not name or version != begun)
    }


def _show(version: Version) -> str:
    """Names a release by its first two numbers: a correction brings nothing to a graph."""
    return show_version(version[:2])


def _read_operations(wheel: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for module in filter(_MODULE.search, archive.namelist()):
            for name, arguments in _CALL.findall(archive.read(module).decode()):
                found.setdefault(name, set()).update(_ARGUMENT.findall(arguments))
    return found


if __name__ == "__main__":
    table = make_table(Path(sys.argv[1]).glob("tensorflow_cpu-*.whl"))
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
