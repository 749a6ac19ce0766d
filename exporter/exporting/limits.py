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
from exporter.errors import Fault
from exporter.exporting.destinations.versions import AUTO, TIMESTAMP
from exporter.models.endpoints.declarations import check_declarations
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.formats import FOREIGN_SUFFIXES, FORMATS, find_by_suffix, find_chosen, find_foreign_suffix
from exporter.saving.formats.saved_model.save_options import explain_device, explain_namespace, explain_tags
from exporter.storage.remote import explain_url, is_url
from exporter.text.showing import describe_value, show

_LARGEST_SEED = 2**32 - 1
_LARGEST_COUNT = 1_000_000  # of samples in a batch, and of predictions: more is a slip of the finger
_LONGEST_NAME = 255  # bytes, on the usual file systems
_LARGEST_VERSION = 2**63 - 1  # TF Serving reads the names of directories as int64
_MEASURED = {Objective.LOAD, Objective.FIRST, Objective.LATENCY, Objective.P90, Objective.P99, Objective.MEMORY}


def check_limits(config: ExportConfig) -> list[Fault]:
    """Checks ranges and combinations.

    Args:
        config: A config whose values have the right types.
    """
    return [
        *_check_target(config),
        *_check_layout(config),
        *_check_options(config),
        *check_declarations(config.signatures),
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
    for name, is_given in (("signatures", bool(config.signatures)), ("options", config.options != OptionsConfig())):
        if is_given and not chosen.holds_endpoints:
            has_no_place = f"received values, and save_format={chosen.name} has no place for them"
            yield Fault(name, f"{has_no_place}; set {_name_served()}")


def _name_served() -> str:
    """Gives the setting that has endpoints."""
    return f"save_format={' or '.join(each.name for each in FORMATS.values() if each.holds_endpoints)}"


def _check_layout(config: ExportConfig) -> Iterator[Fault]:
    layout = config.layout
    versions = layout.kind is LayoutKind.TF_SERVING
    chosen = find_chosen(config.filepath, config.save_format)
    if versions and not chosen.holds_endpoints:
        received = f"received {layout.kind}, and no server takes save_format={chosen.name}"
        yield Fault("layout", f"{received}; set {_name_served()}")
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
    if layout.warmup and not chosen.holds_endpoints:
        received = f"received true, and save_format={chosen.name} is not served"
        yield Fault("layout.warmup", f"{received}; set {_name_served()}")
    elif layout.warmup and config.verify.mode is not VerifyMode.FULL:
        reason = "a server does not load a model whose request fails, and only a proof runs them first"
        yield Fault("layout.warmup", f"received true, and {reason}; set verify=full, or layout.warmup=false")
    elif layout.warmup and importlib.util.find_spec("tensorflow_serving") is None:
        remedy = "pip install 'keras-exporter[serving]', or set layout.warmup=false"
        yield Fault("layout.warmup", f"needs tensorflow-serving-api, which is not installed; {remedy}")


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


def _check_measure(config: ExportConfig) -> Iterator[Fault]:
    for name, least in (("batch_size", 1), ("warm_up", 0), ("runs", 1)):
        value = getattr(config.measure, name)
        if not least <= value <= _LARGEST_COUNT:
            message = f"received {show(value)}; expected an integer from {least} to {_LARGEST_COUNT:,}"
            yield Fault(f"measure.{name}", message)
    objective = config.objective if isinstance(config, JobConfig) else None
    if objective is not None:
        known = f"received {objective}, which is not known without"
        if objective is Objective.DIFFERENCE and config.verify.mode is not VerifyMode.FULL:
            yield Fault("objective", f"{known} a proof; set verify=full")
        elif config.measure.mode is MeasureMode.NEVER and objective in _MEASURED:
            yield Fault("objective", f"{known} measuring; set measure=sweeps")


def _check_seed(seed: int) -> Iterator[Fault]:
    if not 0 <= seed <= _LARGEST_SEED:
        yield Fault("seed", f"received {seed}; expected an integer from 0 to {_LARGEST_SEED}")
