"""Objects by their dotted names, such as `my_package.layers.Attention`."""

import importlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from exporter.errors import ArgumentError, ExporterError
from exporter.text.failures import describe_failure


def import_object(dotted_name: str) -> Any:
    """Import what a dotted name stands for.

    Args:
        dotted_name: Module, then a name inside it, possibly nested: `package.module.Class.method`.

    Returns:
        The object.

    Raises:
        ArgumentError: There is no such module, nothing of that name in it, or it fails when it is imported.
    """
    parts = dotted_name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ArgumentError(
            f"{dotted_name!r} is not a dotted name. Expected a module and a name inside it, "
            "such as my_package.layers.Attention."
        )
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # A module that is there, but itself imports something that is missing, is not a wrong name.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise ArgumentError(
                    f"{dotted_name!r} cannot be imported: {module_name} needs the module {error.name!r}, which is not "
                    "installed. Install it in the environment that runs the export."
                ) from error
            continue
        except ExporterError:
            raise
        except (Exception, SystemExit) as error:  # the module may be anybody's code
            raise ArgumentError(
                f"{dotted_name!r} cannot be imported: {module_name} raised {describe_failure(error)}"
            ) from error
        for part in parts[length:]:
            if not hasattr(found, part):
                raise ArgumentError(
                    f"{dotted_name!r} cannot be imported: there is no {part!r} in {found.__name__}."
                    f"{suggest(part, [name for name in dir(found) if not name.startswith('_')])}"
                )
            found = getattr(found, part)
        return found
    raise ArgumentError(
        f"{dotted_name!r} cannot be imported: there is no module {parts[0]!r}. Install it, run from the directory "
        "that holds it, or add that directory to PYTHONPATH."
    )


def import_custom_objects(custom_objects: Mapping[str, str] | Sequence[str] | None) -> dict[str, Any]:
    """Import the classes and functions that a model's configuration names.

    Args:
        custom_objects: Name in the configuration -> dotted name; or only dotted names, where the last part is the name
            in the configuration. An object registered with `keras.saving.register_keras_serializable` only needs
            to be imported, so naming it here is enough.

    Returns:
        Name in the configuration -> object, as Keras takes it.

    Raises:
        ArgumentError: A dotted name cannot be imported.
    """
    if custom_objects is None:
        return {}
    if not isinstance(custom_objects, Mapping):
        custom_objects = {dotted_name.rpartition(".")[2]: dotted_name for dotted_name in custom_objects}
    return {name: import_object(dotted_name) for name, dotted_name in custom_objects.items()}


def suggest(name: str, known: Sequence[str]) -> str:
    """Word the nearest known names as a question, or nothing when none is near.

    Args:
        name: What was received.
        known: What would have been right.

    Returns:
        Such as ` Did you mean 'VGG16' or 'VGG19'?`, with the leading space, or an empty string.
    """
    by_folded_name = {candidate.casefold(): candidate for candidate in known}
    nearest = get_close_matches(name.casefold(), by_folded_name)
    if not nearest:
        return ""
    return f" Did you mean {' or '.join(repr(by_folded_name[match]) for match in nearest)}?"
