"""A directory in a store: listing, reading, writing, and whether an object is what was sent."""

import base64
import hashlib
import importlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from exporter.errors import ArgumentError, ExportError
from exporter.storage.remote.addresses import explain_url, redact
from exporter.text.showing import find_first_line

_CHUNK_BYTES = 1 << 20
# At S3, large objects are sent in parts of this size; the ETag of such an object is a digest of those of its parts.
_PART_BYTES = 50 << 20


class Store:
    """A place in a store. Relative names are below it; the empty name is the place itself.

    What the store refuses is an `ExportError` with a remedy. Transient faults are tried again, with growing pauses, by
    the libraries of the stores (https://s3fs.readthedocs.io, `retries`; botocore's retry modes; gcsfs, adlfs).
    """

    def __init__(self, url: str) -> None:
        """Opens the place; nothing is asked of the store yet.

        Args:
            url: Such as `s3://bucket/models`.

        Raises:
            ArgumentError: The URL is none that can be used.
        """
        if message := explain_url(url):
            raise ArgumentError(f"The URL cannot be used: {message}.")
        self.url = url.rstrip("/")
        with self._faults_named():
            fsspec = importlib.import_module("fsspec")
            _silence("gcsfs")
            warnings.filterwarnings("ignore", "Failed to fetch container properties", UserWarning)  # adlfs
            # A listing that is kept would not show what others have done since.
            self._files, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)

    def locate(self, name: str) -> str:
        """Returns the URL of an object."""
        return f"{self.url}/{name}" if name else self.url

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def list_objects(self, below: str = "") -> dict[str, int]:
        """Lists every object below a name, at any depth.

        Args:
            below: A name; the object that bears it is not below it.

        Returns:
            The objects' names relative to it, and their sizes.
        """
        root = self._path(below).rstrip("/") + "/"
        with self._faults_named():
            try:
                found = self._find(root.rstrip("/"))
            except FileNotFoundError:
                self._check_bucket()
                return {}
        return {path.removeprefix(root): entry["size"] for path, entry in found.items() if path.startswith(root)}

    def _find(self, path: str) -> dict[str, Any]:
        found = self._files.find(path, detail=True)
        # adlfs gives a list where the path is that of one object.
        return found if isinstance(found, dict) else {each: self._files.info(each) for each in found}

    def check_reachable(self) -> None:
        """Asks the store for the first time.

        Raises:
            ExportError: There is no such bucket, or it does not let this caller in.
        """
        with self._faults_named():
            if not self._files.exists(self._root):
                self._check_bucket()

    def _check_bucket(self) -> None:
        """Tells a bucket that is not there from one that holds nothing at this place."""
        if self._files.protocol not in (("file", "local"), "memory"):
            self._files.ls(self._root.lstrip("/").partition("/")[0], detail=False)

    def exists(self, name: str) -> bool:
        """Whether there is an object, or any below it."""
        with self._faults_named(name):
            return bool(self._files.exists(self._path(name)))

    def is_object(self, name: str) -> bool:
        """Whether there is one object of this name."""
        with self._faults_named(name):
            return bool(self._files.isfile(self._path(name)))

    def measure(self, name: str) -> int | None:
        """Returns the size of an object; None where there is none."""
        with self._faults_named(name):
            try:
                entry = self._files.info(self._path(name))
            except FileNotFoundError:
                return None
        return int(entry["size"]) if entry["type"] == "file" else None

    def measure_time(self, earlier: str, later: str) -> float:
        """Returns the seconds between the last writes of two objects, by the clock of the store.

        Args:
            earlier: An object.
            later: Another one.

        Returns:
            The seconds; 0 where one of them is not there, or the store does not know.
        """
        with self._faults_named(earlier):
            try:
                first, last = (self._files.modified(self._path(name)) for name in (earlier, later))
            except (FileNotFoundError, NotImplementedError):
                return 0.0
        return float((last - first).total_seconds())

    def read(self, name: str) -> bytes | None:
        """Reads a small object; None where there is none."""
        with self._faults_named(name):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        """Writes a small object in one step.

        Args:
            name: Of the object.
            content: Of the object.
            only_new: Whether an object that is there stays as it is: the store decides who is the first.

        Returns:
            Whether it was written.
        """
        if only_new and self.exists(name):
            return False
        with self._faults_named(name):
            self._make_parent(name)
            try:
                if only_new and "file" in self._files.protocol:  # whose pipe_file looks, and then writes
                    with self._files.open(self._path(name), "xb") as stream:
                        stream.write(content)
                else:
                    self._files.pipe_file(self._path(name), content, **({"mode": "create"} if only_new else {}))
            except FileExistsError:
                return False
        return True

    def put(self, file: Path, name: str) -> None:
        """Sends a file to an object, which appears when it is complete."""
        with self._faults_named(name):
            self._make_parent(name)
            parts = {"chunksize": _PART_BYTES} if "s3" in self._files.protocol else {}
            self._files.put_file(str(file), self._path(name), **parts)

    def get(self, name: str, file: Path) -> None:
        """Receives an object as a file."""
        with self._faults_named(name):
            self._files.get_file(self._path(name), str(file))

    def copy(self, name: str, to: str) -> None:
        """Copies an object inside the store."""
        with self._faults_named(to):
            self._make_parent(to)
            self._files.cp_file(self._path(name), self._path(to))

    def remove(self, name: str) -> None:
        """Removes an object; or nothing is there."""
        with self._faults_named(name):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return
            self._remove_empty_parents(name)

    def _make_parent(self, name: str) -> None:
        if "file" in self._files.protocol:
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _remove_empty_parents(self, name: str) -> None:
        if "file" in self._files.protocol:
            with suppress(OSError):  # there is something else in it
                while name := name.rpartition("/")[0]:
                    self._files.rmdir(self._path(name))

    def holds(self, name: str, file: Path, sha256: str | None) -> bool:
        """Whether an object has the bytes of a file.

        The digest that the store keeps decides where it is the same one that the file has. Where there is none, or
        another one as under encryption, the object is read back.

        Args:
            name: Of the object.
            file: The file.
            sha256: Of the file.
        """
        with self._faults_named(name):
            try:
                entry = self._files.info(self._path(name))
            except FileNotFoundError:
                return False
            if entry["size"] != file.stat().st_size:
                return False
            if _is_kept_digest(entry, file):
                return True
            digest = hashlib.sha256()
            with self._files.open(self._path(name), "rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
        return digest.hexdigest() == sha256

    def fingerprint(self) -> str:
        """Returns what changes when anything at or below the place does, without reading it."""
        with self._faults_named():
            try:
                found = self._find(self._root)
            except FileNotFoundError:
                found = {}
        kept = ("size", "ETag", "etag", "md5Hash", "mtime", "created", "LastModified")
        return repr(sorted((path, [str(entry.get(key)) for key in kept]) for path, entry in found.items()))

    @contextmanager
    def _faults_named(self, name: str = "") -> Iterator[None]:
        """Turns what a library of a store raises into an error with a remedy."""
        url = redact(self.locate(name))
        try:
            yield
        except ExportError:
            raise
        except FileNotFoundError as error:
            raise ExportError(
                f"{url} was not found in its store ({_first_line(error)}). Create the bucket, or correct the URL."
            ) from error
        except Exception as error:
            words = f"{type(error).__name__} {error}"
            if not isinstance(error, PermissionError) and ("redential" in words or "Anonymous" in words):
                raise ExportError(
                    f"There are no credentials for {url}. Give them as the store's own tools take them: AWS_PROFILE or "
                    "AWS_ACCESS_KEY_ID for s3, GOOGLE_APPLICATION_CREDENTIALS for gs, AZURE_STORAGE_CONNECTION_STRING "
                    "for az."
                ) from error
            if _is_forbidden(error):
                raise ExportError(
                    f"The store does not allow it: {url} ({_first_line(error)}). Use credentials that may list, read, "
                    "write and delete there."
                ) from error
            if _is_of_a_store(error):
                raise ExportError(
                    f"The store refused, also when it was asked again: {url}: {_first_line(error)}. Try again later: "
                    "what has arrived is not sent twice."
                ) from error
            raise


def _silence(library: str) -> None:
    """Keeps a library from logging what it raises too, with tracebacks, unless its user has chosen a level."""
    logger = logging.getLogger(library)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def _is_forbidden(error: Exception) -> bool:
    codes = {getattr(error, name, None) for name in ("code", "status", "status_code")}  # gcsfs, aiohttp, azure
    return isinstance(error, PermissionError) or bool(codes & {401, 403}) or str(error).startswith("Forbidden")


def _is_of_a_store(error: Exception) -> bool:
    package = type(error).__module__.partition(".")[0]
    known = package in ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google")
    return known or isinstance(error, OSError) or str(error).startswith("Bad Request")  # gcsfs


def _first_line(error: BaseException) -> str:
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error))  # s3fs finds a number for every answer
    return find_first_line(words, type(error).__name__)


def _is_kept_digest(entry: Mapping[str, Any], file: Path) -> bool:
    """Whether the digest that a store keeps of an object is that of a file.

    It is the MD5 at S3 (ETag; of an object that was sent in parts, that of their MD5s) and at Google (md5Hash; of an
    object that was put together from others, only crc32c). Azure keeps what its client says, which proves nothing.
    """
    etag = str(entry.get("ETag", "")).strip('"')
    if "-" in etag:
        return _digest_parts(file, _PART_BYTES) == etag
    if etag:
        return _digest_parts(file, None) == etag
    if md5 := entry.get("md5Hash"):
        return _digest_parts(file, None) == base64.b64decode(md5).hex()
    return "crc32c" in entry and _digest_crc32c(file) == entry["crc32c"]


def _digest_crc32c(file: Path) -> str:
    import google_crc32c

    digest = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest = google_crc32c.extend(digest, chunk)
    return base64.b64encode(digest.to_bytes(4, "big")).decode()


def _digest_parts(file: Path, part_bytes: int | None) -> str:
    parts: list[hashlib._Hash] = []
    size = file.stat().st_size
    with file.open("rb") as stream:
        while not parts or stream.tell() < size:
            digest, left = hashlib.md5(usedforsecurity=False), part_bytes or size
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
            parts.append(digest)
    if part_bytes is None:
        return parts[0].hexdigest()
    joined = b"".join(digest.digest() for digest in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"
