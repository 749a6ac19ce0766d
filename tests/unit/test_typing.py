"""The Protocols of libraries without types: they name what there is."""

from exporter.saving.layout.messages import _MESSAGES
from exporter.typing import messages


def test_a_message_has_the_fields_that_its_protocol_names() -> None:
    known = {name: {field for _, field, _ in fields} for name, fields in _MESSAGES.items()}
    named = {name: set(vars(kind)["__annotations__"]) for name, kind in vars(messages).items() if name in known}
    assert len(named) > 40
    assert {name: fields - known[name] for name, fields in named.items() if fields - known[name]} == {}
