"""What an export would find out before it writes, of every format, for a model that is built once."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifacts.records import Phase
from exporter.config import ExportConfig, SaveFormat, SignatureConfig
from exporter.errors import ExporterError, ModelError, RefusedExportError, SpaceError, TargetExistsError, UsageError
from exporter.exporting.destinations.choosing import choose_destination
from exporter.exporting.dry_run.records import Forecast, FormatForecast, Holding
from exporter.exporting.job import own_failures_named
from exporter.exporting.limits import check_limits
from exporter.exporting.reporting import Reporter, SilentReporter
from exporter.exporting.steps import launch_tensorflow
from exporter.models.building import build_model
from exporter.processes.collector import imports_set_aside
from exporter.saving.arguments import check_model
from exporter.saving.compatibility.history import name_oldest_keras
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.formats import FORMATS, find_by_suffix, find_chosen
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import KERAS, Format
from exporter.saving.plans import SavePlan, check_space, describe, measure_space
from exporter.saving.requests import SaveRequest
from exporter.storage.remote import is_url

if TYPE_CHECKING:
    import keras

    from exporter.models.endpoints.building import BuiltEndpoint

# What imports TensorFlow is imported by the function that needs it: it has been started by then.


def forecast_export(config: ExportConfig, reporter: Reporter | None = None) -> Forecast:
    """Builds the model of an export, and asks each format about it; nothing is written.

    Args:
        config: The export, checked.
        reporter: Is told about the progress; None for nobody.

    Returns:
        What was found.

    Raises:
        ExporterError: The model cannot be built.
    """
    reporter = reporter or SilentReporter()
    fault, code, target = _check_destination(config)
    with own_failures_named(), imports_set_aside():
        with reporter.phase(Phase.START):
            launch_tensorflow()
            from exporter.verification.custom_objects import find_needs
        with reporter.phase(Phase.BUILD):
            model = build_model(config.model, config.seed, reporter.note)
        check_model(model)
        needs = find_needs(model)
        with _traced(config, model) as (traced, refusal):
            formats = tuple(_ask(each, config, model, traced, refusal) for each in FORMATS.values())
            endpoints = {name: _describe(endpoint) for name, endpoint in traced.items()}
    space = None if is_url(config.filepath) else measure_space(model, target, config.include_optimizer)
    if not fault and space is not None:
        try:
            check_space(model, target, config.include_optimizer)
        except SpaceError as error:
            fault, code = str(error), error.exit_code
    asked = find_chosen(config.filepath, config.save_format).name
    chosen = next(each for each in formats if each.name == asked)
    return Forecast(
        filepath=config.filepath,
        asked=asked,
        formats=formats,
        fault=fault,
        space=space,
        needs=tuple(f"{each.module}.{each.place}" for each in needs.objects),
        hints=needs.explain(),
        endpoints=endpoints,
        no_endpoints="" if refusal is None else str(refusal),
        exit_code=chosen.exit_code or code,
    )


def _check_destination(config: ExportConfig) -> tuple[str, int, Path]:
    """Asks whether something can be written at the target, and nobody whether it may be replaced."""
    is_remote = is_url(config.filepath)
    target = Path(config.filepath).expanduser()
    try:
        destination = choose_destination(config if is_remote else replace(config, overwrite=True))
        destination.close()
        target = destination.target
        if not is_remote and not config.overwrite and os.path.lexists(target):
            raise TargetExistsError(
                f"{target} exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
            )
    except ExporterError as error:
        return str(error), error.exit_code, target
    return "", 0, target


@contextmanager
def _traced(
    config: ExportConfig, model: "keras.Model"
) -> "Iterator[tuple[Mapping[str, BuiltEndpoint], ExporterError | None]]":
    """Traces the endpoints, or gives the reason why there are none."""
    from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints

    declared = config.signatures or {SERVING_DEFAULT: SignatureConfig()}
    with kept_for_endpoints(model, declared):
        try:
            found, refusal = build_endpoints(model, declared, config.options), None
        except ExporterError as error:
            found, refusal = {}, error
        yield found, refusal


def _describe(endpoint: "BuiltEndpoint") -> Endpoint:
    from exporter.models.predictions import describe_tensors

    inputs = {leaf.name: Tensor(leaf.shape, leaf.dtype) for leaf in endpoint.inputs.leaves}
    return Endpoint(inputs, describe_tensors(endpoint.function.structured_outputs))


def _ask(
    each: Format,
    config: ExportConfig,
    model: "keras.Model",
    endpoints: "Mapping[str, BuiltEndpoint]",
    refusal: ExporterError | None,
) -> FormatForecast:
    """Asks a format whether it can hold a model, with all that the recipe wants of the artifact."""
    if missing := each.explain_missing():
        return FormatForecast(each.name, Holding.NOT_INSTALLED, tuple(missing), exit_code=UsageError.exit_code)
    config = replace(config, filepath=_name_file(config, each), save_format=SaveFormat(each.name))
    if faults := check_limits(config):
        told = tuple(f"{fault.path}: {fault.message}" for fault in faults)
        return FormatForecast(each.name, Holding.REFUSED, told, exit_code=UsageError.exit_code)
    try:
        if each.holds_endpoints and refusal is not None:
            raise refusal
        plan = _plan(each, config, model, endpoints)
    except ExporterError as error:
        return FormatForecast(each.name, Holding.REFUSED, tuple(str(error).split("\n")), exit_code=error.exit_code)
    return _judge(each, config, model, plan)


def _plan(
    each: Format, config: ExportConfig, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]"
) -> SavePlan:
    from exporter.saving.deployment.graph import describe as describe_computation

    if isinstance(each, DeployedFormat):
        computed = {name: describe_computation(name, endpoint.function) for name, endpoint in endpoints.items()}
        unheld = [why for name, computation in computed.items() for why in each.list_unheld(name, computation)]
        if unheld:
            raise RefusedExportError(*unheld)
    return describe(
        SaveRequest(
            model,
            Path(config.filepath),
            each.name,
            include_optimizer=config.include_optimizer,
            compatibility=config.compatibility if each.holds_model else None,
        )
    )


def _judge(each: Format, config: ExportConfig, model: "keras.Model", plan: SavePlan) -> FormatForecast:
    if not each.holds_model:
        told = f"what its endpoints compute; {each.label} is made by a converter, which is not asked here"
        return FormatForecast(each.name, Holding.HELD, (told,), _measure(each, config, model))
    lost = [omission for omission in plan.left_out if not omission.intended]
    made_again = plan.request.config
    holding = Holding.LOST if lost else Holding.HELD
    if made_again is None:
        holding = Holding.MENDED
    return FormatForecast(
        name=each.name,
        holding=holding,
        remarks=tuple(f"{omission.what}: {omission.why}" for omission in lost),
        bytes=_measure(each, config, model),
        oldest_keras=name_oldest_keras(made_again, each.name) if made_again and KERAS in each.readers else "",
        exit_code=ModelError.exit_code if config.strict and lost else 0,
    )


def _measure(each: Format, config: ExportConfig, model: "keras.Model") -> int | None:
    """Counts what is written at least; None where numbers are made smaller on the way."""
    if config.quantize is not None:
        return None
    return measure_space(model, Path(config.filepath), config.include_optimizer and each.holds_model).needed


def _name_file(config: ExportConfig, each: Format) -> str:
    """Gives the path of an export the ending that a format has."""
    if find_chosen(config.filepath, config.save_format) is each:
        return config.filepath
    stem = os.path.splitext(config.filepath)[0] if find_by_suffix(config.filepath) else config.filepath
    return stem + "".join(each.suffixes[:1])
