"""Staging beside a target and taking its place: what is there before, during and after."""

import errno
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from without_exchange import IS_KNOWN

from exporter.storage.exchange import read_whole as read_whole_at_once
from exporter.storage.exchange import take_place
from exporter.storage.staging import moved_away, publish, replace_text, stage_beside

Kind = Callable[[Path, str], None]


def make_file(path: Path, text: str) -> None:
    path.write_text(text)


def make_directory(path: Path, text: str) -> None:
    (path / "variables").mkdir(parents=True)
    (path / "graph").write_text(text)
    (path / "variables" / f"data of {text}").write_text(text)


def make_empty_directory(path: Path, text: str) -> None:
    path.mkdir()


def make_link_to_file(path: Path, text: str) -> None:
    elsewhere = path.parent.parent / "elsewhere.txt"
    elsewhere.write_text(text)
    path.symlink_to(elsewhere)


def make_link_to_directory(path: Path, text: str) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    make_directory(elsewhere, text)
    path.symlink_to(elsewhere)


def make_dangling_link(path: Path, text: str) -> None:
    path.symlink_to("nowhere")


OLD = [make_file, make_directory, make_empty_directory, make_link_to_file, make_link_to_directory, make_dangling_link]
NEW = [make_file, make_directory]


def name(kind: Kind) -> str:
    return kind.__name__.removeprefix("make_")


def describe(path: Path) -> object:
    """Returns everything below a path: the links, the names and the bytes."""
    if path.is_symlink():
        return ("link", os.readlink(path))
    if path.is_dir():
        return {entry.name: describe(entry) for entry in path.iterdir()}
    return path.read_bytes()


def fail_while_staging(target: Path, work: Callable[[Path], object], failure: BaseException) -> None:
    with stage_beside(target) as staged:
        work(staged)
        raise failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("make_new", NEW, ids=name)
def test_a_new_target_is_what_was_staged(folder: Path, make_new: Kind) -> None:
    with stage_beside(folder / "target") as staged:
        make_new(staged, "new")
        written = describe(staged)
        publish(staged, folder / "target")
    assert describe(folder) == {"target": written}


@pytest.mark.parametrize("make_new", NEW, ids=name)
@pytest.mark.parametrize("make_old", OLD, ids=name)
def test_an_old_target_is_replaced_as_a_whole(folder: Path, make_old: Kind, make_new: Kind) -> None:
    make_old(folder / "target", "old")
    with stage_beside(folder / "target") as staged:
        make_new(staged, "new")
        written = describe(staged)
        publish(staged, folder / "target")
    assert describe(folder) == {"target": written}


@pytest.mark.parametrize("make_new", NEW, ids=name)
@pytest.mark.parametrize("make_old", [None, *OLD], ids=lambda make: make.__name__ if make else "nothing")
def test_all_of_it_is_on_the_disk_before_it_takes_its_place_and_its_name_after(
    folder: Path, make_old: Kind | None, make_new: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder / "made" / "target"
    if make_old is not None:
        target.parent.mkdir()
        make_old(target, "old")
    events: list[str | int] = []

    def sync(descriptor: int) -> None:
        events.append(os.fstat(descriptor).st_ino)
        real_sync(descriptor)

    def take(*arguments: Path) -> None:
        events.append("takes its place")
        take_place(*arguments)

    real_sync = os.fsync
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("exporter.storage.staging.take_place", take)
    with stage_beside(target) as staged:
        make_new(staged, "new")
        publish(staged, target, beside={target.with_name("target.json"): "text"})

    moment = events.index("takes its place")
    entries = [target, target.with_name("target.json"), *target.rglob("*")]
    for path in [entry for entry in entries if not entry.is_symlink()]:
        assert path.stat().st_ino in events[:moment], path
    assert target.parent.stat().st_ino in events[moment:]
    if make_old is None:
        assert folder.stat().st_ino in events, "the name of a new directory"


@pytest.mark.parametrize("make_old", [make_link_to_file, make_link_to_directory], ids=name)
@pytest.mark.parametrize("make_new", NEW, ids=name)
def test_what_a_link_points_at_is_left_alone(folder: Path, make_old: Kind, make_new: Kind) -> None:
    make_old(folder / "target", "old")
    pointed = Path(os.readlink(folder / "target"))
    before = describe(pointed)
    with stage_beside(folder / "target") as staged:
        make_new(staged, "new")
        publish(staged, folder / "target")
    assert not (folder / "target").is_symlink()
    assert describe(pointed) == before


@pytest.mark.parametrize("make_new", NEW, ids=name)
@pytest.mark.parametrize("make_old", OLD, ids=name)
@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_failure_leaves_the_old_target_and_nothing_beside_it(
    folder: Path, make_old: Kind, make_new: Kind, failure: BaseException
) -> None:
    make_old(folder / "target", "old")
    before = describe(folder)
    with pytest.raises(type(failure)) as caught:
        fail_while_staging(folder / "target", lambda staged: make_new(staged, "half"), failure)
    assert caught.value is failure
    assert describe(folder) == before


def test_parents_are_made_and_stay_after_a_publication(tmp_path: Path) -> None:
    target = tmp_path / "one" / "two" / "target"
    with stage_beside(target) as staged:
        make_directory(staged, "new")
        publish(staged, target)
    assert (target / "graph").read_text() == "new"


def test_parents_that_were_made_are_removed_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        fail_while_staging(
            tmp_path / "one" / "two" / "target", lambda staged: make_directory(staged, "half"), ValueError("no")
        )
    assert describe(tmp_path) == {}


def test_parents_that_somebody_else_uses_by_then_stay_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        fail_while_staging(
            tmp_path / "one" / "two" / "target",
            lambda staged: (tmp_path / "one" / "other").write_text("other"),
            ValueError("no"),
        )
    assert describe(tmp_path) == {"one": {"other": b"other"}}


def test_parents_that_somebody_else_removed_do_not_hide_the_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        fail_while_staging(
            tmp_path / "one" / "two" / "target", lambda staged: shutil.rmtree(tmp_path / "one"), ValueError("no")
        )
    assert describe(tmp_path) == {}


def test_parents_that_cannot_be_made_leave_none(tmp_path: Path) -> None:
    target = tmp_path / "one" / ("x" * 300) / "target"
    with pytest.raises(OSError, match="File name too long") as caught, stage_beside(target):
        pass
    assert caught.value.errno == errno.ENAMETOOLONG
    assert describe(tmp_path) == {}


def test_a_body_that_publishes_nothing_leaves_nothing(folder: Path) -> None:
    with stage_beside(folder / "target") as staged:
        make_directory(staged, "new")
    assert describe(folder) == {}


@pytest.mark.parametrize("target", ["model.keras", "model.h5", "model", f"{'x' * 249}.keras", f"{'é' * 125}.h5"])
def test_the_staged_path_is_free_hidden_and_named_like_the_target(folder: Path, target: str) -> None:
    with (
        stage_beside(folder / target, alone=False) as other,
        stage_beside(folder / target, alone=False) as staged,
    ):
        assert staged != other
        assert not staged.exists()
        assert staged.parent.parent == folder
        assert staged.parent.name.startswith(".")
        assert staged.name == target
        staged.write_text("new")
        publish(staged, folder / target)
    assert describe(folder) == {target: b"new"}


def test_what_the_dead_have_left_is_removed_and_nothing_else(folder: Path) -> None:
    make_directory(folder / ".exporter-0123456789abcdef-01234567", "a room of the dead")
    make_file(folder / ".exporter-0123456789abcdef.lock", "exporter process 1 on pluto")
    make_file(folder / ".exporter-1123456789abcdef.lock", "")  # it ended before it wrote who it is
    make_directory(folder / ".exporter-2123456789abcdef-01234567", "without a lock")
    make_file(folder / ".exporter-3123456789abcdef.lock", "a stranger's")
    make_file(folder / ".exporter-notes", "a stranger's")
    (folder / ".exporter-4123456789abcdef.lock").symlink_to(".exporter-notes")
    with stage_beside(folder / "alive"):
        living = set(os.listdir(folder))
        with stage_beside(folder / "target"):
            assert living <= set(os.listdir(folder))
    assert sorted(os.listdir(folder)) == [
        ".exporter-2123456789abcdef-01234567",
        ".exporter-3123456789abcdef.lock",
        ".exporter-4123456789abcdef.lock",
        ".exporter-notes",
    ]


def test_who_waits_is_told_for_whom(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stage_beside(folder / "target"):
        other = threading.Thread(target=replace_text, args=(folder / "target", "new"))
        other.start()
        while not caplog.messages and other.is_alive():
            time.sleep(0.01)
    other.join()
    holder = f"process {os.getpid()} on {platform.node()}"
    assert caplog.messages == [f"{folder / 'target'} is being written by {holder}: waiting for it."]
    assert describe(folder) == {"target": b"new"}


def test_an_artifact_that_was_protected_is_replaced_and_removed(folder: Path) -> None:
    make_directory(folder / "target", "old")
    (folder / "target" / "variables").chmod(0o555)
    with stage_beside(folder / "target") as staged:
        make_directory(staged, "new")
        publish(staged, folder / "target")
    assert (folder / "target" / "graph").read_text() == "new"
    assert os.listdir(folder) == ["target"]


def test_a_directory_that_is_replaced_while_it_is_read_is_read_again(folder: Path) -> None:
    target = folder / "target"
    make_directory(target, "0")
    readings: list[str] = []

    def read() -> str:
        first = (target / "graph").read_text()
        if len(readings) < 3:
            with stage_beside(target) as staged:
                make_directory(staged, str(len(readings) + 1))
                publish(staged, target)
        [second] = os.listdir(target / "variables")
        readings.append(f"{first}, {second}")
        if len(readings) == 2:
            raise ValueError("a mixture that cannot be read")
        return readings[-1]

    assert read_whole_at_once(target, read) == "3, data of 3"
    assert readings == ["0, data of 1", "1, data of 2", "2, data of 3", "3, data of 3"]


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(folder: Path) -> None:
    target = folder / "target"
    make_file(target, "0")
    readings: list[str] = []

    def read() -> str:
        first = target.read_text()
        if len(readings) < 2:
            with stage_beside(target) as staged:
                make_file(staged, str(len(readings) + 1))
                publish(staged, target)
        readings.append(f"{first}, {target.read_text()}")
        if len(readings) == 1:
            raise ValueError("a mixture that cannot be read")
        return readings[-1]

    assert read_whole_at_once(target, read) == "2, 2"
    assert readings == ["0, 1", "1, 2", "2, 2"]


@pytest.mark.parametrize("make", [make_file, make_directory], ids=["file", "directory"])
def test_a_fault_of_what_stays_is_told(folder: Path, make: Callable[[Path, str], None]) -> None:
    make(folder / "target", "damaged")

    def read() -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        read_whole_at_once(folder / "target", read)


@pytest.mark.parametrize("make", [make_file, make_directory], ids=["file", "directory"])
def test_what_is_replaced_all_the_time_is_told(folder: Path, make: Callable[[Path, str], None]) -> None:
    target = folder / "target"
    make(target, "old")

    def read() -> None:
        with stage_beside(target) as staged:
            make(staged, "new")
            publish(staged, target)

    with pytest.raises(OSError, match="it was replaced 20 times while it was read"):
        read_whole_at_once(target, read)


def test_a_publication_that_the_file_system_refuses_leaves_the_old_target(folder: Path) -> None:
    make_file(folder / "target", "old")
    with pytest.raises(FileNotFoundError), stage_beside(folder / "target") as staged:
        publish(staged, folder / "target")  # nothing was staged
    assert describe(folder) == {"target": b"old"}


def read_whole(target: Path) -> str | None:
    """Reads a directory as a reader would that opens it once; None if it is exchanged under the reader's hands."""
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        text = Path(f"/proc/self/fd/{descriptor}/graph").read_text()
        names = os.listdir(f"/proc/self/fd/{descriptor}/variables")
    except FileNotFoundError:  # this is the old directory, which is being removed
        return None
    finally:
        os.close(descriptor)
    if not names:
        return None
    assert names == [f"data of {text}"]
    return text


def test_readers_see_the_old_directory_or_the_new_one(folder: Path) -> None:
    target = folder / "target"
    make_directory(target, "0")
    finished = threading.Event()
    seen: set[str | None] = set()
    faults: list[BaseException] = []

    def read() -> None:
        try:
            while not finished.is_set():
                assert target.is_dir()
                seen.add(read_whole(target))
        except BaseException as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 80):
        with stage_beside(target) as staged:
            make_directory(staged, str(number))
            publish(staged, target)
    finished.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert len(seen - {None}) > 1
    assert read_whole(target) == "79"
    assert os.listdir(folder) == ["target"]


@pytest.mark.parametrize("make_new", NEW, ids=name)
def test_writers_at_the_same_time_wait_for_each_other(
    folder: Path, make_new: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.storage.locks._A_MOMENT", 0.0)
    target = folder / "new" / "target"
    at_work: list[int] = []
    waits: list[str] = []
    faults: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(8):
                with stage_beside(target, on_wait=lambda path, holder: waits.append(f"{path}: {holder}")) as staged:
                    at_work.append(number)
                    make_new(staged, str(number))
                    time.sleep(0.001)
                    publish(staged, target)
                    assert describe(target) == written[number]
                    assert at_work == [number]
                    at_work.remove(number)
        except BaseException as fault:
            faults.append(fault)

    for number in range(8):
        make_new(folder.parent / str(number), str(number))
    written = [describe(folder.parent / str(number)) for number in range(8)]
    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults == []
    assert os.listdir(target.parent) == ["target"]
    assert f"{target}: process {os.getpid()} on {platform.node()}" in waits


_WITHOUT_EXCHANGE = """
import errno, os, sys
from pathlib import Path
from without_exchange import deny_exchange
from exporter.storage.staging import publish, stage_beside

deny_exchange(sys.argv[1])
"""


def run_without_exchange(folder: Path, answer: str, program: str) -> subprocess.CompletedProcess[str]:
    if not IS_KNOWN:
        pytest.skip("the numbers of the system calls are known for two kinds of machine only")
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _WITHOUT_EXCHANGE + textwrap.dedent(program), answer],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


@pytest.mark.parametrize("make_new", NEW, ids=name)
@pytest.mark.parametrize("make_old", OLD, ids=name)
def test_without_the_exchange_the_old_target_is_replaced_too(folder: Path, make_old: Kind, make_new: Kind) -> None:
    make_old(folder / "target", "old")
    make_new(folder.parent / "new", "new")
    written = describe(folder.parent / "new")
    done = run_without_exchange(
        folder,
        "EINVAL",
        """
        with stage_beside(Path("target")) as staged:
            os.rename("../new", staged)
            publish(staged, Path("target"))
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert describe(folder) == {"target": written}


@pytest.mark.parametrize("answer", ["ENOSYS", "EINVAL", "ENOTSUP"])
def test_without_the_exchange_a_refusal_puts_the_old_directory_back(folder: Path, answer: str) -> None:
    make_directory(folder / "target", "old")
    make_file(folder / "target.json", "old")
    before = describe(folder)
    done = run_without_exchange(
        folder,
        answer,
        """
        import shutil
        from exporter.storage.exchange import take_place

        with stage_beside(Path("target")) as staged:
            staged.touch()
            replace, rename = os.replace, os.rename
            def refuse(source, target):
                if source == staged and not os.path.lexists(target):
                    raise FileNotFoundError(errno.ENOENT, "refused")
                rename(source, target)
            os.rename = refuse  # the second of the two
            try:
                publish(staged, Path("target"), beside={Path("target.json"): "new"})
            except FileNotFoundError as error:
                print(error.errno == errno.ENOENT)
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert describe(folder) == before


def test_another_refusal_of_the_exchange_is_told(folder: Path) -> None:
    make_directory(folder / "target", "old")
    done = run_without_exchange(
        folder,
        "EPERM",
        """
        try:
            with stage_beside(Path("target")) as staged:
                staged.mkdir()
                publish(staged, Path("target"))
        except OSError as error:
            print(error)
        """,
    )
    assert (done.stdout, done.stderr) == ("[Errno 1] Operation not permitted: 'target'\n", "")
    assert os.listdir(folder) == ["target"]


def test_what_is_moved_away_comes_back_also_after_a_failure(tmp_path: Path) -> None:
    def fail(staged: Path) -> None:
        with moved_away(staged) as elsewhere:
            assert (elsewhere.name, elsewhere.read_text()) == ("model.h5", "weights")
            assert not staged.exists()
            raise RuntimeError

    with stage_beside(tmp_path / "model.h5") as staged:
        staged.write_text("weights")
        with pytest.raises(RuntimeError):
            fail(staged)
        assert staged.read_text() == "weights"
        assert sorted(path.name for path in staged.parent.iterdir()) == ["beside", "model.h5", "old"]
    assert list(tmp_path.iterdir()) == []
