"""Directories that another user writes to as well: what stands there is left alone, and nobody waits for ever.

As root, which the tests in CI are, the other user is a process that has become `nobody`. Elsewhere it is this user.
"""

import fcntl
import logging
import multiprocessing
import os
import pwd
import secrets
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import exporter.exporting.job
from exporter.cli import main
from exporter.config import OnError
from exporter.errors import ExporterError, ExportError, ForeignFileError, LockTimeoutError
from exporter.storage import locks, logs, own_files, staging
from exporter.storage.staging import hold_names, replace_text, stage_beside
from exporter.sweeps import job, sweep
from exporter.sweeps.records.plans import make_plan, open_sweep
from exporter.sweeps.records.progress import ProgressWriter, read_progress
from exporter.sweeps.records.results import SweepJob, describe_missing, read_row
from exporter.sweeps.records.results_store import receive_jobs, send_files
from exporter.sweeps.worker import Worker, _output_kept

OTHER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
VICTIM = "what matters to somebody"

Plant = Callable[[Path, Path], None]


# Not forked from this process: what its other threads hold at that moment, TensorFlow's too, nobody would let go.
FORKED = multiprocessing.get_context("forkserver")
SECONDS = 1500


@contextmanager
def other_user(work: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Lets another user do something; inside the block it is done, and its process still there."""
    ours, theirs = FORKED.Pipe()
    process = FORKED.Process(target=be_other_user, args=(theirs, work, *arguments))
    process.start()
    theirs.close()
    try:
        assert ours.poll(SECONDS)
        assert ours.recv() == "done"
        yield
    finally:
        process.kill()
        process.join()


def be_other_user(parent: Connection, work: Callable[..., object], *arguments: object) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(OTHER.pw_gid)
        os.setuid(OTHER.pw_uid)
    kept = work(*arguments)  # what it has opened stays open
    parent.send("done")
    time.sleep(SECONDS)
    del kept


def hold_lock(lock: Path, mode: int = 0o644) -> int:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, mode)
    os.write(descriptor, b"exporter process 7 on pluto\n")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def leave_lock(lock: Path) -> None:
    os.close(hold_lock(lock))


def leave_room(lock: Path) -> None:
    leave_lock(lock)
    (lock.with_name(f"{lock.stem}-01234567") / "old").mkdir(parents=True)


def find_held(lock: Path) -> None:
    with pytest.raises(LockTimeoutError):
        hold_for(lock, 0.1)


def write_privately(target: Path) -> None:
    os.umask(0o077)
    replace_text(target, "theirs")


def hold_for(lock: Path, limit: float) -> None:
    with locks.hold(lock, lambda holder: logging.getLogger().warning("waits"), limit):
        pass


def name_lock(target: Path) -> Path:
    with stage_beside(target):
        [lock] = target.parent.glob(".exporter-*.lock")
    return lock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of several users."""
    for directory in (tmp_path, *tmp_path.parents):  # pytest's own are private
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(0o755)
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.write_text(VICTIM)
    victim.chmod(0o600)
    os.utime(victim, (1, 1))
    return victim


def plant_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def plant_dangling_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim.with_name("not-there"))


def plant_hard_link(place: Path, victim: Path) -> None:
    os.link(victim, place)


def plant_pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


def plant_directory(place: Path, victim: Path) -> None:
    place.mkdir()


def plant_device_link(place: Path, victim: Path) -> None:
    place.symlink_to("/dev/zero")


def plant_socket(place: Path, victim: Path) -> None:
    kept = os.getcwd()
    os.chdir(place.parent)  # its address may not be long
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(place.name)
    os.chdir(kept)


def plant_text(place: Path, victim: Path) -> None:
    place.write_text(VICTIM)


KINDS: dict[Plant, str] = {
    plant_link: "a symbolic link",
    plant_dangling_link: "a symbolic link",
    plant_hard_link: "a file with 2 names (hard links)",
    plant_pipe: "a named pipe",
    plant_directory: "a directory",
    plant_device_link: "a symbolic link",
    plant_socket: "a socket",
}


def name(plant: Plant) -> str:
    return plant.__name__.removeprefix("plant_")


def check_unharmed(victim: Path) -> None:
    assert (victim.read_text(), victim.stat().st_mtime) == (VICTIM, 1)
    assert not victim.with_name("not-there").exists()


def stage(folder: Path) -> None:
    replace_text(folder / "target", "new")


def choose_name(folder: Path) -> None:
    with hold_names(folder):
        pass


@pytest.mark.parametrize("work", [stage, choose_name], ids=["target", "names"])
@pytest.mark.parametrize("plant", [*KINDS, plant_text], ids=name)
def test_what_is_no_lock_is_named_and_left_alone_until_it_is_moved_away(
    folder: Path, victim: Path, plant: Plant, work: Callable[[Path], None]
) -> None:
    lock = name_lock(folder / "target") if work is stage else folder / f".exporter-{staging._make_key('')}.lock"
    plant(lock, victim)
    before = lock.lstat()
    owner = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(ForeignFileError) as caught:
        work(folder)
    kind = KINDS.get(plant, "a file with another content")
    assert str(caught.value) == (
        f"{lock} is {kind} of the user {owner}; expected nothing there, or a file that exporter has made for you. It "
        f"was left as it is. Move it away, or ask the user {owner} to do so; or write to another directory."
    )
    assert lock.lstat() == before
    check_unharmed(victim)
    work(folder / "another")  # which is not there yet for the target, as for any
    lock.rename(folder / "moved")
    work(folder)
    check_unharmed(victim)


def test_who_waits_for_another_user_is_told_and_not_for_ever(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = name_lock(folder / "target")
    whose = f" of the user {OTHER.pw_name}" if OTHER.pw_uid != os.geteuid() else ""
    with other_user(hold_lock, lock):
        with pytest.raises(LockTimeoutError) as caught, stage_beside(folder / "target", limit=1):
            pass
        replace_text(folder / "another" / "target", "new")
    assert str(caught.value) == (
        f"{lock} is held by process 7 on pluto{whose}, and has been for the 1 seconds that were waited. Let that "
        "process end, or ask its user to end it; or write to another directory."
    )
    assert caplog.messages == [f"{folder / 'target'} is being written by process 7 on pluto{whose}: waiting for it."]
    replace_text(folder / "target", "new")  # that process has ended
    assert sorted(os.listdir(folder)) == ["another", "target"]


def test_who_waits_to_choose_a_name_is_told_and_not_for_ever(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = folder / f".exporter-{staging._make_key('')}.lock"
    with (
        other_user(hold_lock, lock),
        pytest.raises(LockTimeoutError, match="is held by process 7 on pluto"),
        hold_names(folder, limit=1),
    ):
        pass
    assert len(caplog.messages) == 1
    choose_name(folder)


def test_a_lock_that_nobody_may_read_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_open = os.open

    def refuse(path: Path, flags: int, *arguments: int) -> int:
        if path == lock and not flags & os.O_CREAT:  # root may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags, *arguments)

    lock = name_lock(folder / "target")
    with other_user(hold_lock, lock, 0o600):
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(LockTimeoutError, match=f"the user {OTHER.pw_name}, who does not let others read it"):
            hold_for(lock, 0.6)
    assert caplog.messages == ["waits"]


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["group", "sticky"])
def test_two_users_export_into_one_directory_one_after_the_other(folder: Path, mode: int) -> None:
    """Also where one of them was killed, and left its lock, which the directory lets only its owner remove."""
    folder.chmod(mode)
    lock = name_lock(folder / "target")
    with other_user(leave_lock, lock):
        replace_text(folder / "target", "ours")
    with other_user(write_privately, folder / "theirs"):
        assert (folder / "theirs").stat().st_uid == OTHER.pw_uid
    assert (folder / "target").read_text() == "ours"
    with stage_beside(folder / "target"):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o644, "another user can wait for it"
        with other_user(find_held, lock):
            pass


def test_a_lock_of_another_user_is_held_where_it_cannot_be_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = name_lock(folder / "target")
    with other_user(leave_lock, lock):
        left = lock.read_bytes()

    def refuse(path: Path, missing_ok: bool = False) -> None:  # as a sticky directory does
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with locks.hold(lock, lambda holder: None), pytest.raises(LockTimeoutError):
        hold_for(lock, 0.1)
    assert (lock.read_bytes() == left) is (OTHER.pw_uid != os.geteuid())


def test_a_room_lets_nobody_in_and_takes_no_name_that_is_there(
    folder: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = name_lock(folder / "target")
    tokens = iter(["00000001", "00000002", "00000003"])
    monkeypatch.setattr(secrets, "token_hex", lambda count: next(tokens))
    taken = [Path(f"{lock.with_suffix('')}-0000000{number}") for number in (1, 2)]
    elsewhere = victim.parent / "elsewhere"
    elsewhere.mkdir()
    taken[0].symlink_to(elsewhere)
    with other_user(taken[1].mkdir), stage_beside(folder / "target") as staged:
        assert staged.parent.name.endswith("-00000003")
        assert stat.S_IMODE(staged.parent.stat().st_mode) == 0o700
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("part", ["room", "old"])
def test_what_a_strangers_room_points_at_is_not_moved(folder: Path, part: str) -> None:
    private = folder.parent / "private"
    (private / "old").mkdir(parents=True)
    for directory in (private, private / "old"):
        (directory / "target").write_text(VICTIM)
    room = Path(f"{name_lock(folder / 'target').with_suffix('')}-01234567")
    if part == "room":
        room.symlink_to(private)
    else:
        room.mkdir()
        (room / "old").symlink_to(private)
    with stage_beside(folder / "target"):
        pass
    assert not (folder / "target").exists()
    assert (private / "target").read_text() == (private / "old" / "target").read_text() == VICTIM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make something of another user's")
def test_what_another_user_has_left_is_not_cleared(folder: Path) -> None:
    room, lock = folder / ".exporter-0123456789abcdef-01234567", folder / ".exporter-0123456789abcdef.lock"
    with other_user(leave_room, lock):
        pass
    with stage_beside(folder / "target"):
        pass
    assert {room.name, lock.name} == set(os.listdir(folder))


def write_log(file: Path) -> None:
    handler = logs.open_log(file)
    try:
        logging.getLogger("test").error("a line")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def keep_output(file: Path) -> None:
    with _output_kept(file):
        os.write(1, b"a line")


def log_launcher(file: Path) -> None:
    sweep._log_launcher_error(ValueError("a line"), file)


@pytest.mark.parametrize("work", [write_log, keep_output, log_launcher], ids=lambda work: work.__name__)
@pytest.mark.parametrize("plant", KINDS, ids=name)
def test_a_log_is_not_written_through_what_stands_there(
    folder: Path, victim: Path, plant: Plant, work: Callable[[Path], None]
) -> None:
    plant(folder / "log", victim)
    with pytest.raises(ForeignFileError, match="Move it away"):
        work(folder / "log")
    check_unharmed(victim)
    (folder / "log").rename(folder / "moved")
    work(folder / "log")
    assert "a line" in (folder / "log").read_text()
    check_unharmed(victim)


@pytest.fixture
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hydra closes all handlers, and one of TensorFlow's closes the stream that pytest captures with it."""
    kept = list(logging.root.handlers)
    monkeypatch.setattr(logging, "_handlerList", [])
    yield
    for handler in [each for each in logging.root.handlers if each not in kept]:
        logging.root.removeHandler(handler)
        handler.close()
    for handler in kept:
        logging.root.addHandler(handler)


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("file", ["exporter.log", ".hydra", ".hydra/config.yaml"])
@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_pipe, plant_dangling_link], ids=name)
def test_hydra_writes_nothing_through_what_stands_in_the_directory_of_a_run(
    folder: Path,
    victim: Path,
    plant: Plant,
    file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    plant(folder / file, victim)

    def export(*_: Any, **__: Any) -> Any:
        raise ExportError("it was begun")

    monkeypatch.setattr(sys, "argv", ["exporter", "model=digits", f"hydra.run.dir={folder}"])
    monkeypatch.setattr(exporter.exporting.job, "run_export", export)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == ForeignFileError.exit_code == 3
    is_replaced = file.startswith(".hydra/")
    told = "it was begun" if is_replaced else f"{folder / file} is {KINDS[plant]} of the user"
    assert told in capsys.readouterr().err
    assert ("digits" in (folder / ".hydra/config.yaml").read_text()) if is_replaced else (folder / file).lstat()
    check_unharmed(victim)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make something of another user's")
def test_another_users_log_is_not_appended_to(folder: Path) -> None:
    with other_user((folder / "log").write_text, "theirs"):
        pass
    with pytest.raises(ForeignFileError, match=f"is a file of the user {OTHER.pw_name}"):
        write_log(folder / "log")
    assert (folder / "log").read_text() == "theirs"


def make_sweep_job(folder: Path) -> SweepJob:
    return SweepJob(
        number=0,
        overrides=(),
        recipe_hash="hash",
        filepath=str(folder / "model"),
        format="tf",
        directory=str(folder),
    )


@pytest.mark.parametrize("plant", [*KINDS, plant_text], ids=name)
@pytest.mark.parametrize("file", ["progress.json", "given-up"])
def test_a_small_file_takes_the_place_of_what_stands_there(folder: Path, victim: Path, plant: Plant, file: str) -> None:
    plant(folder / file, victim)
    if plant is plant_directory and file == "given-up":
        with pytest.raises(ForeignFileError, match="is a directory of the user"):
            job.give_up(make_sweep_job(folder))
    elif file == "given-up":
        job.give_up(make_sweep_job(folder))
        assert (folder / file).read_bytes() == b""
    else:
        ProgressWriter(folder)
        assert (read_progress(folder) is None) is (plant is plant_directory), "it is only shown"
    check_unharmed(victim)
    assert not [entry for entry in os.listdir(folder) if entry.startswith(f".{file}")]


@pytest.mark.parametrize("plant", KINDS, ids=name)
@pytest.mark.parametrize("log", ["output.log", "exporter.log"])
def test_a_job_whose_log_cannot_be_written_has_a_row_that_says_so(
    folder: Path, victim: Path, plant: Plant, log: str
) -> None:
    plant(folder / log, victim)
    Worker().export({}, asdict(make_sweep_job(folder)))
    row = read_row(folder)
    assert row is not None
    assert (row.outcome, row.exit_code) == ("failed", 3)
    assert f"{folder / log} is {KINDS[plant]}" in row.error
    check_unharmed(victim)


def test_a_name_that_was_guessed_is_not_written_to(folder: Path, victim: Path) -> None:
    (folder / f".progress.json-{os.getpid()}").symlink_to(victim)
    ProgressWriter(folder)
    check_unharmed(victim)


@pytest.mark.parametrize("plant", [plant_link, plant_hard_link], ids=name)
def test_a_heartbeat_touches_nothing_else(
    folder: Path, victim: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.sweeps.records.progress._SECONDS_BETWEEN_BEATS", 0.001)
    with ProgressWriter(folder):
        (folder / "progress.json").unlink()
        plant(folder / "progress.json", victim)
        time.sleep(0.05)
    check_unharmed(victim)


@pytest.mark.parametrize("read", [read_progress, read_row], ids=lambda read: read.__name__)
@pytest.mark.parametrize("plant", KINDS, ids=name)
def test_a_reader_does_not_wait_for_a_pipe(
    folder: Path, victim: Path, plant: Plant, read: Callable[[Path], object]
) -> None:
    for file in ("progress.json", "row.json"):
        plant(folder / file, victim)
        assert read(folder) is None
        (folder / file).rename(folder / f"moved-{file}")


@pytest.mark.parametrize("plant", [plant_link, plant_dangling_link, plant_hard_link, plant_pipe], ids=name)
def test_what_another_machine_has_sent_is_not_written_through_a_link_nor_a_strangers_file_sent(
    folder: Path, victim: Path, plant: Plant
) -> None:
    place, here, there = (folder / name for name in ("place", "here", "there"))
    here.mkdir()
    cell = make_sweep_job(here)
    row = describe_missing(cell, "not run")
    sent = place / "jobs" / "hash"
    sent.mkdir(parents=True)
    (sent / "row.json").write_text(row.to_json())
    (sent / "output.log").write_text("from elsewhere")
    plant(here / "output.log", victim)
    receive_jobs(place.as_uri(), (cell,))
    assert (here / "output.log").read_text() == "from elsewhere"
    check_unharmed(victim)

    there.mkdir()
    plant(there / "table.csv", victim)
    with pytest.raises(ForeignFileError):
        send_files(place.as_uri(), there, ("table.csv",))
    assert not (place / "table.csv").exists()


@pytest.mark.parametrize("plant", KINDS, ids=name)
def test_the_lock_of_a_sweep_is_not_made_of_what_stands_there(folder: Path, victim: Path, plant: Plant) -> None:
    plan = make_plan(
        recipe="config",
        command=(),
        job_command=(),
        directory=str(folder),
        cells=(),
        on_error=OnError.CONTINUE,
        started="",
    )
    plant(folder / ".lock", victim)
    with pytest.raises(ForeignFileError), open_sweep(plan):
        pass
    check_unharmed(victim)
    (folder / ".lock").rename(folder / "moved")
    with open_sweep(plan), pytest.raises(ExportError, match="Another sweep runs in"), open_sweep(plan):
        pass


def test_a_user_without_a_name_is_named_by_the_number() -> None:
    assert own_files.name_user(4_000_000_000) == "with the number 4000000000"
    assert issubclass(ForeignFileError, OSError)
    assert issubclass(LockTimeoutError, ExporterError)
