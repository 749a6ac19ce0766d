"""Exports that are killed, that run out of space and that meet each other: the target is always a whole artifact."""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import survival
from object_store import ObjectStore, serve_objects
from survival import NAMES
from without_exchange import IS_KNOWN

from exporter.artifacts.manifest import check_integrity
from exporter.storage.digests import record_files
from exporter.storage.remote import Store, fetch
from exporter.storage.sidecars import name_receipt

pytestmark = pytest.mark.xdist_group("survival")

KINDS = pytest.mark.parametrize("kind", list(NAMES))
SECONDS = 1500

SPAWN = multiprocessing.get_context("spawn")


class Forge:
    """Processes that have imported TensorFlow already."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(survival.PRELOADED))

    def start(self, function: Any, *arguments: Any) -> tuple[Any, Any]:
        """Starts a function with one end of a connection; returns the process and the other end."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=function, args=(*arguments, theirs))
        process.start()
        theirs.close()
        return process, ours

    def run(self, function: Any, *arguments: Any) -> Any:
        """Runs a function to its end; returns what it sent last."""
        process, connection = self.start(function, *arguments)
        return finish(process, connection)


def finish(process: Any, connection: Any) -> Any:
    received = None
    try:
        while connection.poll(SECONDS):
            received = connection.recv()
    except EOFError:
        pass
    process.join(SECONDS)
    assert process.exitcode == 0
    return received


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


class Originals:
    """Artifacts of four models in every format, and how long it took to export one of them."""

    def __init__(self, forge: Forge, folder: Path) -> None:
        self.seconds: dict[str, float] = forge.run(survival.export_originals, folder)
        self._paths = {
            kind: {number: survival.find_artifacts(folder / f"{number}-{kind}", kind)[0] for number in range(4)}
            for kind in NAMES
        }

    def list(self, kind: str) -> dict[int, Path]:
        return self._paths[kind]

    def record(self, kind: str) -> dict[int, Any]:
        return {number: record_files(path, "") for number, path in self._paths[kind].items()}


@pytest.fixture(scope="module")
def originals(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(forge, tmp_path_factory.mktemp("originals"))


@KINDS
def test_a_publication_survives_a_kill_at_every_step_of_it(originals: Originals, tmp_path: Path, kind: str) -> None:
    kills, gaps = run_kills(originals, tmp_path, kind, with_exchange=True)
    print(f"{kind}: {kills} kills")
    assert kills > 100
    assert gaps == 0


@pytest.mark.skipif(not IS_KNOWN, reason="the numbers of the system calls are known for two kinds of machine only")
def test_without_the_exchange_the_next_run_puts_a_killed_one_right(originals: Originals, tmp_path: Path) -> None:
    kills, gaps = run_kills(originals, tmp_path, "tf", with_exchange=False)
    print(f"tf: {kills} kills, {gaps} between the two renames")
    assert kills > 100
    assert gaps > 0


def run_kills(originals: Originals, folder: Path, kind: str, with_exchange: bool) -> tuple[int, int]:
    ours, theirs = SPAWN.Pipe(duplex=False)
    arguments = (folder, kind, originals.list(kind), with_exchange, theirs)
    process = SPAWN.Process(target=survival.kill_at_every_step, args=arguments)
    process.start()
    theirs.close()
    kills, gaps = finish(process, ours)
    return kills, gaps


@KINDS
def test_an_export_survives_a_kill_at_any_moment(forge: Forge, originals: Originals, tmp_path: Path, kind: str) -> None:
    moments = random.Random(kind)
    known = originals.record(kind)
    survival.publish_copy(tmp_path, kind, originals.list(kind)[0], 0)
    ends = []
    current = 0
    for _ in range(6):
        process, connection = forge.start(survival.export, tmp_path, kind, 1 - current)
        assert connection.recv() == "begins"
        time.sleep(moments.uniform(0, 0.8 * originals.seconds[kind]))
        process.kill()
        process.join()
        ends.append(process.exitcode)
        artifacts = survival.find_artifacts(tmp_path, kind)
        assert artifacts
        current = [survival.read_number(artifact, known) for artifact in artifacts][-1]
    print(f"{kind}: {ends.count(-9)} kills")
    assert ends.count(-9) > 1
    forge.run(survival.export, tmp_path, kind, 2)
    newest = survival.find_artifacts(tmp_path, kind)[-1]
    assert survival.read_number(newest, known) == 2
    assert name_receipt(newest).is_file()
    assert survival.list_strangers(tmp_path) == []


@pytest.fixture
def results_url() -> Iterator[Any]:
    over = SPAWN.Event()
    yield over
    over.set()


@KINDS
def test_readers_see_whole_artifacts_while_four_write(
    forge: Forge, originals: Originals, tmp_path: Path, kind: str, results_url: Any
) -> None:
    survival.publish_copy(tmp_path, kind, originals.list(kind)[0], 0)
    readers = [forge.start(survival.read_again_and_again, tmp_path, kind, 8) for _ in range(2)]
    writers = [
        SPAWN.Process(
            target=survival.write_again_and_again, args=(tmp_path, kind, originals.list(kind), number, results_url)
        )
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    seen = [finish(*reader) for reader in readers]
    results_url.set()
    for writer in writers:
        writer.join(SECONDS)
        assert writer.exitcode == 0
    assert all(len(set(numbers)) > 1 for numbers in seen)
    for artifact in survival.find_artifacts(tmp_path, kind):
        survival.read_number(artifact, originals.record(kind))
    assert survival.list_strangers(tmp_path) == []


def test_a_full_disk_leaves_the_old_artifact_and_nothing_else(forge: Forge, tmp_path: Path) -> None:
    outcomes = forge.run(survival.fill_disks, tmp_path / "folder")
    for kind in (*NAMES, "save_model"):
        messages = {message for each, _, message in outcomes if each == kind}
        assert messages, kind
        target = tmp_path / "folder" / NAMES.get(kind, "model")
        for message in messages:
            assert "No space left on device" in message or "are free in" in message, message
            assert kind == "save_model" or str(target) in message
    assert any("needs at least" in message and "0 B are free in" in message for _, _, message in outcomes)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        pytest.param(signal.SIGINT, "interrupted", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, "ended by SIGTERM", id="SIGTERM"),
    ],
)
def test_an_export_that_is_told_to_end_leaves_nothing(tmp_path: Path, number: signal.Signals, word: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "model.epochs=1", "filepath=models/new/model"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, a shell may have told them to ignore the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("models/new/.exporter-*/model/saved_model.pb")):
            time.sleep(0.02)
        [children] = [
            path.read_text().split() for path in Path(f"/proc/{process.pid}/task").glob(f"{process.pid}/children")
        ]
        process.send_signal(number)
        _, errors = process.communicate(timeout=SECONDS)
    assert errors.splitlines()[-1] == f"exporter: {word}"
    assert "Traceback" not in errors
    assert process.returncode == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == [".exporter"]
    assert children
    assert not [child for child in children if Path("/proc", child).exists()]


SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# The object before which the exporter is killed. In each case the former artifact is read then.
MOMENTS = {
    "while the objects are sent": r"/\.exporter-\w+/variables/",
    "before the first copy": r"/model/",
    "before the graph": r"/model/saved_model\.pb$",
    "before the receipt": r"/model\.receipt\.json$",
}


@pytest.fixture(scope="module")
def objects() -> Iterator[tuple[ObjectStore, dict[str, str]]]:
    with serve_objects() as server, pytest.MonkeyPatch.context() as patch:
        settings = {**SETTINGS, "AWS_ENDPOINT_URL": server.endpoint}
        for name, value in settings.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("survival")
        yield server, settings


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_upload_survives_a_kill(forge: Forge, objects: tuple[ObjectStore, dict[str, str]], moment: str) -> None:
    server, settings = objects
    url = f"s3://survival/{moment.replace(' ', '-')}/model"
    server.forget()
    forge.run(survival.export_to_store, url, settings, 0)
    process, connection = forge.start(survival.export_to_store, url, settings, 1)
    assert connection.recv() == "begins"

    def kill(number: int, method: str, path: str) -> bool:
        if method != "PUT" or not re.search(MOMENTS[moment], path):
            return False
        process.kill()
        while Path("/proc", str(process.pid)).exists():  # `join` is for one thread, and another one waits in it
            time.sleep(0.01)
        return True

    server.refuses = kill
    process.join(SECONDS)
    assert process.exitcode == -9
    server.forget()
    assert read_from_store(url) == 0
    forge.run(survival.export_to_store, url, settings, 1)
    assert read_from_store(url) == 1
    folder = Store(url.rpartition("/")[0])
    assert folder.exists("model.receipt.json")
    assert not [name for name in folder.list_objects() if name.startswith(".")]


def read_from_store(url: str) -> int:
    """Tells which model a whole artifact holds."""
    fetched = fetch(url)
    assert check_integrity(fetched).mismatches == ()
    return int(json.loads((fetched / "config.json").read_text())["config"]["name"].removeprefix("model_"))
