"""The table of a sweep as files for programs: the same names in every sweep, whatever its rows have."""

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporter.storage.staging import replace_text
from exporter.sweeps.records.results import JobResult
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.columns import COLUMNS, list_facts
from exporter.text.printable import escape
from exporter.text.showing import write_json

JSON = "sweep.json"
CSV = "sweep.csv"

# What the files of the table have of a receipt, and what stands there without one.
_OF_THE_RECEIPT = {
    "total_bytes": None,
    "held": (),
    "left_out": (),
    "seconds": None,
    "measurements": None,
    "peak_memory_bytes": None,
    "deployment": None,
    "machine": None,
    "facts": None,
}
_DERIVED = ("sha256", "output_difference", "state_difference", "resumes", "save_seconds", "quantize")

# With what a spreadsheet takes a cell for a formula, also in full width; and with what we say that it is none.
_COMPUTED = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")


def write_table(sweep: Sweep) -> None:
    """Writes `sweep.json` and `sweep.csv` into the sweep's directory.

    Args:
        sweep: The sweep.

    Raises:
        OSError: The file system refused.
    """
    for name, write in FILES.items():
        replace_text(Path(sweep.plan.directory) / name, write(sweep))


def _write_json(sweep: Sweep) -> str:
    front, beside = sweep.front, sweep.beside
    content = {
        **asdict(sweep.plan),
        "exit_code": sweep.exit_code,
        "winners": sweep.find_winners(),
        "front": front,
        "rows": [
            {
                **_describe_row(row),
                "on_front": row.number in front,
                "beside": beside.get(row.number, ()),
                "params": {column.title: column.read(row) for column in sweep.parameters},
                "command": sweep.word_command(row),
                "directory": str(sweep.find_directory(row)),
            }
            for row in sweep.rows
        ],
    }
    del content["cells"]
    return write_json(_spell_figures(content))


def _describe_row(row: JobResult) -> dict[str, Any]:
    """Describes a row without the nesting of its receipt, most of which says the same of every job."""
    fields = asdict(row)
    receipt, failed_proof = fields.pop("receipt") or {}, fields.pop("failed_proof")
    told = {name: receipt.get(name, otherwise) for name, otherwise in _OF_THE_RECEIPT.items()}
    derived = {name: getattr(row, name) for name in _DERIVED}
    return fields | told | derived | {"checks": receipt.get("checks", failed_proof)}


def _spell_figures(value: Any) -> Any:
    """Writes as a text what is no number in JSON: a difference may be infinite, or not a number."""
    if isinstance(value, Mapping):
        return {key: _spell_figures(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_figures(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(sweep: Sweep) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("number", "overrides", "outcome", "error", "format", "filepath", "sha256", "resumes", "host")
    columns = [column for column in COLUMNS if column.key not in names]
    parameters = [*sweep.parameters, *list_facts(sweep.rows)]
    conditions = ("reader", "processor", "int8_instructions")
    front, beside = sweep.front, sweep.beside
    heads = [*names, *(column.key for column in columns), "on_front", *conditions, "beside"]
    writer.writerow([*heads, "held", "left_out", "command", *map(_neutralise, (each.key for each in parameters))])
    for row in sweep.rows:
        plain = {**_describe_row(row), "overrides": " ".join(row.overrides)}
        cells = [
            *(plain[name] for name in names),
            *(column.read(row) for column in columns),
            row.number in front,
            *_describe_conditions(row),
            " ".join(map(str, beside.get(row.number, ()))),
            *("; ".join(each["what"] for each in plain[name]) for name in ("held", "left_out")),
            sweep.word_command(row),
            *(column.read(row) for column in parameters),
        ]
        writer.writerow(map(_neutralise, cells))
    return text.getvalue()


def _describe_conditions(row: JobResult) -> tuple[str, str, str]:
    """Says what a row was measured with, and on what; nothing where nothing was."""
    if row.receipt is None or row.measurements is None:
        return "", "", ""
    machine = row.receipt.machine
    return row.measurements.reader, machine.processor, " ".join(machine.int8_instructions or ())


def _neutralise(cell: Any) -> Any:
    """Keeps a spreadsheet from computing a text, as OWASP advises against CSV injection; numbers stay numbers.

    An apostrophe before it says that it is one. Whoever reads the file with a program takes one apostrophe away from
    each text that begins with it, and has the text as it was, with what is not printable escaped.
    """
    if not isinstance(cell, str):
        return cell
    text = escape(cell)
    return f"'{text}" if text.startswith(_COMPUTED) else text


# What the table is written into, and by which function.
FILES: dict[str, Callable[[Sweep], str]] = {JSON: _write_json, CSV: _write_csv}
