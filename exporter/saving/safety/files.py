"""Where the parts of an artifact lie: inside it, each once, and not far larger than what is stored."""

import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from exporter.errors import ArtifactError

# Keras's own limits (`keras.src.saving.saving_lib`): below the floor a member may unpack to anything.
_BOMB_FLOOR = 1 << 28
_EXPANSION = 100
_MEMBERS = 100_000
# Keras stores its members, and a zip that was made anew deflates them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_directory(path: Path) -> None:
    """Refuses a directory with links that leave it, or with something that is neither a file nor a directory.

    Args:
        path: The artifact.

    Raises:
        ArtifactError: It has such an entry.
    """
    root = path.resolve()
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            entry = Path(directory, name)
            mode = entry.lstat().st_mode
            place = entry.relative_to(path).as_posix()
            if stat.S_ISLNK(mode):
                _check_link(entry, place, root, path)
            elif not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise ArtifactError(f"{path} is refused: {place} is neither a file nor a directory.")


def _check_link(entry: Path, place: str, root: Path, path: Path) -> None:
    target = os.readlink(entry)
    try:
        aim = entry.resolve()
    except (OSError, RuntimeError) as error:
        raise ArtifactError(f"{path} is refused: the link {place} -> {target} leads nowhere.") from error
    if not aim.is_relative_to(root) or aim == root:
        raise ArtifactError(
            f"{path} is refused: the link {place} -> {target} leaves the artifact. Put the file itself in its place."
        )


def check_archive(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Refuses an archive whose members would lie elsewhere, twice, or unpack to far more than is stored.

    Args:
        path: The archive.
        archive: It, open.
        size: Of its file; members may overlap there.

    Raises:
        ArtifactError: It has such a member.
    """
    members = archive.infolist()
    if len(members) > _MEMBERS:
        raise ArtifactError(f"{path} is refused: it has {len(members):,} members; at most {_MEMBERS:,} are read.")
    names: set[str] = set()
    for member in members:
        name = member.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or name[1:2] == ":":
            raise ArtifactError(f"{path} is refused: its member {name!r} lies outside of the archive.")
        if name in names:
            raise ArtifactError(f"{path} is refused: it has two members of the name {name!r}.")
        names.add(name)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArtifactError(f"{path} is refused: its member {name!r} is a link.")
        if member.flag_bits & 1:
            raise ArtifactError(f"{path} is refused: its member {name!r} is encrypted.")
        if member.compress_type not in _METHODS:
            raise ArtifactError(
                f"{path} is refused: its member {name!r} is compressed by the method {member.compress_type}; only "
                "stored and deflated members are read."
            )
        if member.file_size > _BOMB_FLOOR and member.file_size > _EXPANSION * member.compress_size:
            raise ArtifactError(
                f"{path} is refused: its member {name!r} claims {member.file_size:,} bytes and stores "
                f"{member.compress_size:,}."
            )
    total = sum(member.file_size for member in members)
    if total > _BOMB_FLOOR and total > _EXPANSION * size:
        raise ArtifactError(
            f"{path} is refused: its members claim {total:,} bytes together, and the file has {size:,}."
        )
