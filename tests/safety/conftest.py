"""A small model in every format, for the files that are made of it."""

import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter import compose
from exporter.errors import ArtifactError
from exporter.exporting.provenance import describe_recipe

if TYPE_CHECKING:
    import keras

TRUST = "Load it with safe_mode=False only if you trust where the file comes from."

Attack = Callable[[Path, Path], None]
Change = Callable[..., Path]
# What a file holds that concerns nobody.
CANARY = "canary-4711"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that only code from inside an artifact would make."""
    return tmp_path / "canary"


def copy(original: Path, folder: Path) -> Path:
    """Copies an artifact."""
    target = folder / original.name
    if original.is_dir():
        shutil.copytree(original, target, symlinks=True)
    else:
        shutil.copyfile(original, target)
    return target


def refuse(path: Path, **options: Any) -> str:
    """Returns why an artifact is not loaded, which a recipe that loads it says as well."""
    import exporter
    from exporter import sources

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path, **options)
    if not options:
        with pytest.raises(ArtifactError) as in_a_recipe:
            sources.file(str(path))
        assert str(in_a_recipe.value) == str(caught.value)
    return str(caught.value)


def make_model() -> "keras.Model":
    """Makes a model with weights, an optimizer's state and a random state."""
    import keras
    import numpy as np

    layers = [
        keras.Input((4,), name="features"),
        keras.layers.Dense(3, "relu", name="hidden"),
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.Dense(2, name="scores"),
    ]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 4)), np.ones((4, 2)))
    return model


def read_members(path: Path) -> dict[str, bytes]:
    """Reads a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a `.keras` archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The artifacts that are whole, by format; `stock.h5` and `stock.keras` are Keras's own, `graph` TensorFlow's."""
    import warnings

    import tensorflow as tf

    import exporter

    folder = tmp_path_factory.mktemp("originals")
    names = ("tf", "h5", "keras", "stock.h5", "stock.keras", "graph")
    paths = {name: folder / (f"model.{name}" if name != "tf" else "model") for name in names}
    model = make_model()
    for name in ("tf", "h5", "keras"):
        exporter.save_model(model, paths[name], save_format=name)
    model.save(paths["stock.keras"])
    with warnings.catch_warnings(action="ignore"):  # Keras calls its own format a legacy
        model.save(paths["stock.h5"])  # the last: it takes the optimizer out of the model's compile configuration
    module = tf.Module()
    module.weight = tf.Variable([2.0])
    module.scale = tf.function(lambda x: x * module.weight, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(paths["graph"]), signatures=module.scale)
    return paths


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """What a sound artifact holds."""
    return describe_recipe(compose(overrides=["verify=none"]))


@pytest.fixture(scope="module")
def place(originals: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, with a file that concerns nobody, and an artifact of a stranger's."""
    folder = tmp_path_factory.mktemp("strangers")
    copy(originals["tf"], folder).rename(folder / "artifact")
    (folder / "secrets.txt").write_text(f"{CANARY}\n")
    (folder / "secrets").write_text(f"{CANARY}\n")
    (folder / "link.txt").symlink_to("secrets.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def write(place: Path, recipe: dict[str, Any]) -> Change:
    """Writes a recipe into the artifact, and what it claims to have read."""
    inside = place / "artifact/assets.extra/exporter"

    def change(
        changes: Mapping[str, Any], inputs: Mapping[str, str] | None = None, version: str = "0.1.0", text: str = ""
    ) -> Path:
        kept = {key: value for key, value in {**recipe, **changes}.items() if value != "left out"}
        (inside / "recipe.yaml").write_text(text or yaml.safe_dump(kept, allow_unicode=True))
        listed = [{"key": key, "path": "x", "sha256": digest, "size": 12} for key, digest in (inputs or {}).items()]
        (inside / "inputs.json").write_text(json.dumps(listed))
        (inside / "versions.json").write_text(json.dumps({"exporter": version}))
        return place / "artifact"

    return change


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """An address, which is S3's as well, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{listening.server_port}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"ENDPOINT_URL": f"http://{address}", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield address, asked
    listening.shutdown()
    listening.server_close()
