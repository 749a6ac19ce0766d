"""One entry of a directory takes the place of another: as a whole, for readers too, and on the disk."""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# What a rename answers where one of the two is a directory, and where a directory is not empty.
_OCCUPIED = (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)

# What some file systems answer that cannot sync a directory.
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)


# Who reads for longer than others need to write has to be stopped some time.
_READINGS = 20

Result = TypeVar("Result")


def take_place(staged: Path, target: Path, aside: Path) -> None:
    """Lets a file or directory take the place of another one.

    It is one step, by `rename`, or by `renameat2(RENAME_EXCHANGE)` where one of the two is a directory. Where the
    kernel or the file system does not have that, the old one is moved aside first: for a moment there is none.

    Args:
        staged: What takes the place. Afterwards there may be what was in it before.
        target: The place. A symbolic link is replaced, not followed.
        aside: A free path for the old one, where it has to be moved first.

    Raises:
        OSError: The file system refused; the target is as it was.
    """
    try:
        os.replace(staged, target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        if not _exchange(staged, target):
            os.rename(target, aside)
            try:
                os.rename(staged, target)
            except OSError:
                os.rename(aside, target)
                raise


def _exchange(staged: Path, target: Path) -> bool:
    """Swaps two directory entries; returns whether that can be done here."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(library, "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(target))


def read_whole(path: Path, read: Callable[[], Result]) -> Result:
    """Reads an artifact that others may replace meanwhile: all of it is of the same one.

    A reader that opens something by its path more than once may get some of the old artifact and some of the new one:
    the files of a directory, or a file that is looked at before a library opens it. So the path is looked at again in
    the end, and read anew where it names another artifact by then. What was written to in its place meanwhile is not
    taken: whoever writes there may not be done.

    Args:
        path: A file or a directory; anything else is read as it is.
        read: Opens what it needs, and keeps none of it for later.

    Returns:
        What `read` returns.

    Raises:
        OSError: It was replaced again and again, or written to.
        Exception: What `read` raises.
    """
    for _ in range(_READINGS):
        if not path.is_dir() and not path.is_file():
            return read()
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # it may be a pipe by now
        try:  # while it is open, no other artifact gets its number
            before = _list_states(path)
            try:
                result = read()
            except Exception as error:
                if _is_same(descriptor, path):
                    _check_unwritten(path, before, error)
                    raise
                continue
            if _is_same(descriptor, path):
                _check_unwritten(path, before)
                return result
        finally:
            os.close(descriptor)
    raise OSError(errno.EBUSY, f"it was replaced {_READINGS} times while it was read", str(path))


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _list_states(path: Path) -> dict[str, tuple[int, ...]]:
    """Lists what changes when a file is written to, for each file and directory at a path."""
    places = [str(path)]
    if path.is_dir():
        places += (os.path.join(folder, name) for folder, names, files in os.walk(path) for name in (*names, *files))
    states: dict[str, tuple[int, ...]] = {}
    for place in places:
        try:
            status = os.stat(place)
        except OSError:  # a link that leads nowhere, or what is gone by now
            status = os.lstat(place) if os.path.lexists(place) else os.stat_result([0] * 10)
        states[place] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return states


def _check_unwritten(path: Path, before: dict[str, tuple[int, ...]], cause: Exception | None = None) -> None:
    after = _list_states(path)
    changed = [place for place in before.keys() | after.keys() if before.get(place) != after.get(place)]
    if changed:
        reason = "it was written to while it was read; try again when nothing writes to it"
        raise OSError(errno.EBUSY, reason, min(changed)) from cause


def sync_tree(path: Path) -> None:
    """Lets everything at a path reach the disk: the bytes of its files, and the names in its directories."""
    if path.is_symlink():
        return
    if path.is_dir():
        for entry in path.iterdir():
            sync_tree(entry)
        sync_directory(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Lets the names in a directory reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
