"""Where an artifact comes from: its recipe, the files that were read, the software, the repository, the machine.

What decides the artifact's bytes is kept inside it, as notes. The rest changes from one run to the next, and stands in
the receipt.
"""

import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from functools import partial
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import Any

from exporter import transforms
from exporter.artifacts.records import Input, Machine, Repository
from exporter.artifacts.versions import read_versions
from exporter.config import UNKEPT, ExportConfig, read_keys
from exporter.exporting.references import find_source, list_source_files
from exporter.models.endpoints.pipelines import list_steps
from exporter.saving.contents import Dependency
from exporter.saving.layout.names import CONFIG, GRAPH, INPUTS, RECIPE, VERSIONS
from exporter.saving.layout.tensor_bundle import is_checkpoint
from exporter.storage.digests import digest_files, record_files
from exporter.storage.remote import explain_url, fetch, is_url
from exporter.text.hiding import hide_values
from exporter.text.showing import describe_if_possible, escape_interpolations, write_json
from exporter.transforms._hooks import Takes, find_takes

# Reported name -> distribution. The first group decides what the artifact's bytes are and is kept inside it.
_MAKERS = {"exporter": "keras-exporter", "tensorflow": "tensorflow", "keras": "keras", "h5py": "h5py", "numpy": "numpy"}
_HELPERS = {"protobuf": "protobuf", "ml_dtypes": "ml-dtypes", "hydra": "hydra-core", "omegaconf": "omegaconf"}


IMAGENET = "imagenet"  # weights that Keras downloads

# The arguments of Keras's classes that are looked up among names of Keras's, and never opened.
_WORDS = {
    *(
        "activation",
        "class_name",
        "data_format",
        "dtype",
        "fill_mode",
        "interpolation",
        "loss",
        "merge_mode",
        "metrics",
        "mode",
    ),
    *("name", "optimizer", "output_mode", "padding", "recurrent_activation", "reduction", "weighted_metrics"),
}
_KINDS_OF_WORDS = {"constraint", "initializer", "regularizer"}

_GIT_SECONDS = 10

# The instructions of a processor that multiply int8, as Linux calls them: of x86, and of ARM.
_INT8 = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm", "smei8i32")


class Provenance:
    """What is found out in the background while TensorFlow starts."""

    def __init__(self, config: ExportConfig) -> None:
        """Begins to hash the files that the recipe reads, and to ask git about the recipe's repository.

        Args:
            config: The export.
        """
        for path, written in config.origin.written.items():
            if isinstance(written, str) and "${" in written:
                hide_values(_find_value(config, path), written)
        self._config = config
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exporter-provenance")
        self._inputs: Future[tuple[Input, ...]] = self._executor.submit(record_inputs, config)
        directory = config.origin.directory
        self._repository: Future[Repository | None] = self._executor.submit(
            lambda: None if directory is None else find_repository(Path(directory))
        )
        self._executor.shutdown(wait=False)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The files that the recipe reads."""
        return self._inputs.result()

    @property
    def repository(self) -> Repository | None:
        """The git repository of the recipe."""
        return self._repository.result()

    def make_notes(self) -> dict[str, bytes]:
        """Writes what is kept inside the artifact: nothing that changes from one run of the recipe to the next."""
        import yaml

        recipe = yaml.safe_dump(describe_recipe(self._config), sort_keys=False, allow_unicode=True)
        notes = {RECIPE: recipe.encode(), VERSIONS: _write_json(list_versions(self._config, makers_only=True))}
        if self.inputs:
            notes[INPUTS] = _write_json([asdict(each) for each in self.inputs])
        return notes


def _write_json(value: object) -> bytes:
    return write_json(value).encode()


def describe_recipe(config: ExportConfig, *, resolved: bool = False) -> dict[str, Any]:
    """Returns what an artifact is made from as plain data; a live model stands as its class and name.

    Args:
        config: The config. What is measured, and how a sweep goes, shapes no artifact and is left out.
        resolved: Whether values that depend on the environment are filled in; otherwise each stands as the recipe
            says it, such as `${oc.env:NAME}`.

    Returns:
        Mappings, lists, strings, numbers and booleans.
    """
    written = {} if resolved else config.origin.written
    names = read_keys(ExportConfig, kept=True)
    # What is stored is read as a recipe again, where `${` would begin an interpolation.
    return {name: _make_plain(getattr(config, name), name, written, not resolved) for name in names}


def _make_plain(value: object, path: str, written: Mapping[str, object], escapes: bool) -> Any:
    if path in written:
        return written[path]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _make_plain(item, f"{path}.{key}", written, escapes) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_make_plain(item, f"{path}[{number}]", written, escapes) for number, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        kept = {
            each.name: getattr(value, each.name) for each in fields(value) if not UNKEPT.keys() & each.metadata.keys()
        }
        return _make_plain(kept, path, written, escapes)
    if isinstance(value, str):
        return escape_interpolations(value) if escapes else value
    if value is None or isinstance(value, (int, float, bool)):
        return value
    value = value.func if isinstance(value, partial) else value
    kind = type(value)
    return {
        "live": f"{kind.__module__}.{kind.__qualname__}",
        "name": describe_if_possible(lambda: getattr(value, "name", getattr(value, "__qualname__", ""))),
    }


def _find_value(config: ExportConfig, path: str) -> Any:
    """Returns the value at a dotted path; None where there is none any more."""
    value: Any = describe_recipe(config, resolved=True)
    for name in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    return value


def list_versions(config: ExportConfig, *, makers_only: bool = False) -> dict[str, str]:
    """Returns the versions of the software that takes part, by name.

    Args:
        config: The export: the packages of the functions that it names count as well.
        makers_only: Whether only what decides the artifact's bytes is named.
    """
    named = _MAKERS if makers_only else {**_MAKERS, **_HELPERS}
    return {
        "python": platform.python_version(),
        **read_versions(named),
        **_list_versions_of_targets(config, named),
    }


def _list_versions_of_targets(config: ExportConfig, known: Mapping[str, str]) -> dict[str, str]:
    packages = {target.partition(".")[0] for _, target in list_targets(describe_recipe(config))} - set(known)
    if not packages:
        return {}
    distributions = metadata.packages_distributions()
    return read_versions({name: distributions[name][0] for name in sorted(packages) if name in distributions})


def list_targets(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted path and the name of every function that plain data names by `_target_`."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            inner = f"{path}.{name}" if path else str(name)
            if name == "_target_" and isinstance(entry, str):
                yield inner, entry
            else:
                yield from list_targets(entry, inner)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from list_targets(entry, f"{path}[{number}]")


def record_inputs(config: ExportConfig) -> tuple[Input, ...]:
    """Hashes every file that a recipe reads.

    Args:
        config: The export.

    Returns:
        A record for each: those that our own sources, steps and the proof read, and any file that is named anywhere in
        the arguments of others. A directory counts as one input where our own source reads it.
    """
    recipe = describe_recipe(config)
    resolved = describe_recipe(config, resolved=True)
    said = dict(list_strings(recipe))
    records = []
    for path, value in list_files(resolved):
        digest = digest_input(value, is_read_whole=is_read_whole(resolved, path))
        if digest is not None:
            records.append(Input(path, said.get(path, value), *digest))
    return tuple(records)


def digest_input(value: str, *, is_read_whole: bool) -> tuple[str, int] | None:
    """Hashes what a value of a recipe names.

    Args:
        value: A path, or a URL, which is fetched.
        is_read_whole: Whether a directory counts, and a checkpoint by its prefix.

    Returns:
        The digest and the size in bytes; None where there is no such file.
    """
    if is_url(value) and explain_url(value) is not None:
        return None
    file = fetch(value) if is_url(value) else Path(value).expanduser()
    if "\0" in value:
        return None
    if file.is_file() or (file.is_dir() and is_read_whole):
        files = record_files(file.resolve(), file.name)  # of a link, the bytes that are read
    elif is_read_whole and is_checkpoint(file):
        parts = (file.with_name(f"{file.name}.index"), *sorted(file.parent.glob(f"{escape(file.name)}.data-*")))
        files = tuple(record for part in parts for record in record_files(part.resolve(), part.name))
    else:
        return None
    return digest_files(files), sum(record.size for record in files)


def record_dependencies(dependencies: Sequence[Dependency]) -> tuple[Input, ...]:
    """Hashes what a model needs that is not in its artifact.

    Args:
        dependencies: What the artifact's configuration names.

    Returns:
        A record for each file, and each directory that is a model; other directories can hold anything.
    """
    records = []
    for each in dependencies:
        path = Path(each.place)
        is_model = any((path / name).is_file() for name in (GRAPH, CONFIG))
        if not is_url(each.place) and (path.is_file() or is_model):
            files = record_files(path, path.name)
            size = sum(record.size for record in files)
            records.append(Input(f"{each.owner}.{each.argument}", each.place, digest_files(files), size))
    return tuple(records)


def is_read_whole(recipe: Mapping[str, object], path: str) -> bool:
    """Whether a file of `list_files` may be a directory or a prefix, which our own source reads as one."""
    return path.startswith("model.") and find_source(recipe["model"]) is not None


def list_files(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Finds everything in a recipe that may name a file to read, or a place to fetch it from.

    Args:
        recipe: As `describe_recipe` gives it, resolved.

    Yields:
        The dotted path and the value: of the arguments of our own functions that are files, whatever they are; of all
        other arguments, what is a path or a URL by its form, or names something that is there.
    """
    model = recipe["model"]
    source = find_source(model)
    if source is None:
        yield from _list_named(model, "model")
    else:
        files = list_source_files(source)
        for name in files:
            value = model.get(name)
            if isinstance(value, str) and not _is_download(model, name):
                yield f"model.{name}", value
        others = {name: value for name, value in model.items() if name not in (*files, "custom_objects")}
        yield from _list_named(others, "model", of_keras=True)
    for endpoint, declared in recipe["signatures"].items():
        for key in ("preprocess", "postprocess"):
            for path, step in list_steps(declared.get(key), f"signatures.{endpoint}.{key}"):
                names = _list_step_files(step)
                if names is None:
                    yield from _list_named(step, path)
                for name in names or ():
                    if isinstance(step.get(name), str):
                        yield f"{path}.{name}", step[name]
    if isinstance(recipe["verify"]["data"], str):
        yield "verify.data", recipe["verify"]["data"]


def list_downloads(value: object, path: str) -> Iterator[str]:
    """Finds the networks of Keras that fetch their weights by themselves.

    Args:
        value: Plain data.
        path: Its dotted path.

    Yields:
        The dotted path of the argument; it need not be there, since Keras fetches unless it is told not to.
    """
    if isinstance(value, Mapping):
        if _is_download(value, "weights"):
            yield f"{path}.weights"
        for name, entry in value.items():
            yield from list_downloads(entry, f"{path}.{name}")
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from list_downloads(entry, f"{path}[{number}]")


def _is_download(function: Mapping[str, object], argument: str) -> bool:
    target = function.get("_target_")
    if target == "exporter.sources.application":
        return argument == "weights" and function.get(argument) == IMAGENET
    is_network = isinstance(target, str) and target.startswith("keras.applications.")
    return is_network and argument == "weights" and function.get(argument, IMAGENET) == IMAGENET


def _list_named(value: object, path: str, argument: str = "", of_keras: bool = False) -> Iterator[tuple[str, str]]:
    """Yields the strings in the arguments of a function that is not ours and that may name files."""
    if isinstance(value, str):
        if argument != "_target_" and may_name_file(value) and not (of_keras and is_word_of_keras(argument, value)):
            yield path, value
    elif isinstance(value, Mapping):
        target = value.get("_target_")
        of_keras = target.startswith("keras.") if isinstance(target, str) else of_keras
        for name, entry in value.items():
            # The configuration of a function is its name.
            role = "name" if value.get("class_name") == "function" and name == "config" else str(name)
            if not _is_download(value, role):
                yield from _list_named(entry, f"{path}.{name}", role, of_keras)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _list_named(entry, f"{path}[{number}]", argument, of_keras)


def list_strings(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted path and the text of every string in plain data."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from list_strings(entry, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from list_strings(entry, f"{path}[{number}]")


def may_name_file(text: str) -> bool:
    """Whether something would open a file, or a place elsewhere, if it took text for its name."""
    # TensorFlow hands a name to C, for which it ends at the first zero.
    has_form = os.sep in text or "\0" in text or text.startswith("~") or text.lower().startswith("file:")
    return has_form or is_url(text) or os.path.lexists(text)


def is_word_of_keras(argument: str, text: str) -> bool:
    """Whether Keras takes text for a name of its own, whatever files there are, such as `relu` for an activation."""
    is_known = argument in _WORDS or argument.rpartition("_")[2] in _KINDS_OF_WORDS
    return is_known and text.isidentifier()


def _list_step_files(step: Mapping[str, object]) -> list[str] | None:
    """Names the arguments of one of our own steps that are files; None where the step is not ours."""
    target = str(step["_target_"])
    name = target.removeprefix("exporter.transforms.")
    function = getattr(transforms, name, None) if name != target else None
    return list((find_takes(function) or Takes()).files) if inspect.isfunction(function) else None


def find_repository(directory: Path) -> Repository | None:
    """Asks git for the commit of the repository that a directory is in.

    Args:
        directory: Of a recipe.

    Returns:
        None where there is no repository, no commit, or no git.
    """
    commit = _ask_git(directory, "rev-parse", "HEAD")
    changes = _ask_git(directory, "status", "--porcelain", "--untracked-files=no")
    return None if not commit or changes is None else Repository(commit=commit, dirty=bool(changes))


def _ask_git(directory: Path, *arguments: str) -> str | None:
    # A repository may name a program that git starts to find changes.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe_machine() -> Machine:
    """Describes this machine; GPUs are named where TensorFlow has started."""
    facts = _read_processor()
    flags = facts.get("flags", facts.get("Features"))  # of x86, or of ARM
    int8 = None if flags is None else tuple(each for each in _INT8 if each in flags.split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        cores=cores,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        gpus=_list_gpus(),
        int8_instructions=int8,
    )


def _read_processor() -> dict[str, str]:
    """Reads what Linux says of the first processor; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    return facts


def _list_gpus() -> tuple[str, ...]:
    if "tensorflow" not in sys.modules:
        return ()
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    return tuple(
        tf.config.experimental.get_device_details(device).get("device_name", device.name) for device in devices
    )
