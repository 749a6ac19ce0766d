"""What may be given to `save_model` and `load_model`: paths, formats, flags and models."""

import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from exporter.errors import ArgumentError, ModelError, NotAModelError, TargetExistsError
from exporter.saving.formats import (
    FOREIGN_SUFFIXES,
    FORMATS,
    find_by_suffix,
    find_chosen,
    find_foreign_suffix,
    is_artifact,
    join_nouns,
    list_directories,
)
from exporter.saving.formats.format import Format
from exporter.saving.formats.saved_model.save_options import check_save_options
from exporter.storage.remote.addresses import redact
from exporter.text.printable import escape
from exporter.text.showing import describe_value


def list_directory(path: Path) -> str:
    """Names what is in a directory, the first five of it."""
    names = sorted(entry.name for entry in path.iterdir())
    shown = ", ".join(names[:5])
    return f"{shown}, and {len(names) - 5} more" if len(names) > 5 else shown or "an empty directory"


def check_path(filepath: object) -> Path:
    """Returns the path that was given, if it can be one."""
    if not isinstance(filepath, (str, os.PathLike)):
        raise ArgumentError(
            "`filepath` must be a str, a pathlib.Path or an open h5py.File. "
            f"Received: {describe_value(filepath)} (of type {type(filepath).__name__})."
        )
    text = os.fspath(filepath)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ArgumentError(f"`filepath` must name a file or a directory. Received: {describe_value(filepath)}.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ArgumentError(
            "`filepath` must be a local path, not a URL; exporter.export(model, URL) saves to a store. "
            f"Received: {describe_value(redact(text))}."
        )
    try:
        text.encode()
        path = Path(text).expanduser()
        path.is_dir()
    except UnicodeEncodeError as error:  # TensorFlow takes names of files in UTF-8 only
        raise ArgumentError(
            f"`filepath` must be text that UTF-8 can encode. Received: {describe_value(filepath)}."
        ) from error
    except RuntimeError as error:
        raise ArgumentError(
            f"`filepath` names a user without a home directory. Received: {describe_value(filepath)}."
        ) from error
    except OSError as error:
        raise ArgumentError(
            f"`filepath` cannot be used: {error.strerror}. Received: {describe_value(filepath)}."
        ) from error
    return path


def choose_format(target: Path, save_format: str | None) -> Format:
    """Finds the format by its name, else by the suffix of the path."""
    if save_format is not None and (not isinstance(save_format, str) or save_format not in FORMATS):
        names = ", ".join(map(repr, FORMATS))
        raise ArgumentError(f"`save_format` must be {names} or None. Received: {describe_value(save_format)}.")
    chosen, by_suffix = find_chosen(target, save_format), find_by_suffix(target)
    if by_suffix is not None and by_suffix is not chosen:
        raise ArgumentError(
            f"The suffix of `filepath` contradicts `save_format`: {target.name!r} is a name for {by_suffix.name!r}, "
            f"and save_format={chosen.name!r} was asked for. Change one of them, or leave `save_format` out."
        )
    foreign = find_foreign_suffix(target, save_format)
    if foreign is not None:
        stem = target.name[: -len(foreign)]
        names = join_nouns(dict.fromkeys(repr(f"{stem}{''.join(each.suffixes[:1])}") for each in FORMATS.values()))
        raise ArgumentError(
            f"`filepath` ends with {foreign!r}, the suffix of {FOREIGN_SUFFIXES[foreign]}, and what is saved is "
            f"{join_nouns(each.noun for each in FORMATS.values())}. Received: {describe_value(str(target))}. Give "
            f"another name, such as {names}."
        )
    return chosen


def check_flags(**flags: object) -> None:
    """Checks that each argument is True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ArgumentError(
                f"`{name}` must be True or False. Received: {describe_value(value)} (of type {type(value).__name__})."
            )


def check_choice(endpoint: object, tags: object) -> None:
    """Checks what chooses in a SavedModel: the name of an endpoint, and the tags of a graph."""
    if not isinstance(endpoint, (str, type(None))):
        raise ArgumentError(
            f"`endpoint` must be the name of an endpoint or None. Received: {describe_value(endpoint)} "
            f"(of type {type(endpoint).__name__})."
        )
    if tags is not None and not (isinstance(tags, (list, tuple)) and all(isinstance(each, str) for each in tags)):
        raise ArgumentError(
            f"`tags` must be a list of texts or None. Received: {describe_value(tags)} (of type {type(tags).__name__})."
        )


def check_endpoints(chosen: Format, signatures: object, options: object) -> None:
    """Checks `signatures` and `options`, which belong to formats that hold endpoints."""
    places = {"signatures": "holds_endpoints", "options": "is_served"}
    given = [name for name, value in (("signatures", signatures), ("options", options)) if value is not None]
    refused = [name for name in given if not getattr(chosen, places[name])]
    if refused:
        holding = [each for each in FORMATS.values() if all(getattr(each, places[name]) for name in given)]
        formats = " or ".join(repr(each.name) for each in holding)
        raise ArgumentError(
            f"`{'` and `'.join(refused)}` belong to {join_nouns(each.noun for each in holding)}: {chosen.name!r} has "
            f"no place for them. Leave them out, or save with save_format={formats}."
        )
    if options is not None:
        import tensorflow as tf

        if not isinstance(options, tf.saved_model.SaveOptions):
            raise ArgumentError(
                f"`options` must be a tf.saved_model.SaveOptions. Received: {describe_value(options)} "
                f"(of type {type(options).__name__})."
            )
        check_save_options(options)


def check_model(model: object) -> None:
    """Checks that a model is one of Keras 3, and built."""
    import keras

    if not isinstance(model, keras.Model):
        raise NotAModelError(_describe_stranger(model))
    if not model.built:
        raise ModelError(
            f"The model {model.name!r} is not built: it has no weights yet. "
            "Call it on a batch of data, or call `model.build(input_shape)`, and save it then."
        )


def _describe_stranger(model: object) -> str:
    kind = type(model)
    received = f"Received: {kind.__module__}.{kind.__qualname__}."
    families = {base.__module__.split(".")[0] for base in kind.__mro__}
    if isinstance(model, type):
        return (
            f"`model` must be a keras.Model, not a class. Received: the class {model.__qualname__}. Make an instance."
        )
    if families & {"tf_keras"}:
        return (
            f"`model` is a model of Keras 2 (tf_keras), which Keras 3 cannot save. {received} "
            "Save it with `model.save('model.h5')` in its own Keras; Keras 3 opens that file."
        )
    import keras

    if isinstance(model, keras.layers.Layer):
        return f"`model` is a layer, not a keras.Model. {received} Put it into one: keras.Sequential([layer])."
    if "tensorflow" in families:
        return (
            f"`model` is a TensorFlow object, not a keras.Model. {received} "
            "Save a tf.Module with `tf.saved_model.save`, or put its functions into a keras.Model."
        )
    return f"`model` must be a keras.Model of Keras 3. {received}"


def check_place(target: Path, chosen: Format) -> None:
    """Checks that the path can become the artifact, without losing something that is no model."""
    if target.name in ("", ".."):
        raise ArgumentError(
            f"`filepath` must end with a name of the artifact's own. Received: {describe_value(str(target))}."
        )
    for parent in target.parents:
        mode = _read_mode(parent)
        if mode is not None and stat.S_ISDIR(mode):
            longest = max(target.relative_to(parent).parts, key=lambda part: len(os.fsencode(part)))
            if len(os.fsencode(longest)) > os.pathconf(parent, "PC_NAME_MAX"):
                raise ArgumentError(
                    f"`filepath` cannot be used: File name too long. Received: {describe_value(str(target))}."
                )
            break
    if message := explain_parents(target):
        raise ArgumentError(message)
    writes_directory = chosen.writes_directory(target)
    if not writes_directory and target.is_dir() and not target.is_symlink():
        raise ArgumentError(
            f"{target} is a directory, and save_format={chosen.name!r} writes one file. "
            f"Give the name of a file, or save with save_format={' or '.join(list_directories(chosen))}."
        )
    if writes_directory and target.is_dir() and not _is_replaceable(target):
        raise ArgumentError(
            f"{target} is a directory that holds something else than a model ({list_directory(target)}); replacing it "
            "would delete that. Give a path of its own, such as "
            f"{target / 'model'}."
        )


def explain_parents(target: Path) -> str | None:
    """Says why nothing can be written at a path, by the directory that it is or would be in; None if that can be."""
    for parent in target.absolute().parents:
        try:
            mode = _read_mode(parent)
        except OSError as error:
            return f"{target} cannot be written: {parent}: {error.strerror}. Choose another `filepath`."
        if mode is None:
            continue
        if not stat.S_ISDIR(mode):
            return (
                f"{target} cannot be written: {parent} is a file, where a directory is needed. "
                "Choose another `filepath`, or move that file away."
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            return (
                f"{target} cannot be written: you may not write in {parent}. Choose another `filepath`, or let "
                "yourself write there."
            )
        return None
    return None


def _read_mode(path: Path) -> int | None:
    """Reads what is at a path, in one step: between two questions another process may make a directory there.

    Returns:
        Its mode, that of a link that leads nowhere too; None where there is nothing.
    """
    for read in (os.stat, os.lstat):
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = read(path).st_mode
            if read is os.stat or stat.S_ISLNK(mode):
                return mode
    return None


def _is_replaceable(directory: Path) -> bool:
    """A SavedModel or an unzipped archive may be replaced as a whole, and so may an empty directory."""
    names = {entry.name for entry in directory.iterdir()}
    return not names or is_artifact(names)


def ask_to_overwrite(found: str) -> None:
    """Asks a person whether what was found may go; nobody to ask is a refusal."""
    refusal = TargetExistsError(
        f"{found} and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
    )
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        raise refusal
    try:
        print(f"{escape(found)}. Replace it? [y/N] ", end="", flush=True)  # `input` would ask on standard error
        answer = input()
    except EOFError:
        raise refusal from None
    if answer.strip().lower() not in ("y", "yes"):
        raise refusal
