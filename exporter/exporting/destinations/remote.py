"""An artifact's place in a store behind a URL.

An artifact is made and proven on the disk. Then all of it is sent to a directory beside its place, named
`.exporter-<digest>`, and each object is held against the file that it was made from: until then nothing at the place
has changed, and whoever exports the same again goes on with the objects that are there. Only then each object is
copied to its place inside the store, `saved_model.pb`, without which no reader takes a directory for a model, as the
last one; the receipt comes after it, and what a former artifact had and this one has not is removed.

A store has no rename and no lock. A single file is replaced in one step. Of a directory, readers that know nothing of
this project see for the time of the copies that there is no model, and never a mixture; where they must not see that,
layout=tf_serving gives each artifact a directory of its own. `exporter.load_model` and the commands see the former
artifact until the new one is complete (`exporter.storage.remote.replacing`), and whatever ends the replacement, a
failure, a kill or a store that is lost, the former one is put back, at once or by the next export to the place. One
writes at a time (`exporter.storage.remote.leases`).
"""

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Request
from exporter.config import ExportConfig, LayoutKind
from exporter.errors import ArgumentError, ExportError, TargetExistsError
from exporter.exporting.destinations.local import Destination
from exporter.exporting.destinations.publishing import place_request
from exporter.exporting.destinations.versions import AUTO, TIMESTAMP, choose_free_number, explain_model_among_versions
from exporter.saving.contents import Omission, format_bytes
from exporter.saving.formats import is_artifact, list_directories
from exporter.saving.formats.format import Format
from exporter.saving.layout.names import GRAPH
from exporter.saving.plans import check_target
from exporter.storage.digests import FileRecord, digest_files, record_files
from exporter.storage.remote import Store, fetch
from exporter.storage.remote.addresses import split_name
from exporter.storage.remote.leases import PATTERN as CLAIM
from exporter.storage.remote.leases import Lease, hold, lease_free, stale_lease
from exporter.storage.remote.replacing import PATTERN as FORMER
from exporter.storage.remote.replacing import find_previous, list_artifact, put_back, remove_all, replacing
from exporter.text.printable import escape

_NO_LINK = "a store has no links; exporter.load_model and exporter verify make it again when they fetch the artifact"


@dataclass(frozen=True, slots=True)
class RemoteDestination(Destination):
    """Where one artifact goes in a store.

    Attributes:
        store: The directory that the artifact, or the directory of a version, is put in.
        room: On the disk, for the artifact until it is sent.
        on_wait: Is called with the URL and its present writer, in words, where this one has to wait.
    """

    store: Store = field(kw_only=True)
    room: tempfile.TemporaryDirectory[str] = field(kw_only=True)
    on_wait: Callable[[str, str], None] = field(kw_only=True)

    @property
    def shown(self) -> str:
        """The place in a message."""
        return self.store.locate(self.target.name)

    def close(self) -> None:
        """Removes what is on the disk."""
        self.room.cleanup()

    def upload(self, staged: Path, note: Callable[[str, float | None], None]) -> None:
        """Sends the artifact to a directory beside its place, and checks every object.

        Args:
            staged: The complete artifact.
            note: Is told how far it has come.

        Raises:
            ExportError: The store refused, or holds something else than what was sent.
        """
        files = _list_files(staged)
        total, sent = sum(record.size for record in files), 0
        waiting = _name_waiting(files)
        there = self.store.list_objects(waiting)
        for record in files:
            local, name = _find(staged, record), f"{waiting}/{record.path}"
            is_there = there.get(record.path) == record.size and self.store.holds(name, local, record.sha256)
            if not is_there:
                note(f"sent {format_bytes(sent)} of {format_bytes(total)}: {record.path}", sent / max(total, 1))
                self.store.put(local, name)
                self._check(name, local, record)
            sent += record.size
        note(f"sent {format_bytes(total)}, checked", 1.0)

    def find_latest(self) -> Path | None:
        """Brings the newest version to the disk; None where there is none."""
        complete = (re.fullmatch(rf"(0|[1-9][0-9]*)/{re.escape(GRAPH)}", name) for name in self.store.list_objects())
        numbers = [int(match[1]) for match in complete if match]
        return fetch(self.store.locate(str(max(numbers)))) if numbers else None

    def publish(
        self,
        staged: Path,
        make_receipt: Callable[[Path, Request | None], Receipt],
        request: tuple[str, str] | None = None,
    ) -> Receipt:
        """Puts the artifact that was sent in its place, and the receipt beside it.

        Args:
            staged: The complete artifact.
            make_receipt: As for a place on the disk.
            request: The endpoint, and the body as JSON; None where there is none.

        Returns:
            The receipt; its `filepath` is the URL.

        Raises:
            TargetExistsError: Something has appeared at the place and may not be replaced.
            ArgumentError: The same, and it is no artifact.
            ExportError: The store refused; what was at the place is there again.
        """
        files = _list_files(staged)
        with self._claimed() as (name, claim):
            described, body = place_request(request, self.target.with_name(name))
            if described is not None and described.file is not None:
                described = replace(described, file=self.store.locate(f"{name}.request.json"))
            receipt = make_receipt(self.target.with_name(name), described)
            links = tuple(record for record in receipt.files if record.link is not None)
            receipt = replace(
                receipt,
                filepath=self.store.locate(name),
                left_out=(*receipt.left_out, *(Omission(record.path, _NO_LINK, intended=True) for record in links)),
            )
            with replacing(self.store, name):
                self._place(staged, files, name, claim)
                if body is not None:
                    self.store.write(f"{name}.request.json", body.encode())
                self.store.write(f"{name}.receipt.json", receipt.to_json().encode())
                claim.check()
        waiting = _name_waiting(files)
        try:
            remove_all(self.store, waiting)
        except ExportError as error:  # the artifact stands
            logging.getLogger("exporter").warning(
                "%s is no longer needed and could not be removed: %s",
                escape(self.store.locate(waiting)),
                escape(str(error)),
            )
        return receipt

    @contextmanager
    def _claimed(self) -> Iterator[tuple[str, Lease]]:
        """Chooses the name, and makes sure that nobody else writes there meanwhile."""
        if self.version is None or not self.is_named_late:
            tell = partial(self.on_wait, self.shown, "another export, or by one that was killed")
            with hold(self.store, self.target.name, tell) as claim:
                put_back(self.store, self.target.name)
                _refuse_taken(self.store, self.target.name, self.save_format, self.replace)
                yield self.target.name, claim
            return
        chosen = None
        while chosen is None:
            name = _choose_version(self.store, self.version)
            chosen = lease_free(self.store, name)
        try:
            yield name, chosen
            self._clear_the_dead(chosen)
        finally:
            chosen.release()

    def _clear_the_dead(self, living: Lease) -> None:
        """Removes the versions that were being written by those who were killed."""
        found = (re.match(rf"{CLAIM}([0-9]+)$", name) for name in self.store.list_objects())
        for name in {match[1] for match in found if match}:
            claim = stale_lease(self.store, name, living)
            if claim is not None:
                try:
                    put_back(self.store, name)
                finally:
                    claim.release()

    def _place(self, staged: Path, files: Sequence[FileRecord], name: str, claim: Lease) -> None:
        waiting = _name_waiting(files)
        wanted = {"" if not staged.is_dir() else record.path: record for record in files}
        for relative in sorted(wanted, key=lambda each: (each == GRAPH, each)):
            record, local = wanted[relative], _find(staged, wanted[relative])
            there = f"{name}/{relative}" if relative else name
            claim.check()
            # Another export of the same bytes may have ended and taken away what waits, and a copy may go wrong.
            with suppress(ExportError):
                self.store.copy(f"{waiting}/{record.path}", there)
            if not self.store.holds(there, local, record.sha256):
                self.store.put(local, there)
                self._check(there, local, record)
        remove_all(self.store, name, except_for=wanted)

    def _check(self, name: str, local: Path, record: FileRecord) -> None:
        if not self.store.holds(name, local, record.sha256):
            self.store.remove(name)
            raise ExportError(
                f"{self.store.locate(name)} does not have the bytes that were sent (sha256 {record.sha256}), and was "
                "removed. Export it again: what has arrived is not sent twice."
            )

    def remove_older(self, published: str) -> None:
        """Removes the versions that need not be kept, each out of the server's sight first.

        Args:
            published: The URL of the version that has just been published.

        Raises:
            ExportError: The store refused; the new version stands.
        """
        if self.keep is None:
            return
        newest = int(split_name(published)[1])
        objects = self.store.list_objects()
        versions = sorted({int(name) for name in _list_versions(objects) if f"{name}/{GRAPH}" in objects})
        for version in versions[: -self.keep]:
            if version < newest:
                remove_all(self.store, str(version))
                self.store.remove(f"{version}.request.json")


def warn(url: Path | str, holder: str) -> None:
    """Says in the log that somebody else is writing at a place."""
    logging.getLogger("exporter").warning(
        "%s is being written by %s: waiting for it.", escape(str(url)), escape(holder)
    )


def choose_remote_destination(config: ExportConfig, on_wait: Callable[[str, str], None] = warn) -> RemoteDestination:
    """Chooses where an artifact goes in a store, and refuses a place that it cannot take, before anything is built.

    Args:
        config: The export, checked; `filepath` is a URL.
        on_wait: See `RemoteDestination`.

    Returns:
        The place. Close it in the end.

    Raises:
        ArgumentError: There cannot be an artifact at the URL.
        TargetExistsError: There is something, and it may not be replaced.
        ExportError: The store cannot be reached, or does not let this caller in.
    """
    layout = config.layout
    version = None if layout.kind is LayoutKind.SINGLE else layout.version
    directory, name = split_name(config.filepath)
    if version is not None:
        directory = config.filepath.rstrip("/")
    store = Store(directory)
    store.check_reachable()
    if version is not None:
        if store.is_object(GRAPH):
            raise ArgumentError(explain_model_among_versions(directory))
        name = _choose_version(store, version)
    may_replace = config.overwrite and version not in (AUTO, TIMESTAMP)
    room = tempfile.TemporaryDirectory(prefix="exporter-")
    try:
        inside = Path(room.name, split_name(directory)[1] or "model", name) if version else Path(room.name, name)
        target, save_format = check_target(inside, True, config.save_format)
        if version not in (AUTO, TIMESTAMP):
            _refuse_taken(store, name, save_format, may_replace)
    except BaseException:
        room.cleanup()
        raise
    return RemoteDestination(
        target, save_format, may_replace, version, layout.keep, store=store, room=room, on_wait=on_wait
    )


def _refuse_taken(store: Store, name: str, save_format: Format, may_replace: bool) -> None:
    """Refuses to replace what may not be replaced, and what is no artifact: all of it would be removed."""
    objects = list_artifact(store, find_previous(store, name) or name)
    if not objects:
        return
    if not may_replace:
        raise TargetExistsError(
            f"{store.locate(name)} exists, and `overwrite` is false. "
            "Choose another `filepath`, or allow it with overwrite=true."
        )
    if "" in objects:
        return
    if not save_format.writes_directory(Path(name)):
        raise ArgumentError(
            f"{store.locate(name)} is a directory, and save_format={save_format.name!r} writes one file. "
            f"Give the name of a file, or save with save_format={' or '.join(list_directories(save_format))}."
        )
    if not is_artifact(objects):
        shown = ", ".join(sorted(objects)[:5])
        raise ArgumentError(
            f"{store.locate(name)} is a directory that holds something else than a model ({shown}); replacing it "
            f"would delete that. Give a path of its own, such as {store.locate(name)}/model."
        )


def _choose_version(store: Store, version: str) -> str:
    if version not in (AUTO, TIMESTAMP):
        return version
    return choose_free_number({int(name) for name in _list_versions(store.list_objects())}, version)


def _list_versions(objects: Sequence[str] | dict[str, int]) -> set[str]:
    """Finds the numbers that are taken: by a version, or by one who is writing it."""
    matches = (re.match(rf"(?:{CLAIM}|{FORMER})?(0|[1-9][0-9]*)(?=/|$)", name) for name in objects)
    return {match[1] for match in matches if match}


def _name_waiting(files: Sequence[FileRecord]) -> str:
    return f".exporter-{digest_files(files)[:16]}"


def _list_files(staged: Path) -> tuple[FileRecord, ...]:
    return tuple(record for record in record_files(staged, staged.name) if record.link is None)


def _find(staged: Path, record: FileRecord) -> Path:
    return staged / record.path if staged.is_dir() else staged
