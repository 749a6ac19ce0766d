"""What is kept about an export's origin, and that nothing of the environment is kept with it."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from json_validators import make_validator

from exporter import UsageError, compose
from exporter.artifacts.json_schemas import RECEIPT_SCHEMA
from exporter.artifacts.records import Repository
from exporter.exporting.provenance import describe_machine, describe_recipe, find_repository, record_inputs
from exporter.text.hiding import hide

_BUILDER = """
import os
import keras


def build(token, nested, fail):
    assert token == os.environ["CANARY"] and nested["key"] == ["ab-" + os.environ["CANARY"]]
    if fail:
        raise ValueError(f"cannot log in with {token!r}")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1, name="y")], name="small")
    return model
"""

_RECIPE = """
defaults: [config, override model: custom, _self_]
model:
  _target_: builder.build
  token: ${oc.env:CANARY}
  nested: {key: ["ab-${model.token}"]}
  fail: false
seed: ${oc.decode:${oc.env:SEED}}
save_format: keras
"""


def git(directory: Path, *arguments: str) -> str:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(directory), *author, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class TestSecrets:
    def test_the_recipe_keeps_what_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CANARY", "canary-4711")
        monkeypatch.setenv("SEED", "3")
        (tmp_path / "mine.yaml").write_text(_RECIPE.replace("builder.build", "json.loads"))

        config = compose("mine", config_dir=tmp_path)

        assert (config.seed, config.model["token"], config.model["nested"]) == (
            3,
            "canary-4711",
            {"key": ["ab-canary-4711"]},
        )
        recipe = describe_recipe(config)
        assert recipe["seed"] == "${oc.decode:${oc.env:SEED}}"
        assert recipe["model"]["token"] == "${oc.env:CANARY}"
        assert recipe["model"]["nested"] == {"key": ["ab-${model.token}"]}
        assert describe_recipe(config, resolved=True)["model"]["nested"] == {"key": ["ab-canary-4711"]}
        assert hide("it said 'canary-4711'") == "it said '${oc.env:CANARY}'"

    @pytest.mark.parametrize(
        "override",
        ["seed=${oc.env:CANARY}", "seed=${oc.decode:${oc.env:CANARY}}", "verify.data=${oc.env:CANARY}"],
        ids=["a bad value", "one that cannot be decoded", "a file that is not there"],
    )
    def test_a_fault_does_not_tell(self, override: str, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = "canary{" + "".join(map(str, range(60)))  # longer than what is shown of a value
        monkeypatch.setenv("CANARY", secret)
        with pytest.raises(UsageError) as caught:
            compose(overrides=[override])
        assert "canary" not in str(caught.value)
        assert "oc.env:CANARY" in str(caught.value)

    def test_no_file_of_a_run_or_a_sweep_holds_one(self, tmp_path: Path) -> None:
        (tmp_path / "builder.py").write_text(_BUILDER)
        (tmp_path / "mine.yaml").write_text(_RECIPE)
        canary, unused = "canary-4711-used", "canary-4711-unused"
        environment = {**os.environ, "CANARY": canary, "UNUSED": unused, "SEED": "3"}
        command = [sys.executable, "-m", "exporter", "--config-dir", ".", "-cn", "mine", "verify=none"]
        sweep = ["-m", "save_format=tf,keras", "model.fail=false,true", "measure=never"]
        running = [
            subprocess.Popen(
                [*command, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for arguments in ([*sweep, "filepath=out/${save_format}-${model.fail}"], ["model.fail=true"])
        ]
        outputs = [process.communicate(timeout=1500)[0] for process in running]

        assert [process.returncode for process in running] == [3, 3], "\n".join(outputs)
        assert "cannot log in with '${oc.env:CANARY}'" in outputs[1]
        assert not [output for output in outputs if canary in output or unused in output]
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 40
        for path in files:
            content = path.read_bytes()
            assert b"canary-4711" not in content, path
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    assert not [name for name in archive.namelist() if b"canary-4711" in archive.read(name)], path
        receipt = json.loads((tmp_path / "out" / "tf-False.receipt.json").read_text())
        make_validator(RECEIPT_SCHEMA).validate(receipt)
        assert receipt["recipe"]["model"]["token"] == "${oc.env:CANARY}"
        assert any(
            "cannot log in with '${oc.env:CANARY}'" in path.read_text() for path in tmp_path.rglob("exporter.log")
        )


class TestInputs:
    def test_each_file_that_is_read_is_hashed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PLACE", str(tmp_path))
        (tmp_path / "old.keras").write_bytes(b"abc")
        (tmp_path / "labels.txt").write_text("a\nb\n")
        (tmp_path / "data.npz").write_bytes(b"")
        step = "{_target_: exporter.transforms.top_k, k: 1, labels: labels.txt}"
        config = compose(
            overrides=[
                "model=file",
                "model.filepath=${oc.env:PLACE}/old.keras",
                "verify.data=data.npz",
                f"+signatures.serving_default.postprocess={step.replace(': ', ':')}",
                "filepath=out",
            ]
        )

        inputs = record_inputs(config)

        assert [(each.key, each.path, each.size) for each in inputs] == [
            ("model.filepath", "${oc.env:PLACE}/old.keras", 3),
            ("signatures.serving_default.postprocess.labels", "labels.txt", 4),
            ("verify.data", "data.npz", 0),
        ]
        assert inputs[0].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def test_a_checkpoint_counts_by_its_prefix(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "model.json").write_text("{}")
        for name in ("ckpt.index", "ckpt.data-00000-of-00001", "ckpt2.index"):
            (tmp_path / name).write_bytes(b"abc")
        overrides = ["model=architecture", "model.config=model.json", "model.weights=ckpt"]
        first = {each.key: each for each in record_inputs(compose(overrides=overrides))}
        assert first["model.weights"].size == 6
        (tmp_path / "ckpt.data-00000-of-00001").write_bytes(b"abd")
        second = {each.key: each for each in record_inputs(compose(overrides=overrides))}
        assert second["model.weights"].sha256 != first["model.weights"].sha256

    def test_a_file_that_a_users_own_function_takes_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "weights.bin").write_bytes(b"abc")
        (tmp_path / "folder").mkdir()
        config = compose(
            overrides=["model=custom", "model._target_=json.loads", "+model.w=weights.bin", "+model.d=folder"]
        )
        assert [each.key for each in record_inputs(config)] == ["model.w"]


class TestRepository:
    def test_its_commit_and_whether_files_were_changed(self, tmp_path: Path) -> None:
        assert find_repository(tmp_path) is None
        git(tmp_path, "init", "-q")
        assert find_repository(tmp_path) is None
        (tmp_path / "mine.yaml").write_text("seed: 1\n")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "a recipe")
        commit = git(tmp_path, "rev-parse", "HEAD")

        assert find_repository(tmp_path) == Repository(commit, dirty=False)
        (tmp_path / "exports").mkdir()
        (tmp_path / "exports" / "new").write_text("an export is not a change")
        assert find_repository(tmp_path) == Repository(commit, dirty=False)
        (tmp_path / "mine.yaml").write_text("seed: 2\n")
        assert find_repository(tmp_path / "exports") == Repository(commit, dirty=True)

    def test_without_git_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_repository(tmp_path) is None

    def test_the_recipes_directory_is_known(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"defaults": ["config", "_self_"]}))
        assert compose("mine", config_dir=tmp_path).origin.directory == str(tmp_path)
        assert compose().origin.directory == os.getcwd()


def test_the_machine_is_described() -> None:
    assert re.fullmatch(r"\d+ cores of .+, \d+ GiB memory, .+", str(describe_machine()))
