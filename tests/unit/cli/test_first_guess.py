"""What is typed first: a file, a recipe, a function, and the mistakes that are answered with what to type."""

import os
import pickle
import shlex
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import exporter
from exporter.cli import main
from exporter.cli.command_line import CommandLine, read_command_line
from exporter.cli.commands import COMMANDS
from exporter.cli.composing import own_hydra
from exporter.cli.main import Job, prepare_process
from exporter.cli.preflight.overrides import quote
from exporter.cli.shorthands import expand
from exporter.config import JobConfig
from exporter.errors import UsageError

MODELS = {
    "model.keras": "plain",
    "runs/lr=0.1 (best)/mo'd\"el ü.keras": "spaces, quotes and =",
    "${oc.env:HOME}.keras": "what looks like an interpolation",
    "./seed=3": "what looks like an override",
}


def write_archive(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with models, recipes and modules; nothing in it is ever changed."""
    place = tmp_path_factory.mktemp("first-guess")
    for name in (*MODELS, "exports/done.keras"):
        write_archive(place / name)
    os.mkfifo(place / "pipe")
    os.mkfifo(place / "exports" / "a.pipe")
    (place / "notes.txt").write_text("nothing")
    (place / "my_models.py").write_text(
        "import os\n\nmodel = 1\n\ndef build(x=1, more=None): ...\n\nif __name__ == '__main__': ..."
    )
    (place / "json.py").write_text("def build(): ...")
    package = place / "code" / "zoo" / "small"
    package.mkdir(parents=True)
    for directory in (package, package.parent):
        (directory / "__init__.py").touch()
    (package / "nets.py").write_text("def build(width=1): ...")
    recipes = place / "recipes of mine"
    recipes.mkdir()
    (recipes / "beside.py").write_text("def build(width=1, depth=1): ...")
    (recipes / "mine.yaml").write_text(
        "defaults: [config, override model: null, _self_]\nmodel: {_target_: beside.build}\n"
    )
    (recipes / "plain.yaml").write_text("model: {_target_: beside.build, width: 3}\nfilepath: out/plain\n")
    (recipes / "digits.yaml").write_text("defaults: [config, _self_]\n")
    (recipes / "old.yml").write_text("seed: 1\n")
    return place


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])  # as the command line does
    yield
    sys.modules.pop("beside", None)


def read(*words: str) -> CommandLine:
    with own_hydra():
        return read_command_line(words, COMMANDS)


def compose(*words: str) -> JobConfig:
    """Gives what Hydra is told, composed."""
    asked = [word for word in read(*words).words if not word.startswith("--config-")]
    directory = next((word.partition("=")[2] for word in read(*words).words if word.startswith("--config-dir=")), None)
    name = next((word.partition("=")[2] for word in read(*words).words if word.startswith("--config-name=")), "config")
    return exporter.compose(name, asked, config_dir=directory)


def find_faults(*words: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        read(*words)
    return [f"{fault.path}: {fault.message}" for fault in raised.value.faults]


@pytest.mark.parametrize("word", MODELS, ids=MODELS.values())
def test_a_file_is_the_model(word: str) -> None:
    config = compose(word, "-o", f"new/{Path(word).stem}.h5")
    assert config.model["_target_"] == "exporter.sources.file"
    assert config.model["filepath"] == word
    assert (config.filepath, config.save_format) == (f"new/{Path(word).stem}.h5", "h5")


def test_a_url_is_the_model() -> None:
    assert compose("s3://bucket/old.keras").model["filepath"] == "s3://bucket/old.keras"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_every_path_is_kept_as_it_is(path: str) -> None:
    [override] = expand([], [path]).overrides
    with own_hydra():
        from hydra.core.override_parser.overrides_parser import OverridesParser

        value = OverridesParser.create().parse_override(override).value()
    text = getattr(value, "text", value)
    assert OmegaConf.create({"filepath": text}).filepath == path


@pytest.mark.parametrize(
    ("words", "filepath"),
    [
        pytest.param(["model.keras"], "exports/model", id="by its name"),
        pytest.param(["model.keras", "save_format=h5"], "exports/model.h5", id="by the format"),
        pytest.param(["exports/done.keras"], "exports/done", id="beside the source"),
        pytest.param(["exports/done.keras", "save_format=keras"], "exports/done-export.keras", id="not the source"),
        pytest.param(["exports/done.keras", "-o", "exports/done.keras"], "exports/done.keras", id="as it was said"),
    ],
)
def test_without_a_path_it_is_never_the_source(words: list[str], filepath: str) -> None:
    assert compose(*words).filepath == filepath


def test_a_sweep_takes_a_file_too() -> None:
    plan = read("-m", "model.keras", "save_format=h5,keras").plan
    assert plan is not None
    assert [Path(cell.filepath).name for cell in plan.cells] == ["model.h5", "model.keras"]


def test_a_job_of_a_sweep_is_run_alone_with_its_module(place: Path) -> None:
    words = ["code/zoo/small/nets.py:build", "model.width=2,3", "filepath=exports/${model.width}", "measure=never"]
    plan = read("-m", *words).plan
    assert plan is not None
    assert plan.job_command == ("--config-dir", str(place / "code"))
    assert plan.cells[1].overrides[2] == "++model.width=3"
    asked = read(*plan.job_command, *plan.cells[1].overrides)
    assert asked.directories == (str(place / "code"),)


@pytest.mark.parametrize(
    ("overrides", "save_format"),
    [
        pytest.param([], "tf", id="no path"),
        pytest.param(["filepath=a.keras"], "keras", id="suffix"),
        pytest.param(["filepath=a.HDF5"], "h5", id="in capitals"),
        pytest.param(["filepath=a"], "tf", id="no suffix"),
        pytest.param(["filepath=${save_format}/a.tflite"], "litert", id="with an interpolation"),
        pytest.param(["filepath=a", "save_format=h5"], "h5", id="said"),
        pytest.param(["filepath=a.h5", "save_format=null"], None, id="left to the writer"),
    ],
)
def test_the_suffix_chooses_the_format(overrides: list[str], save_format: str | None) -> None:
    assert exporter.compose("config", overrides).save_format == save_format


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        pytest.param("config", ["filepath=a.h5", "save_format=tf"], id="said on the command line"),
        pytest.param("resumable", ["filepath=a.h5"], id="said in the recipe"),
    ],
)
def test_the_suffix_never_changes_what_was_said(recipe: str, overrides: list[str]) -> None:
    with pytest.raises(UsageError, match=r"received a\.h5, which contradicts save_format="):
        exporter.compose(recipe, overrides)


def test_a_recipe_is_run_by_its_path(place: Path) -> None:
    asked = read("recipes of mine/mine.yaml", "seed=5")
    assert asked.words == ["--config-name=mine", "--config-dir=recipes of mine", "seed=5"]
    assert asked.directories == (str(place / "recipes of mine"),)
    assert sys.path[-1] == str(place / "recipes of mine")  # behind all others


def test_a_module_beside_the_recipe_is_found_with_config_dir_too() -> None:
    assert compose("--config-dir", "recipes of mine", "-cn", "mine").model["_target_"] == "beside.build"


def test_a_recipe_without_defaults_takes_overrides() -> None:
    config = compose("recipes of mine/plain.yaml", "save_format=h5", "verify=none", "verify.data=null", "model.depth=2")
    assert config.model == {"_target_": "beside.build", "width": 3, "depth": 2}
    assert (config.save_format, config.verify.mode, config.filepath) == ("h5", "none", "out/plain")


@pytest.mark.parametrize(
    ("word", "target", "directory"),
    [
        pytest.param("my_models.py:build", "my_models.build", ".", id="file"),
        pytest.param("my_models.py:model", "my_models.model", ".", id="a model"),
        pytest.param("code/zoo/small/nets.py:build", "zoo.small.nets.build", "code", id="file in a package"),
        pytest.param("my_models:build", "my_models.build", None, id="module"),
        pytest.param("exporter.sources:digits", "exporter.sources.digits", None, id="module in a package"),
    ],
)
def test_a_function_is_named_as_python_users_do(word: str, target: str, directory: str | None, place: Path) -> None:
    asked = read(word)
    assert asked.words == ["model=custom", f'model._target_="{target}"']
    assert asked.directories == (() if directory is None else (str((place / directory).resolve()),))


def test_an_argument_of_a_function_needs_no_plus() -> None:
    assert compose("my_models.py:build", "model.x=3", "model.more.y=4").model == {
        "_target_": "my_models.build",
        "x": 3,
        "more": {"y": 4},
    }
    [fault] = find_faults("model.epoch=3")  # of a source of ours, whose arguments are known
    assert fault == "model.epoch: unknown key; allowed: epochs, batch_size; did you mean epochs?"


FAULTS = {
    "mistyped command": (["inspct", "x"], "inspct: there is no such command; did you mean exporter inspect x?"),
    "command at the end": (["model.keras", "inspect"], "inspect: a command stands first: exporter inspect model.keras"),
    "no model": (
        ["notes.txt"],
        "notes.txt: is no model: expected a .keras, .h5 or .hdf5 file, a SavedModel directory or a preset of KerasHub, "
        "a recipe as exporter NAME.yaml, or KEY=VALUE",
    ),
    "directory of models": (
        ["exports"],
        "exports: is no model, and holds some: exporter exports/done.keras",
    ),
    "mistyped recipe": (["digts"], "digts: expected KEY=VALUE; did you mean -cn digits?"),
    "mistyped option": (["trainin"], "trainin: expected KEY=VALUE; did you mean signatures=training?"),
    "mistyped file": (["model.kers"], "model.kers: there is no such file; did you mean exporter model.keras?"),
    "no file": (["nowhere/model"], "nowhere/model: there is no such file"),
    "two models": (
        ["model.keras", "exports/done.keras"],
        "exports/done.keras: an export has one model, and model.keras is given as well: export it by itself",
    ),
    "file as an option": (
        ["model=model.keras"],
        "model: received model.keras; allowed: application, architecture, custom, digits, file; "
        "did you mean exporter model.keras?",
    ),
    "key as a flag": (["--save_format", "h5"], "--save_format: keys are written without dashes: save_format=h5"),
    "with =": (["--save-format=h5"], "--save-format: keys are written without dashes: save_format=h5"),
    "by another name": (["--format=h5"], "--format: keys are written without dashes: save_format=h5"),
    "a switch": (["--overwrite", "model.keras"], "--overwrite: keys are written without dashes: overwrite=true"),
    "key of a group": (
        ["--batch-sizes", "[1]"],
        "--batch-sizes: keys are written without dashes: 'verify.batch_sizes=[1]'",
    ),
    "argument of a source": (["--epochs=3"], "--epochs: keys are written without dashes: model.epochs=3"),
    "path as a flag": (["--output", "a b"], "--output: keys are written without dashes: -o 'a b'"),
    "one dash": (["-output", "x"], "-output: keys are written without dashes: -o x"),
    "one of several flags": (
        ["--config", "mine.yaml"],
        "--config: which flag is it: --config-path, --config-name, --config-dir?",
    ),
    "pipe": (["pipe"], "pipe: is neither a file nor a directory"),
    "nothing": ([""], '"": expected KEY=VALUE'),
    "another source": (
        ["model.keras", "model=digits"],
        "model=digits: an export has one model, and model.keras is given as well",
    ),
    "another file": (
        ["model.keras", "model.filepath=b"],
        "model.filepath=b: an export has one model, and model.keras is given as well",
    ),
    "path twice": (
        ["-o", "a", "filepath=b"],
        "-o: stands for filepath=, which is given as well: leave one of them out",
    ),
    "two paths": (["-o", "a", "-o", "b"], "-o: received a and b; an export has one path"),
    "module alone": (
        ["my_models.py"],
        "my_models.py: is a module: name what makes the model in it: exporter my_models.py:build",
    ),
    "mistyped function": (
        ["my_models.py:biuld"],
        "my_models.py:biuld: there is no biuld in my_models.py; it defines build, model, os; did you mean build?",
    ),
    "no recipe": (
        ["recipes of mine/mien.yaml"],
        "recipes of mine/mien.yaml: there is no such file; did you mean mine.yaml?",
    ),
    "recipe that comes along": (["reexport.yaml"], "reexport.yaml: there is no such file; did you mean -cn reexport?"),
    "other suffix": (
        ["recipes of mine/old.yml"],
        "recipes of mine/old.yml: the name of a recipe ends with .yaml: "
        "mv 'recipes of mine/old.yml' 'recipes of mine/old.yaml'",
    ),
    "two recipes": (
        ["-cn", "digits", "recipes of mine/mine.yaml"],
        "recipes of mine/mine.yaml: a run has one recipe, and digits is given as well",
    ),
}


@pytest.mark.parametrize(("words", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_a_mistake_is_answered_with_what_to_type(words: list[str], fault: str) -> None:
    assert find_faults(*words) == [fault]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        pytest.param("format=h5", "save_format=h5", id="another name"),
        pytest.param("output=x", "filepath=x", id="another name for the path"),
        pytest.param("model_file=model.keras", "model=file model.filepath=model.keras", id="two words"),
        pytest.param("model_file=a (1).keras", """model=file 'model.filepath="a (1).keras"'""", id="quotes"),
        pytest.param("verify_mode=none", "verify.mode=none", id="underscore for the dot"),
        pytest.param("extra_tags=[gpu]", "'options.extra_tags=[gpu]'", id="without its group"),
        pytest.param("save_fromat=h5", "save_format=h5", id="mistyped"),
        pytest.param("verify.batchsizes=[1]", "'verify.batch_sizes=[1]'", id="mistyped in a group"),
    ],
)
def test_the_key_that_was_meant_is_named_with_its_value(word: str, line: str) -> None:
    word = word if "(" not in word else f"model_file={quote(word.partition('=')[2])}"
    [fault] = find_faults(word)
    assert fault.endswith(f"; did you mean {line}?")
    if "file" not in word:  # the model's would have to be there
        read(*shlex.split(line))


def test_what_is_installed_is_not_shadowed(place: Path) -> None:
    [fault] = find_faults("json.py:build")
    assert fault.endswith("has that name and would be imported in its place; rename yours, such as my_json")
    (place / "config.yaml").write_text("defaults: [config, _self_]\n")
    [fault] = find_faults("config.yaml")
    assert fault.endswith("has that name and would run in its place; rename yours, such as my_config.yaml")


@pytest.mark.parametrize("word", ["./digits.yaml", "digits.yaml"])
def test_a_recipe_of_ones_own_may_have_the_name_of_one_that_comes_along(word: str, place: Path) -> None:
    (place / "digits.yaml").write_text("defaults: [config, _self_]\nseed: 7\n")
    assert compose(word).seed == compose("-cd", ".", "-cn", "digits").seed == 7
    assert exporter.compose("digits", config_dir=place).seed == 7
    assert exporter.compose("digits").seed == 0


def test_the_workers_of_a_sweep_import_from_the_same_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(Job(("/modules/of mine",)))
    monkeypatch.setattr(main, "open_own_hydra", lambda: None)  # which a worker keeps until it ends
    assert pickle.loads(pickled).directories == ("/modules/of mine",)
    prepare_process(os.getcwd(), ["/modules/of mine"])
    assert sys.path[-1] == "/modules/of mine"


def test_all_mistakes_are_found_at_once() -> None:
    assert find_faults("model.keras", "--output", "x.h5", "--save_format", "h5", "--nothing") == [
        "--output: keys are written without dashes: -o x.h5",
        "--save_format: keys are written without dashes: save_format=h5",
        *find_faults("--nothing"),
    ]
