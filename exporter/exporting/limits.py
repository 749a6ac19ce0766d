"""The rules of a config that its types cannot say: ranges, and values that contradict each other."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from exporter.config import (
    ExportConfig,
    JobConfig,
    LayoutConfig,
    LayoutKind,
    MeasureMode,
    Objective,
    OptionsConfig,
    Sharding,
    VerifyMode,
)
from exporter.config.checking import explain_choice, is_encodable
from exporter.errors import ArgumentError, Fault
from exporter.exporting.destinations.versions import AUTO, LATEST, TIMESTAMP
from exporter.models.endpoints.declarations import EVALUATE, TRAIN, check_declarations, read_inputs
from exporter.saving.compatibility.history import explain_release
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.formats import FOREIGN_SUFFIXES, FORMATS, find_by_suffix, find_chosen, find_foreign_suffix
from exporter.saving.formats.saved_model.save_options import explain_device, explain_namespace, explain_tags
from exporter.sources._registry import find_data
from exporter.storage.remote import explain_url, is_url
from exporter.text.showing import describe_value, show
from exporter.verification.environments.interpreters import find_environment

_LARGEST_SEED = 2**32 - 1
_LARGEST_COUNT = 1_000_000  # of samples in a batch, and of predictions: more is a slip of the finger
_LONGEST_NAME = 255  # bytes, on the usual file systems
_LARGEST_VERSION = 2**63 - 1  # TF Serving reads the names of directories as int64
_NEEDED = (
    "missing; quantize=int8 counts in the ranges of real data. Give an .npz file with the inputs by name, or a "
    "function that yields batches as {_target_: ...}; or set quantize=int8_dynamic or int8_weights, which need none"
)
_JUDGED = {Objective.ACCURACY, Objective.AGREEMENT}
_MEASURED = {Objective.LOAD, Objective.FIRST, Objective.LATENCY, Objective.P90, Objective.P99, Objective.MEMORY}


def check_limits(config: ExportConfig) -> list[Fault]:
    """Checks ranges and combinations.

    Args:
        config: A config whose values have the right types.
    """
    return [
        *_check_target(config),
        *_check_compatibility(config),
        *_check_layout(config),
        *_check_options(config),
        *check_declarations(config.signatures),
        *_check_deployment(config),
        *_check_sharding(config.options),
        *_check_verify(config),
        *_check_measure(config),
        *_check_seed(config.seed),
        *_check_results_url(config),
    ]


def _check_results_url(config: ExportConfig) -> Iterator[Fault]:
    if (
        isinstance(config, JobConfig)
        and config.results_url is not None
        and (message := explain_url(config.results_url))
    ):
        yield Fault("results_url", message)


def _check_target(config: ExportConfig) -> Iterator[Fault]:
    if not config.filepath.strip() or "\0" in config.filepath:
        yield Fault(
            "filepath", f"received {describe_value(config.filepath)}; expected the path of a file or a directory"
        )
        return
    if not is_encodable(config.filepath):
        yield Fault("filepath", f"received {describe_value(config.filepath)}; expected text that UTF-8 can encode")
        return
    if is_url(config.filepath) and (message := explain_url(config.filepath)):
        yield Fault("filepath", message)
        return
    longest = max((os.fsencode(part) for part in Path(config.filepath).parts), key=len, default=b"")
    if len(longest) > _LONGEST_NAME:
        received = f"received {show(config.filepath)}, in which a name has {len(longest)} bytes"
        yield Fault("filepath", f"{received}; a file system takes up to {_LONGEST_NAME}")
        return
    chosen, by_suffix = find_chosen(config.filepath, config.save_format), find_by_suffix(config.filepath)
    if by_suffix is not None and by_suffix is not chosen:
        remedy = f"change the suffix, or set save_format={by_suffix.name}"
        yield Fault("filepath", f"received {config.filepath}, which contradicts save_format={chosen.name}; {remedy}")
    foreign = find_foreign_suffix(config.filepath, config.save_format)
    if foreign is not None:
        received = f"received {show(config.filepath)}, and {foreign} is the suffix of {FOREIGN_SUFFIXES[foreign]}"
        suffixes = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)
        yield Fault("filepath", f"{received}; expected a name without it, or with one of {suffixes}")
    kinds = (
        ("signatures", bool(config.signatures), "holds_endpoints"),
        ("options", config.options != OptionsConfig(), "is_served"),
    )
    for name, is_given, has_place in kinds:
        if is_given and not getattr(chosen, has_place):
            has_no_place = f"received values, and save_format={chosen.name} has no place for them"
            yield Fault(name, f"{has_no_place}; set {_name_holding(has_place)}")
    for message in chosen.explain_missing() if chosen.extra else ():  # the others come with the package
        yield Fault("save_format", message)


def _check_compatibility(config: ExportConfig) -> Iterator[Fault]:
    if config.compatibility is None:
        return
    chosen = find_chosen(config.filepath, config.save_format)
    if not chosen.holds_model:
        why = f"received {show(config.compatibility)}, and Keras opens no file of save_format={chosen.name}"
        yield Fault("compatibility", f"{why}; set {_name_holding('holds_model')}")
    elif message := explain_release(config.compatibility):
        yield Fault("compatibility", message)


def _name_holding(what: str) -> str:
    """Gives the setting of which something is true."""
    return f"save_format={' or '.join(each.name for each in FORMATS.values() if getattr(each, what))}"


def _name_converted() -> str:
    """Gives the setting of the formats that hold what endpoints compute, and not the model."""
    return f"save_format={' or '.join(each.name for each in FORMATS.values() if not each.holds_model)}"


def _check_deployment(config: ExportConfig) -> Iterator[Fault]:
    """Checks what belongs to formats that hold what endpoints compute, and not the model."""
    chosen, quantize = find_chosen(config.filepath, config.save_format), config.quantize
    if quantize is not None and quantize not in chosen.quantizations:
        others = [each.name for each in FORMATS.values() if quantize in each.quantizations]
        ways = ", ".join(chosen.quantizations)
        allowed = f"expected {ways} or null" if ways else "a format that holds the model keeps its numbers as they are"
        received = f"received {quantize}, which save_format={chosen.name} does not have; {allowed}"
        yield Fault("quantize", f"{received}. Or set save_format={' or '.join(others)}", is_refusal=True)
    elif quantize is not None and quantize.is_calibrated and config.calibration.data is None:
        known = find_data(config.model)
        yield from () if known else [Fault("calibration.data", _NEEDED)]
    if not 1 <= config.calibration.samples <= _LARGEST_COUNT:
        received = f"received {show(config.calibration.samples)}"
        yield Fault("calibration.samples", f"{received}; expected a number of samples from 1 to {_LARGEST_COUNT:,}")
    if chosen.holds_model:
        return
    for name, declared in config.signatures.items():
        if declared.method in (TRAIN, EVALUATE):
            reason = f"save_format={chosen.name} holds what is computed and changes no variable"
            remedy = f"leave the endpoint out, or set {_name_holding('is_served')}"
            yield Fault(f"signatures.{name}.method", f"received {declared.method}, and {reason}; {remedy}")
        for tensor in read_inputs(f"signatures.{name}", declared, []).tensors:
            if tensor.tensor.ragged_rank:
                reason = f"save_format={chosen.name} takes dense tensors only"
                remedy = "pad the rows to one length, and leave ragged_rank out"
                yield Fault(
                    f"{tensor.path}.ragged_rank", f"received {tensor.tensor.ragged_rank}, and {reason}; {remedy}"
                )


def _check_layout(config: ExportConfig) -> Iterator[Fault]:
    layout = config.layout
    versions = layout.kind is LayoutKind.TF_SERVING
    chosen = find_chosen(config.filepath, config.save_format)
    if versions and not chosen.is_served:
        received = f"received {layout.kind}, and no server takes save_format={chosen.name}"
        yield Fault("layout", f"{received}; set {_name_holding('is_served')}")
    if versions and config.options.experimental_skip_saver:
        reason = "the server runs the graph's own restore nodes to load the variables"
        yield Fault("options.experimental_skip_saver", f"received true with layout=tf_serving, and {reason}; set false")
    if not versions:
        for name in ("version", "keep"):
            value = getattr(layout, name)
            if value != getattr(LayoutConfig(), name):
                yield Fault(f"layout.{name}", f"received {show(value)}, which belongs to layout=tf_serving")
    elif layout.version not in (AUTO, TIMESTAMP) and not _is_version(layout.version):
        expected = f"{AUTO}, {TIMESTAMP} or an integer from 0 to {_LARGEST_VERSION} without leading zeros"
        yield Fault("layout.version", f"received {show(layout.version)}; expected {expected}")
    if layout.keep is not None and layout.keep < 1:
        yield Fault("layout.keep", f"received {layout.keep}; expected a number of versions from 1, or null for all")
    yield from _check_against(layout)
    if layout.warmup and not chosen.is_served:
        received = f"received true, and save_format={chosen.name} is not served"
        yield Fault("layout.warmup", f"{received}; set {_name_holding('is_served')}")
    elif layout.warmup and config.verify.mode is not VerifyMode.FULL:
        reason = "a server does not load a model whose request fails, and only a proof runs them first"
        yield Fault("layout.warmup", f"received true, and {reason}; set verify=full, or layout.warmup=false")
    elif layout.warmup and importlib.util.find_spec("tensorflow_serving") is None:
        remedy = "pip install 'keras-exporter[serving]', or set layout.warmup=false"
        yield Fault("layout.warmup", f"needs tensorflow-serving-api, which is not installed; {remedy}")


def _check_against(layout: LayoutConfig) -> Iterator[Fault]:
    against = layout.against
    if against == LATEST and layout.kind is LayoutKind.SINGLE:
        yield Fault("layout.against", f"received {LATEST}, which belongs to layout=tf_serving; give a path")
    elif against is not None and against != LATEST:
        message = explain_url(against) if is_url(against) else None
        if not is_url(against) and not ("\0" not in against and Path(against).expanduser().exists()):
            message = (
                f"there is no {show(against)}; expected the path of an artifact, or {LATEST} for the newest version"
            )
        if message:
            yield Fault("layout.against", message)
    if layout.max_accuracy_drop is not None and not layout.max_accuracy_drop >= 0:
        received = f"received {layout.max_accuracy_drop:g}"
        yield Fault("layout.max_accuracy_drop", f"{received}; expected a number from 0, or null to report it only")
    if layout.max_growth is not None and not layout.max_growth > 0:
        received = f"received {layout.max_growth:g}"
        yield Fault("layout.max_growth", f"{received}; expected a number above 0, such as 1.2, or null for any")


def _is_version(text: str) -> bool:
    return text.isdecimal() and text.isascii() and str(int(text)) == text and int(text) <= _LARGEST_VERSION


def _check_options(config: ExportConfig) -> Iterator[Fault]:
    options = config.options
    for index, namespace in enumerate(options.namespace_whitelist):
        if message := explain_namespace(namespace):
            yield Fault(f"options.namespace_whitelist[{index}]", message)
    # Where nothing is declared, there is the endpoint that the model gives by itself.
    endpoints = list(config.signatures) or [SERVING_DEFAULT]
    for alias, endpoint in options.function_aliases.items():
        if not alias.strip():
            yield Fault("options.function_aliases", "received an empty name; expected ALIAS: ENDPOINT")
        if endpoint not in endpoints:
            remedy = f"declare it under signatures.{endpoint}"
            yield Fault(f"options.function_aliases.{alias}", f"{explain_choice(endpoint, endpoints)}; or {remedy}")
    if options.experimental_io_device is not None and (message := explain_device(options.experimental_io_device)):
        yield Fault("options.experimental_io_device", message)
    if options.experimental_image_format:
        # The words of the constructor of `tf.saved_model.SaveOptions`.
        reason = "TensorFlow refuses it: the option `experimental_image_format` is disabled in OSS"
        yield Fault("options.experimental_image_format", f"received true; {reason}. Leave it false")
    if message := explain_tags(options.extra_tags):
        yield Fault("options.extra_tags", message)


def _check_sharding(options: OptionsConfig) -> Iterator[Fault]:
    sharding, path = options.experimental_sharding_callback, "options.experimental_sharding_callback.max_shard_size"
    by_size = sharding.policy is Sharding.MAX_SHARD_SIZE
    if by_size and sharding.max_shard_size is None:
        yield Fault(path, "received null; policy=max_shard_size needs a number of bytes")
    elif sharding.max_shard_size is not None and sharding.max_shard_size < 1:
        yield Fault(path, f"received {sharding.max_shard_size}; expected a number of bytes from 1")
    elif sharding.max_shard_size is not None and not by_size:
        yield Fault(path, f"received {sharding.max_shard_size}, which belongs to policy=max_shard_size")


def _check_verify(config: ExportConfig) -> Iterator[Fault]:
    sizes = config.verify.batch_sizes
    if any(size < 1 for size in sizes) or (not sizes and config.verify.mode is not VerifyMode.NONE):
        yield Fault("verify.batch_sizes", f"received {sizes}; expected numbers of examples from 1, such as [1, 2, 3]")
    elif any(size > _LARGEST_COUNT for size in sizes):
        yield Fault("verify.batch_sizes", f"received {show(sizes)}; expected at most {_LARGEST_COUNT:,} examples each")
    verify = config.verify
    if verify.tolerance <= 0:
        yield Fault("verify.tolerance", f"received {verify.tolerance:g}; expected a number above 0, such as 8")
    if verify.max_accuracy_drop is not None and verify.max_accuracy_drop < 0:
        received = f"received {verify.max_accuracy_drop:g}"
        yield Fault("verify.max_accuracy_drop", f"{received}; expected a number from 0, or null to report it only")
    if verify.min_agreement is not None and not 0 <= verify.min_agreement <= 1:
        received = f"received {verify.min_agreement:g}"
        yield Fault("verify.min_agreement", f"{received}; expected a share from 0 to 1, or null to report it only")
    for index, directory in enumerate(verify.environments):
        if message := _explain_environment(directory, config):
            yield Fault(f"verify.environments[{index}]", message)


def _explain_environment(directory: str, config: ExportConfig) -> str | None:
    if config.verify.mode is not VerifyMode.FULL:
        return f"received {show(directory)}, and verify={config.verify.mode} compares nothing; set verify=full"
    try:
        find_environment(directory, find_chosen(config.filepath, config.save_format))
    except ArgumentError as error:
        return str(error)
    return None


def _check_measure(config: ExportConfig) -> Iterator[Fault]:
    for name, least in (("batch_size", 1), ("warm_up", 0), ("runs", 1)):
        value = getattr(config.measure, name)
        if not least <= value <= _LARGEST_COUNT:
            message = f"received {show(value)}; expected an integer from {least} to {_LARGEST_COUNT:,}"
            yield Fault(f"measure.{name}", message)
    objective = config.objective if isinstance(config, JobConfig) else None
    if objective is not None:
        known = f"received {objective}, which is not known without"
        if objective in {Objective.DIFFERENCE, *_JUDGED} and config.verify.mode is not VerifyMode.FULL:
            yield Fault("objective", f"{known} a proof; set verify=full")
        elif objective in _JUDGED and find_chosen(config.filepath, config.save_format).holds_model:
            reason = f"received {objective}, which is known of an artifact that may compute otherwise than the model"
            yield Fault("objective", f"{reason}; set {_name_converted()}", is_refusal=True)
        elif config.measure.mode is MeasureMode.NEVER and objective in _MEASURED:
            yield Fault("objective", f"{known} measuring; set measure=sweeps")


def _check_seed(seed: int) -> Iterator[Fault]:
    if not 0 <= seed <= _LARGEST_SEED:
        yield Fault("seed", f"received {seed}; expected an integer from 0 to {_LARGEST_SEED}")
