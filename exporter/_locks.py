"""A lock that dies with its holder and leaves no file: `flock`, on a file that the last holder removes.

The kernel frees it when the process ends, however that happens. Two hosts exclude each other where the file system
carries `flock` between them: NFS does, unless it is mounted with `nolock` or `local_lock`.
"""

import errno
import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HEAD = b"exporter "
_BUSY = (errno.EAGAIN, errno.EACCES)  # EACCES on some network file systems
_UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def hold(file: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock, once whoever has it is done.

    Args:
        file: The file of the lock. It is removed in the end.
        on_wait: Is called with the holder, in words, where there is one.

    Raises:
        OSError: The file cannot be made, or the file system knows no locks.
    """
    descriptor = None
    while descriptor is None:
        try:
            opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # a process that failed has just removed the directory which it had made
            file.parent.mkdir(parents=True, exist_ok=True)
            continue
        descriptor = _take(opened, file, on_wait)
    try:
        with suppress(OSError):  # it is for those who wait; a full disk is found by what is written next
            os.pwrite(descriptor, _HEAD + f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # before it is let go: whoever gets it next sees that this file is gone
        os.close(descriptor)


def take_from_the_dead(file: Path) -> int | None:
    """Takes a lock that nobody holds, of a process that has ended without removing its file.

    Args:
        file: The file of the lock.

    Returns:
        A descriptor to close, after the file has been removed; None where a living process holds the lock, and where
        the file is not one that `hold` has made.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it has gone, or it belongs to somebody else
        return None
    head = os.pread(descriptor, len(_HEAD), 0)
    try:
        if head not in (b"", _HEAD):  # it ended before it wrote, or it is a stranger's
            raise BlockingIOError
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_there(descriptor, file):
            raise BlockingIOError
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _take(descriptor: int, file: Path, on_wait: Callable[[str], None]) -> int | None:
    """Waits for the lock. None where its file was removed meanwhile: the lock is that of another file now."""
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNKNOWN:
                raise OSError(error.errno, "the file system knows no locks (flock)", str(file)) from error
            if error.errno not in _BUSY:
                raise
            on_wait(_read_holder(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_there(descriptor, file):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _read_holder(descriptor: int) -> str:
    text = os.pread(descriptor, 500, 0)
    return text.removeprefix(_HEAD).decode(errors="replace").strip() or "another process"


def _is_there(descriptor: int, file: Path) -> bool:
    try:
        found = os.stat(file, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)
