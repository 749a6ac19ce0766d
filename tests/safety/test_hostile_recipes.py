"""Recipes inside artifacts that reach for files, addresses, the environment, or endless values of this machine."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_receipt import RECEIPT

from exporter import ArtifactError, UsageError, compose
from exporter.cli.commands import run_command
from exporter.cli.rerunning import plan_rerun
from exporter.exporting.provenance import describe_recipe, record_inputs
from exporter.models.instantiating import instantiate
from exporter.storage.digests import record_files
from exporter.storage.sidecars import name_receipt

from .conftest import CANARY, Change

pytestmark = pytest.mark.xdist_group("safety")

SHA256 = hashlib.sha256(f"{CANARY}\n".encode()).hexdigest()
Fill = Callable[[Any], dict[str, Any]]


def refuse(path: Path, **named: Any) -> dict[str, str]:
    """Returns the message for each path of what is refused."""
    with pytest.raises(UsageError) as caught:
        plan_rerun(path, **named)
    return {fault.path: fault.message for fault in caught.value.faults}


def sequential(*layers: Any) -> dict[str, Any]:
    return {"model": {"_target_": "keras.Sequential", "layers": list(layers)}}


def layer(kind: str, /, **arguments: Any) -> dict[str, Any]:
    return sequential({"_target_": f"keras.layers.{kind}", **arguments})


def step(**arguments: Any) -> dict[str, Any]:
    return {"signatures": {"serving_default": {"postprocess": arguments}}}


_LOOKUP = {"class_name": "StringLookup", "module": "keras.layers"}
_STEP = "signatures.serving_default.postprocess"

# Where a file may be named: what writes it there, and its dotted path.
PLACES: dict[str, tuple[Fill, str]] = {
    "StringLookup": (lambda file: layer("StringLookup", vocabulary=file), "model.layers[0].vocabulary"),
    "IntegerLookup": (lambda file: layer("IntegerLookup", vocabulary=file), "model.layers[0].vocabulary"),
    "TextVectorization": (lambda file: layer("TextVectorization", vocabulary=file), "model.layers[0].vocabulary"),
    "a layer around it": (
        lambda file: layer("TimeDistributed", layer={"_target_": "keras.layers.StringLookup", "vocabulary": file}),
        "model.layers[0].layer.vocabulary",
    ),
    "a configuration of Keras's": (
        lambda file: layer("Dense", units=1, activation={**_LOOKUP, "config": {"vocabulary": file}}),
        "model.layers[0].activation.config.vocabulary",
    ),
    "a network's weights": (
        lambda file: {"model": {"_target_": "keras.applications.MobileNet", "weights": file}},
        "model.weights",
    ),
    "an initial value": (
        lambda file: layer(
            "Dense", units=1, kernel_initializer={"_target_": "keras.initializers.Constant", "value": file}
        ),
        "model.layers[0].kernel_initializer.value",
    ),
    "an unknown argument": (lambda file: layer("Dense", units=1, anything=file), "model.layers[0].anything"),
    "a list": (lambda file: layer("StringLookup", vocabulary=[file]), "model.layers[0].vocabulary[0]"),
    "a loss": (
        lambda file: {
            "model": {
                "_target_": "exporter.sources.application",
                "name": "MobileNet",
                "compile": {"loss": {**_LOOKUP, "config": {"vocabulary": file}}},
            }
        },
        "model.compile.loss.config.vocabulary",
    ),
    "a trusted function": (lambda file: {"model": {"_target_": "mine.build", "data": file}}, "model.data"),
    "deep in a trusted function": (
        lambda file: {"model": {"_target_": "mine.build", "data": {"files": [{"name": file}]}}},
        "model.data.files[0].name",
    ),
    "a trusted step": (lambda file: step(_target_="mine.step", words=[file]), f"{_STEP}.words[0]"),
    "by way of another value": (
        lambda file: {"model": {**layer("StringLookup", vocabulary="${model.name}")["model"], "name": file}},
        "model.layers[0].vocabulary",
    ),
}
OURS: dict[str, tuple[Fill, str]] = {
    "our source": (lambda file: {"model": {"_target_": "exporter.sources.file", "filepath": file}}, "model.filepath"),
    "our network": (
        lambda file: {"model": {"_target_": "exporter.sources.application", "name": "MobileNet", "weights": file}},
        "model.weights",
    ),
    "our labels": (lambda file: step(_target_="exporter.transforms.top_k", k=1, labels=file), f"{_STEP}.labels"),
    "the data of the proof": (
        lambda file: {"verify": {"mode": "full", "batch_sizes": [1], "data": file}},
        "verify.data",
    ),
}
SPELLINGS = {
    "a bare name": "secrets.txt",
    "a word": "secrets",
    "a relative path": "./secrets.txt",
    "an absolute path": "{place}/secrets.txt",
    "the home": "~/secrets.txt",
    "a link": "link.txt",
    "a scheme": "file:secrets.txt",
    "a URL": "file://{place}/secrets.txt",
    "an end for C": "secrets.txt\0.h5",
    "a file that comes later": "{place}/later.txt",
    "a device": "/dev/zero",
}
TRUSTED: dict[str, Any] = {"trusted": ["mine"]}


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "mine.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(place)


class TestFiles:
    @pytest.mark.parametrize(("name", "spelling"), [
        *(("StringLookup", spelling) for spelling in SPELLINGS), *((name, "a bare name") for name in [*PLACES][1:]),
    ])  # fmt: skip
    def test_none_is_read_that_the_artifact_does_not_know(
        self, name: str, spelling: str, place: Path, write: Change
    ) -> None:
        fill, key = PLACES[name]
        file = SPELLINGS[spelling].format(place=place)
        message = refuse(write(fill(file)), **TRUSTED)[key]
        assert "; to let it: --input " in message
        assert "would be contacted" in message if "://" in file else "would be read" in message

    @pytest.mark.parametrize("name", [*PLACES, *OURS])
    def test_one_that_is_named_or_known_is_read(self, name: str, write: Change) -> None:
        fill, key = {**PLACES, **OURS}[name]
        changes = fill("secrets.txt")
        refused = refuse(write(changes), **TRUSTED)
        assert refused[key].endswith("would be read; to let it: --input secrets.txt")
        assert plan_rerun(write(changes), **TRUSTED, inputs=["./secrets.txt"])
        assert plan_rerun(write(changes, dict.fromkeys(refused, SHA256)), **TRUSTED)

    @pytest.mark.parametrize("file", ["secrets.txt", "link.txt"])
    def test_a_digest_that_does_not_fit_vouches_for_nothing(self, file: str, write: Change) -> None:
        # Of a link, where it points to is easily guessed.
        by_link = hashlib.sha256(b"secrets.txt  link.txt\n").hexdigest()
        key = "model.layers[0].vocabulary"
        path = write(layer("StringLookup", vocabulary=file), {key: by_link})
        assert refuse(path)[key] == (
            f"{file} has the sha256 {SHA256}, and the artifact was made from one with {by_link}; set {key} to that "
            "file, or take the one that is there with --allow-drift"
        )
        lines: list[str] = []
        assert plan_rerun(path, allow_drift=True, report=lines.append)
        changed = [f"{key}: {file} has changed: sha256 {by_link} -> {SHA256}"]
        assert lines == changed
        lines.clear()
        assert plan_rerun(path, inputs=[file], report=lines.append)
        assert lines == changed

    @pytest.mark.parametrize(
        "file",
        ["secrets.txt", "secrets--allow-drift", "http://127.0.0.1:9/--allow-drift"],
        ids=["file", "file called like the flag", "URL called like the flag"],
    )
    def test_drift_names_no_file_that_the_artifact_does_not_know(self, file: str, write: Change, place: Path) -> None:
        if file == "secrets--allow-drift":
            (place / file).write_text(CANARY)
        assert refuse(write(layer("StringLookup", vocabulary=file)), allow_drift=True)

    def test_words_of_keras_are_none(self, place: Path, write: Change) -> None:
        (place / "relu").write_text("")
        (place / "hidden").mkdir()
        assert plan_rerun(write(layer("Dense", units=1, activation="relu", name="hidden")))

    def test_a_typed_value_is_named_by_its_user(self, write: Change) -> None:
        changes = {"model": {"_target_": "exporter.sources.file", "filepath": "mine.py"}}
        assert plan_rerun(write(changes), ["model.filepath=secrets.txt"]).model["filepath"] == "secrets.txt"
        assert plan_rerun(write(changes), ["model=digits"])
        path = write(PLACES["a trusted function"][0]("secrets.txt"))
        merged = refuse(path, overrides=["model={_target_:mine.build}"], **TRUSTED)
        assert list(merged) == ["model.data"]

    def test_what_an_export_reads_is_known_wherever_it_is_named(self, place: Path) -> None:
        config = compose(overrides=["model=custom", "model._target_=json.loads", "+model.a={b:[{c:secrets.txt}]}"])
        assert [(each.key, each.sha256) for each in record_inputs(config)] == [("model.a.b[0].c", SHA256)]

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_whatever_names_a_file_is_refused(self, data: st.DataObject, place: Path, write: Change) -> None:
        spelling = st.sampled_from([text.format(place=place) for text in SPELLINGS.values()])
        text = st.one_of(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), spelling)
        names = st.sampled_from(["units", "vocabulary", "weights", "layer", "config", "function", "value"])
        value = data.draw(
            st.recursive(
                text,
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
                max_leaves=8,
            )
        )
        texts = [each.replace("${", "") for each in _list_texts(value)]
        model = json.loads(json.dumps(layer("Dense", anything=value)).replace("${", ""))
        reaching = [each for each in texts if "/" in each or "\0" in each or each[:1] == "~" or os.path.lexists(each)
                    or each.startswith("file:") or "://" in each]  # fmt: skip
        path = write(model)
        if reaching:
            assert len(refuse(path)) == len(reaching)
        else:
            plan_rerun(path)


def _list_texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for entry in (value.values() if isinstance(value, dict) else value) for text in _list_texts(entry)]


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        ["s3://bucket/{}", "http://{}/x", "https://{}/x", "zip::http://{}/x.zip", "simplecache::s3://bucket/x",
         "filecache::http://{}/x", "zip://x::http://{}/x.zip", "S3://bucket/x", "gs://bucket/x"],
    )  # fmt: skip
    @pytest.mark.parametrize("name", ["StringLookup", "our source"])
    def test_none_is_contacted(self, name: str, url: str, server: tuple[str, list[str]], write: Change) -> None:
        fill, key = {**PLACES, **OURS}[name]
        assert key in refuse(write(fill(url.format(server[0]))), **TRUSTED)
        assert server[1] == []

    def test_one_that_is_named_is(self, server: tuple[str, list[str]]) -> None:
        config = compose(overrides=["model=file", "model.filepath=s3://bucket/x"])
        with pytest.raises(Exception, match="s3://bucket"):
            record_inputs(config)
        assert server[1]

    @pytest.mark.parametrize("name", ["our source", "StringLookup"])
    def test_naming_it_lets_it_pass(self, name: str, write: Change) -> None:
        fill, _ = {**PLACES, **OURS}[name]
        assert plan_rerun(write(fill("s3://bucket/x")), inputs=["s3://bucket/x"])

    @pytest.mark.parametrize(
        "model",
        [{"_target_": "keras.applications.MobileNet"},
         {"_target_": "keras.applications.vgg16.VGG16", "weights": "imagenet"},
         {"_target_": "exporter.sources.application", "name": "MobileNet", "weights": "imagenet"}],
        ids=["by default", "in a module", "by our source"],
    )  # fmt: skip
    def test_keras_downloads_nothing(self, model: dict[str, Any], write: Change) -> None:
        path = write({"model": model})
        assert refuse(path) == {"model.weights": "Keras would download its weights; to let it: --input imagenet"}
        assert plan_rerun(path, inputs=["imagenet"])
        assert plan_rerun(write({"model": {**model, "weights": None}}))

    @pytest.mark.parametrize("url", ["zip::http://{}/x.zip", "simplecache::s3://b/x", "s3://b/x::file:///x"])
    @pytest.mark.parametrize("key", ["filepath", "model.filepath", "results_url"])
    def test_a_chain_that_is_typed_is_a_fault(self, key: str, url: str, server: tuple[str, list[str]]) -> None:
        url = url.format(server[0])
        model = [] if key == "model.filepath" else ["model.filepath=mine.py"]
        with pytest.raises(UsageError) as caught:
            compose(overrides=["model=file", *model, f"{key}='{url}'"])
        assert str(caught.value) == (
            f"{key}: received {url}, a chain of URLs; expected a single one, of s3, gs, az, file or memory"
        )
        assert server[1] == []


def _grow(name: str, piece: str, count: int = 10) -> dict[str, Any]:
    values = {f"{name}{number}": piece.replace("@", f"${{model.{name}{number - 1}}}") for number in range(1, count)}
    return {"model": {"_target_": "keras.Sequential", f"{name}0": "x", **values}}


class TestInterpolations:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            pytest.param(_grow("a", "@" * 10), "stand for more than 10,000 values", id="ten by nine"),
            pytest.param(_grow("a", "@@", 40), "stand for more than 10,000 values", id="two by forty"),
            pytest.param(
                {"model": {"_target_": "keras.Sequential", "a": "x" * 100_000, "b": "${model.a}" * 100}},
                "more than 262,144 characters",
                id="long text",
            ),
            pytest.param(
                {
                    "model": {
                        "_target_": "keras.Sequential",
                        "a0": {"x": 1},
                        **{f"a{n}": {"p": f"${{model.a{n - 1}}}", "q": f"${{model.a{n - 1}}}"} for n in range(1, 30)},
                    }
                },
                "stand for more than 10,000 values",
                id="mappings",
            ),
            pytest.param(
                {"model": {"_target_": "keras.Sequential", "a": list(range(2000)), "b": ["${model.a}"] * 2000}},
                "stand for more than 10,000 values",
                id="lists",
            ),
            pytest.param(_grow("a", "@", 900), "one through the other", id="a long way"),
            pytest.param(
                {"model": {"_target_": "keras.Sequential", "a": "${model.b}", "b": "${model.a}"}},
                "Recursive interpolation",
                id="a circle",
            ),
            pytest.param(
                {"model": {"_target_": "keras.Sequential", "a": {"b": "${model}"}}}, "parent node", id="what it is in"
            ),
            pytest.param(
                {"model": {"_target_": "keras.Sequential", "a": {"b": "${model.c}"}, "c": {"d": "${model.a}"}}},
                "refers to what it is in",
                id="each other",
            ),
        ],
    )
    def test_they_end(self, changes: dict[str, Any], words: str, write: Change) -> None:
        faults = refuse(write(changes))
        assert len(faults) <= 3
        assert any(words in message for message in faults.values()), faults

    def test_those_of_the_user_end_too(self) -> None:
        values = [f"+model.a{n}='{f'${{model.a{n - 1}}}' * 10}'" for n in range(1, 10)]
        with pytest.raises(UsageError, match="stand for more than 10,000 values"):
            compose(overrides=["model=custom", "model._target_=json.loads", "+model.a0=x", *values])

    @pytest.mark.parametrize(
        "text",
        ["${" * 400 + "a" + "}" * 400, "${a}" * 2_000, "${oc.decode:" + "[" * 500 + "]" * 500 + "}"],
        ids=["nested", "long", "brackets"],
    )
    def test_what_is_too_long_to_be_parsed(self, text: str, write: Change) -> None:
        with pytest.raises(ArtifactError, match="brackets inside each other; at most 4,096 and 20 are read"):
            plan_rerun(write(layer("Dense", units=text)))

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("${oc.create:{a: 1}}", "oc.create"), ("${oc.select:model}", "oc.select"),
            ("${oc.dict.keys:model}", "oc.dict.keys"), ("${oc.dict.values:model}", "oc.dict.values"),
            ("${oc.deprecated:model._target_}", "oc.deprecated"), ("${hydra:runtime.cwd}", "hydra"),
            ("${now:%Y}", "now"), ("${python_version:}", "python_version"),
            ("${exporter.process:}", "exporter.process"),
            ("${${model.w}:%Y}", "now"), ("${oc.decode:'${now:%Y}'}", "now"), ("${oc.decode:'\\${now:%Y}'}", "now"),
        ],
    )  # fmt: skip
    def test_only_what_computes_is_called(self, text: str, name: str, write: Change) -> None:
        changes = layer("Dense", units=text)
        message = refuse(write({"model": {**changes["model"], "w": "now"}}))["model.layers[0].units"]
        assert f"a recipe inside an artifact calls no {name}; allowed: exporter.name, exporter.suffix" in message

    @pytest.mark.parametrize("text", ["${hydra.runtime.cwd}", "${....hydra.job.name}", "${${model.w}.job.name}"])
    def test_nothing_but_the_recipe_is_seen(self, text: str, write: Change) -> None:
        changes = layer("Dense", units=text)
        assert "not found" in refuse(write({"model": {**changes["model"], "w": "hydra"}}))["model.layers[0].units"]

    @pytest.mark.parametrize(
        "text", ["${oc.env:SECRET}", "${oc.env:${model.w}}", "${oc.decode:${oc.env:SECRET}}",
                 "${oc.decode:'${oc.env:SECRET}'}", "${oc.env:SECRET,x}"]
    )  # fmt: skip
    def test_a_variable_is_read_when_it_is_allowed(
        self, text: str, write: Change, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", CANARY)
        path = write({"model": {**layer("Dense", units=text)["model"], "w": "SECRET"}})
        assert "to let it: --environment SECRET" in refuse(path)["model.layers[0].units"]
        assert plan_rerun(path, variables=["SECRET"]).model["layers"][0]["units"] == CANARY

    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet="\\${}:'\".ab", max_size=14))
    def test_text_stays_text(self, text: str) -> None:
        given_mapping = {"_target_": "builtins.dict", "a": text, "b": [{"c": text}], "d": [{"_target_": "builtins.dict",
                         "e": text}]}  # fmt: skip
        assert instantiate(given_mapping) == {"a": text, "b": [{"c": text}], "d": [{"e": text}]}

    @pytest.mark.parametrize("text", ["${oc.env:SECRET}", "\\${oc.env:SECRET}", "\\\\${oc.env:SECRET}", "a\\${b"])
    def test_what_is_stored_says_the_same(
        self, text: str, recipe: dict[str, Any], write: Change, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", CANARY)
        config = compose(overrides=["model=custom", "model._target_=json.loads"])
        config.model = {**layer("Dense", units=text)["model"]}
        path = write({"model": describe_recipe(config)["model"]})
        again = plan_rerun(path).model
        assert again["layers"][0]["units"] == text
        assert instantiate({**again["layers"][0], "_target_": "builtins.dict"})["units"] == text


class TestKeys:
    @pytest.mark.parametrize(
        ("path", "line"),
        [
            pytest.param("strict", "strict", id="at the top"),
            pytest.param("layout.warmup", "layout.warmup", id="in a group"),
            pytest.param("options.experimental_sharding_callback.max_shard_size",
                         "options.experimental_sharding_callback.max_shard_size", id="deep"),
            pytest.param("options", "options", id="a whole group"),
            pytest.param("overwrite", "overwrite", id="one that we choose"),
        ],
    )  # fmt: skip
    def test_those_that_it_does_not_say_take_their_defaults(
        self, path: str, line: str, recipe: dict[str, Any], write: Change
    ) -> None:
        changes = json.loads(json.dumps(recipe))
        *groups, name = path.split(".")
        group = changes
        for each in groups:
            group = group[each]
        del group[name]
        lines: list[str] = []
        config = plan_rerun(write({"overwrite": "left out", "strict": "left out", "options": "left out", **changes}),
                            report=lines.append)  # fmt: skip
        assert lines == [f"the recipe is of an older version and does not say {line}: taken as this version's default"]
        assert {**describe_recipe(config), "overwrite": True, "filepath": ""} == {**recipe, "filepath": ""}

    def test_each_key_may_be_missing(self, recipe: dict[str, Any], write: Change) -> None:
        whole = plan_rerun(write({}))
        for key in set(recipe) - {"model"}:
            config = plan_rerun(write({key: "left out"}))
            assert (config.filepath, config.overwrite, config.model) == ("artifact-rerun", False, whole.model)

    def test_those_of_a_newer_version_are_named_all_at_once(self, recipe: dict[str, Any], write: Change) -> None:
        changes = {"new": 1, "layout": {**recipe["layout"], "later": 2}, "model": {**recipe["model"], "speed": 3}}
        path = write(changes, version="7.1.0")
        with pytest.raises(ArtifactError) as caught:
            plan_rerun(path)
        assert str(caught.value) == (
            f"{path} was made by exporter 7.1.0, which is newer than this one, {metadata.version('keras-exporter')}, "
            "and its recipe has keys that this one does not know (unknown: new; unknown: layout.later; unknown: "
            "model.speed). Install that version: "
            "pip install 'keras-exporter>=7.1.0'"
        )
        path = write(changes, version="'; rm -rf ~; '")
        with pytest.raises(
            ArtifactError, match=r"no exporter up to this one.*it was changed by hand\. Export the model"
        ):
            plan_rerun(path)

    def test_no_model_is_a_fault(self, write: Change) -> None:
        path = write({"model": "left out"})
        with pytest.raises(ArtifactError, match=r"does not say where the model comes from\. Say it: model=OPTION"):
            plan_rerun(path)
        assert plan_rerun(path, ["model=digits"])


class TestCalls:
    @pytest.mark.parametrize(
        "target",
        ["keras.layers.Layer.from_config", "keras.layers.deserialize", "keras.layers.get",
         "keras.Sequential.load_weights",
         "keras.Model.from_config", "keras.models.load_model", "keras.models.Model", "keras.saving.load_model",
         "keras.utils.get_file", "keras.applications.vgg16.preprocess_input", "keras.applications.vgg16.VGG16.x",
         "keras.applications.imagenet_utils.CLASS_INDEX_PATH", "keras.layers.Nothing", "keras.layers.TFSMLayer",
         "keras.layers.Lambda", "keras.layers.TorchModuleWrapper", "keras.layers.JaxLayer", "keras.layers.FlaxLayer",
         "keras.src.layers.Dense", "keras.optimizers.schedules.X", "exporter.sources._stored.find_file",
         "exporter.sources.file.__globals__", "exporter.transforms.takes", "exporter.load_model",
         "tensorflow.io.read_file",
         "builtins.open", "hydra.utils.get_method", "mine.build"],
    )  # fmt: skip
    def test_only_classes_that_compute_are_named(self, target: str, write: Change) -> None:
        for changes in (sequential({"_target_": target}), {"model": {"_target_": target}}, step(_target_=target)):
            refuse(write(changes))

    @pytest.mark.parametrize(
        "config",
        [{"class_name": "Lambda"}, {"class_name": "Lambda", "module": "keras.layers"}, {"class_name": "__lambda__"},
         {"class_name": "function", "config": "load_model", "module": "keras.saving"},
         {"class_name": "function", "config": "deserialize", "module": "keras.layers"},
         {"class_name": "system", "module": "os"}, {"class_name": "TFSMLayer", "module": "keras.layers"},
         {"class_name": "Dense", "registered_name": "mine>Dense"}, {"class_name": ["Dense"]}],
        ids=str,
    )  # fmt: skip
    def test_configurations_of_keras_name_no_others(self, config: dict[str, Any], write: Change) -> None:
        faults = refuse(write(layer("Dense", units=1, activation={"config": {}, **config})))
        assert list(faults) == ["model.layers[0].activation.class_name"]

    def test_sound_ones_pass(self, write: Change) -> None:
        dense = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}, "registered_name": None}
        relu = {"class_name": "function", "module": "keras.activations", "config": "relu"}
        assert plan_rerun(write(layer("Wrapper", layer=dense, activation=relu, other={"class_name": "Adam"})))

    @pytest.mark.parametrize(
        ("name", "value"),
        [("_partial_", True), ("_args_", ["x"]), ("_recursive_", False), ("_convert_", "none")],
    )
    def test_how_a_function_is_called_is_not_its_choice(self, name: str, value: Any, write: Change) -> None:
        path = write({"model": {"_target_": "keras.Sequential", name: value}})
        assert refuse(path) == {f"model.{name}": f"it changes how a function is called; say it too: model.{name}=VALUE"}
        assert plan_rerun(path, [f"model.{name}={json.dumps(value)}"])

    @pytest.mark.parametrize("key", ["hydra", "defaults", "on_error", "results_url", "hooks", "origin"])
    def test_no_other_keys(self, key: str, write: Change) -> None:
        with pytest.raises(ArtifactError, match=f"unknown: {key}"):
            plan_rerun(write({key: {"launcher": {"_target_": "mine.build"}}}))

    def test_where_it_is_written_and_what_is_removed_there(self, write: Change, recipe: dict[str, Any]) -> None:
        layout = {**recipe["layout"], "kind": "tf_serving", "keep": 1}
        config = plan_rerun(write({"filepath": "/etc/x", "overwrite": True, "layout": layout}))
        assert (config.filepath, config.overwrite, config.layout.keep) == ("artifact-rerun", False, None)
        assert describe_recipe(config)["layout"] == layout

    def test_its_name_is_text(self, write: Change, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write({})
        name = place / "${oc.env:HOME}"
        path.rename(name)
        try:
            assert plan_rerun(name).filepath == "${oc.env:HOME}-rerun"
        finally:
            name.rename(path)

    @pytest.mark.parametrize(
        "text", ["model: !!binary c2VjcmV0cw==", "model: 2026-11-30", "model: {1: x}", "model: !!set {x}",
                 "model: " + "[" * 150 + "]" * 150]
    )  # fmt: skip
    def test_only_plain_data_is_taken(self, text: str, write: Change) -> None:
        with pytest.raises(ArtifactError, match="is refused: "):
            plan_rerun(write({}, text=text))


@pytest.mark.parametrize(
    "arguments",
    [["rerun"], ["verify", "--files-only", "--rebuild"], ["verify", "--files-only", "--rebuild", "--json"]],
    ids=" ".join,
)
def test_the_commands_refuse_the_same(
    arguments: list[str], write: Change, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(layer("StringLookup", vocabulary="secrets.txt"))
    receipt = replace(RECEIPT, filepath=str(path), files=record_files(path, path.name))
    name_receipt(path).write_text(receipt.to_json())
    before = {each for each in place.rglob("*") if ".exporter" not in each.parts}
    try:
        code = run_command([*arguments, str(path)])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert "--input secrets.txt" in capsys.readouterr().err
    assert {each for each in place.rglob("*") if ".exporter" not in each.parts} == before


def test_what_would_be_read_reaches_the_artifact(write: Change, place: Path) -> None:
    from exporter.exporting.job import run_export

    layers = [{"_target_": "keras.Input", "shape": [1], "dtype": "string"},
              {"_target_": "keras.layers.StringLookup", "vocabulary": "secrets.txt"}]  # fmt: skip
    receipt = run_export(plan_rerun(write(sequential(*layers)), inputs=["secrets.txt"]))
    found = [
        file for file in Path(receipt.filepath).rglob("*") if file.is_file() and CANARY.encode() in file.read_bytes()
    ]
    assert found
    assert [each.key for each in receipt.inputs] == ["model.layers[1].vocabulary"]


def test_the_names_are_those_of_this_keras() -> None:
    import keras

    from exporter.cli.rerunning.keras_names import BY_ROOM

    # Layers that hold code, or load a program from a file.
    code = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}
    for room, names in BY_ROOM.items():
        assert names == {name for name in dir(getattr(keras, room)) if name[0].isupper()} - code, room
