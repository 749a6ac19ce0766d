"""A lock that dies with its holder and leaves no file: `flock`, on a file that the last holder removes.

The kernel frees it when the process ends, however that happens. Two hosts exclude each other where the file system
carries `flock` between them: NFS does, unless it is mounted with `nolock` or `local_lock`.

The directory may be shared with other users. `flock` needs no more than reading, so a lock that another one has left
is taken like one's own; a file is written to by its owner only.
"""

import errno
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.errors import LockTimeoutError
from exporter.storage.own_files import create, name_user, open_plain, refuse

# Longer than what is done under a lock takes: an artifact is written and verified.
LONGEST_WAIT = 1_800.0

_HEAD = b"exporter "
_BUSY = (
    errno.EAGAIN,
    errno.EACCES,  # on some network file systems
    errno.EBADF,  # NFS locks only what is open for writing, which another user's file may not be
)
_UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_A_MOMENT = 0.5  # before it is told; others hold a lock for so long while they only clear up
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2


@contextmanager
def hold(file: Path, on_wait: Callable[[str], None], limit: float = LONGEST_WAIT) -> Iterator[None]:
    """Holds a lock, once whoever has it is done.

    Args:
        file: The file of the lock. It is removed in the end.
        on_wait: Is called once, after a moment, with the holder, in words, where there is one.
        limit: How many seconds to wait.

    Raises:
        ForeignFileError: Something stands there that is no lock.
        LockTimeoutError: Somebody has held it for too long.
        OSError: The file cannot be made, or the file system knows no locks.
    """
    descriptor = _acquire(file, _Patience(file, on_wait, limit))
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_there(descriptor, file):
                file.unlink()  # before it is let go: whoever gets it next sees that this file is gone
        os.close(descriptor)


def take_from_the_dead(file: Path, uid: int) -> int | None:
    """Takes a lock that nobody holds, of a process that has ended without removing its file.

    Args:
        file: The file of the lock.
        uid: Whose it has to be.

    Returns:
        A descriptor to close, after the file has been removed; None where a living process holds the lock, and where
        the file is not one that `hold` has made for this user.
    """
    try:
        descriptor = _open_left(file)
    except OSError:  # it has gone, or it is something else
        return None
    if descriptor is None:
        return None
    with suppress(OSError):
        if os.fstat(descriptor).st_uid == uid and _take(descriptor, file):
            return descriptor
    os.close(descriptor)
    return None


class _Patience:
    """Waits a little longer each time, tells once for whom, and comes to an end."""

    def __init__(self, file: Path, on_wait: Callable[[str], None], limit: float) -> None:
        self._file, self._on_wait, self._limit = file, on_wait, limit
        self._began, self._pause, self._told = time.monotonic(), _SHORTEST_PAUSE, False

    def wait(self, holder: str) -> None:
        passed = time.monotonic() - self._began
        if passed >= min(_A_MOMENT, self._limit) and not self._told:
            self._told = True
            self._on_wait(holder)
        if passed >= self._limit:
            raise LockTimeoutError(
                f"{self._file} is held by {holder}, and has been for the {self._limit:,.0f} seconds that were waited. "
                "Let that process end, or ask its user to end it; or write to another directory."
            )
        time.sleep(min(self._pause, self._limit - passed))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _acquire(file: Path, patience: _Patience) -> int:
    while True:
        try:
            made = create(file)
        except FileExistsError:
            pass
        except FileNotFoundError:  # a process that failed has just removed the directory which it had made
            file.parent.mkdir(parents=True, exist_ok=True)
            continue
        else:
            if _take_new(made, file):
                return made
        holder = "another process"
        with suppress(FileNotFoundError):  # its holder is done
            left = _open_left(file)
            if left is None:
                holder = f"the user {name_user(os.lstat(file).st_uid)}, who does not let others read it"
            elif _take_left(left, file):
                return left
            else:
                holder = _read_holder(left)
                os.close(left)
        patience.wait(holder)


def _open_left(file: Path) -> int | None:
    """Opens the file of a lock that is there, without touching it; None where that is not allowed.

    Raises:
        ForeignFileError: It is something else.
        OSError: The file system refused.
    """
    try:
        descriptor = open_plain(file, os.O_RDWR)
    except PermissionError:
        try:
            descriptor = open_plain(file, os.O_RDONLY)
        except PermissionError:
            return None
    if os.pread(descriptor, len(_HEAD), 0) not in (b"", _HEAD):  # it ended before it wrote, or it is a stranger's
        found = os.fstat(descriptor)
        os.close(descriptor)
        raise refuse(file, found, "a file with another content")
    return descriptor


def _take_new(descriptor: int, file: Path) -> bool:
    """Takes the lock of a file that this process has made, and writes who holds it; closes it where that fails."""
    try:
        with suppress(OSError):
            os.fchmod(descriptor, 0o644)  # whoever waits has to open it
        if _take(descriptor, file):
            _write_holder(descriptor)
            return True
    except BaseException:
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)
        raise
    os.close(descriptor)
    return False


def _take_left(descriptor: int, file: Path) -> bool:
    """Takes the lock of a file that another process has made.

    Returns:
        Whether that is the lock now. It is not where another user's file could be removed, for a new one.
    """
    try:
        if not _take(descriptor, file):
            return False
        if os.fstat(descriptor).st_uid == os.geteuid():
            _write_holder(descriptor)  # without a file for a moment, a room that was left would belong to no lock
            return True
        try:
            file.unlink()
        except OSError:  # the directory lets only its owner remove it
            return True
    except BaseException:
        os.close(descriptor)
        raise
    return False


def _take(descriptor: int, file: Path) -> bool:
    """Takes a lock if it is free. False also where its file was removed: the lock is that of another file now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise OSError(error.errno, "the file system knows no locks (flock)", str(file)) from error
        if error.errno in _BUSY:
            return False
        raise
    return _is_there(descriptor, file)


def _write_holder(descriptor: int) -> None:
    with suppress(OSError):  # it is for those who wait; a full disk is found by what is written next
        os.pwrite(descriptor, _HEAD + f"process {os.getpid()} on {platform.node()}\n".encode(), 0)


def _read_holder(descriptor: int) -> str:
    """Says who holds a lock: what its file says, and whose it is where that is another user."""
    text = (
        os.pread(descriptor, 500, 0).removeprefix(_HEAD).decode(errors="replace").partition("\n")[0].strip()
        or "another process"
    )
    uid = os.fstat(descriptor).st_uid
    return text if uid == os.geteuid() else f"{text} of the user {name_user(uid)}"


def _is_there(descriptor: int, file: Path) -> bool:
    try:
        found = os.stat(file, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)
