"""Writing beside a target and taking its place in one step.

A reader of the target sees the old artifact or the new one, never a part. While it is written, two things stand beside
it: a room, the directory `.exporter-<key>-<random>` in which the artifact is made under its own name, and the lock
`.exporter-<key>.lock`. The key says which target it is, so that those who write the same one wait for each other. The
lock dies with its holder, and whoever comes next to the directory clears the rooms that ended processes have left.

Other users may write to the directory too. A room lets nobody else in, each user clears only their own, and nobody
waits for a lock without being told, or without end.

This holds on a local POSIX file system, and between hosts where it carries `rename` and `flock`, as NFS does.
"""

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.errors import ExportError, TargetExistsError
from exporter.processes.interrupts import endings_delayed
from exporter.storage.exchange import sync_directory, sync_tree, take_place
from exporter.storage.locks import LONGEST_WAIT, hold, take_from_the_dead
from exporter.text.printable import escape

_LOCK = re.compile(r"\.exporter-([0-9a-f]{16})\.lock")
_ROOM = re.compile(r"\.exporter-([0-9a-f]{16})-[0-9a-f]{8}")

# In a room: what was at the target and beside it before, and what comes beside it now.
_OLD, _BESIDE = "old", "beside"


def _warn(target: Path, holder: str) -> None:
    logging.getLogger("exporter").warning(
        "%s is being written by %s: waiting for it.", escape(str(target)), escape(holder)
    )


@contextmanager
def stage_beside(
    target: Path,
    *,
    alone: bool = True,
    on_wait: Callable[[Path, str], None] = _warn,
    limit: float = LONGEST_WAIT,
) -> Iterator[Path]:
    """Gives a path beside `target` to write to, and removes what is left there in the end.

    What killed processes of this user have left in the directory is removed first.

    Args:
        target: Where the artifact goes in the end. Missing parent directories are made.
        alone: Whether others who write the same target wait until this block ends. False where the target gets its
            name when it is published.
        on_wait: Is called with the target and its present writer, in words, where this one has to wait.
        limit: How many seconds to wait.

    Yields:
        A path that does not exist yet: the target's name in a new directory, in which more can be written meanwhile.

    Raises:
        ForeignFileError: Something else stands where the lock would be.
        LockTimeoutError: Another process has written the target for too long.
        OSError: The file system refused.
    """
    key = _make_key(target.name) if alone else secrets.token_hex(8)
    made = _make_parents(target.parent)
    try:
        with hold(target.with_name(f".exporter-{key}.lock"), lambda holder: on_wait(target, holder), limit):
            room = _make_room(target, key)
            try:
                uid = room.lstat().st_uid  # as the file system names this user: with NFS, root is nobody
                _clear_rooms(target.parent, key, uid, room.name)
                _clear_the_dead(target.parent, uid)
                for directory in (room / _OLD, room / _BESIDE):
                    directory.mkdir()
                yield room / target.name
            finally:
                remove(room)
    except BaseException:
        _remove_empty(made)  # a refused save leaves no directories of its own
        raise


@contextmanager
def hold_names(directory: Path, *, limit: float = LONGEST_WAIT) -> Iterator[None]:
    """Lets only one process at a time choose a name in a directory.

    Args:
        directory: It; others may write there under names that they know.
        limit: How many seconds to wait.

    Raises:
        ForeignFileError: Something else stands where the lock would be.
        LockTimeoutError: Another process has held it for too long.
        OSError: The file system refused.
    """
    lock = directory / f".exporter-{_make_key('')}.lock"
    with hold(lock, lambda holder: _warn(directory, holder), limit):
        yield


def _make_room(target: Path, key: str) -> Path:
    while True:
        room = target.with_name(f".exporter-{key}-{secrets.token_hex(4)}")
        with suppress(FileExistsError):
            room.mkdir(0o700)
            return room


def _make_key(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _make_parents(directory: Path) -> list[Path]:
    """Makes missing directories, and returns them, the innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)
    except OSError:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(directories: list[Path]) -> None:
    """Removes directories, the innermost first, unless somebody else has come to use them."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()


@contextmanager
def moved_away(staged: Path) -> Iterator[Path]:
    """Moves what was staged to a path that its maker did not know, and back in the end.

    Whatever inside it names a place that it was made at does not find that any more.

    Args:
        staged: A file or a directory, where `stage_beside` said. It is removed with the room, wherever in it it is.

    Yields:
        Where it is in the block, under its own name.

    Raises:
        OSError: The file system refused.
    """
    place = staged.with_name(f"moved-{secrets.token_hex(8)}")
    place.mkdir()
    elsewhere = place / staged.name
    staged.rename(elsewhere)
    try:
        yield elsewhere
    finally:
        elsewhere.rename(staged)
        place.rmdir()


def publish(
    staged: Path, target: Path, *, replace: bool = True, beside: Mapping[Path, str | None] | None = None
) -> None:
    """Puts what was staged in the place of the target.

    The files beside it say what the target is. The old ones go first and the new ones come last: where the process is
    killed between them, the target is without them, and never with those of another one.

    Args:
        staged: A complete file or directory, where `stage_beside` said, and nothing of it open.
        target: Where it goes, in the same directory. A symbolic link is replaced, not followed.
        replace: Whether something that is there may be replaced.
        beside: Paths in the target's directory, and the text of each; None for a file that there shall not be.

    Raises:
        TargetExistsError: The target exists and may not be replaced; all is as it was.
        ExportError: The target was published, and a file beside it could not be.
        OSError: The file system refused; all is as it was.
    """
    room = staged.parent
    beside = beside or {}
    for path, text in beside.items():
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory stands where a file is needed", str(path))
        if text is not None:
            (room / _BESIDE / path.name).write_text(text, encoding="utf-8")
    sync_tree(staged)
    if beside:
        sync_tree(room / _BESIDE)
    if not replace and os.path.lexists(target):
        raise TargetExistsError(
            f"{target} has appeared while the model was exported, and `overwrite` is false. "
            "Choose another `filepath`, or allow it with overwrite=true."
        )
    with endings_delayed():
        try:
            for path in beside:
                _move(path, room / _OLD / path.name)
            take_place(staged, target, room / _OLD / target.name)
        except BaseException:
            _put_back(room / _OLD, target.parent)
            raise
        try:
            for path, text in beside.items():
                if text is not None:
                    (room / _BESIDE / path.name).replace(path)
            sync_directory(target.parent)
        except OSError as error:
            raise ExportError(
                f"{target} is published, and what belongs beside it could not be written: {error}. "
                "Export it again to have it complete."
            ) from error


def _move(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        source.rename(target)


def _put_back(old: Path, directory: Path) -> None:
    """Moves everything back whose place is free."""
    for entry in list(old.iterdir()):
        if not os.path.lexists(directory / entry.name):
            entry.rename(directory / entry.name)


def _clear_the_dead(directory: Path, uid: int) -> None:
    """Removes what processes of a user have left that were killed while they wrote another target."""
    for name in os.listdir(directory):
        lock = _LOCK.fullmatch(name)
        descriptor = take_from_the_dead(directory / name, uid) if lock else None
        if lock and descriptor is not None:
            try:
                _clear_rooms(directory, lock[1], uid)
                with suppress(OSError):
                    (directory / name).unlink()
            finally:
                os.close(descriptor)


def _clear_rooms(directory: Path, key: str, uid: int, kept: str = "") -> None:
    """Removes a user's rooms of a target whose lock is held, and puts back what was being moved out of its place."""
    for name in os.listdir(directory):
        room = _ROOM.fullmatch(name)
        if room and room[1] == key and name != kept and _is_directory_of(directory / name, uid):
            old = directory / name / _OLD
            with suppress(OSError):
                moved = [entry for entry in os.listdir(old) if _make_key(entry) == key]
                if moved and _is_directory_of(old, uid) and not os.path.lexists(directory / moved[0]):
                    _put_back(old, directory)
            remove(directory / name)


def _is_directory_of(path: Path, uid: int) -> bool:
    """Whether a user has made a directory: a link, or a directory of somebody else, would lead elsewhere."""
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == uid
    return False


def replace_text(path: Path, text: str) -> None:
    """Writes a small file in one step: nobody reads a half of it, and a crash leaves the old one or the new one.

    Args:
        path: The file.
        text: Its new content.

    Raises:
        OSError: The file system refused; the file is as it was.
    """
    with stage_beside(path) as staged:
        staged.write_text(text, encoding="utf-8")
        publish(staged, path)


def remove(path: Path) -> None:
    """Removes a file or a directory that is no longer needed; what cannot be removed is named in the log.

    Args:
        path: It; or nothing is there.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        for directory, _, _ in os.walk(path):
            os.chmod(directory, 0o700)  # an artifact may have been protected from changes
        shutil.rmtree(path)
    except FileNotFoundError:
        return  # somebody else has removed it
    except OSError as error:
        logging.getLogger("exporter").warning(
            "%s is no longer needed and could not be removed: %s.", escape(str(path)), escape(str(error))
        )
