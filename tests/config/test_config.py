"""The tree of `conf/`, the schema, and how the two become an `ExportConfig`."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter import sources
from exporter.cli import composing
from exporter.config import JobConfig, OptionsConfig, SignatureConfig, TensorConfig, VerifyMode, read_keys
from exporter.errors import ArgumentError, ExportError, Fault, UsageError
from exporter.models.instantiating import instantiate

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(file.relative_to(CONF) for file in CONF.glob("*/*.yaml"))
# What an option must be given before it composes.
NEEDED = {
    "model/custom": ["model._target_=exporter.sources.digits"],
    "model/application": ["model.name=MobileNetV2"],
    "model/architecture": ["model.config=here.h5", "model.weights=here.h5"],
    "model/file": ["model.filepath=here.h5"],
}


@pytest.fixture(autouse=True)
def in_a_directory_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.h5").touch()


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_default() -> None:
    config = composing.compose()
    assert config.model == {"_target_": "exporter.sources.digits", "epochs": 6, "batch_size": 32}
    assert (config.filepath, config.save_format) == ("exports/digits", "tf")


@pytest.mark.parametrize("file", OPTIONS, ids=str)
def test_every_option_composes(file: Path) -> None:
    group, option = file.parent.name, file.stem
    config = composing.compose(overrides=[f"{group}={option}", *NEEDED.get(f"{group}/{option}", [])])
    written = read(CONF / file)
    if group == "model":
        assert written["_target_"] == ("???" if option == "custom" else f"exporter.sources.{option}")
        assert set(config.model) == set(written)
    elif group != "signatures":
        assert set(written) == {field.name for field in dataclasses.fields(getattr(config, group))}


@pytest.mark.parametrize("file", [file for file in OPTIONS if file.parent.name == "model"], ids=str)
def test_a_model_option_has_the_defaults_of_its_function(file: Path) -> None:
    import inspect

    written = read(CONF / file)
    if file.stem == "custom":
        assert written == {"_target_": "???"}  # the function is the user's
        return
    parameters = inspect.signature(getattr(sources, file.stem)).parameters
    for name, value in written.items():
        if name == "_target_":
            continue
        default = parameters[name].default
        if value == "???":
            assert default is inspect.Parameter.empty
        elif name == "custom_objects":
            assert (value, default) == ({}, None)  # an empty mapping, so that names can be added
        else:
            assert value == default


def test_schema_and_primary_config_have_the_same_keys() -> None:
    written = read(CONF / "config.yaml")
    groups = {
        name
        for entry in written["defaults"]
        if isinstance(entry, dict)
        for name in entry
        if not name.startswith("override")
    }
    assert groups == {file.parent.name for file in OPTIONS}
    values = set(written) - {"defaults", "hydra"}
    assert groups | values == set(read_keys(JobConfig))


def test_schema_and_primary_config_have_the_same_defaults() -> None:
    config = composing.compose()
    # What the schema has no default for, and the one value that the primary config chooses.
    assert config == JobConfig(model=config.model, filepath=config.filepath, save_format="tf")


def test_options_are_those_of_tensorflow() -> None:
    written = read(CONF / "options" / "default.yaml")
    assert set(written) == set(get_type_hints(OptionsConfig))
    assert len(written) == 11


@pytest.mark.parametrize(
    ("save_format", "filepath"),
    [
        pytest.param("tf", "exports/digits", id="tf"),
        pytest.param("h5", "exports/digits.h5", id="h5"),
        pytest.param("keras", "exports/digits.keras", id="keras"),
        pytest.param("null", "exports/digits", id="null"),
    ],
)
def test_the_default_path_has_the_suffix_of_the_format(save_format: str, filepath: str) -> None:
    assert composing.compose(overrides=[f"save_format={save_format}"]).filepath == filepath


@pytest.mark.parametrize(
    ("overrides", "filepath"),
    [
        pytest.param(["model=application", "model.name=MobileNetV2"], "exports/MobileNetV2", id="name"),
        pytest.param(["model=file", "model.filepath=./here.h5"], "exports/here", id="file"),
        pytest.param(
            ["model=architecture", "model.config=here.h5", "model.weights=here.h5"], "exports/here", id="config"
        ),
        pytest.param(["model={_target_: decimal.Decimal}", "~model.epochs"], "exports/Decimal", id="function"),
    ],
)
def test_the_default_path_has_the_name_of_the_model(overrides: list[str], filepath: str) -> None:
    assert composing.compose(overrides=overrides).filepath == filepath


def test_every_kind_of_value_arrives_as_plain_data() -> None:
    config = composing.compose(
        overrides=[
            "overwrite=no",
            "verify=reload",
            "verify.batch_sizes=[4,5]",
            "options.extra_tags=[gpu]",
            "+options.function_aliases.run=serve",
            "+signatures.serve.inputs.pixels.shape=[null,8,8,1]",
            "+signatures.serve.outputs=[probabilities]",
            "seed=${oc.env:EXPORTER_TEST_SEED,7}",
        ]
    )
    assert config.overwrite is False
    assert (config.verify.mode, config.verify.batch_sizes) == (VerifyMode.RELOAD, [4, 5])
    assert (config.options.extra_tags, config.options.function_aliases) == (["gpu"], {"run": "serve"})
    assert config.signatures == {
        "serve": SignatureConfig(inputs={"pixels": TensorConfig(shape=[None, 8, 8, 1])}, outputs=["probabilities"])
    }
    assert config.seed == 7
    assert type(config.signatures) is dict
    assert type(config.options.extra_tags) is list


def test_a_users_group_and_recipe_compose(tmp_path: Path) -> None:
    (tmp_path / "verify").mkdir()
    (tmp_path / "verify" / "twice.yaml").write_text("mode: full\nbatch_sizes: [2]\n")
    (tmp_path / "mine.yaml").write_text("defaults: [config, override verify: twice, _self_]\nseed: 3\n")
    config = composing.compose("mine", config_dir=tmp_path)
    assert (config.verify.batch_sizes, config.seed) == ([2], 3)


def test_compose_refuses_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {save_format: 'tf,h5'}}}\n"
    )
    with pytest.raises(UsageError) as caught:
        composing.compose("mine", config_dir=tmp_path)
    assert str(caught.value) == "mine: is a sweep of 2 jobs; add the override hydra.mode=RUN to compose one of them"
    assert composing.compose("mine", ["hydra.mode=RUN"], tmp_path).save_format == "tf"


def test_the_runs_directory_is_known_to_a_recipe() -> None:
    config = composing.compose(overrides=["filepath=${hydra:runtime.output_dir}/model"])
    directory, name = os.path.split(config.filepath)
    assert (name, Path(directory).relative_to(Path.cwd()).parts[:2]) == ("model", (".exporter", "runs"))


class TestInstantiate:
    def test_it_calls_the_function_with_plain_data(self) -> None:
        made = instantiate({"_target_": "builtins.dict", "shape": [1, {"a": 2}]}, extra=object)
        assert made == {"shape": [1, {"a": 2}], "extra": object}
        assert type(made["shape"]) is list

    def test_an_error_of_ours_arrives_as_it_was_raised(self) -> None:
        with pytest.raises(ArgumentError, match=r"^The digits cannot be trained with epochs=0\."):
            instantiate({"_target_": "exporter.sources.digits", "epochs": 0})

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            pytest.param(
                {"_target_": "decimal.Decimal", "value": "x"},
                "decimal.Decimal raised InvalidOperation: [<class 'decimal.ConversionSyntax'>]",
                id="error",
            ),
            pytest.param(
                {"_target_": "no_such_package.build"},
                "no_such_package.build could not be called: ImportError: Error loading 'no_such_package.build': "
                "ModuleNotFoundError(\"No module named 'no_such_package'\") "
                "Are you sure that module 'no_such_package' is installed?",
                id="unknown",
            ),
        ],
    )
    def test_other_errors_become_ours(self, mapping: dict[str, Any], message: str) -> None:
        with pytest.raises(ExportError) as caught:
            instantiate(mapping)
        assert str(caught.value) == message


def list_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for name, hint in read_keys(schema).items():
        keys.append(f"{prefix}{name}")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            keys.extend(list_keys(hint, f"{prefix}{name}."))
    return keys


KEYS = st.one_of(
    st.sampled_from([*list_keys(JobConfig), "model.epochs", "model._target_", "signatures.a.method", "hydra.mode"]),
    st.text(max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        ["tf", "null", "true", "[1,2]", "{a: 1}", "tf,h5", "range(1,3)", "${seed}", "${now:}", "file", "int(x)", "???"]
    ),
    st.integers().map(str),
    st.text(max_size=12),
)
OVERRIDES = st.builds("{}{}{}{}".format, st.sampled_from(["", "", "+", "++", "~"]), KEYS, st.sampled_from("=="), VALUES)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OVERRIDES, min_size=1, max_size=3))
@example([f"seed={'[' * 2000}"])
@example([f"seed={'9' * 5000}"])
@example(["filepath=\0"])
@example(["model=${model}"])
@example(["+model.again=${model}"])
@example(["hydra.searchpath=3"])
@example(["hydra.searchpath=[nowhere]"])
@example(["hydra.sweep.dir=null", "hydra.mode=MULTIRUN"])
@example(["signatures=null"])
@example(["hydra=null"])
@example(["verify.data=${verify.data}"])
@example(["++hydra.runtime=3"])
@example(["~hydra.run"])
@example(["hydra/sweeper=null"])
@example(["measure={a\n: 1}"])
@example([f"verify.data={'x' * 3000}"])
def test_any_override_composes_or_is_a_usage_error(overrides: list[str]) -> None:
    faults: Sequence[Fault] = ()
    try:
        assert isinstance(composing.compose(overrides=overrides), JobConfig)
    except UsageError as error:
        faults = error.faults
    for fault in faults:
        assert fault.message.isprintable()  # one line, and nothing that steers a terminal
        assert len(fault.message) < 1000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param(
            "model=[]", "received []; allowed: application, architecture, custom, digits, file", id="no-option"
        ),
        pytest.param(
            "verify={a: 1}",
            "verify.a: unknown key; allowed: mode, batch_sizes, data, tolerance, metric, max_accuracy_drop, "
            "min_agreement, environments",
            id="unknown-key-in-a-mapping",
        ),
        pytest.param(
            "options.function_aliases=[1]",
            "received [1]; expected a mapping, such as {name: ...}",
            id="list-for-mapping",
        ),
        pytest.param(
            "options.extra_tags={a: 1}", 'received {"a": 1}; expected a list, such as []', id="mapping-for-list"
        ),
        pytest.param("options.extra_tags=null", "received null; expected a list, such as []", id="null-for-list"),
        pytest.param('overwrite="a\0b"', "received a\\x00b; expected true or false", id="control-character"),
        pytest.param(
            f"filepath='{'é' * 128}'",
            f"received {'é' * 57}..., in which a name has 256 bytes; a file system takes up to 255",
            id="name-too-long",
        ),
        pytest.param(
            "verify.data=''",
            "There is no file '' (looked for '{here}'). Set `verify.data` to a path that exists.",
            id="empty-path",
        ),
        pytest.param(
            f"verify.data={'x' * 300}",
            f"{'x' * 57}... is no path: File name too long. Set `verify.data` to a path that exists.",
            id="path-too-long",
        ),
        pytest.param(
            "verify.data=7",
            "There is no file '7' (looked for '{here}/7'). Set `verify.data` to a path that exists.",
            id="number-as-a-path",
        ),
        pytest.param(
            "verify.batch_sizes=[1,2000000]",
            "received [1, 2000000]; expected at most 1,000,000 examples each",
            id="large-batch",
        ),
        pytest.param(
            f"measure.runs={10**40}",
            f"received {10**40}; expected an integer from 1 to 1,000,000",
            id="large-number",
        ),
        pytest.param(
            "hydra.launcher=joblib",
            "a group is chosen with a slash: hydra/launcher=joblib",
            id="group-with-a-dot",
        ),
        pytest.param(
            f"+signatures.a={{batch: {2**63}}}",
            f"received {2**63}; expected dynamic or a number from 1 to 2^63-1",
            id="batch-that-no-shape-holds",
        ),
        pytest.param(
            f"+signatures.a={{inputs: {{x: {{shape: [{2**63}]}}}}}}",
            f"received [{2**63}]; expected numbers from 0 to 2^63-1, or null",
            id="size-that-no-shape-holds",
        ),
    ],
)
def test_a_bad_value_is_explained(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        composing.compose(overrides=[override])
    [fault] = caught.value.faults
    assert fault.message == message.replace("{here}", str(tmp_path))


@pytest.mark.parametrize(
    ("filepath", "expected"),
    [
        pytest.param("${oc.env:EXPORTER_TEST_OUT}", ("exports/mine.keras", "keras"), id="the-whole-path"),
        pytest.param("${oc.env:EXPORTER_TEST_DIR}/digits.h5", ("exports/digits.h5", "h5"), id="a-part-of-it"),
        pytest.param("exports/digits${exporter.suffix:${save_format}}", ("exports/digits", "tf"), id="the-other-way"),
        pytest.param(
            "${oc.env:EXPORTER_TEST_DIR}/digits${exporter.suffix:${save_format}}", ("exports/digits", "tf"), id="both"
        ),
    ],
)
def test_a_suffix_chooses_the_format_also_where_the_path_comes_from_elsewhere(
    filepath: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPORTER_TEST_OUT", "exports/mine.keras")
    monkeypatch.setenv("EXPORTER_TEST_DIR", "exports")
    config = composing.compose(overrides=[f'filepath="{filepath}"'])
    assert (config.filepath, config.save_format) == expected
    assert "save_format" not in config.origin.written  # a later run shall not choose another one


def test_a_path_that_cannot_be_resolved_is_one_fault() -> None:
    with pytest.raises(UsageError) as raised:
        composing.compose(overrides=["filepath=${oc.env:EXPORTER_TEST_OUT}"])
    assert [fault.path for fault in raised.value.faults] == ["filepath"]
