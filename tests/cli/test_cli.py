"""The command line from outside: whole messages, exit codes, and nothing heavy imported for them."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Command

from exporter import transforms

KEYS = (
    "model, filepath, save_format, overwrite, include_optimizer, signatures, options, compatibility, quantize, "
    "calibration, layout, verify, seed, "
    "strict, measure, on_error, resume, objective, results_url, verbose"
)
SOURCES = "application, architecture, custom, digits, file"

FAULTS = {
    "unknown key": (
        ["save_fromat=tf"],
        f"save_fromat: unknown key; allowed: {KEYS}; did you mean save_format=tf?",
    ),
    "unknown key with +": (
        ["+save_fromat=tf"],
        f"save_fromat: unknown key; allowed: {KEYS}; did you mean save_format=tf?",
    ),
    "unknown key with ++": (
        ["++verify.mod=full"],
        "verify.mod: unknown key; allowed: mode, batch_sizes, data, tolerance, metric, max_accuracy_drop, "
        "min_agreement, environments; did you mean verify.mode=full?",
    ),
    "unknown key with ~": (
        ["~sead"],
        f"sead: unknown key; allowed: {KEYS}; did you mean seed?",
    ),
    "unknown argument of a source": (
        ["model.epoch=3"],
        "model.epoch: unknown key; allowed: epochs, batch_size; did you mean epochs?",
    ),
    "unknown argument of a source with +": (
        ["+model.epoch=3"],
        "model.epoch: unknown key; allowed: epochs, batch_size; did you mean epochs?",
    ),
    "key below a value": (["seed.x=1"], "seed.x: unknown key; the value above it is not a mapping"),
    "removed key": (["~strict"], "strict: cannot be removed; give it a value: strict=VALUE"),
    "removed group": (["~verify"], "verify: cannot be removed; choose one of: full, none, reload"),
    "added key that is there": (["+seed=3"], "seed: is in the config already; write seed=3"),
    "new signature without +": (
        ["signatures.serve.method=predict"],
        "signatures.serve.method: is not in the config yet; to add it, write +signatures.serve.method=predict",
    ),
    "bad enum": (
        ["save_format=tf2"],
        "save_format: received tf2; allowed: tf, h5, keras, litert, onnx, openvino, null; did you mean tf?",
    ),
    "bad enum in a group": (["verify.mode=3"], "verify.mode: received 3; allowed: full, reload, none"),
    "text for a bool": (["overwrite=maybe"], "overwrite: received maybe; expected true or false"),
    "text for an integer": (["seed=abc"], "seed: received abc; expected an integer"),
    "text for an argument of a source": (["model.epochs=lots"], "model.epochs: received lots; expected an integer"),
    "null": (["seed=null"], "seed: received null; expected an integer"),
    "mapping for text": (["filepath={a: 1}"], 'filepath: received {"a": 1}; expected text'),
    "text for a list": (["options.extra_tags=gpu"], "options.extra_tags: received gpu; expected a list, such as [gpu]"),
    "item of a list": (["verify.batch_sizes=[1,x]"], "verify.batch_sizes[1]: received x; expected an integer"),
    "empty path": (["filepath="], "filepath: received ''; expected the path of a file or a directory"),
    "suffix and format": (
        ["filepath=x.h5", "save_format=tf"],
        "filepath: received x.h5, which contradicts save_format=tf; change the suffix, or set save_format=h5",
    ),
    "options of another format": (
        ["save_format=h5", "options.extra_tags=[gpu]"],
        "options: received values, and save_format=h5 has no place for them; set save_format=tf",
    ),
    "shard size": (
        ["options.experimental_sharding_callback.policy=max_shard_size"],
        "options.experimental_sharding_callback.max_shard_size: received null; "
        "policy=max_shard_size needs a number of bytes",
    ),
    "range": (["seed=-1"], "seed: received -1; expected an integer from 0 to 4294967295"),
    "batch size": (
        ["verify.batch_sizes=[0]"],
        "verify.batch_sizes: received [0]; expected numbers of examples from 1, such as [1, 2, 3]",
    ),
    "unknown option": (["model=digts"], f"model: received digts; allowed: {SOURCES}; did you mean digits?"),
    "null option": (["verify=null"], "verify: received null; allowed: full, none, reload; did you mean none?"),
    "option with +": (["+verify=none"], "verify: a group is chosen without +: verify=none"),
    "setting of Hydra": (["hydra.nope=1"], "hydra.nope: Key 'nope' not in 'HydraConf'"),
    "mandatory value": (["model=file"], "model.filepath: needs a value: model.filepath=VALUE"),
    "broken interpolation": (
        ["filepath=exports/${nothing}"],
        "filepath: received exports/${nothing}; it cannot be resolved: Interpolation key 'nothing' not found",
    ),
    "resuming a single run": (["resume=true"], "resume: received true; only a sweep is resumed: add -m"),
    "unknown launcher": (
        ["hydra/launcher=slurmm"],
        "hydra/launcher: received slurmm; allowed: basic, joblib, ray, ray_aws, submitit_local, submitit_slurm",
    ),
    "nothing measured": (["measure.runs=0"], "measure.runs: received 0; expected an integer from 1 to 1,000,000"),
    "objective without measuring": (
        ["objective=latency", "measure=never"],
        "objective: received latency, which is not known without measuring; set measure=sweeps",
    ),
    "objective without a proof": (
        ["objective=difference", "verify=reload"],
        "objective: received difference, which is not known without a proof; set verify=full",
    ),
    "broken interpolation of the run's directory": (
        ["hydra.run.dir=${nothing}"],
        "hydra.run.dir: cannot be resolved: Interpolation key 'nothing' not found",
    ),
    "unquoted =": (["filepath=a=b"], """filepath=a=b: the value needs quotes: 'filepath="a=b"'"""),
    "unquoted parenthesis": (["filepath=a (1)"], """filepath=a (1): the value needs quotes: 'filepath="a (1)"'"""),
    "failing function": (
        ["seed=int(abc)"],
        "seed=int(abc): the value cannot be read: ValueError while evaluating 'int(abc)': "
        "invalid literal for int() with base 10: 'abc'",
    ),
    "no key": (["=3"], "=3: expected KEY=VALUE, where the key is a dotted name such as model.epochs"),
    "word that is a recipe": (["digits"], "digits: expected KEY=VALUE; did you mean -cn digits?"),
    "word that is an option": (["reload"], "reload: expected KEY=VALUE; did you mean verify=reload?"),
    "two values": (
        ["save_format=tf,h5"],
        "save_format: received tf,h5; a single run takes one value; to run one job for each, add -m",
    ),
    "two values for text": (
        ["filepath=a,b"],
        "filepath: received a,b; a single run takes one value; to run one job for each, add -m; "
        """text with a comma is written 'filepath="a,b"'""",
    ),
    "unknown function": (
        ["model._target_=exporter.sources.digit"],
        "model._target_: received exporter.sources.digit; allowed: exporter.sources.application, "
        "exporter.sources.architecture, exporter.sources.digits, exporter.sources.file; "
        "did you mean exporter.sources.digits?",
    ),
    "unknown name of ours": (
        ["model._target_=exporter.load_modle"],
        "model._target_: exporter.load_modle does not exist; did you mean load_model?",
    ),
    "unknown module": (
        ["model._target_=no_such_package.build"],
        "model._target_: there is no module no_such_package; install it, run from the directory that holds it, "
        "or add that directory to PYTHONPATH",
    ),
    "no dotted name": (
        ["model._target_=build"],
        "model._target_: received build; expected a dotted name, such as my_package.my_module.build",
    ),
    "unknown module in a signature": (
        ["+signatures.serve.preprocess._target_=no_such_package.decode"],
        "signatures.serve.preprocess._target_: there is no module no_such_package; install it, run from the "
        "directory that holds it, or add that directory to PYTHONPATH",
    ),
    "unknown transform": (
        ["+signatures.serve.postprocess._target_=exporter.transforms.softmx"],
        "signatures.serve.postprocess._target_: received exporter.transforms.softmx; allowed: {transforms}; did "
        "you mean exporter.transforms.softmax?",
    ),
    "unknown argument of a transform": (
        ["+signatures.serve.preprocess=[{_target_: exporter.transforms.rescale, scale: 2, ofset: 1}]"],
        "signatures.serve.preprocess[0].ofset: unknown key; allowed: scale, offset; did you mean offset?",
    ),
    "batch of an endpoint": (
        ["+signatures.serve.batch=any"],
        "signatures.serve.batch: received any; expected dynamic, an integer or null",
    ),
    "dtype of an input": (
        ["+signatures.serve.inputs.pixels.dtype=strin"],
        "signatures.serve.inputs.pixels.dtype: received strin; allowed: bool, string, float16, bfloat16, float32, "
        "float64, complex64, complex128, "
        "int8, int16, int32, int64, uint8, uint16, uint32, uint64; did you mean string?",
    ),
    "unknown recipe": (
        ["-cn", "digts"],
        "digts: no recipe of this name; allowed: {recipes}; did you mean digits?",
    ),
    "missing directory": (["--config-dir", "nowhere"], "--config-dir: received nowhere; there is no such directory"),
    "unknown flag": (
        ["--mulitrun"],
        "--mulitrun: unknown flag; allowed: --help, -h, --hydra-help, --version, --cfg, -c, --resolve, --package, -p, "
        "--run, -r, --multirun, -m, --shell-completion, -sc, --config-path, -cp, --config-name, -cn, --config-dir, "
        "-cd, --experimental-rerun, --info, -i, -o; did you mean --multirun?",
    ),
    "value of a flag": (["--cfg", "jobs"], "--cfg/-c: invalid choice: 'jobs' (choose from 'job', 'hydra', 'all')"),
    "two modes": (["--run", "--multirun"], "--run --multirun: only one of these can be given"),
    "lonely flag": (["--resolve"], "--resolve: goes with --cfg"),
    "shell": (
        ["-sc", "install=bash"],
        "--shell-completion: write exporter completion bash, or zsh or fish",
    ),
    "config path": (["-cp", "conf"], "--config-path: write --config-dir conf, which adds to what is there"),
    "pickle": (
        ["--experimental-rerun", "x"],
        "--experimental-rerun: would load a pickle, which can run code; give the recipe instead",
    ),
    "swept setting of Hydra": (
        ["-m", "hydra.job.chdir=true,false", "save_format=tf,h5"],
        "hydra.job.chdir: the settings of Hydra itself cannot be swept",
    ),
    "empty sweep": (["-m", "seed=range(3,1)"], "seed: received range(3,1), which holds no value"),
    "endless sweep": (["-m", "seed=range(1,3,0)"], "seed: received range(1,3,0); range() arg 3 must not be zero"),
    "continuous sweep": (
        ["-m", "seed=interval(0,1)"],
        "seed: received interval(0,1); expected a list of values, such as 1,2",
    ),
    "one bad job of a sweep": (
        ["-m", "save_format=tf,h55,keras"],
        "save_format: received h55; allowed: tf, h5, keras, litert, onnx, openvino, null; did you mean h5?",
    ),
    "one path for two jobs": (
        ["-m", "save_format=tf,h5", "model.epochs=1,2"],
        "filepath: job 0 (save_format=tf model.epochs=1) and job 1 (save_format=tf model.epochs=2) "
        "would both write exports/digits; give each its own, such as "
        "'filepath=\"exports/${save_format}-${model.epochs}${exporter.suffix:${save_format}}\"'",
    ),
    "one path for two options": (
        ["-m", "verify=full,none"],
        "filepath: job 0 (verify=full) and job 1 (verify=none) would both write exports/digits; give each its own, "
        "such as 'filepath=\"exports/${hydra:runtime.choices.verify}${exporter.suffix:${save_format}}\"'",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault(arguments: list[str], message: str, command: Command) -> None:
    recipes = sorted(file.stem for file in (Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    message = message.replace("{recipes}", ", ".join(sorted([*recipes, "config"])))
    steps = [f"exporter.transforms.{name}" for name in transforms.__all__ if name != "takes"]
    message = message.replace("{transforms}", ", ".join(steps))
    done = command(*arguments)
    assert done.stderr == f"exporter: 1 fault in the command line\n  {message}\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_faults_are_found_all_at_once(command: Command) -> None:
    done = command("save_fromat=h5", "verify.mode=ful", "filepath=a=b", "model=digts", "seed=x", "--mulitrun")
    assert done.returncode == 2
    flag_first = done.stderr.splitlines()
    assert flag_first[0] == "exporter: 1 fault in the command line"
    done = command("save_fromat=h5", "verify.mode=ful", "filepath=a=b", "model=digts", "seed=x")
    assert done.stderr == (
        "exporter: 5 faults in the command line\n"
        """  filepath=a=b: the value needs quotes: 'filepath="a=b"'\n"""
        f"  model: received digts; allowed: {SOURCES}; did you mean digits?\n"
        f"  save_fromat: unknown key; allowed: {KEYS}; did you mean save_format=h5?\n"
        "  verify.mode: received ful; allowed: full, reload, none; did you mean full?\n"
        "  seed: received x; expected an integer\n"
    )


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        pytest.param(["model=file", "model.filepath=gone.h5"], "model.filepath", id="file"),
        pytest.param(
            ["model=architecture", "model.config=gone.h5", "model.weights=here.h5"], "model.config", id="config"
        ),
        pytest.param(
            ["model=application", "model.name=MobileNetV2", "model.weights=gone.h5"], "model.weights", id="weights"
        ),
        pytest.param(["verify.data=gone.h5"], "verify.data", id="data"),
    ],
)
def test_missing_file(arguments: list[str], path: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "here.h5").touch()
    done = command(*arguments)
    assert done.stderr == (
        "exporter: 1 fault in the command line\n"
        f"  {path}: There is no file 'gone.h5' (looked for '{tmp_path / 'gone.h5'}'). "
        f"Set `{path}` to a path that exists.\n"
    )
    assert done.returncode == 2


RECIPE_FAULTS = {
    "every kind of value": (
        """\
        defaults: [config, _self_]
        save_fromat: h5
        seed: [1]
        filepath: ${nothing}
        model:
          epochs: lots
        signatures:
          serve: {inptus: {}}
        """,
        "5 faults in mine.yaml",
        [
            "filepath: received ${nothing}; it cannot be resolved: Interpolation key 'nothing' not found (line 4)",
            "model.epochs: received lots; expected an integer (line 6)",
            f"save_fromat: unknown key; allowed: {KEYS}; did you mean save_format? (line 2)",
            "signatures.serve.inptus: unknown key; allowed: method, batch, inputs, outputs, preprocess, postprocess; "
            "did you mean inputs? (line 8)",
            "seed: received [1]; expected an integer (line 3)",
        ],
    ),
    "YAML": (
        """\
        defaults: [config, _self_]
        seed: 1
          save_format: tf
        """,
        "1 fault in mine.yaml",
        [
            "line 3, column 14: not valid YAML: mapping values are not allowed here; the line is: save_format: tf",
        ],
    ),
    "duplicate key": (
        """\
        defaults: [config, _self_]
        seed: 1
        seed: 2
        """,
        "1 fault in mine.yaml",
        ["line 3, column 1: not valid YAML: found duplicate key seed; the line is: seed: 2"],
    ),
    "no primary config": (
        "seed: 1",
        "1 fault in mine.yaml",
        [
            "mine: does not start from the primary config; begin its file with the line `defaults: [config, _self_]`",
        ],
    ),
    "no place for its own keys": (
        """\
        defaults: [config]
        seed: 1
        """,
        "1 fault in mine.yaml",
        ["mine: put _self_ at the end of its defaults list"],
    ),
    "unknown option": (
        """\
        defaults: [config, override verify: fulll, _self_]
        """,
        "1 fault in mine.yaml",
        [
            "verify/fulll: a defaults list names it, and there is no such file; "
            "allowed: full, none, reload; did you mean full?",
        ],
    ),
    "no mapping": (
        "[1, 2]",
        "1 fault in mine.yaml",
        ["mine: primary config 'mine' must be a DictConfig, got ListConfig"],
    ),
    "unknown key of a sweep": (
        """\
        defaults: [config, _self_]
        hydra:
          mode: MULTIRUN
          sweeper:
            params:
              save_fromat: tf,h5
        """,
        "1 fault in mine.yaml",
        [f"save_fromat: unknown key; allowed: {KEYS}; did you mean save_format? (line 6)"],
    ),
    "one path for a sweep": (
        """\
        defaults: [config, _self_]
        filepath: model
        hydra:
          mode: MULTIRUN
          sweeper:
            params:
              include_optimizer: true,false
        """,
        "1 fault in mine.yaml",
        [
            "filepath: job 0 (include_optimizer=True) and job 1 (include_optimizer=False) would both write model; "
            "give each its own, such as 'filepath=\"exports/${include_optimizer}${exporter.suffix:${save_format}}\"'",
        ],
    ),
    "interpolation of itself": (
        """\
        defaults: [config, _self_]
        filepath: ${filepath}
        """,
        "1 fault in mine.yaml",
        ["filepath: received ${filepath}; it cannot be resolved: Recursive interpolation detected (line 2)"],
    ),
}


@pytest.mark.parametrize(("text", "headline", "messages"), RECIPE_FAULTS.values(), ids=RECIPE_FAULTS.keys())
def test_fault_in_a_recipe(text: str, headline: str, messages: list[str], command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("".join(line.removeprefix(" " * 8) for line in text.splitlines(keepends=True)))
    done = command("--config-dir", ".", "-cn", "mine")
    assert done.stderr == "\n  ".join([f"exporter: {headline}", *messages]) + "\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_a_recipe_in_this_directory_needs_config_dir(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    done = command("-cn", "mine")
    assert done.stderr.endswith("; mine.yaml is in this directory: add --config-dir .\n")
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(
            ["--help"], "usage: exporter [MODEL | RECIPE.yaml | MODULE:NAME] [-o PATH] [KEY=VALUE ...]", id="help"
        ),
        pytest.param(["-cn", "digits", "-h"], "       exporter COMMAND ...", id="help of anything"),
        pytest.param(["help", "exit-codes"], "4        the proof failed; nothing was published", id="topic"),
        pytest.param(["help", "sign"], "usage: exporter sign [-h] --key FILE [--signature FILE] PATH", id="command"),
    ],
)
def test_help(arguments: list[str], line: str, command: Command) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout.splitlines()


def test_the_versions_are_told_without_importing_anything(command: Command) -> None:
    done = command("--version")
    versions = {name: version(name) for name in ("keras-exporter", "tensorflow", "keras")}
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "exporter {keras-exporter} (TensorFlow {tensorflow}, Keras {keras})\n".format_map(versions)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["--cfg", "job", "filepath=x"], "filepath: x", id="cfg"),
        pytest.param(["save_format=h5", "--cfg", "job", "seed=3"], "save_format: h5", id="flags in the middle"),
        pytest.param(["save_format=h5", "--cfg", "job", "--resolve"], "filepath: exports/digits.h5", id="resolve"),
        pytest.param(["--info", "searchpath"], "Config search path", id="info"),
        pytest.param(["--hydra-help"], "Use '--cfg hydra' to Show the Hydra config.", id="hydra help"),
    ],
)
def test_printing(arguments: list[str], line: str, command: Command, tmp_path: Path) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout.splitlines()
    assert not list(tmp_path.iterdir())


def test_a_users_own_recipe_composes(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text("raise RuntimeError('imported too early')\ndef build(width): ...\n")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [config, override model: null, _self_]\n"
        "model: {_target_: my_models.build, width: 3}\n"
        "signatures: {serve: {method: predict}}\n"
    )
    done = command("--config-dir", ".", "-cn", "mine", "model.width=4", "--cfg", "job", "--package", "model")
    assert (done.stdout, done.stderr) == ("# @package model\n_target_: my_models.build\nwidth: 4\n", "")


def test_the_console_script_is_the_module(
    command: Command, blocked_environment: dict[str, str], tmp_path: Path
) -> None:
    script = Path(sys.executable).with_name("exporter")
    done = subprocess.run(
        [script, "seed=x"], cwd=tmp_path, env=blocked_environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, command("seed=x").stderr)


def test_an_unexpected_error_is_in_the_log(command: Command, tmp_path: Path) -> None:
    # The command of these tests cannot import Keras, which no export expects.
    done = command("verify=none")
    [log] = tmp_path.glob(".exporter/runs/*/*/exporter.log")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"exporter: unexpected RuntimeError: keras was imported; its traceback is in {log}"
    )
    assert "Traceback (most recent call last):" in log.read_text()
    assert "Traceback" not in done.stderr


def test_a_sweep_runs_all_its_jobs_and_ends_with_the_worst_code(command: Command, tmp_path: Path) -> None:
    done = command("-m", "save_format=tf,h5", "verify=none")
    assert done.returncode == 1
    assert done.stderr.count("unexpected RuntimeError: keras was imported") == 2
    assert sorted(log.parent.name for log in tmp_path.glob(".exporter/sweeps/*/*/*/exporter.log")) == ["0", "1"]


def test_a_failed_export_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "own_models.py").write_text(
        "import keras\n\n\ndef build(units):\n"
        "    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])\n"
    )
    arguments = [
        "-m",
        "model=custom",
        "model._target_=own_models.build",
        "+model.units=0,1",
        "save_format=h5",
        "verify=none",
        "measure=never",
        "filepath=${model.units}.h5",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "own_models.build raised ValueError: Received an invalid value for `units`" in done.stderr
    assert "(own_models.py:5 in build)" in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / "1.h5").is_file()
    assert not (tmp_path / "0.h5").exists()
    [log] = tmp_path.glob(".exporter/sweeps/*/*/0/exporter.log")
    assert "Traceback (most recent call last):" in log.read_text()


def test_a_run_directory_that_cannot_be_made(command: Command, tmp_path: Path) -> None:
    (tmp_path / ".exporter").touch()
    done = command("hydra.run.dir=.exporter/runs/1")
    assert done.stderr == (
        "exporter: the directory of the run cannot be written: [Errno 20] Not a directory: '.exporter/runs/1'\n"
    )
    assert done.returncode == 3
