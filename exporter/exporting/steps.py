"""The steps of an export, each with its name, its time, and its faults in words."""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifacts.manifest import write_manifest
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import SCHEMA_VERSION, Input, Measurements, Request, Status
from exporter.config import ExportConfig, MeasureMode, VerifyMode
from exporter.errors import ExporterError, ExportError, ModelError
from exporter.exporting.destinations.local import Destination
from exporter.exporting.destinations.publishing import keep_receipt
from exporter.exporting.provenance import (
    Provenance,
    describe_machine,
    describe_recipe,
    list_versions,
    record_dependencies,
)
from exporter.exporting.reporting import Reporter
from exporter.exporting.session import ExportSession
from exporter.processes.collector import imports_set_aside
from exporter.processes.memory import measure_peak, reset_peak
from exporter.saving.contents import Contents, Omission
from exporter.saving.plans import SavePlan, check_space, plan_save
from exporter.saving.requests import SaveRequest
from exporter.storage.digests import FileRecord
from exporter.storage.staging import moved_away, stage_beside
from exporter.text.hiding import hide

if TYPE_CHECKING:
    import keras

    from exporter.models.endpoints.building import BuiltEndpoint
    from exporter.verification.comparing.asked import VerificationInputs
    from exporter.verification.verification import VerificationResult

# What imports TensorFlow is imported by the step that needs it: it has been started by then.


@dataclass(frozen=True, slots=True)
class Written:
    """What was written into staging.

    Attributes:
        contents: What it holds, with the requests that a server is warmed up with.
        files: Every file of it.
        dependencies: What it needs that is not in it.
        body: The endpoint and the body of a request to try a server with; None where there is none.
    """

    contents: Contents
    files: tuple[FileRecord, ...]
    dependencies: tuple[Input, ...]
    body: tuple[str, str] | None


class Export:
    """One export, from its config to its receipt.

    Attributes:
        seconds: The duration of each step that has ended, by name.
    """

    def __init__(
        self,
        config: ExportConfig,
        destination: Destination,
        reporter: Reporter,
        session: ExportSession,
        stack: ExitStack,
    ) -> None:
        """Begins; nothing is built yet.

        Args:
            config: The export, checked.
            destination: Where the artifact goes.
            reporter: Is told about the progress.
            session: What this export shares with others of this process.
            stack: Ends, when the export does, what its steps have begun.
        """
        self._config = config
        self._destination = destination
        self._reporter = reporter
        self._session = session
        self._stack = stack
        self._started = datetime.now(UTC)
        self._provenance = Provenance(config)
        self._proves = config.verify.mode is not VerifyMode.NONE
        self._measures = config.measure.mode is MeasureMode.ALWAYS
        self._is_served = destination.save_format.holds_endpoints
        self._read = ""
        self.seconds: dict[str, float] = {}
        reset_peak()
        self._process = session.open_process() if self._proves or self._measures else None

    def start_tensorflow(self) -> None:
        """Starts TensorFlow here, and at the same time in the process that verifies."""
        with self._step("start TensorFlow"), imports_set_aside():
            _start_tensorflow()
            # These import much: the other process shall do so at the same time, and not after this one.
            import exporter.exporting.serving
            import exporter.models.endpoints.building
            import exporter.models.options
            import exporter.verification.custom_objects
            import exporter.verification.inputs
            import exporter.verification.measuring  # noqa: F401
            from exporter.verification import verification

            if self._process:
                verification.warm_up(self._process)

    def build_model(self) -> "keras.Model":
        """Builds the model, or takes the one that the session has."""
        with self._step("build the model"):
            model, self._read = self._session.build(self._config.model, self._config.seed, self._reporter.note)
        check_space(model, self._destination.target, self._config.include_optimizer)
        return model

    def trace_endpoints(self, model: "keras.Model") -> "Mapping[str, BuiltEndpoint]":
        """Traces the endpoints that the config declares, or the one that a server takes if none is named."""
        from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints
        from exporter.models.options import declare_default

        config = self._config
        declared = config.signatures or (declare_default(model, config.options) if self._is_served else {})
        self._stack.enter_context(kept_for_endpoints(model, declared))
        with self._step("trace the endpoints") if declared else nullcontext():
            return build_endpoints(model, declared, config.options)

    def plan(self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]") -> SavePlan:
        """Checks that the format can hold the model, before anything is written."""
        from exporter.models.options import build_save_options

        signatures = {name: endpoint.function for name, endpoint in endpoints.items()} or None
        return plan_save(
            SaveRequest(
                model,
                self._destination.target,
                self._destination.save_format.name,
                include_optimizer=self._config.include_optimizer,
                signatures=signatures,
                options=build_save_options(self._config.options, signatures) if self._is_served else None,
                steps={name: step for endpoint in endpoints.values() for name, step in endpoint.training.items()},
            )
        )

    def prepare_inputs(
        self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]"
    ) -> "VerificationInputs | None":
        """Draws the inputs that the model and the artifact are asked with; None where nobody asks."""
        from exporter.verification.inputs import prepare_inputs

        if not (self._proves or self._is_served):
            return None
        return prepare_inputs(model, self._config.verify, self._config.seed, dict(endpoints) or None)

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Gives a path beside the target, which is removed again unless the artifact was published from it."""
        destination = self._destination
        with (
            _file_faults_named(destination.shown),
            stage_beside(
                destination.target, alone=not destination.is_named_late, on_wait=self._reporter.tell_wait
            ) as staged,
        ):
            yield staged

    def write(self, plan: SavePlan, staged: Path, inputs: "VerificationInputs | None") -> Written:
        """Writes the artifact, and seals it."""
        from exporter.exporting.serving import add_warmup, list_askable, make_body

        asked = list_askable(inputs)
        with self._step("write the artifact"):
            contents = plan.write(staged, self._provenance.make_notes())
            warmup, no_warmup = add_warmup(self._config, staged, self._destination.model_name, asked)
            files = write_manifest(staged, self._destination.target.name)
            dependencies = record_dependencies(contents.dependencies)
        contents = replace(contents, held=contents.held + warmup, left_out=contents.left_out + no_warmup)
        self._refuse_left_out(contents.left_out)
        return Written(contents, files, dependencies, make_body(asked, contents.signatures))

    def verify(
        self, model: "keras.Model", staged: Path, written: Written, inputs: "VerificationInputs | None"
    ) -> "VerificationResult":
        """Proves in a fresh process that what was written is the same model, as far as the config asks."""
        from exporter.verification import verification
        from exporter.verification.custom_objects import find_needs

        if not (self._process and inputs and self._proves):
            return verification.VerificationResult((), (), find_needs(model).to_loading())
        with self._step("prove it"), moved_away(staged) as elsewhere:
            result = verification.verify(
                self._process,
                model,
                elsewhere,
                inputs,
                mode=self._config.verify.mode,
                include_optimizer=self._config.include_optimizer,
                tags=self._config.options.extra_tags,
                omissions=written.contents.left_out,
            )
        self._refuse_left_out(result.left_out)
        return result

    def measure(self, model: "keras.Model", staged: Path) -> Measurements | None:
        """Measures the artifact in the fresh process, where the config asks for it."""
        from exporter.verification import measuring

        if not (self._process and self._measures):
            return None
        config = self._config
        with self._step("measure it"):
            return measuring.measure(
                self._process, model, staged, config.measure, seed=config.seed, tags=config.options.extra_tags
            )

    def publish(
        self, staged: Path, written: Written, result: "VerificationResult", measurements: Measurements | None
    ) -> Receipt:
        """Puts the artifact in its place, with its receipt beside it."""
        with self._step("publish it"):
            self._destination.upload(staged, self._reporter.note)  # the rest comes after the receipt that says how long

        def make_receipt(published: Path, request: Request | None) -> Receipt:
            contents = written.contents
            return Receipt(
                schema_version=SCHEMA_VERSION,
                status=Status.PROVEN if self._config.verify.mode is VerifyMode.FULL else Status.WRITTEN,
                filepath=str(published.absolute()),
                format=self._destination.save_format.name,
                read=(hide(self._read),),
                recipe=describe_recipe(self._config),
                inputs=self._provenance.inputs + written.dependencies,
                repository=self._provenance.repository,
                versions=list_versions(self._config),
                files=written.files,
                total_bytes=sum(record.size for record in written.files),
                signatures=dict(contents.signatures),
                request=request,
                held=contents.held,
                left_out=tuple(replace(each, why=hide(each.why)) for each in (*contents.left_out, *result.left_out)),
                checks=tuple(replace(check, detail=hide(check.detail)) for check in result.checks),
                seconds=self.seconds,
                measurements=measurements,
                peak_memory_bytes=measure_peak(),
                started=self._started.isoformat(timespec="milliseconds"),
                finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
                host=platform.node(),
                machine=describe_machine(),
                loading=result.loading,
            )

        return self._destination.publish(staged, make_receipt, written.body)

    def keep_receipt(self, receipt: Receipt, run_directory: Path | None) -> None:
        """Writes the receipt into the directory of the run too."""
        if run_directory is None:
            return
        try:
            keep_receipt(receipt, run_directory)
        except OSError as error:
            raise ExportError(
                f"{receipt.filepath} is published, and its receipt could not be written: {error}. "
                "Export it again where there is space for the receipt too, to have one."
            ) from error

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        with self._reporter.phase(name):
            yield
        self.seconds[name] = round(time.perf_counter() - started, 3)

    def _refuse_left_out(self, left_out: tuple[Omission, ...]) -> None:
        refused = [entry for entry in left_out if not entry.intended]
        if self._config.strict and refused:
            raise ModelError(
                f"The format {self._destination.save_format.name!r} does not hold all of the model, and `strict` is "
                "true; nothing was published.",
                *(f"  {entry.what}: {entry.why}" for entry in refused),
                "Choose another `save_format`, or list it as left out with strict=false.",
            )


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
