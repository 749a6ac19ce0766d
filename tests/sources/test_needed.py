"""What code a file needs is said before TensorFlow starts, where the file tells it."""

import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest
from saving.legacy.support import CASES, CODE, Case

import exporter
from exporter.errors import UsageError
from exporter.sources._needed import explain_missing_code

FILE = Path(__file__).parents[1] / "saving" / "legacy" / "files" / "tf-2.15" / "custom_reg" / "keras.keras"
OWN = """
import keras


@keras.saving.register_keras_serializable("My")
class Scale(keras.layers.Layer):
    def __init__(self, units=4, **arguments):
        super().__init__(**arguments)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.w

    def get_config(self):
        return {**super().get_config(), "units": self.units}
"""


def write_archive(place: Path, module: str | None, registered: str) -> Path:
    """Writes a model whose one layer is of a class that the file names so."""
    path = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(place / "first.keras")
    path = place / "model.keras"
    with zipfile.ZipFile(place / "first.keras") as first, zipfile.ZipFile(path, "w") as again:
        for name in first.namelist():
            content = first.read(name)
            if name == "config.json":
                config = json.loads(content)
                layer = next(each for each in config["config"]["layers"] if each["class_name"] == "Dense")
                layer |= {"module": module, "class_name": "Net", "registered_name": registered}
                content = json.dumps(config).encode()
            again.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("module", "registered", "given", "is_missing"),
    [
        pytest.param(None, "Mine>Net", None, True, id="registered"),
        pytest.param(None, "Mine>Net", {"Mine>Net": "a.Net"}, False, id="given by its whole name"),
        pytest.param(None, "Mine>Net", {"Net": "a.Net"}, False, id="given by its name"),
        pytest.param(None, "Mine>Net", ["a.b.Net"], False, id="given in a list"),
        pytest.param(None, "Mine>Net", ["a.b.Other"], True, id="another given"),
        pytest.param("nowhere.at_all", "Absent", None, True, id="no such package"),
        pytest.param("json.decoder", "Net", None, False, id="package that is there"),
        pytest.param("keras.layers", "Dense", None, False, id="keras's own"),
    ],
)
def test_only_what_nothing_gives_is_missing(
    module: str | None, registered: str, given: dict[str, str] | list[str] | None, is_missing: bool, tmp_path: Path
) -> None:
    assert (explain_missing_code(write_archive(tmp_path, module, registered), given) is not None) is is_missing


def test_what_this_process_has_registered_is_there(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("ThisProcess")
    class Net(keras.layers.Layer):
        pass

    assert explain_missing_code(write_archive(tmp_path, None, "ThisProcess>Net"), None) is None


def test_a_saved_model_has_functions_in_the_place_of_its_code(tmp_path: Path) -> None:
    exporter.save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"registered_name": null', '"registered_name": "Mine>Net"'))
    assert explain_missing_code(tmp_path / "model", None) is None


def test_the_remedy_works(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(OWN)
    with pytest.raises(UsageError) as caught:
        exporter.compose(overrides=["model=file", f"model.filepath={FILE}"])
    [fault] = caught.value.faults
    assert (fault.path, fault.message) == (
        "model.custom_objects",
        f"{FILE} needs code that is not in it: the class 'My>Scale'. Name where it is: "
        "model.custom_objects.Scale=my_package.Scale, in Python custom_objects={'My>Scale': Scale}",
    )
    typed = fault.message.partition("Name where it is: ")[2].partition(", in Python")[0]
    command = f"{sys.executable} -m exporter {shlex.quote(str(FILE))} {typed} -o again.keras"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    assert "again.keras is the same model, proven" in done.stdout


def test_a_list_is_answered_with_what_to_type() -> None:
    given = ["model=file", f"model.filepath={FILE}"]
    with pytest.raises(UsageError) as caught:
        exporter.compose(overrides=[*given, "model.custom_objects=[layers.Scale,layers.Other]"])
    message = next(each.message for each in caught.value.faults if "list" in each.message)
    lead, _, typed = message.partition("expected a name for each: ")
    assert lead == "received a list; "
    config = exporter.compose(overrides=[*given, *shlex.split(typed)])
    assert config.model["custom_objects"] == {"Scale": "layers.Scale", "Other": "layers.Other"}


def test_functions_are_told_too_and_all_at_once(tmp_path: Path) -> None:
    path = FILE.parents[2] / "keras-3.0.5" / "customloss" / "h5.h5"
    assert explain_missing_code(path, None) == (
        f"{path} needs code that is not in it: the function 'my_loss'. Name where it is: "
        "model.custom_objects.my_loss=my_package.my_loss, in Python custom_objects={'my_loss': my_loss}"
    )
    assert explain_missing_code(path, ["own.my_loss"]) is None
    assert explain_missing_code(path, None, compile=False) is None


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_nothing_is_missing_of_what_older_versions_had(case: Case) -> None:
    assert explain_missing_code(case.path, list(CODE.get(case.kind, {}))) is None
