"""A directory that `save_to_preset` of KerasHub wrote is a source of a model."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras_hub
import numpy as np
import pytest

from exporter import sources
from exporter.errors import ArtifactError, MissingDependencyError
from exporter.saving.safety import configurations

TEXTS = ["the quick fox", "brown"]


def make_backbone() -> Any:
    return keras_hub.models.BertBackbone(
        vocabulary_size=9, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=8
    )


def make_classifier() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "fox"]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=words)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=6)
    return keras_hub.models.BertTextClassifier(make_backbone(), num_classes=2, preprocessor=preprocessor)


def test_a_backbone_comes_back(tmp_path: Path) -> None:
    backbone = make_backbone()
    backbone.save_to_preset(str(tmp_path / "preset"))

    loaded = sources.file(str(tmp_path / "preset"))

    assert type(loaded) is keras_hub.models.BertBackbone
    for expected, received in zip(backbone.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(expected, received)


def test_a_task_comes_back_with_its_preprocessor(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_to_preset(str(tmp_path / "preset"))

    loaded = sources.file(str(tmp_path / "preset"))

    assert type(loaded) is keras_hub.models.BertTextClassifier
    np.testing.assert_array_equal(loaded.predict(TEXTS, verbose=0), classifier.predict(TEXTS, verbose=0))


def test_says_how_to_install_keras_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_backbone().save_to_preset(str(tmp_path / "preset"))
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(MissingDependencyError) as caught:
        sources.file(str(tmp_path / "preset"))
    assert str(caught.value) == (
        f"{tmp_path / 'preset'} is a preset of KerasHub, which cannot be imported: import of keras_hub halted; None in "
        "sys.modules. Install it: pip install 'keras-exporter[hub]'"
    )


def test_refuses_a_preset_that_names_code_of_others(tmp_path: Path) -> None:
    make_backbone().save_to_preset(str(tmp_path / "preset"))
    place = tmp_path / "preset" / "config.json"
    config = json.loads(place.read_text())
    config["config"]["dtype"] = {"module": "os", "class_name": "function", "config": "system", "registered_name": None}
    place.write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="Could not locate function 'system'"):
        sources.file(str(tmp_path / "preset"))


def test_refuses_a_task_that_is_none(tmp_path: Path) -> None:
    make_classifier().save_to_preset(str(tmp_path / "preset"))
    place = tmp_path / "preset" / "task.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "registered_name": "keras_hub>BertBackbone"}))
    with pytest.raises(ArtifactError) as caught:
        sources.file(str(tmp_path / "preset"))
    assert str(caught.value) == (
        f"{place} names no task of KerasHub: 'keras_hub>BertBackbone'. Import the module that registers it."
    )


def test_a_damaged_preset_is_named(tmp_path: Path) -> None:
    make_backbone().save_to_preset(str(tmp_path / "preset"))
    (tmp_path / "preset" / "model.weights.h5").unlink()
    with pytest.raises(ArtifactError, match=f"^KerasHub cannot load the preset {tmp_path / 'preset'}: "):
        sources.file(str(tmp_path / "preset"))


HOSTILE = {"module": "os", "class_name": "function", "config": "system", "registered_name": None}


def write_hostile_config(preset: Path) -> None:
    """Lets the configuration name code of others, in its place."""
    place = preset / "config.json"
    config = json.loads(place.read_text())
    config["config"]["dtype"] = HOSTILE
    place.write_text(json.dumps(config))


def write_other_weights(preset: Path) -> None:
    with h5py.File(preset / "model.weights.h5", "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for item in map(file.get, names):
            if isinstance(item, h5py.Dataset):
                item[...] = np.zeros(item.shape, item.dtype)


def add_file(preset: Path) -> None:
    (preset / "assets").mkdir()
    (preset / "assets" / "late.txt").write_text("")


@pytest.mark.parametrize(
    ("change", "file"),
    [
        pytest.param(write_hostile_config, "config.json", id="configuration"),
        pytest.param(write_other_weights, "model.weights.h5", id="weights"),
        pytest.param(add_file, "", id="file"),
    ],
)
def test_what_is_written_to_while_it_is_loaded_is_refused(
    change: Callable[[Path], None], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "preset"
    make_backbone().save_to_preset(str(preset))
    check, used = configurations.check_configuration, []

    def check_and_change(configs: Any) -> None:
        check(configs)
        used.append(configs)
        change(preset)

    monkeypatch.setattr(configurations, "check_configuration", check_and_change)
    with pytest.raises(ArtifactError) as caught:
        sources.file(str(preset))
    assert "it was written to while it was read; try again when nothing writes to it" in str(caught.value)
    assert f"{preset / file}" in str(caught.value)
    assert len(used) == 1


def test_a_directory_that_takes_the_place_of_the_checked_one_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, other = tmp_path / "preset", tmp_path / "other"
    make_backbone().save_to_preset(str(preset))
    shutil.copytree(preset, other)
    config = json.loads((other / "config.json").read_text())
    config["config"]["dtype"] = HOSTILE
    (other / "config.json").write_text(json.dumps(config))
    check = configurations.check_configuration

    def check_and_replace(configs: Any) -> None:
        check(configs)
        if other.exists():
            preset.rename(tmp_path / "former")
            other.rename(preset)

    monkeypatch.setattr(configurations, "check_configuration", check_and_replace)
    with pytest.raises(ArtifactError, match="Could not locate function 'system'"):
        sources.file(str(preset))
