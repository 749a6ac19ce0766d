"""The summary of an export on a terminal, with the lines that load, serve and ask the artifact."""

import re
import shlex
import sys
from pathlib import Path
from typing import TextIO

from exporter.artifacts.records import CheckKind, ReceiptFields
from exporter.saving.contents import OmissionKind, format_bytes
from exporter.saving.formats import FORMATS, name_kind
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import KERAS, TENSORFLOW
from exporter.storage.remote import is_url
from exporter.text.page import LABEL_WIDTH, Page, escape_markup, make_console

# What a check says of what has the same bits.
_EQUAL = "bit-equal"


def print_summary(
    receipt: ReceiptFields, receipt_path: Path | str, stream: TextIO | None = None, *, verbose: bool = False
) -> None:
    """Prints what an export did.

    Paths and commands are never broken into lines of their own, so that they can be copied.

    Args:
        receipt: Of the export.
        receipt_path: Where it was written.
        stream: Where to print; None for the standard output.
        verbose: Whether all that it holds is listed, and every check.
    """
    _Summary(make_console(stream or sys.stdout)).print(receipt, receipt_path, verbose)


class _Summary(Page):
    """The summary of an export."""

    def print(self, receipt: ReceiptFields, receipt_path: Path | str, verbose: bool) -> None:
        """Prints all of it."""
        path = Path(receipt.filepath)
        name = f"{path.parent.name}/{path.name}" if _has_versions(receipt) else path.name
        kind = name_kind(receipt.format)
        total = sum(receipt.seconds.values())
        proven = receipt.status == "proven"
        mark = "[bold green]✓[/]" if proven else "[bold yellow]![/]"
        words = "is the same model, proven" if proven else "is written, not proven"
        if proven and receipt.deployment is not None:
            words = "computes what the model computes, proven"
        self._console.print()
        self._line("", f"{mark} [bold]{escape_markup(name)}[/] {words} [dim]in {total:.1f} s[/]", bare=True)
        self._console.print()

        for number, line in enumerate(receipt.read):
            self._wrapped("read" if number == 0 else "", escape_markup(line))
        self._pairs("facts", [(name, str(value)) for name, value in receipt.facts.items()])
        self._line("written", f"[bold]{escape_markup(receipt.filepath)}[/]")
        files = sum(record.link is None for record in receipt.files)
        self._wrapped("", f"{kind}, {files} file{'s' if files != 1 else ''}, {format_bytes(receipt.total_bytes)}")
        for number, (endpoint_name, endpoint) in enumerate(receipt.signatures.items()):
            self._wrapped("signatures" if number == 0 else "", f"[bold]{escape_markup(endpoint_name)}[/]")
            self._flow(*endpoint.describe())
        if verbose:
            self._pairs("holds", [(holding.what, holding.detail) for holding in receipt.held])
        oldest = {"Keras": receipt.oldest_keras, "TensorFlow": receipt.oldest_tensorflow}
        readers = [f"{name} {version} and newer" for name, version in oldest.items() if version]
        if readers and receipt.loading.libraries:
            readers.append(f"with {' and '.join(receipt.loading.libraries)}")
        if readers:
            self._wrapped("opens in", ", ".join(readers))
        if receipt.left_out:
            self._pairs("left out", [(left_out.what, left_out.why) for left_out in receipt.left_out])
        else:
            self._wrapped("left out", "nothing")
        if verbose:
            self._checks([(check.name, check.figure, check.detail) for check in receipt.checks])
            self._line("receipt", escape_markup(str(receipt_path)))
        elif receipt.checks:
            self._wrapped("checks", f"[green]✓[/] {escape_markup(_sum_up(receipt))}")
        self._console.print()
        for label, commands in _list_commands(receipt):
            for number, command in enumerate(commands):
                self._line(label if number == 0 else "", f"[cyan]{escape_markup(command)}[/]")
        self._console.print()

    def _checks(self, rows: list[tuple[str, str, str]]) -> None:
        from rich.table import Table

        if not rows:
            return
        if not self._leaves_room(*(max(len(row[column]) for row in rows) + 2 * column for column in (0, 1))):
            for number, (name, figure, _) in enumerate(rows):  # what they were measured on, the receipt says
                line = f"[green]✓[/] {escape_markup(name)}: {escape_markup(figure)}"
                self._wrapped("checks" if number == 0 else "", line)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2, no_wrap=True, style="dim")
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(style="dim", overflow="fold")
        for number, (name, figure, detail) in enumerate(rows):
            marked = f"[green]✓[/] {escape_markup(figure)}"
            grid.add_row("checks" if number == 0 else "", escape_markup(name), marked, escape_markup(detail))
        self._grid(grid)


def _sum_up(receipt: ReceiptFields) -> str:
    """Says how many checks there were, how equal what they compared is, and how well it does on labelled data."""
    checks = receipt.checks
    compared = [check for check in checks if check.kind is not CheckKind.FACTS]
    others = {check.name: check.figure for check in compared if check.figure != _EQUAL}
    words = f"{len(checks)} check{'s' * (len(checks) > 1)}"
    if len(others) < len(compared):
        words += f", {_EQUAL}"
    scores = receipt.deployment.scores if receipt.deployment else ()
    return "; ".join([words, *(f"{name}: {figure}" for name, figure in others.items()), *map(str, scores)])


def _list_commands(receipt: ReceiptFields) -> list[tuple[str, list[str]]]:
    """The lines to copy: each works as it stands."""
    path, loading = receipt.filepath, receipt.loading
    chosen = FORMATS.get(receipt.format)
    if isinstance(chosen, DeployedFormat):
        return [("run", lines) for lines in [chosen.write_lines(path, receipt.signatures)] if not is_url(path)]
    load = loading.write_lines(path)
    if is_url(path):  # TensorFlow and Keras open no URL by themselves
        return [("load", load)]
    readers = chosen.readers if chosen else ()
    if TENSORFLOW not in readers:
        opens = KERAS in readers and all(entry.kind is not OmissionKind.STOCK_KERAS for entry in receipt.left_out)
        return [("load", load), ("or", loading.write_lines(path, "keras.models"))][: 1 + opens]
    # Endpoints use the variables of the loaded object, which live as long as it does.
    modules = ", ".join(["tensorflow as tf", *loading.libraries])
    endpoints = [f"import {modules}", f"served = tf.saved_model.load({path!r})", "endpoints = served.signatures"]
    return [("load", load), ("serve", [*endpoints, *_list_server_commands(receipt)])]


def _has_versions(receipt: ReceiptFields) -> bool:
    return bool(receipt.recipe["layout"]["kind"] == "tf_serving")


def _list_server_commands(receipt: ReceiptFields) -> list[str]:
    """The commands that start TF Serving and ask it; none for a graph that it cannot restore."""
    options = receipt.recipe["options"]
    if options["experimental_skip_saver"]:
        return []
    path = Path(receipt.filepath)
    has_versions = _has_versions(receipt)
    base = path.parent if has_versions else path
    name = name_for_server(base)
    volume = shlex.quote(f"{base}:/models/{name}" if has_versions else f"{base}:/models/{name}/1")
    # A server looks for the graph with exactly these tags.
    tags = f" --saved_model_tags={shlex.quote(','.join(['serve', *options['extra_tags']]))}" * bool(
        options["extra_tags"]
    )
    commands = [f"docker run -p 8501:8501 -v {volume} -e MODEL_NAME={name} tensorflow/serving{tags}"]
    if has_versions:
        place = shlex.quote(str(base))
        server = f"tensorflow_model_server --rest_api_port=8501 --model_name={name} --model_base_path={place}{tags}"
        commands.append(server)
    if receipt.request is not None:
        body = receipt.request.body if receipt.request.file is None else f"@{receipt.request.file}"
        commands.append(f"curl -d {shlex.quote(str(body))} http://localhost:8501/v1/models/{name}:predict")
    return commands


def name_for_server(directory: Path) -> str:
    """Names a model for a server, and for the address that it answers at.

    Args:
        directory: The artifact, or the directory of its versions.
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", directory.name).strip("_") or "model"
