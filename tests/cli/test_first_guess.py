"""A model of one's own from the first line on: each process that takes part finds the modules beside it."""

import os
import subprocess
import sys
from pathlib import Path

LAYER = """
import keras

@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Dense):
    pass
"""
MODELS = """
import keras
from layers_of_mine import Scale

def build(units=1):
    return keras.Sequential([keras.Input((3,)), Scale(units)])

model = build(5)
"""


def run(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_are_found_by_the_proof_and_by_the_workers_of_a_sweep(tmp_path: Path) -> None:
    code = tmp_path / "code of mine"
    code.mkdir()
    (code / "layers_of_mine.py").write_text(LAYER)
    (code / "models_of_mine.py").write_text(MODELS)
    (code / "mine.yaml").write_text(
        "defaults: [config, override model: custom, _self_]\nmodel: {_target_: models_of_mine.build}\n"
    )
    shown = run(tmp_path, "code of mine/models_of_mine.py:model", "-o", "ü (1).keras")
    assert "ü (1).keras is the same model, proven" in shown
    assert "20 parameters; from models_of_mine.model" in shown
    words = ["model.units=2,3", "filepath=new/${model.units}.h5", "verify=reload", "measure=never"]
    shown = run(tmp_path, "-m", "code of mine/mine.yaml", *words, "hydra/launcher=joblib")
    assert "2 jobs" in shown
    assert sorted(os.listdir(tmp_path / "new")) == [
        f"{name}.h5{end}" for name in (2, 3) for end in ("", ".receipt.json")
    ]
    os.rename(tmp_path / "ü (1).keras", tmp_path / "code of mine" / "old.keras")
    run(code, "old.keras", "+model.custom_objects.Scale=layers_of_mine.Scale", "verify=none")
    assert (code / "exports" / "old" / "saved_model.pb").is_file()
