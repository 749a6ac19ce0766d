"""What the types of a config cannot say: ranges, forms, and values that contradict each other."""

import subprocess
import sys

import pytest

from exporter import UsageError, compose

FAULTS = {
    "image format": (
        ["options.experimental_image_format=true"],
        "options.experimental_image_format: received true; TensorFlow refuses it: the option "
        "`experimental_image_format` is disabled in OSS. Leave it false",
    ),
    "operation for a namespace": (
        ['options.namespace_whitelist=["Addons>Dense"]'],
        "options.namespace_whitelist[0]: received 'Addons>Dense'; expected the part of an operation's name before its "
        "'>': Addons",
    ),
    "device": (
        ["options.experimental_io_device=/job:localhost/job:worker"],
        "options.experimental_io_device: received '/job:localhost/job:worker'; expected a device such as "
        "/job:localhost or /job:worker/task:1/device:CPU:0",
    ),
    "variable policy": (
        ["options.experimental_variable_policy=save_devices"],
        "options.experimental_variable_policy: received save_devices; allowed: none, save_variable_devices, "
        "expand_distributed_variables, null; did you mean save_variable_devices?",
    ),
    "tag that is there": (
        ["options.extra_tags=[serve]"],
        "options.extra_tags: received 'serve', which every SavedModel has; leave it out",
    ),
    "tag given twice": (
        ["options.extra_tags=[gpu,gpu]"],
        "options.extra_tags: received 'gpu' more than once; once is enough",
    ),
    "alias of an unknown endpoint": (
        ["+options.function_aliases.judge=serving_defalt"],
        "options.function_aliases.judge: received serving_defalt; allowed: serving_default; did you mean "
        "serving_default?; or declare it under signatures.serving_defalt",
    ),
    "versions of another format": (
        ["layout=tf_serving", "save_format=h5"],
        "layout: received tf_serving, and no server takes save_format=h5; set save_format=tf",
    ),
    "warm-up of another format": (
        ["layout.warmup=true", "save_format=keras"],
        "layout.warmup: received true, and save_format=keras is not served; set save_format=tf",
    ),
    "version": (
        ["layout=tf_serving", "layout.version=v2"],
        "layout.version: received v2; expected auto, timestamp or an integer from 0 to 9223372036854775807 without "
        "leading zeros",
    ),
    "versions without a saver": (
        ["layout=tf_serving", "options.experimental_skip_saver=true"],
        "options.experimental_skip_saver: received true with layout=tf_serving, and the server runs the graph's own "
        "restore nodes to load the variables; set false",
    ),
    "warm-up without a proof": (
        ["layout=tf_serving", "layout.warmup=true", "verify=none"],
        "layout.warmup: received true, and a server does not load a model whose request fails, and only a proof runs "
        "them first; set verify=full, or layout.warmup=false",
    ),
    "version without versions": (
        ["layout.version=2"],
        "layout.version: received 2, which belongs to layout=tf_serving",
    ),
    "no version to keep": (
        ["layout=tf_serving", "layout.keep=0"],
        "layout.keep: received 0; expected a number of versions from 1, or null for all",
    ),
    "the newest of no versions": (
        ["layout.against=latest"],
        "layout.against: received latest, which belongs to layout=tf_serving; give a path",
    ),
    "against nothing": (
        ["layout=tf_serving", "layout.against=lastest"],
        "layout.against: there is no lastest; expected the path of an artifact, or latest for the newest version",
    ),
    "against another scheme": (
        ["layout=tf_serving", "layout.against=http://here/model"],
        "layout.against: received http://here/model; there is no store of the protocol 'http'; "
        "use s3, gs, az, file or memory",
    ),
    "accuracy that has to rise": (
        ["layout=tf_serving", "layout.max_accuracy_drop=-0.1"],
        "layout.max_accuracy_drop: received -0.1; expected a number from 0, or null to report it only",
    ),
    "no growth at all": (
        ["layout=tf_serving", "layout.max_growth=0"],
        "layout.max_growth: received 0; expected a number above 0, such as 1.2, or null for any",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose(overrides=overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["options.experimental_io_device=/job:worker/replica:0/task:1/device:CPU:0"], id="whole device"),
        pytest.param(["options.experimental_io_device=/device:GPU:*"], id="any device of a kind"),
        pytest.param(["options.experimental_io_device=/cpu:0"], id="short device"),
        pytest.param(["options.namespace_whitelist=[Addons,TFText]"], id="namespaces"),
        pytest.param(["+options.function_aliases.judge=serving_default"], id="alias of what is there by itself"),
        pytest.param(["layout=tf_serving", "layout.version=0"], id="version 0"),
        pytest.param(["layout=tf_serving", "layout.version=timestamp", "layout.keep=1"], id="timestamp"),
        pytest.param(["layout=tf_serving", "layout.against=latest", "layout.max_growth=1.5"], id="the newest"),
        pytest.param(["layout.against=/"], id="a path"),
        pytest.param(["layout.warmup=true"], id="warm-up of an artifact alone"),
        pytest.param(["layout=tf_serving", "verify=none"], id="versions without a proof"),
    ],
)
def test_what_is_right_composes(overrides: list[str]) -> None:
    compose(overrides=overrides)


def test_nothing_is_imported_for_it() -> None:
    script = (
        "import sys; from exporter import compose; compose(overrides=['layout=tf_serving', 'seed=3']); "
        "sys.exit(bool({'tensorflow', 'keras', 'h5py', 'tensorflow_serving'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=1500)
