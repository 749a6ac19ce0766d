"""The document that we keep inside of a deployed artifact, in the place that its format has for metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from exporter.errors import ArtifactError
from exporter.saving.contents import Endpoint
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record

# The name under which it is kept.
KEY = "exporter"

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The data that an artifact was calibrated with.

    Attributes:
        origin: Where it is from, in a few words.
        samples: How many samples of it, for each endpoint.
        sha256: Of the arrays, in the order in which the endpoints took them.
    """

    origin: str
    samples: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a deployed artifact says of itself.

    Attributes:
        version: Of this record's layout.
        quantize: How it was quantised; None if it was not.
        endpoints: What it takes and returns, by the names of the endpoints.
        calibration: The data that it was calibrated with; None if it was not.
        notes: Texts by name: the recipe, the versions and the inputs of an export.
    """

    version: int = VERSION
    quantize: str | None = None
    endpoints: Mapping[str, Endpoint]
    calibration: Calibration | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns it as JSON on one line; the same document gives the same text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text, which may be anybody's.
            place: What it is called in an error.

        Raises:
            ArtifactError: It is no such document.
        """
        try:
            document = read_record(cls, parse_json(text, place), "the document")
        except RecordError as error:
            raise ArtifactError(f"{place} is damaged: {error}.") from error
        if document.version != VERSION:
            raise ArtifactError(
                f"{place} is of version {document.version}; this version of exporter reads {VERSION}. "
                "Read it with the version of exporter that wrote it."
            )
        return document
