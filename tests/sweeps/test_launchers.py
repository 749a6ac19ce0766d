"""The same sweep by every launcher, for real: two processes, a Ray cluster of two nodes, and Slurm on one node.

In each, the process that exports one of the jobs is killed while it builds its model.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweeps.conftest import TINY, Run, find_program, read_table

# Nothing is proven: that takes a second process for each job, and has tests of its own.
BARE = ("verify=none", "measure=never")
WIDTHS = ("+model.kind=fine", "+model.width=4,5,666", 'filepath="out/${model.width}"', *BARE)
LAUNCHERS = ("joblib", "ray", "submitit_slurm")
PLUGINS = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}


@contextmanager
def running(arguments: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is ended with everything that it started."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            arguments, stdout=file, stderr=file, env={**os.environ, **environment}, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not start"
        time.sleep(0.2)


def succeeds(arguments: list[str], expected: str = "", **environment: str) -> bool:
    done = subprocess.run(
        arguments, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=1500
    )
    return done.returncode == 0 and expected in done.stdout


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def no_cluster(directory: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    yield ["hydra.launcher.n_jobs=2"], {}


def has_started(log: Path) -> bool:
    """Reads it in the log: asking Ray takes a second of the processor each time, which the start could have had."""
    return "Ray runtime started." in log.read_text()


@contextmanager
def ray_cluster(directory: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """A head and a second node, with room for one job each."""
    ray = str(Path(sys.executable).with_name("ray"))
    if not Path(ray).exists():
        ray = find_program("ray", "ray")
    address = f"127.0.0.1:{find_port()}"
    shared = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    # The path of a socket below it has at most 107 characters.
    folder = Path("/tmp") / f"ray-{secrets.token_hex(4)}"
    head = [ray, "start", "--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false"]
    with running([*head, f"--temp-dir={folder}", *shared], directory / "head.log"):
        wait_for(lambda: has_started(directory / "head.log"), "the head of the cluster")
        with running([ray, "start", f"--address={address}", *shared], directory / "node.log"):
            wait_for(lambda: has_started(directory / "node.log"), "the second node")
            command = [ray, "status", f"--address={address}"]
            wait_for(lambda: succeeds(command, "/2.0 CPU"), "the second node")
            yield [f"hydra.launcher.ray.init.address='{address}'", "hydra.launcher.ray.remote.num_cpus=1"], {}


@contextmanager
def slurm_cluster(directory: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Slurm with one node, as Debian packages it, started for this test alone."""
    munged, controller, node = (
        find_program(name, package)
        for name, package in (("munged", "munge"), ("slurmctld", "slurm-wlm"), ("slurmd", "slurm-wlm"))
    )
    # munged trusts no directory that others may write to, and the path of a socket has at most 107 characters.
    folder = Path("/run") / f"exporter-{secrets.token_hex(4)}"
    (folder / "spool").mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    name = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(
        f"""\
ClusterName=exporter
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={find_port()}
SlurmdPort={find_port()}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={name} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    (folder / "state").mkdir()
    munge = [
        f"--{kind}={folder}/munge.{kind.split('-')[0]}" for kind in ("socket", "key-file", "pid-file", "seed-file")
    ]
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with (
        running([munged, "--foreground", *munge, f"--log-file={folder}/munge.log"], directory / "munged.log"),
        running([controller, "-D"], directory / "slurmctld.log", **environment),
        running([node, "-D"], directory / "slurmd.log", **environment),
    ):
        wait_for(lambda: succeeds(["sinfo", "--noheader", "--format=%t"], "idle", **environment), "Slurm")
        yield ["hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1"], environment


CLUSTERS = {"joblib": no_cluster, "ray": ray_cluster, "submitit_slurm": slurm_cluster}


@pytest.fixture(scope="module")
def expected(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The sha256 of the artifacts that a sweep in one process writes."""
    directory = tmp_path_factory.mktemp("local")
    (directory / "mended").touch()
    done = run(directory, "-m", *TINY, *WIDTHS)
    assert done.returncode == 0, done.stderr
    return [row["sha256"] for row in read_table(directory)["rows"]]


@pytest.mark.xdist_group("sweep")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_writes_the_same_bytes_and_survives_a_kill(
    launcher: str, expected: list[str], run: Run, tmp_path: Path
) -> None:
    with CLUSTERS[launcher](tmp_path) as (overrides, environment):
        command = ("-m", *TINY, *WIDTHS, f"hydra/launcher={launcher}", *overrides)
        first = run(tmp_path, *command, **environment)
        assert first.returncode == 1, first.stderr
        rows: list[dict[str, Any]] = read_table(tmp_path)["rows"]
        assert [row["outcome"] for row in rows] == ["written", "written", "failed"], first.stderr
        assert rows[2]["error"] == "its process was ended by signal 9 (SIGKILL) during `build the model`"
        (tmp_path / "mended").touch()
        second = run(tmp_path, *command, "resume=true", **environment)
    assert second.returncode == 0, second.stderr
    assert "2 of 3 jobs are finished already" in second.stderr
    assert [row["sha256"] for row in read_table(tmp_path)["rows"]] == expected


@pytest.mark.xdist_group("sweep")
def test_a_launcher_that_gives_up_is_asked_again_for_the_jobs_that_it_has_not_begun(run: Run, tmp_path: Path) -> None:
    widths = ("+model.width=777,4,5", 'filepath="out/${model.width}.h5"')
    done = run(tmp_path, "-m", *TINY, *BARE, *widths, "save_format=h5", "hydra/launcher=joblib")
    assert "exporter: the launcher ended with TerminatedWorkerError" in done.stderr
    rows = read_table(tmp_path)["rows"]
    assert "written" in {row["outcome"] for row in rows} <= {"written", "failed"}, done.stdout
    assert all(row["error"].startswith("ended without a result") for row in rows if row["outcome"] == "failed")


@pytest.mark.parametrize("launcher", PLUGINS)
def test_a_missing_plugin_names_its_extra(launcher: str, run: Run, tmp_path: Path) -> None:
    hide_plugins(tmp_path)
    done = run(tmp_path, "-m", "save_format=tf,h5", f"hydra/launcher={launcher}", PYTHONPATH=str(tmp_path))
    assert done.stderr == (
        "exporter: 1 fault in the command line\n  hydra/launcher: needs a package that is not installed: "
        f"pip install 'keras-exporter[{PLUGINS[launcher]}]'\n"
    )
    assert done.returncode == 2


def test_a_missing_sweeper_names_its_extra(run: Run, tmp_path: Path) -> None:
    hide_plugins(tmp_path)
    done = run(tmp_path, "-cn", "digits_search", PYTHONPATH=str(tmp_path))
    assert "needs a package that is not installed: pip install 'keras-exporter[optuna]'" in done.stderr
    assert done.returncode == 2


def hide_plugins(directory: Path) -> None:
    (directory / "sitecustomize.py").write_text("import hydra_plugins\n\nhydra_plugins.__path__ = []\n")


@pytest.mark.parametrize("launcher", PLUGINS)
def test_no_launcher_takes_a_gpu_that_nobody_gave_it(launcher: str) -> None:
    import yaml

    from exporter.config.directories import CONFIG_DIRECTORY

    preset = yaml.safe_load((CONFIG_DIRECTORY / "hydra" / "launcher" / f"{launcher}.yaml").read_text())
    assert preset["job"]["env_set"]["CUDA_VISIBLE_DEVICES"] == '${oc.env:CUDA_VISIBLE_DEVICES,"-1"}'
    assert preset["job"]["env_set"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.xdist_group("sweep")
def test_a_search_returns_what_it_shall_make_small(run: Run, tmp_path: Path) -> None:
    import yaml

    space = ("+model.kind=choice(fine,fails)", "+model.width=range(4,9)", 'filepath="${model.kind}-${model.width}.h5"')
    optuna = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.sampler.seed=0",
    )
    done = run(tmp_path, "-m", *TINY, *BARE, "save_format=h5", "objective=bytes", *space, *optuna)
    assert done.returncode == 3, done.stderr  # a failed job is the worst one, and the search goes on
    rows = read_table(tmp_path)["rows"]
    assert {row["outcome"] for row in rows} == {"written", "failed"}
    assert len(rows) == len([line for line in done.stderr.splitlines() if "model.kind=" in line]) == 4
    [directory] = tmp_path.glob(".exporter/sweeps/*/*")
    best = yaml.safe_load((directory / "optimization_results.yaml").read_text())
    assert best["best_value"] == min(row["total_bytes"] for row in rows if row["total_bytes"])


@pytest.mark.xdist_group("sweep")
def test_the_recipe_that_searches(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path, "-cn", "digits_search", "hydra.sweeper.n_trials=2", "model.epochs=1", "measure.runs=5")
    assert done.returncode == 0, done.stderr
    assert [row["outcome"] for row in read_table(tmp_path)["rows"]] == ["proven", "proven"]
