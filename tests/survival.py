"""What the processes do that `test_survival.py` starts, kills and lets wait for each other.

Those that need TensorFlow are forked from a process that has imported it.
"""

import ctypes
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from without_exchange import deny_exchange

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Request
from exporter.config import ExportConfig, LayoutConfig, LayoutKind, MeasureConfig, VerifyConfig, VerifyMode
from exporter.errors import ExportError
from exporter.exporting.destinations import local, publishing
from exporter.exporting.destinations.choosing import choose_destination
from exporter.processes import interrupts
from exporter.storage import exchange, locks, own_files, staging
from exporter.storage.digests import FileRecord, record_files
from exporter.storage.sidecars import name_receipt, name_request

# Modules that a process imports before others are forked from it.
PRELOADED = (
    "tensorflow",
    "keras",
    "h5py",
    "exporter.models.endpoints.building",
    "exporter.exporting.job",
    "exporter.models.options",
    "exporter.verification.measuring",
    "exporter.verification.inputs",
    "exporter.verification.verification",
    "exporter.saving.formats.hdf5.writing",
    "exporter.saving.formats.hdf5.reading",
    "exporter.saving.formats.keras_archive",
    "exporter.saving.formats.saved_model.writing",
    "exporter.saving.formats.saved_model.reading",
    "exporter.exporting.serving",
)

NAMES = {"tf": "model", "h5": "model.h5", "keras": "model.keras", "tf_serving": "models"}

Files = tuple[FileRecord, ...]


def make_config(folder: Path, kind: str, model: Any = None) -> ExportConfig:
    is_served = kind == "tf_serving"
    return ExportConfig(
        model=model,
        filepath=str(folder / NAMES[kind]),
        save_format="tf" if is_served else kind,
        layout=LayoutConfig(kind=LayoutKind.TF_SERVING, keep=2) if is_served else LayoutConfig(),
        verify=VerifyConfig(mode=VerifyMode.NONE),
        measure=MeasureConfig(),
    )


def make_model(number: int) -> Any:
    """A model whose name and whose every weight say which one it is."""
    import keras

    keras.utils.clear_session()  # names begin anew
    keras.utils.set_random_seed(number)
    layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    model = keras.Sequential(layers, name=f"model_{number}")
    for weight in model.weights:
        weight.assign(weight * 0 + number)
    return model


def export(folder: Path, kind: str, number: int, connection: Connection) -> None:
    """Exports a model, and tells when it begins."""
    from exporter.exporting import job

    model = make_model(number)
    folder.mkdir(exist_ok=True)
    os.chdir(folder)  # an artifact knows the path that it was made for
    connection.send("begins")
    job.run_export(make_config(Path(), kind, model))


def export_to_store(url: str, settings: dict[str, str], number: int, connection: Connection) -> None:
    """Exports a model to a store, and tells when it begins."""
    from exporter.exporting import job
    from exporter.storage.remote import leases

    # The next one waits until the claim of the killed one has stood still for so long.
    vars(leases).update(_FRESH_SECONDS=0.3, _DEAD_SECONDS=3.0)
    os.environ.update(settings)
    model = make_model(number)
    connection.send("begins")
    job.run_export(replace(make_config(Path(), "tf", model), filepath=url))


def export_originals(folder: Path, connection: Connection) -> None:
    """Exports four models in every format; sends how long that took at first, by the format."""
    from exporter.exporting import job

    seconds: dict[str, float] = {}
    for number in range(4):
        model = make_model(number)
        for kind in NAMES:
            place = folder / f"{number}-{kind}"
            place.mkdir()
            os.chdir(place)
            started = time.perf_counter()
            job.run_export(make_config(Path(), kind, model))
            seconds.setdefault(kind, time.perf_counter() - started)
    connection.send(seconds)


def find_artifacts(folder: Path, kind: str) -> list[Path]:
    """Finds what a reader would: the target, or all versions."""
    target = folder / NAMES[kind]
    if kind != "tf_serving":
        return [target] if os.path.lexists(target) else []
    return sorted(path for path in target.glob("*") if path.name.isdigit())


def list_strangers(folder: Path) -> list[str]:
    """Lists what an export puts beside its target while it works."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def read_number(artifact: Path, known: dict[int, Files]) -> int:
    """Tells which model a complete artifact holds, and that what stands beside it speaks of that one."""
    files = record_files(artifact, "")
    [number] = [number for number, expected in known.items() if expected == files]
    receipt = name_receipt(artifact)
    if receipt.exists():
        recorded = Receipt.from_json(receipt.read_text()).files
        whole = recorded if artifact.is_dir() else tuple(replace(record, path="") for record in recorded)
        assert whole == files, f"{receipt} speaks of another artifact"
    if name_request(artifact).exists():
        assert name_request(artifact).read_text() == make_request(number)
    return number


def make_request(number: int) -> str:
    return str(number) * 500  # too long for the receipt


def publish_copy(folder: Path, kind: str, original: Path, number: int) -> None:
    """Does what an export does once its artifact is written, with one that was exported before."""
    place = choose_destination(make_config(folder, kind))
    receipt = Receipt.from_json(name_receipt(original).read_text())

    def make_receipt(target: Path, request: Request | None) -> Receipt:
        return replace(receipt, filepath=str(target), request=request)

    with staging.stage_beside(place.target, alone=not place.is_named_late) as staged:
        if original.is_dir():
            shutil.copytree(original, staged, symlinks=True)
        else:
            shutil.copyfile(original, staged)
        made = place.publish(staged, make_receipt, ("serving_default", make_request(number)))
    place.remove_older(made.filepath)


_WATCHED = {module.__file__ for module in (exchange, locks, own_files, interrupts, staging, local, publishing)}


def _run_killed(work: Callable[[], None], step: int) -> bool:
    """Runs something in a process that is killed before the given line of it; returns whether it came that far."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    left = step

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        code = frame.f_code
        is_ours = code.co_filename in _WATCHED
        removes = code.co_filename == shutil.__file__ and "rmtree" in code.co_name  # a directory, of a tree
        if (is_ours and event == "line") or (removes and event == "call"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace if is_ours else None

    code = 1
    try:
        sys.settrace(trace)
        work()
        code = 0
    finally:
        sys.settrace(None)
        os._exit(code)


def kill_at_every_step(
    folder: Path, kind: str, originals: dict[int, Path], with_exchange: bool, connection: Connection
) -> None:
    """Publishes one artifact over another one, and is killed at the first line of that, at the second, and so on.

    Each run has to put right what those before have left, and now and then one that is not killed has.
    """
    if not with_exchange:
        deny_exchange("EINVAL")
    os.fsync = lambda fd: None  # what a process has written outlives it without; the disk would take minutes
    known = {number: record_files(original, "") for number, original in originals.items()}
    publish_copy(folder, kind, originals[0], 0)
    current, step, kills, gaps, was_killed = 0, 0, 0, 0, True
    while was_killed:
        step += 2 if kind == "tf_serving" else 1  # it is the same publication, and more removing
        number = 1 - current
        was_killed = _run_killed(partial(publish_copy, folder, kind, originals[number], number), step)
        kills += was_killed
        artifacts = find_artifacts(folder, kind)
        if not artifacts:
            assert not with_exchange, f"no artifact after step {step}"
            gaps += 1
        if kind == "tf_serving" and step % 4 == 0:  # else there are more and more versions to remove, and receipts
            publish_copy(folder, kind, originals[number], number)
            for receipt in (folder / NAMES[kind]).glob("*.json"):
                receipt.unlink()
            assert list_strangers(folder) == []
        elif not artifacts or step % 4 == 0:
            # Whoever writes anything in that directory puts it right.
            with staging.stage_beside(folder / "another"):
                pass
            assert list_strangers(folder) == []
        artifacts = find_artifacts(folder, kind)
        numbers = [read_number(artifact, known) for artifact in artifacts]
        current = numbers[-1]
        if kind != "tf_serving":
            assert was_killed or current == number
    assert list_strangers(folder) == []
    connection.send((kills, gaps))


def write_again_and_again(folder: Path, kind: str, originals: dict[int, Path], number: int, over: Any) -> None:
    """Is one of several writers."""
    pauses = random.Random(number)
    while not over.is_set():
        publish_copy(folder, kind, originals[number], number)
        time.sleep(pauses.uniform(0.2, 1.0))


def read_again_and_again(folder: Path, kind: str, count: int, connection: Connection) -> None:
    """Loads what is there and looks whether all of it is of one model; sends which ones it has seen."""
    from exporter import ArtifactError, load_model

    seen: list[int] = []
    while len(seen) < count or len(set(seen)) == 1:
        try:
            [*_, path] = find_artifacts(folder, kind)
            model = load_model(path)
        except ArtifactError:
            assert kind == "tf_serving"
            assert not path.exists(), "only an old version may be removed while it is read"
            continue
        number = int(model.name.removeprefix("model_"))
        assert {float(value) for weight in model.weights for value in weight.numpy().flat} == {float(number)}
        seen.append(number)
        time.sleep(0.02)
    connection.send(seen)


def fill_disks(folder: Path, connection: Connection) -> None:
    """Exports to a file system of one megabyte that is full, and fuller; only this process sees it."""
    _mount_small(folder)
    outcomes: list[tuple[str, int, str]] = []
    from exporter import save_model
    from exporter.exporting import job

    for kind in NAMES:
        model = make_model(1)
        job.run_export(make_config(folder, kind, make_model(0)))
        before = _describe(folder)
        for free in _give_space(folder):
            try:
                job.run_export(make_config(folder, kind, model))
            except ExportError as error:
                outcomes.append((kind, free, str(error)))
                assert _describe(folder) == before
            else:
                break
        for path in list(folder.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    target = folder / "model"
    save_model(make_model(0), target)
    before = _describe(folder)
    for free in _give_space(folder):
        try:
            save_model(make_model(1), target)
        except OSError as error:
            outcomes.append(("save_model", free, str(error)))
            assert _describe(folder) == before
        else:
            break
    connection.send(outcomes)


def _give_space(folder: Path) -> Iterator[int]:
    """Gives the file system more and more free bytes."""
    ballast = folder.parent / "disk" / "ballast"
    total = os.statvfs(folder)
    try:
        for free in range(0, total.f_blocks * total.f_frsize, 24_576):
            ballast.unlink(missing_ok=True)
            status = os.statvfs(folder)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize - free, 1))
            yield free
    finally:
        ballast.unlink()


def _mount_small(folder: Path) -> None:
    """Mounts a small file system, as any user may in a namespace of the process's own; the folder is a part of it."""
    disk = folder.parent / "disk"
    disk.mkdir()
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    new_user, new_mounts = 0x10000000, 0x00020000
    for failed in (
        library.unshare(new_user | new_mounts),
        _map_user(user, group),
        library.mount(b"small", os.fsencode(disk), b"tmpfs", 0, b"size=1m"),
    ):
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    (disk / "folder").mkdir()
    folder.symlink_to(disk / "folder")


def _map_user(user: int, group: int) -> int:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return 0


def _describe(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }
