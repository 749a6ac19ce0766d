"""What a model's configuration names outside of the artifact: files, directories, and addresses in a network."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from exporter.saving.contents import Dependency, Omission
from exporter.storage.remote import is_url
from exporter.storage.remote.addresses import redact
from exporter.text.showing import describe_value

# What Keras writes of classes, and of what things are called.
_NAMES = ("module", "class_name", "registered_name", "name")
_LONGEST = 4096  # characters of a path, on Linux
_RELATIVE = re.compile(r"[/\\]|.\.\w{1,10}$")  # with a separator, or with a suffix


def find_dependencies(config: object) -> tuple[Dependency, ...]:
    """Finds the texts in a configuration that name a file or a directory that is there, or a URL.

    No URL is contacted.

    Args:
        config: What `serialize_model` returned.

    Returns:
        Each of them once.
    """
    return tuple(dict.fromkeys(_walk(config, "the model", "", "")))


def _walk(node: object, owner: str, class_name: str, argument: str) -> Iterator[Dependency]:
    if isinstance(node, str):
        if _names_place(node):
            yield Dependency(owner, class_name, argument, redact(node))
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _walk(child, owner, class_name, argument)
    elif isinstance(node, dict):
        kind, inner = node.get("class_name"), node.get("config")
        if isinstance(kind, str) and isinstance(inner, dict):
            name = inner.get("name", node.get("name"))
            owner = f"{kind} {describe_value(name)}" if isinstance(name, str) else f"{kind} of {owner}"
            class_name = kind
        for key, child in node.items():
            if key not in _NAMES:
                yield from _walk(child, owner, class_name, argument if key == "config" else str(key))


def _names_place(text: str) -> bool:
    if len(text) > _LONGEST or not text.isprintable():
        return False
    if is_url(text):
        return True
    path = Path(text)
    if not path.name or not (path.is_absolute() or _RELATIVE.search(text)):
        return False
    try:
        return path.exists()
    except OSError:  # a name that no file system takes, or a directory that may not be read
        return False


def describe_dependencies(found: Collection[Dependency], traced: Collection[str] = ()) -> list[Omission]:
    """Says what is not in the artifact, and what to do.

    Args:
        found: What `find_dependencies` found.
        traced: The classes whose computation lives on in the artifact without their code.
    """
    lines = []
    for each in found:
        what = "an address that was not contacted" if is_url(each.place) else "outside of the artifact"
        why = f"its `{each.argument}` is {each.place}, {what}; "
        if each.class_name in traced:
            why += f"only the code of {each.class_name} needs it: the saved functions hold what it computes"
        else:
            why += "it has to be there under the same name, unchanged, where the model is loaded"
        lines.append(Omission(each.owner, why))
    return lines
