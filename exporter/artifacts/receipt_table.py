"""The receipt as a notebook shows it: one table, with the colours of the notebook, light or dark."""

import html
from collections.abc import Iterator
from pathlib import Path

from exporter.artifacts.records import ReceiptFields
from exporter.saving.contents import format_bytes, format_tensor
from exporter.saving.formats import name_kind
from exporter.text.showing import escape_line

# Everything is given in words of the surrounding text's colour, so that no theme has to be known.
_STYLE = """
.exporter-receipt { border-collapse: collapse; font-size: 90%; color: inherit; margin: 0.3em 0; }
.exporter-receipt caption { text-align: left; font-size: 110%; color: inherit; padding: 0.3em 0; caption-side: top; }
.exporter-receipt tr { background: transparent !important; }
.exporter-receipt th, .exporter-receipt td {
  text-align: left !important; vertical-align: top; padding: 0.15em 1.2em 0.15em 0; color: inherit;
  white-space: normal; overflow-wrap: anywhere; }
.exporter-receipt th { font-weight: normal; opacity: 0.65; overflow-wrap: normal; }
.exporter-receipt tr.first th, .exporter-receipt tr.first td {
  border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
.exporter-receipt td.detail { opacity: 0.75; }
"""

Row = tuple[str, str, str]  # what, in short, in detail


def format_receipt(receipt: ReceiptFields) -> str:
    """Writes a receipt as a piece of HTML that needs nothing else.

    Args:
        receipt: The receipt.
    """
    proven = receipt.status == "proven"
    words = "the same model, proven" if proven else "written, not proven"
    seconds = sum(receipt.seconds.values())
    name = Path(receipt.filepath).name
    caption = f"{'✓' if proven else '!'} <b>{_escape(name)}</b> is {words} in {seconds:.1f} s"
    rows = "".join(
        f'<tr{first}><th scope="row">{label}</th>{_write_cells(row)}</tr>\n'
        for label, group in _list_groups(receipt)
        for label, first, row in _number(label, group)
    )
    return f'<style>{_STYLE}</style>\n<table class="exporter-receipt"><caption>{caption}</caption>\n{rows}</table>'


def _write_cells(row: Row) -> str:
    what, short, detail = map(_escape, row)
    if not short and not detail:
        return f'<td colspan="3">{what}</td>'
    return f'<td>{what}</td><td>{short}</td><td class="detail">{detail}</td>'


def _escape(text: str) -> str:
    return html.escape(escape_line(text))


def _number(label: str, group: list[Row]) -> Iterator[tuple[str, str, Row]]:
    for number, row in enumerate(group):
        yield (label, ' class="first"', row) if number == 0 else ("", "", row)


def _list_groups(receipt: ReceiptFields) -> Iterator[tuple[str, list[Row]]]:
    yield "read", [(line, "", "") for line in receipt.read]
    yield "facts", [(name, str(value), "") for name, value in receipt.facts.items()]
    files = sum(record.link is None for record in receipt.files)
    size = f"{files} file{'s' if files != 1 else ''}, {format_bytes(receipt.total_bytes)}"
    yield "written", [(receipt.filepath, "", ""), (f"{name_kind(receipt.format)}, {size}", "", "")]
    yield (
        "signatures",
        [
            (f"{name}: {argument}" if kind == "takes" else argument, kind, format_tensor(tensor))
            for name, endpoint in receipt.signatures.items()
            for kind, tensors in (("takes", endpoint.inputs), ("returns", endpoint.outputs))
            for argument, tensor in tensors.items()
        ],
    )
    yield "holds", [(holding.what, holding.detail, "") for holding in receipt.held]
    yield "left out", [(left_out.what, "", left_out.why) for left_out in receipt.left_out] or [("nothing", "", "")]
    yield (
        "checks",
        [(check.name, f"{'✓' if check.passed else '✗'} {check.figure}", check.detail) for check in receipt.checks],
    )
