"""Files of ours in directories that others may write to: nothing there is followed, waited for or overwritten.

Where a directory is shared, anything may stand at a name that we need: a symbolic link or a hard link to a file that
matters to somebody, a pipe that nobody writes to, another user's file.
"""

import errno
import os
import pwd
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from exporter.errors import ForeignFileError

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ROOT = 0
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def create(file: Path) -> int:
    """Makes a file that is not there, and opens it for reading and writing.

    Args:
        file: The file.

    Returns:
        The descriptor.

    Raises:
        FileExistsError: Something stands there, be it a link that leads nowhere.
        OSError: The file system refused.
    """
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o666)


def open_plain(file: Path, flags: int) -> int:
    """Opens a regular file that has one name.

    Args:
        file: The file.
        flags: As `os.open` takes them.

    Returns:
        The descriptor.

    Raises:
        ForeignFileError: Something else stands there.
        OSError: The file system refused.
    """
    try:
        descriptor = os.open(file, flags | _SAFELY, 0o666)
    except OSError:
        with suppress(FileNotFoundError):
            found = os.lstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise refuse(file, found) from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise refuse(file, found)
    return descriptor


def open_own(file: Path, flags: int) -> int:
    """Opens a regular file that has one name and belongs to this user, or to root, to write to it.

    Args:
        file: The file.
        flags: As `os.open` takes them; what would empty the file is not among them.

    Returns:
        The descriptor.

    Raises:
        ForeignFileError: Something else stands there.
        OSError: The file system refused.
    """
    try:
        descriptor = open_plain(file, flags)
    except PermissionError:
        with suppress(FileNotFoundError):
            found = os.lstat(file)
            if found.st_uid not in (os.geteuid(), _ROOT):
                raise refuse(file, found) from None
        raise
    found = os.fstat(descriptor)
    if found.st_uid not in (os.geteuid(), _ROOT):
        os.close(descriptor)
        raise refuse(file, found)
    return descriptor


def open_to_append(file: Path) -> int:
    """Opens a log of ours, or makes it; see `open_own`.

    Args:
        file: The log.
    """
    return open_own(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def replace_bytes(file: Path, content: bytes) -> None:
    """Writes a small file in one step. Whatever stands there is neither opened nor followed.

    It waits for nobody and does not reach the disk before it returns; see `exporter.storage.staging.replace_text`.

    Args:
        file: The file.
        content: All of it.

    Raises:
        ForeignFileError: A directory stands there.
        OSError: The file system refused; what was there is as it was.
    """
    staged = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(create(staged), "wb") as stream:
            stream.write(content)
        os.replace(staged, file)
    except BaseException as error:
        with suppress(OSError):
            staged.unlink()
        if isinstance(error, IsADirectoryError):
            raise refuse(file, os.lstat(file)) from None
        raise


def make_directory(directory: Path) -> None:
    """Makes a directory, unless this user, or root, has one there.

    Args:
        directory: The directory, whose parent is there.

    Raises:
        ForeignFileError: Something else stands there.
        OSError: The file system refused.
    """
    try:
        directory.mkdir()
    except FileExistsError:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), _ROOT):
            raise refuse(directory, found) from None


def read_bytes(file: Path, most: int | None = None) -> bytes:
    """Reads a file of a directory that others may write to, but nothing that it only points at.

    Args:
        file: The file.
        most: How many bytes of ours it can have; None for any number.

    Raises:
        ForeignFileError: It is no regular file, or has other names elsewhere.
        OSError: The file system refused, or it is larger.
    """
    with os.fdopen(open_plain(file, os.O_RDONLY), "rb") as stream:
        content = stream.read() if most is None else stream.read(most + 1)
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return content


def read_end(file: Path, most: int) -> bytes:
    """Reads the last bytes of a file of a directory that others may write to; see `read_bytes`.

    Args:
        file: The file.
        most: How many.
    """
    with os.fdopen(open_plain(file, os.O_RDONLY), "rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - most, 0))
        return stream.read(most)


def name_user(uid: int) -> str:
    """Names a user in a message.

    Args:
        uid: The user's number.
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"with the number {uid}"


def refuse(file: Path, found: os.stat_result, kind: str | None = None) -> ForeignFileError:
    """Makes the error that says what stands where a file of ours is needed.

    Args:
        file: The name.
        found: What stands there.
        kind: The same, in words; None where the state says it.
    """
    owner = f"the user {name_user(found.st_uid)}"
    if kind is None:
        regular = f"a file with {found.st_nlink} names (hard links)" if found.st_nlink > 1 else "a file"
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), regular)
    return ForeignFileError(
        f"{file} is {kind} of {owner}; expected nothing there, or a file that exporter has made for you. It was left "
        f"as it is. Move it away, or ask {owner} to do so; or write to another directory."
    )
