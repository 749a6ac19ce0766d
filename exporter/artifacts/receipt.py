"""The receipt: what was exported, from what, how it was proven, and how long it took.

Dates, durations and the host's name stand here and never inside the artifact, so that the same recipe
gives the same bytes.
"""

import io
import json
from dataclasses import asdict, dataclass
from typing import Self

from exporter.artifacts.receipt_table import format_receipt
from exporter.artifacts.records import SCHEMA_VERSION, ReceiptFields, update_record
from exporter.artifacts.summary import print_summary
from exporter.errors import ArtifactError
from exporter.saving.layout.records import RecordError, read_record
from exporter.storage.sidecars import locate_receipt
from exporter.text.showing import escape_line, write_json


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Receipt(ReceiptFields):
    """Everything that is known about one finished export, as a person, a notebook and a file show it."""

    def __repr__(self) -> str:
        """Names the artifact in one line; all of it is in `to_json`."""
        return escape_line(f"<Receipt of {self.filepath}: {self.format}, {self.status}, {self.total_bytes} bytes>")

    def __str__(self) -> str:
        """Writes the summary that the command line prints."""
        text = io.StringIO()
        print_summary(self, locate_receipt(self.filepath), text)
        return text.getvalue()

    def _repr_html_(self) -> str:
        """Writes the table that a notebook shows."""
        return format_receipt(self)

    def to_json(self) -> str:
        """Returns the receipt as indented JSON that ends with a newline."""
        return write_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text.

        Raises:
            ArtifactError: The text is no receipt, or one of a layout that this version cannot read.
        """
        try:
            fields = json.loads(text)
            version = fields["schema_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(
                f"This is not a receipt: {error}. Expected the JSON that an export writes beside its artifact."
            ) from error
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"The receipt has schema_version {version!r}; this version of exporter reads {SCHEMA_VERSION}. "
                "Read it with the version of exporter that it names under `versions`."
            )
        try:
            return read_record(cls, update_record(fields))
        except RecordError as error:
            raise ArtifactError(f"The receipt is damaged: {error}. Export the model again to get a new one.") from error
