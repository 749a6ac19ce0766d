"""Writing beside a target and taking its place in one step.

A reader of the target sees the old artifact or the new one, never a part. This holds on a local POSIX file
system: a rename within one directory is atomic, and a directory is exchanged as a whole with
`renameat2(RENAME_EXCHANGE)` where the kernel and the file system have it.
"""

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# What a rename answers where one of the two is a directory, and where a directory is not empty.
_OCCUPIED = (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)

# A name has at most 255 bytes, and a character of it up to four.
_NAME_END = 48


@contextmanager
def stage_beside(target: Path) -> Iterator[Path]:
    """Gives a path beside `target` to write to, and removes what is left there in the end.

    The name ends like the target's, since readers tell formats apart by their suffix; of a long one only the end is
    kept, so that it stays a name which the file system takes.

    Args:
        target: Where the artifact goes in the end. Missing parent directories are made.

    Yields:
        A path that does not exist yet, in the directory of the target.
    """
    made = _make_parents(target.parent)
    staged = target.parent / f".exporter-{secrets.token_hex(8)}-{target.name[-_NAME_END:]}"
    try:
        yield staged
    except BaseException:
        _remove(staged)
        _remove_empty(made)  # a refused save leaves no directories of its own
        raise
    _remove(staged)


def _make_parents(directory: Path) -> list[Path]:
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(directories: list[Path]) -> None:
    """Removes directories, the innermost first, unless somebody else has come to use them."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()


def publish(staged: Path, target: Path) -> None:
    """Puts what was staged in the place of the target, and removes what was there.

    Args:
        staged: A complete file or directory, in the same directory as the target.
        target: Where it goes. A symbolic link is replaced, not followed.

    Raises:
        OSError: The file system refused; the target is as it was.
    """
    _sync_tree(staged)
    try:
        staged.replace(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        _exchange(staged, target)
    _sync_directory(target.parent)
    _remove(staged)


def _exchange(staged: Path, target: Path) -> None:
    """Swaps two directory entries; without the system call, moves the old one aside first."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        renameat2 = getattr(library, "renameat2", None)
        if renameat2 is not None:
            if renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0:
                return
            code = ctypes.get_errno()
            if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                raise OSError(code, os.strerror(code), str(target))
    aside = staged.with_name(f"{staged.name}-old")
    target.rename(aside)
    try:
        staged.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(staged)


def replace_text(path: Path, text: str) -> None:
    """Writes a small file in one step: nobody reads a half of it, and a crash leaves the old one or the new one.

    Args:
        path: The file.
        text: Its new content.

    Raises:
        OSError: The file system refused; the file is as it was.
    """
    with stage_beside(path) as staged:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)


def _sync_tree(path: Path) -> None:
    if path.is_symlink():
        return
    if path.is_dir():
        for entry in path.iterdir():
            _sync_tree(entry)
        _sync_directory(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
