"""Whether the artifact can be loaded, as the printed line says it: everything else is asked of what was loaded."""

from collections.abc import Iterator

from exporter.artifacts.records import Check
from exporter.config import VerifyMode
from exporter.saving.contents import Omission
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison
from exporter.verification.comparing.reference import Reference


class _Load(Comparison):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        if not answer.error:
            yield Check("load", True, answer.opened["class_name"], "exporter.load_model in a fresh process")
            return
        detail = f"{answer.error} {self._reference.missing_code}".rstrip()
        yield Check("load", False, "the artifact cannot be loaded", detail)


CHECK = CheckType(
    name="load",
    plan=lambda reference: [_Load(reference)],
    modes=frozenset({VerifyMode.RELOAD, VerifyMode.FULL}),
    decides=True,
)
