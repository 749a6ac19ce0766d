"""What every save format promises: a class of tests that each format runs.

class TestNpz(FormatTests):
    format = npz_format.FORMAT
"""

import hashlib
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from exporter import load_model, save_model
from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.errors import ArgumentError, ArtifactError, ModelError, TargetExistsError
from exporter.saving.formats import FORMATS, find_by_suffix, find_format, name_kind
from exporter.saving.formats.format import KERAS, TENSORFLOW, Format
from exporter.saving.layout.names import DATA, INDEX, WEIGHTS
from exporter.saving.state.collecting import collect_state

X, Y = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4), np.linspace(0, 1, 24, dtype="float32").reshape(8, 3)
# TensorFlow numbers the functions of one process, and the graph's fingerprint is that of its file.
_NUMBERED = ("saved_model.pb", "fingerprint.pb", "checksums.json")


def make_trained() -> keras.Model:
    """A model whose state is more than weights: a seed, slots, a frozen layer."""
    keras.utils.set_random_seed(4)
    frozen = keras.layers.Dense(4, trainable=False, name="frozen")
    layers = [
        keras.Input((4,), name="numbers"),
        frozen,
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.Dense(3, name="scores"),
    ]
    model = keras.Sequential(layers, name="small")
    model.compile(keras.optimizers.Adam(name="adam"), "mean_squared_error", jit_compile=False)
    model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    return model


def read_state(model: keras.Model, include_optimizer: bool = True) -> dict[str, bytes]:
    """Every value of a model, by its path."""
    return {path: np.asarray(each.value).tobytes() for path, each in collect_state(model, include_optimizer).items()}


def hash_artifact(path: Path) -> dict[str, str]:
    """The digest of each file, without what depends on what the process did before."""
    files = [path] if path.is_file() else [each for each in sorted(path.rglob("*")) if each.name not in _NUMBERED]
    return {
        each.relative_to(path).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in files
        if each.is_file()
    }


def list_files(path: Path) -> list[Path]:
    """The files that a load reads, each once."""
    return [path] if path.is_file() else [each for each in sorted(path.rglob("*")) if each.is_file()]


class FormatTests:
    """The tests of one format.

    Attributes:
        format: The format.
    """

    format: ClassVar[Format]

    @staticmethod
    def make_unheld() -> keras.Model | None:
        """Makes a model that the format cannot hold; None if it holds every one that has a configuration."""
        return None

    @pytest.fixture(autouse=True)
    def listed(self) -> None:
        """The format is among the others."""
        assert FORMATS[self.format.name] is self.format

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls) -> keras.Model:
        """A trained model, which no test changes."""
        return make_trained()

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, trained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The model, saved; no test changes it."""
        return save_model(trained, cls.name(tmp_path_factory.mktemp("format")), save_format=cls.format.name)

    @classmethod
    def name(cls, folder: Path, stem: str = "model") -> Path:
        """The usual path of an artifact."""
        return folder / f"{stem}{''.join(cls.format.suffixes[:1])}"

    def test_a_model_comes_back_and_trains_on_bit_by_bit(self, artifact: Path) -> None:
        kept, loaded = make_trained(), load_model(artifact)
        assert read_state(loaded) == read_state(kept)
        assert [layer.trainable for layer in loaded.layers] == [layer.trainable for layer in kept.layers]
        assert np.array_equal(loaded.predict(X[:3], verbose=0), kept.predict(X[:3], verbose=0))
        for model in (kept, loaded):
            model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
        assert read_state(loaded) == read_state(kept)

    def test_a_model_comes_back_uncompiled_where_that_is_asked(self, artifact: Path, trained: keras.Model) -> None:
        loaded = load_model(artifact, compile=False)
        assert not loaded.compiled
        assert read_state(loaded, include_optimizer=False) == read_state(trained, include_optimizer=False)

    def test_the_optimizer_is_left_out(self, artifact: Path, trained: keras.Model, tmp_path: Path) -> None:
        path = save_model(trained, self.name(tmp_path), include_optimizer=False, save_format=self.format.name)
        sizes = [sum(each.stat().st_size for each in list_files(place)) for place in (path, artifact)]
        assert sizes[0] < sizes[1]
        loaded = load_model(path)
        assert not loaded.compiled
        assert read_state(loaded) == read_state(trained, include_optimizer=False)

    def test_an_artifact_is_replaced_as_a_whole_or_not_at_all(self, trained: keras.Model, tmp_path: Path) -> None:
        path = save_model(trained, self.name(tmp_path), save_format=self.format.name)
        before = hash_artifact(path)
        with pytest.raises(TargetExistsError, match="overwrite=true"):
            save_model(trained, path, overwrite=False, save_format=self.format.name)
        assert hash_artifact(path) == before
        small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="other")
        save_model(small, path, save_format=self.format.name)
        save_model(small, self.name(tmp_path, "alone"), save_format=self.format.name)
        assert hash_artifact(path) == hash_artifact(self.name(tmp_path, "alone"))
        assert len(list(tmp_path.iterdir())) == 2

    def test_damage_is_an_error_and_never_another_model(
        self, artifact: Path, trained: keras.Model, tmp_path: Path
    ) -> None:
        state = read_state(trained)
        for number, file in enumerate(list_files(artifact)):
            content = file.read_bytes()
            spots = [len(content) * part // 7 for part in range(7)]
            changed = [content[:spot] + bytes([content[spot] ^ 0x10]) + content[spot + 1 :] for spot in spots]
            for step, damaged in enumerate([*changed, content[: len(content) // 2], b""]):
                copy = tmp_path / f"{number}-{step}"
                (shutil.copytree if artifact.is_dir() else shutil.copy)(artifact, copy)
                target = copy / file.relative_to(artifact) if artifact.is_dir() else copy
                target.write_bytes(damaged)
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        loaded = load_model(copy)
                except ArtifactError:
                    continue
                # What is not read to make the model, such as the graph where its code is at hand, may be damaged.
                assert read_state(loaded) == state, f"{file.name}, {step}"

    def test_an_inspection_shows_what_it_holds(self, artifact: Path, trained: keras.Model) -> None:
        inspection = inspect_artifact(artifact)
        assert inspection.format == self.format.name
        assert name_kind(inspection.format) == self.format.label
        values = read_state(trained)
        with open_artifact(artifact) as opened:
            assert values.keys() <= opened.tensors.keys()
            assert {path: opened.tensors[path].read().tobytes() for path in values} == values
            assert (opened.config or {})["config"]["name"] == trained.name

    def test_it_is_known_by_its_content_and_not_by_its_name(
        self, artifact: Path, trained: keras.Model, tmp_path: Path
    ) -> None:
        others = [suffix for each in FORMATS.values() if each is not self.format for suffix in each.suffixes]
        for name in ("anything", f"model{others[0]}"):
            copy = tmp_path / name
            (shutil.copytree if artifact.is_dir() else shutil.copy)(artifact, copy)
            assert find_format(copy) is self.format
            assert read_state(load_model(copy)) == read_state(trained)
        for strange in (b"", b"\0" * 64, b"text of somebody's"):
            (tmp_path / "strange").write_bytes(strange)
            assert not self.format.sniff(tmp_path / "strange")
        (tmp_path / "folder").mkdir()
        assert not self.format.sniff(tmp_path / "folder")

    def test_the_same_model_gives_the_same_bytes(self, artifact: Path, tmp_path: Path) -> None:
        again = save_model(make_trained(), self.name(tmp_path), save_format=self.format.name)
        first, second = hash_artifact(artifact), hash_artifact(again)
        if self.format.holds_functions:  # and the objects behind them; `test_reproducible` compares two processes
            for name in first.keys() & {DATA, INDEX, WEIGHTS}:
                del first[name], second[name]
        assert len(first) > 0
        assert second == first

    def test_its_suffixes_choose_it_and_contradict_the_others(self, trained: keras.Model, tmp_path: Path) -> None:
        for suffix in self.format.suffixes:
            assert find_by_suffix(tmp_path / f"model{suffix.upper()}") is self.format
            for other in FORMATS.values():
                if other is not self.format:
                    with pytest.raises(ArgumentError, match=f"is a name for '{self.format.name}'"):
                        save_model(trained, tmp_path / f"model{suffix}", save_format=other.name)
        path = self.name(tmp_path)
        save_model(trained, path, save_format=None)
        assert find_format(path) is (self.format if self.format.suffixes else next(iter(FORMATS.values())))
        assert path.is_dir() == find_format(path).is_directory  # type: ignore[union-attr]

    def test_a_model_that_it_cannot_hold_is_refused_with_a_remedy_that_works(self, tmp_path: Path) -> None:
        model = self.make_unheld()
        if model is None:
            assert type(self.format).explain_unheld is Format.explain_unheld
            return
        with pytest.raises(ModelError, match=r"Save it with save_format=") as caught:
            save_model(model, self.name(tmp_path), save_format=self.format.name)
        assert list(tmp_path.iterdir()) == []
        remedies = str(caught.value).rpartition("save_format=")[2].rstrip(".").split(" or ")
        for each in remedies:
            save_model(model, tmp_path / each.strip("'"), save_format=each.strip("'"))

    def test_signatures_are_taken_where_there_are_endpoints(self, trained: keras.Model, tmp_path: Path) -> None:
        function = tf.function(lambda x: {"doubled": 2 * x}, input_signature=[tf.TensorSpec((None, 4), name="x")])
        expected = pytest.raises(ArgumentError, match=f"'{self.format.name}' has no place for them")
        with nullcontext() if self.format.holds_endpoints else expected:
            path = save_model(trained, self.name(tmp_path), save_format=self.format.name, signatures=function)
            assert list(inspect_artifact(path).signatures) == ["serving_default"]

    def test_the_readers_that_it_names_open_it(self, artifact: Path, trained: keras.Model) -> None:
        expected: Any = trained.predict(X[:3], verbose=0)
        if KERAS in self.format.readers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stock = keras.models.load_model(artifact)
            assert np.array_equal(stock.predict(X[:3], verbose=0), expected)
        if TENSORFLOW in self.format.readers:
            served = tf.saved_model.load(str(artifact))
            [outputs] = served.signatures["serving_default"](tf.constant(X[:3])).values()
            assert np.allclose(outputs, expected, atol=1e-6)
