"""Whether both models are compiled alike: the optimizer, the loss, the metrics and the settings."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission
from exporter.saving.private_api import to_snake_case
from exporter.saving.rebuilding.compilation import ARGUMENTS, serialize_compile_config, serialize_compile_extras
from exporter.typing.keras import Model
from exporter.verification.comparing.base import Ask, CheckType, Message
from exporter.verification.comparing.comparisons import check_equal
from exporter.verification.comparing.described import Described
from exporter.verification.comparing.facts import make_plain


def answer(model: Model, question: Message) -> Message:
    """Describes how the loaded model is compiled."""
    return Message(describe_compilation(model))


def describe_compilation(model: Model, include_optimizer: bool = True) -> dict[str, Any]:
    """Describes how a model is compiled, as plain data.

    Args:
        model: A built model.
        include_optimizer: Whether the compile configuration belongs to what is saved.

    Returns:
        `compile`: the configuration, or None where there is none.
    """
    return make_plain({"compile": _describe(model) if include_optimizer and model.compiled else None})


def _describe(model: Model) -> dict[str, Any]:
    extras = {} if hasattr(model, "saved_compile_config") else serialize_compile_extras(model) or {}
    return {
        **_leave_out_automatic_names({name: value for name, value in extras.items() if name == ARGUMENTS}),
        **_leave_out_automatic_names(serialize_compile_config(model) or {}),
        "jit_compile": model.jit_compile,
        "run_eagerly": model.run_eagerly,
        "steps_per_execution": model.steps_per_execution,
    }


def _leave_out_automatic_names(node: object) -> Any:
    """Returns a compile configuration without the names that Keras numbers by what else the process has made."""
    if isinstance(node, Mapping):
        kept = {key: _leave_out_automatic_names(value) for key, value in node.items()}
        inner, class_name = kept.get("config"), kept.get("class_name")
        if isinstance(inner, dict) and isinstance(class_name, str) and isinstance(inner.get("name"), str):
            stem = re.escape(to_snake_case(class_name.rpartition(">")[2]))
            if re.fullmatch(rf"{stem}(_\d+)?", inner["name"]):
                del inner["name"]
        return kept
    return [_leave_out_automatic_names(each) for each in node] if isinstance(node, (list, tuple)) else node


class _Compilation(Described):
    def compare_facts(self, ours: Mapping[str, Any], theirs: Mapping[str, Any], ask: Ask) -> Iterator[Check | Omission]:
        expected, received = ours["compile"], theirs["compile"]
        if expected and received and (ARGUMENTS in expected) != (ARGUMENTS in received):
            # A model that was revived without its code has no `compile` of its own.
            expected, received = ({key: each[key] for key in each if key != ARGUMENTS} for each in (expected, received))
        if expected is not None or received is not None:
            yield check_equal("compile", expected, received, "optimizer, loss, metrics and settings")


CHECK = CheckType(name="compile", plan=lambda reference: [_Compilation(reference, describe_compilation)], answer=answer)
