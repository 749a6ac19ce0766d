"""The program on one page: config, model, artifact, proof, publication, receipt."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from exporter.artifacts.manifest import seal
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import SCHEMA_VERSION, Request, Status
from exporter.config import ExportConfig, MeasureMode, VerifyMode
from exporter.errors import ExporterError, ExportError, ModelError, UsageError
from exporter.exporting.destinations.choosing import choose_place
from exporter.exporting.destinations.publishing import keep_receipt
from exporter.exporting.limits import check_limits
from exporter.exporting.provenance import (
    Provenance,
    describe_machine,
    describe_recipe,
    list_versions,
    record_dependencies,
)
from exporter.exporting.reporting import Reporter, SilentReporter
from exporter.exporting.session import Workshop
from exporter.processes.collector import imports_set_aside
from exporter.processes.memory import measure_peak, reset_peak
from exporter.saving.api import SavePlan, check_space, plan_save
from exporter.saving.contents import LeftOut
from exporter.storage.staging import moved_away, stage_beside
from exporter.text.hiding import hide


def export(
    config: ExportConfig,
    *,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    workshop: Workshop | None = None,
) -> Receipt:
    """Builds a model, saves it, proves what was written, and publishes it.

    Args:
        config: The export; `config.model` may be a live `keras.Model`.
        run_directory: Where `receipt.json` is written as well; None for only beside the artifact.
        reporter: Is told about the progress; None for nobody.
        workshop: What this export shares with others of this process; None for nothing.

    Returns:
        The receipt, which also stands beside the artifact as `<name>.receipt.json`.

    Raises:
        ProofError: What was written is not the same model; nothing was published.
        ExportError: The model could not be built, saved or published; what was at `config.filepath` is unchanged.
        UsageError: A value of the config is out of range, or does not fit the model; every fault is named.
    """
    faults = check_limits(config)
    if faults:
        raise UsageError(faults)
    reporter = reporter or SilentReporter()
    place = choose_place(config, reporter.tell_wait)
    started = datetime.now(UTC)
    seconds: dict[str, float] = {}
    prove_it = config.verify.mode is not VerifyMode.NONE
    measure_it = config.measure.mode is MeasureMode.ALWAYS
    provenance = Provenance(config)
    reset_peak()

    with ExitStack() as stack:
        stack.callback(place.close)
        workshop = workshop or stack.enter_context(Workshop())
        process = workshop.open_process() if prove_it or measure_it else None

        with _measured("start TensorFlow", reporter, seconds), imports_set_aside():
            _start_tensorflow()
            # These import TensorFlow: the other process shall do so at the same time, and not after this one.
            from exporter.exporting.serving import add_warmup, list_askable, make_body
            from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints
            from exporter.models.options import build_save_options, declare_default
            from exporter.verification import measuring, verification
            from exporter.verification.custom_objects import find_needs
            from exporter.verification.inputs import prepare_inputs

            if process:
                verification.warm_up(process)
        with _measured("build the model", reporter, seconds):
            model, read = workshop.build(config.model, config.seed, reporter.note)
        check_space(model, place.target, config.include_optimizer)

        is_served = place.save_format == "tf"
        declared = config.signatures or (declare_default(model, config.options) if is_served else {})
        stack.enter_context(kept_for_endpoints(model, declared))
        with _measured("trace the endpoints", reporter, seconds) if declared else nullcontext():
            endpoints = build_endpoints(model, declared, config.options)
        signatures = {name: endpoint.function for name, endpoint in endpoints.items()} or None
        plan = plan_save(
            model,
            place.target,
            include_optimizer=config.include_optimizer,
            save_format=place.save_format,
            signatures=signatures,
            options=build_save_options(config.options, signatures) if is_served else None,
            steps={name: step for endpoint in endpoints.values() for name, step in endpoint.training.items()},
        )
        asks_it = prove_it or is_served
        inputs = prepare_inputs(model, config.verify, config.seed, endpoints or None) if asks_it else None
        asked = list_askable(inputs)

        with (
            _file_faults_named(place.shown),
            stage_beside(place.target, alone=not place.is_named_late, on_wait=reporter.tell_wait) as staged,
        ):
            with _measured("write the artifact", reporter, seconds):
                contents = plan.write(staged, provenance.make_notes())
                warmup, no_warmup = add_warmup(config, staged, place.model_name, asked)
                files = seal(staged, place.target.name)
                dependencies = record_dependencies(contents.dependencies)
            held, left_out = contents.held + warmup, contents.left_out + no_warmup
            _refuse_left_out(config, plan, left_out)

            result = verification.VerificationResult((), (), find_needs(model).to_loading())
            if process and inputs and prove_it:
                with _measured("prove it", reporter, seconds), moved_away(staged) as elsewhere:
                    result = verification.verify(
                        process,
                        model,
                        elsewhere,
                        inputs,
                        mode=config.verify.mode,
                        include_optimizer=config.include_optimizer,
                        tags=config.options.extra_tags,
                    )
                _refuse_left_out(config, plan, result.left_out)

            measurements = None
            if process and measure_it:
                with _measured("measure it", reporter, seconds):
                    tags = config.options.extra_tags
                    measurements = measuring.measure(
                        process, model, staged, config.measure, seed=config.seed, tags=tags
                    )

            with _measured("publish it", reporter, seconds):
                body = make_body(asked, contents.signatures)
                place.bring(staged, reporter.note)  # the rest comes after the receipt that says how long

            def make_receipt(published: Path, request: Request | None) -> Receipt:
                return Receipt(
                    schema_version=SCHEMA_VERSION,
                    status=Status.PROVEN if config.verify.mode is VerifyMode.FULL else Status.WRITTEN,
                    filepath=str(published.absolute()),
                    format=plan.save_format,
                    read=(hide(read),),
                    recipe=describe_recipe(config),
                    inputs=provenance.inputs + dependencies,
                    repository=provenance.repository,
                    versions=list_versions(config),
                    files=files,
                    total_bytes=sum(record.size for record in files),
                    signatures=dict(contents.signatures),
                    request=request,
                    held=held,
                    left_out=tuple(replace(each, why=hide(each.why)) for each in (*left_out, *result.left_out)),
                    checks=tuple(replace(check, detail=hide(check.detail)) for check in result.checks),
                    seconds=seconds,
                    measurements=measurements,
                    peak_memory_bytes=measure_peak(),
                    started=started.isoformat(timespec="milliseconds"),
                    finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    host=platform.node(),
                    machine=describe_machine(),
                    loading=result.loading,
                )

            receipt = place.publish(staged, make_receipt, body)

        if run_directory is not None:
            with _receipt_faults_named(receipt.filepath):
                keep_receipt(receipt, run_directory)
        place.remove_older(receipt.filepath)
    return receipt


@contextmanager
def _measured(phase: str, reporter: Reporter, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    with reporter.phase(phase):
        yield
    seconds[phase] = round(time.perf_counter() - started, 3)


def _start_tensorflow() -> None:
    """Imports TensorFlow and makes its devices, which is when it has something to say about them."""
    # They read these when they are imported; the proof's process takes its share of an accelerator.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()!r} here, and models are exported from TensorFlow. "
            "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
        )
    tf.config.list_logical_devices()


def _refuse_left_out(config: ExportConfig, plan: SavePlan, left_out: tuple[LeftOut, ...]) -> None:
    refused = [entry for entry in left_out if not entry.intended]
    if config.strict and refused:
        raise ModelError(
            f"The format {plan.save_format!r} does not hold all of the model, and `strict` is true; nothing was "
            "published.",
            *(f"  {entry.what}: {entry.why}" for entry in refused),
            "Choose another `save_format`, or list it as left out with strict=false.",
        )


@contextmanager
def _receipt_faults_named(published: str) -> Iterator[None]:
    """Turns a refusal of the file system, after the artifact is in its place, into an error that says so."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"{published} is published, and its receipt could not be written: {error}. "
            "Export it again where there is space for the receipt too, to have one."
        ) from error


@contextmanager
def _file_faults_named(target: str) -> Iterator[None]:
    """Turns a refusal of the file system into an error with a remedy."""
    try:
        yield
    except ExporterError:
        raise
    except OSError as error:
        raise ExportError(
            f"{target} could not be written: {error}. What was there is unchanged. Free space, or choose a `filepath` "
            "in a directory that can be written."
        ) from error
