"""What a recipe refers to: functions by their dotted names, their arguments, and files.

Everything is looked up without importing TensorFlow: the functions of `exporter.sources` are read by their signatures,
the source of a user's own module is read and not run.
"""

import inspect
import os
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import exporter
from exporter import transforms
from exporter.config.checking import BROKEN, convert_value, explain_choice, explain_unknown, suggest, without_none
from exporter.errors import ArgumentError, Fault
from exporter.models.definitions import find_definition
from exporter.models.endpoints.pipelines import check_arguments, list_steps
from exporter.saving.arguments import explain_parents
from exporter.sources import SOURCES
from exporter.sources._stored import find_file
from exporter.storage.remote import explain_url, is_url
from exporter.text.showing import show
from exporter.transforms._hooks import Takes, find_takes

_PREFIX = "exporter.sources."
_TRANSFORMS_PREFIX = "exporter.transforms."
_TRANSFORMS = [name for name in transforms.__all__ if name != "takes"]
_reads_sources = ContextVar("reads_sources", default=True)
HYDRA_KEYS = ("_target_", "_convert_", "_recursive_", "_partial_", "_args_")


@contextmanager
def sources_unread() -> Iterator[None]:
    """Leaves modules unread that a stranger's recipe names: whether they are trusted is asked later."""
    before = _reads_sources.set(False)
    try:
        yield
    finally:
        _reads_sources.reset(before)


def check_model(model: Any) -> tuple[Any, list[Fault]]:
    """Checks where the model comes from.

    Args:
        model: The group `model` as plain data.

    Returns:
        The group with the arguments of `exporter.sources` in their own types, and the faults.
    """
    if model is BROKEN:
        return BROKEN, []
    if not isinstance(model, Mapping):
        return BROKEN, [Fault("model", f"received {show(model)}; expected a mapping with _target_")]
    if "_target_" not in model:
        remedy = "expected the dotted name of a function that returns a keras.Model, such as exporter.sources.digits"
        return BROKEN, [Fault("model._target_", f"missing; {remedy}")]
    faults = check_targets(model, "model")
    function = None if faults else find_source(model)
    if function is None:
        return model, faults
    model, argument_faults = _check_arguments(function, model)
    return model, argument_faults or _check_files(function, model)


def check_targets(value: object, path: str, calls: bool = True) -> list[Fault]:
    """Checks every `_target_` in a mapping and in all that it holds.

    Args:
        value: Plain data.
        path: The dotted path of the value.
        calls: Whether it is called with the arguments that stand beside it, and with no others.
    """
    faults: list[Fault] = []
    if isinstance(value, Mapping):
        if "_target_" in value:
            target_faults = _check_target(value["_target_"], f"{path}._target_")
            faults.extend(target_faults)
            if calls and not target_faults:
                faults.extend(_check_call(value, path))
        for name, entry in value.items():
            faults.extend(check_targets(entry, f"{path}.{name}", calls))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            faults.extend(check_targets(entry, f"{path}[{index}]", calls))
    return faults


def check_steps(signatures: object) -> list[Fault]:
    """Checks the steps of endpoints: their targets, and the arguments and files of those in `exporter.transforms`.

    Args:
        signatures: The group `signatures` as plain data.
    """
    faults = check_targets(signatures, "signatures", calls=False)  # the tensors come with them
    if faults or not isinstance(signatures, Mapping):
        return faults
    for name, declared in signatures.items():
        for key in ("preprocess", "postprocess") if isinstance(declared, Mapping) else ():
            for path, step in list_steps(declared.get(key), f"signatures.{name}.{key}"):
                target = step["_target_"]
                if not isinstance(target, str) or not target.startswith(_TRANSFORMS_PREFIX):
                    continue
                function = getattr(transforms, target.removeprefix(_TRANSFORMS_PREFIX))
                faults.extend(check_arguments(function, step, path))
                for argument in (find_takes(function) or Takes()).files:
                    faults.extend(check_file(f"{path}.{argument}", step.get(argument)))
    return faults


def check_calls(values: Mapping[str, Any]) -> list[Fault]:
    """Checks the functions that give data or make a metric."""
    faults = []
    for group, name in (("calibration", "data"), ("verify", "metric")):
        if isinstance(values.get(group), Mapping):
            faults.extend(check_targets(values[group].get(name), f"{group}.{name}"))
    return faults


def check_writable(filepath: str) -> list[Fault]:
    """Checks that a path can be written, as far as what stands above it tells.

    Args:
        filepath: Where the artifact goes; a URL is not checked.
    """
    if is_url(filepath):
        return []
    message = explain_parents(Path(os.path.expanduser(filepath)))
    return [] if message is None else [Fault("filepath", message)]


def check_file(path: str, value: object, may_be_checkpoint: bool = False) -> list[Fault]:
    """Checks that a file exists; a relative path starts at the caller's directory.

    Args:
        path: The dotted path of the value.
        value: The file's path, or anything that is not text, which is not checked.
        may_be_checkpoint: Whether it may be the prefix of a TensorFlow checkpoint.
    """
    if not isinstance(value, str):
        return []
    if is_url(value):  # it is fetched when it is needed
        message = explain_url(value)
        return [] if message is None else [Fault(path, message)]
    try:
        find_file(value, path, may_be_checkpoint)
    except ArgumentError as error:
        return [Fault(path, str(error))]
    return []


def find_source(model: object) -> Callable[..., Any] | None:
    """Gives the function of `exporter.sources` that a model group names, or None when it is another one."""
    target = model.get("_target_") if isinstance(model, Mapping) else None
    if not isinstance(target, str) or not target.startswith(_PREFIX):
        return None
    known = SOURCES.get(target.removeprefix(_PREFIX))
    return None if known is None else known.function


def list_source_files(function: Callable[..., object]) -> tuple[str, ...]:
    """Names the arguments of a source that are files."""
    known = SOURCES.get(function.__name__)
    return known.files if known is not None and known.function is function else ()


def name_arguments(function: Callable[..., object]) -> list[str]:
    """Names the arguments of a source that a recipe may give; `report` is handed in by the job."""
    return [name for name in inspect.signature(function).parameters if name != "report"]


def _check_target(target: object, path: str) -> list[Fault]:
    if target is BROKEN:
        return []
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        return [Fault(path, f"received {show(target)}; expected a dotted name, such as my_package.my_module.build")]
    for prefix, names in ((_PREFIX, sorted(SOURCES)), (_TRANSFORMS_PREFIX, _TRANSFORMS)):
        if target.startswith(prefix):
            known = [f"{prefix}{name}" for name in names]
            return [] if target in known else [Fault(path, explain_choice(target, known))]
    package, name, *_ = target.split(".")
    if package == exporter.__name__:
        known = [*exporter.__all__, *(module.name for module in pkgutil.iter_modules(exporter.__path__))]
        return [] if name in known else [Fault(path, f"{show(target)} does not exist{suggest(name, known)}")]
    try:
        found = find_spec(package) is not None
    except ValueError:  # a module that was made by hand, such as __main__, has no specification
        found = True
    if found:
        return _check_definition(target, path)
    remedy = "install it, run from the directory that holds it, or add that directory to PYTHONPATH"
    return [Fault(path, f"there is no module {package}; {remedy}")]


def _check_definition(target: str, path: str) -> list[Fault]:
    """Checks that the source of a module has a function, where it can tell."""
    found = find_definition(target) if _reads_sources.get() else None
    if found is None:
        return []
    if found.fault:
        return [Fault(path, f"{found.file} is no Python that can be imported: {found.fault}")]
    if found.name in found.known:
        return []
    return [Fault(path, f"there is no {found.name} in {found.file}{suggest(found.name, found.known)}")]


def _check_call(mapping: Mapping[str, object], path: str) -> list[Fault]:
    """Checks the arguments of a function of the user's own, where its source can tell which ones it takes."""
    found = find_definition(str(mapping["_target_"])) if _reads_sources.get() else None
    parameters = None if found is None else found.list_parameters()
    if parameters is None or mapping.get("_args_") or mapping.get("_partial_"):
        return []
    known, required = parameters
    given = {name for name in mapping if name not in HYDRA_KEYS}
    offered = {"report"} if path == "model" else set()  # by the export itself
    faults = [
        Fault(f"{path}.{name}", f"{mapping['_target_']} does not take it; {_word_known(str(name), known)}")
        for name in mapping
        if name in given and name not in known
    ]
    missing = [name for name in required if name not in given | offered]
    faults.extend(Fault(f"{path}.{name}", f"missing; {mapping['_target_']} has no default for it") for name in missing)
    return faults


def _word_known(name: str, known: Sequence[str]) -> str:
    return f"allowed: {', '.join(known)}{suggest(name, known)}" if known else "it takes none"


def _check_arguments(function: Callable[..., object], model: Mapping[str, object]) -> tuple[Any, list[Fault]]:
    known = name_arguments(function)
    faults = [
        Fault(f"model.{name}", explain_unknown(str(name), known))
        for name in model
        if name not in known and name not in HYDRA_KEYS
    ]
    parameters = inspect.signature(function).parameters
    required = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    faults.extend(Fault(f"model.{name}", "missing; it has no default") for name in required if name not in model)
    # The function's own result may be a class of a library that is not imported.
    written = {name: parameters[name].annotation for name in known}
    hints = get_type_hints(types.SimpleNamespace(__annotations__=written), vars(inspect.getmodule(function)))
    converted = {
        name: convert_value(model[name], _as_yaml_type(hints[name]), f"model.{name}", faults)
        for name in known
        if name in model
    }
    return {**model, **converted}, faults


def _as_yaml_type(hint: object) -> Any:
    """Gives the type that YAML has for a parameter's: a list for a sequence, anything for what is richer."""
    member = without_none(hint)
    if get_origin(member) is Sequence:
        member = list[get_args(member)[0]]  # type: ignore[misc]
    elif member not in (bool, int, str):
        return Any
    return member | None if types.NoneType in get_args(hint) else member


def _check_files(function: Callable[..., object], model: Mapping[str, object]) -> list[Fault]:
    faults: list[Fault] = []
    known = SOURCES.get(function.__name__)
    for name in list_source_files(function):
        value = model.get(name)
        if known is not None and value not in known.words:
            faults.extend(check_file(f"model.{name}", value, name in known.checkpoints))
    check = SOURCES[function.__name__].check
    if check is not None and not faults:
        faults = [Fault(f"model.{name}", message) for name, message in check(model)]
    return faults
