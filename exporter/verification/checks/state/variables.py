"""Whether both models hold the same values: weights, optimizer, random state, tables, bit by bit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporter.artifacts.records import Check, CheckKind
from exporter.saving.contents import Omission
from exporter.saving.state.collecting import collect
from exporter.saving.state.kinds import Kind, find_kind
from exporter.typing.keras import Model
from exporter.verification.comparing.base import Ask, CheckType, Message
from exporter.verification.comparing.comparisons import check_variables, find_changed, measure_difference
from exporter.verification.comparing.described import Described
from exporter.verification.comparing.facts import describe_state, make_plain, read_values


def answer(model: Model, question: Message) -> Message:
    """Describes the variables of the loaded model, and gives the values of those that are asked for."""
    return Message(_describe(model), read_values(model, question.facts["paths"]))


def _describe(model: Model, include_optimizer: bool = True) -> dict[str, Any]:
    """Describes the variables, and says which of them belong to optimizers, and which are lookup tables."""
    state = collect(model, include_optimizer)
    return make_plain(
        {"variables": describe_state(state), "optimizers": list(state.optimizers), "tables": list(state.tables)}
    )


class _Variables(Described):
    def ask(self) -> Message:
        return Message({"paths": []})

    def compare_facts(self, ours: Mapping[str, Any], theirs: Mapping[str, Any], ask: Ask) -> Iterator[Check | Omission]:
        expected, received = ours["variables"], theirs["variables"]
        groups: dict[Kind, list[str]] = {}
        for path in dict.fromkeys((*expected, *received)):
            groups.setdefault(self._find_kind(path), []).append(path)
        differing = find_changed(expected, received)
        differences = self._measure_differences(differing, ask) if differing else {}
        for kind in Kind:
            if kind in groups:
                yield check_variables(kind, groups[kind], expected, received, differences, CheckKind.STATE)

    def _find_kind(self, path: str) -> Kind:
        return Kind.TABLES if path in self._expected["tables"] else find_kind(path, self._expected["optimizers"])

    def _measure_differences(self, paths: Sequence[str], ask: Ask) -> Mapping[str, float | None]:
        """Ships the tensors whose digests differ: only then it is worth the time."""
        answer = ask(Message({"paths": paths}))()
        if answer.error:
            return {}
        ours, theirs = read_values(self._reference.model, paths), answer.read_arrays()
        return {path: measure_difference(ours[path], theirs[path]) for path in ours.keys() & theirs.keys()}


CHECK = CheckType(name="variables", plan=lambda reference: [_Variables(reference, _describe)], answer=answer)
