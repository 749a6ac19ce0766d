"""Whether a SavedModel says of its endpoints what was declared."""

from collections.abc import Iterator

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison
from exporter.verification.comparing.comparisons import check_signatures
from exporter.verification.comparing.reference import Reference


class _Signatures(Comparison):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        inputs = self._reference.inputs
        declared = {endpoint.name: endpoint.describe(inputs.predictor) for endpoint in inputs.endpoints}
        yield check_signatures(self._reference.staged, declared)


def plan(reference: Reference) -> list[Comparison]:
    """Compares where there are endpoints."""
    return [_Signatures(reference)] if reference.has_endpoints else []


CHECK = CheckType(name="signatures", plan=plan)
