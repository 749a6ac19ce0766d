"""What `exporter inspect` shows a person."""

from typing import TYPE_CHECKING

from exporter.artifacts.inspection.records import InspectionFields, count_classes
from exporter.saving.contents import Tensor, format_bytes, format_tensor
from exporter.saving.formats import name_kind
from exporter.storage.digests import FileRecord
from exporter.text.page import LABEL_WIDTH, Page, escape_markup

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN_FILES = 12
_DIGEST_LENGTH = 16


def show_inspection(inspection: InspectionFields, console: "Console") -> None:
    """Prints what an artifact says of itself.

    Args:
        inspection: What it says.
        console: Where to print.
    """
    _InspectionPage(console).print(inspection)


class _InspectionPage(Page):
    def print(self, inspection: InspectionFields) -> None:
        name = inspection.path.rpartition("/")[2]
        kind = name_kind(inspection.format)
        self._console.print()
        self._line(
            "", f"[bold]{escape_markup(name)}[/]: {kind}, written by {escape_markup(inspection.writer)}", bare=True
        )
        self._console.print()
        self._line("artifact", f"[bold]{escape_markup(inspection.path)}[/]")
        files = sum(record.link is None for record in inspection.files)
        self._wrapped("", f"{files} file{'s' if files != 1 else ''}, {format_bytes(inspection.total_bytes)}")
        self._model(inspection)
        self._groups(inspection)
        self._graph(inspection)
        shown_above = {"configuration", *(group.name for group in inspection.groups)}
        also = [(holding.what, holding.detail) for holding in inspection.held if holding.what not in shown_above]
        self._pairs("and holds", also)
        if inspection.missing:
            self._pairs("misses", [(missing.what, missing.why) for missing in inspection.missing])
        else:
            self._wrapped("misses", "nothing")
        self._origin(inspection)
        self._files(inspection.files)
        self._console.print()

    def _model(self, inspection: InspectionFields) -> None:
        architecture = inspection.architecture
        if architecture is None:
            return
        count = len(architecture.layers)
        layers = f", {count} layer{'s' if count != 1 else ''}" if count else ""
        named = " ".join(filter(None, (architecture.class_name, architecture.name)))
        self._wrapped("model", escape_markup(f"{named}{layers}"))
        if count:
            self._wrapped("", escape_markup(count_classes(architecture.layers)))
        if not inspection.signatures:
            tensors = [(item.name, Tensor(item.shape, item.dtype)) for item in architecture.inputs]
            self._tensors("inputs", tensors)

    def _groups(self, inspection: InspectionFields) -> None:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2, no_wrap=True, style="dim")
        grid.add_column(no_wrap=True)
        for _ in range(3):
            grid.add_column(no_wrap=True, justify="right")
        for number, group in enumerate(inspection.groups):
            grid.add_row(
                "tensors" if number == 0 else "",
                escape_markup(group.name),
                f"{group.tensors:,}",
                f"{group.parameters:,} parameter{'s' if group.parameters != 1 else ''}",
                format_bytes(group.bytes),
            )
        if inspection.groups:
            self._grid(grid)
        optimizer = inspection.optimizer
        if optimizer is not None:
            step = "no step known" if optimizer.step is None else f"step {optimizer.step:,}"
            rate = optimizer.learning_rate
            shown = f", learning rate {rate:g}" if isinstance(rate, (int, float)) else f", {rate}" if rate else ""
            self._wrapped("optimizer", escape_markup(f"{optimizer.class_name}, {step}{shown}"))

    def _graph(self, inspection: InspectionFields) -> None:
        if not inspection.tags and not inspection.operations:
            return
        for number, (name, endpoint) in enumerate(inspection.signatures.items()):
            self._wrapped("signatures" if number == 0 else "", f"[bold]{escape_markup(name)}[/]")
            self._flow(*endpoint.describe())
        total = sum(inspection.operations.values())
        kinds = f"{total:,} operations of {len(inspection.operations):,} kinds"
        if inspection.tags:
            functions = f"{inspection.functions:,} function{'s' if inspection.functions != 1 else ''}"
            kinds = f"tags {escape_markup(', '.join(inspection.tags))}; {kinds} in {functions}"
        self._wrapped("graph", kinds)
        if inspection.reaching_out:
            self._wrapped(
                "",
                f"[yellow]touches files, runs Python or needs a library: "
                f"{escape_markup(', '.join(inspection.reaching_out))}[/]",
            )
        options = {name: value for name, value in inspection.options.items() if value}
        chosen = [f"{name}={_write_option(value)}" for name, value in options.items()]
        if inspection.options:
            self._wrapped("options", escape_markup(", ".join(chosen) or "none that can be seen"))

    def _origin(self, inspection: InspectionFields) -> None:
        if inspection.custom:
            remedy = "; exporter.load_model needs none of their code" if inspection.lives_without_code else ""
            self._wrapped("needs", escape_markup(f"{', '.join(inspection.custom)}{remedy}"))
        oldest = {"Keras": inspection.oldest_keras, "TensorFlow": inspection.oldest_tensorflow}
        readers = [f"{name} {version} and newer" for name, version in oldest.items() if version]
        if readers:
            self._wrapped("opens in", ", ".join(readers))
        if inspection.versions:
            named = ", ".join(f"{name} {version}" for name, version in inspection.versions.items())
            self._wrapped("versions", escape_markup(named))
        if inspection.recipe is not None:
            shown = []
            for key in ("model", "save_format", "include_optimizer", "seed"):
                value = inspection.recipe.get(key)
                if isinstance(value, dict):
                    value = value.get("_target_", value.get("live"))
                shown.append(f"{key} {_write_option(value)}")
            self._wrapped("recipe", escape_markup(", ".join(shown)))
        receipt = inspection.receipt
        if receipt is not None:
            self._pairs("facts", [(name, str(value)) for name, value in receipt.facts.items()])
            self._line("receipt", escape_markup(receipt.path))
            if receipt.fault:
                self._wrapped("", f"[yellow]{escape_markup(receipt.fault)}[/]")
            elif receipt.matches:
                self._wrapped("", f"{escape_markup(receipt.status)}; every file is the one that it names")
            else:
                self._wrapped("", "[yellow]it is of other files: the artifact was changed after it was written[/]")

    def _files(self, files: tuple[FileRecord, ...]) -> None:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=LABEL_WIDTH - 2, no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        grid.add_column(no_wrap=True, justify="right")
        grid.add_column(no_wrap=True, style="dim")
        for number, record in enumerate(files[:_SHOWN_FILES]):
            digest = f"-> {record.link}" if record.sha256 is None else f"sha256 {record.sha256[:_DIGEST_LENGTH]}…"
            size = "" if record.link is not None else format_bytes(record.size)
            grid.add_row("files" if number == 0 else "", escape_markup(record.path), size, escape_markup(digest))
        if len(files) > _SHOWN_FILES:
            grid.add_row("", f"and {len(files) - _SHOWN_FILES} more, with --json", "", "")
        self._grid(grid)

    def _tensors(self, label: str, tensors: list[tuple[str, Tensor]]) -> None:
        for number, (name, tensor) in enumerate(tensors):
            self._wrapped(label if number == 0 else "", escape_markup(f"{name}  {format_tensor(tensor)}"))


def _write_option(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)
