"""What the exports of one process share, and when they do not."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from exporter import ExportConfig, UsageError
from exporter.artifacts.records import Status
from exporter.config import VerifyConfig
from exporter.exporting.job import run_export
from exporter.exporting.proving import ModelProver
from exporter.exporting.session import ExportSession


def ignore(line: str) -> None:
    pass


def save_model(path: Path, scale: float) -> dict[str, Any]:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.layers[0].kernel.assign(model.layers[0].kernel * scale)
    model.save(path)
    return {"_target_": "exporter.sources.file", "filepath": str(path)}


def test_a_model_is_built_once_for_one_configuration_and_seed(tmp_path: Path) -> None:
    source = save_model(tmp_path / "model.keras", 1)
    with ExportSession() as session:
        first, read = session.build(source, 0, ignore)
        assert session.build(dict(source), 0, ignore) == (first, read)
        assert session.build(source, 1, ignore)[0] is not first


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    with ExportSession() as session:
        first, _ = session.build(save_model(tmp_path / "model.keras", 1), 0, ignore)
        second, _ = session.build(save_model(tmp_path / "model.keras", 3), 0, ignore)
    assert np.array_equal(3 * first.model.get_weights()[0], second.model.get_weights()[0])


def test_a_live_model_is_its_own(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with ExportSession() as session:
        assert session.build(model, 0, ignore)[0].model is model


def test_one_process_proves_one_artifact_after_the_other_also_after_a_failure(tmp_path: Path) -> None:
    source = save_model(tmp_path / "model.keras", 1)
    np.savez(tmp_path / "wrong.npz", nothing=np.zeros(3))
    with ExportSession() as session:
        numbers = []
        for name, data in (("a.h5", None), ("b.h5", str(tmp_path / "wrong.npz")), ("c.keras", None)):
            config = ExportConfig(model=source, filepath=str(tmp_path / name), verify=VerifyConfig(data=data))
            if data is None:
                assert run_export(config, session=session).status is Status.PROVEN
            else:
                with pytest.raises(UsageError):
                    run_export(config, session=session)
            numbers.append(session.open_process(ModelProver.start).id)
        assert len(set(numbers)) == 1
        session.open_process(ModelProver.start)._process.kill()
        session.open_process(ModelProver.start)._process.wait()
        config = ExportConfig(model=source, filepath=str(tmp_path / "d.h5"), save_format="h5")
        assert run_export(config, session=session).status is Status.PROVEN
        assert session.open_process(ModelProver.start).id not in numbers
