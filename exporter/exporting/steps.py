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
from exporter.artifacts.numbered_versions import find_newest
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import SCHEMA_VERSION, Input, Measurements, Phase, Request
from exporter.config import ExportConfig
from exporter.errors import ExporterError, ExportError, ModelError
from exporter.exporting.destinations.local import Destination
from exporter.exporting.destinations.publishing import keep_receipt
from exporter.exporting.destinations.versions import LATEST
from exporter.exporting.provenance import (
    Provenance,
    describe_machine,
    describe_recipe,
    list_versions,
    record_dependencies,
)
from exporter.exporting.proving import ProofResult, choose_prover
from exporter.exporting.reporting import Reporter, bytes_noted
from exporter.exporting.session import ExportSession
from exporter.models.building import Fact
from exporter.processes.collector import imports_set_aside
from exporter.processes.imports import needless_imports_hidden
from exporter.processes.memory import measure_peak, reset_peak
from exporter.saving.arguments import check_model
from exporter.saving.contents import Contents, Omission, OmissionKind, list_lost
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.plans import SavePlan, check_space, plan_save
from exporter.saving.requests import SaveRequest
from exporter.storage.digests import FileRecord
from exporter.storage.remote import find_artifact, show_urls
from exporter.storage.staging import moved_away, stage_beside
from exporter.text.hiding import hide

if TYPE_CHECKING:
    import keras

    from exporter.models.endpoints.building import BuiltEndpoint
    from exporter.verification.comparing.asked import VerificationInputs
    from exporter.verification.regressions.gate import Standard

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
        seconds: The duration of each step that has ended.
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
        self._format = destination.save_format
        self._read = ""
        self._expected = 0
        self._facts: Mapping[str, Fact] = {}
        self._lost: tuple[Omission, ...] = ()
        self.seconds: dict[Phase, float] = {}
        reset_peak()
        self._prover = choose_prover(config, session, self._format)
        self._converter = None
        if isinstance(self._format, DeployedFormat):  # it imports TensorFlow as well
            self._converter = session.open_process(self._format.start_converter)

    def start_tensorflow(self) -> None:
        """Starts TensorFlow here, and at the same time in the process that verifies."""
        with self._step(Phase.START), imports_set_aside():
            launch_tensorflow()
            # These import much: the other process shall do so at the same time, and not after this one.
            import exporter.exporting.serving
            import exporter.models.endpoints.building
            import exporter.models.options
            import exporter.verification.custom_objects
            import exporter.verification.inputs
            import exporter.verification.measuring
            import exporter.verification.verification  # noqa: F401

            self._prover.warm_up()

    def build_model(self) -> "keras.Model":
        """Builds the model, or takes the one that the session has."""
        with self._step(Phase.BUILD):
            built, self._read = self._session.build(self._config.model, self._config.seed, self._reporter.note)
        model, self._facts = built.model, built.facts
        check_model(model)
        self._lost = list_lost(model)
        self._expected = check_space(model, self._destination.target, self._config.include_optimizer)
        return model

    def trace_endpoints(self, model: "keras.Model") -> "Mapping[str, BuiltEndpoint]":
        """Traces the endpoints that the config declares, or the one that a server takes if none is named."""
        from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints
        from exporter.models.options import declare_default

        config = self._config
        declared = config.signatures
        if not declared and self._format.holds_endpoints:
            declared = declare_default(model, config.options, must_exist=not self._format.holds_model)
        self._stack.enter_context(kept_for_endpoints(model, declared))
        with self._step(Phase.TRACE) if declared else nullcontext():
            return build_endpoints(model, declared, config.options)

    def plan(self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]") -> SavePlan:
        """Checks that the format can hold the model, before anything is written."""
        from exporter.models.options import build_save_options

        signatures = {name: endpoint.function for name, endpoint in endpoints.items()} or None
        return plan_save(
            SaveRequest(
                model,
                self._destination.target,
                self._format.name,
                include_optimizer=self._config.include_optimizer,
                signatures=signatures,
                options=build_save_options(self._config.options, signatures) if self._format.is_served else None,
                steps={name: step for endpoint in endpoints.values() for name, step in endpoint.training.items()},
                quantize=self._config.quantize,
                calibration=self._prover.find_calibration(endpoints),
                converter=self._converter,
                compatibility=self._config.compatibility,
            )
        )

    def prepare_inputs(
        self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]"
    ) -> "VerificationInputs | None":
        """Draws the inputs that the model and the artifact are asked with; None where nobody asks."""
        return self._prover.prepare(model, endpoints)

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

        asked = list_askable(inputs if self._format.is_served else None)
        self._await_converter()
        with self._step(Phase.WRITE), bytes_noted(staged, self._expected, self._reporter.note):
            contents = plan.write(staged, self._provenance.make_notes())
            warmup, no_warmup = add_warmup(self._config, staged, self._destination.model_name, asked)
            files = write_manifest(staged, self._destination.target.name)
            dependencies = record_dependencies(contents.dependencies)
        contents = replace(contents, held=contents.held + warmup, left_out=contents.left_out + no_warmup)
        self._refuse_left_out(contents.left_out)
        self._refuse_unopened(contents)
        return Written(contents, files, dependencies, make_body(asked, contents.signatures))

    def _await_converter(self) -> None:
        """Lets the imports of a converter that has just been started count for what they are."""
        if self._converter is not None:
            started = time.perf_counter()
            self._converter.wait_until_ready()
            self.seconds[Phase.START] = round(self.seconds[Phase.START] + time.perf_counter() - started, 3)

    def verify(
        self, model: "keras.Model", staged: Path, written: Written, inputs: "VerificationInputs | None"
    ) -> ProofResult:
        """Proves in a fresh process that what was written is what was asked for, as far as the config says."""
        with self._step(Phase.PROVE) if self._prover.proves else nullcontext(), moved_away(staged) as elsewhere:
            result = self._prover.verify(model, elsewhere, written.contents, inputs)
            if self._config.verify.environments and inputs is not None:
                result = self._verify_elsewhere(model, elsewhere, result, inputs)
        self._refuse_left_out(result.left_out)
        return result

    def _verify_elsewhere(
        self, model: "keras.Model", staged: Path, result: ProofResult, inputs: "VerificationInputs"
    ) -> ProofResult:
        """Proves it in the environments that the config names."""
        from exporter.verification.custom_objects import find_needs
        from exporter.verification.environments.exports import prove_elsewhere

        objects, safe_mode = find_needs(model).to_json(), result.loading.safe_mode
        found = prove_elsewhere(self._config, self._format, model, staged, inputs, safe_mode=safe_mode, objects=objects)
        return replace(result, checks=(*result.checks, *found.checks), left_out=(*result.left_out, *found.left_out))

    def compare(
        self, staged: Path, written: Written, endpoints: "Mapping[str, BuiltEndpoint]", result: ProofResult
    ) -> ProofResult:
        """Holds what was written against the artifact that the config names, before it takes its place."""
        if self._config.layout.against is None:
            return result
        from exporter.verification.regressions.gate import hold_against

        with self._reporter.phase("compare the versions"):
            standard = self._find_standard(self._config.layout.against)
            found = hold_against(standard, staged, written.contents.signatures, self._config, endpoints)
        return replace(
            result,
            checks=(*result.checks, *found.checks),
            left_out=(*result.left_out, *found.left_out),
            scores=tuple(found.scores),
        )

    def _find_standard(self, against: str) -> "Standard":
        from exporter.verification.regressions.gate import Standard

        if against == LATEST:
            path = self._destination.find_latest()
            directory = self._destination.shown.rpartition("/")[0]
            return Standard(path=path, shown=show_urls(str(path)) if path else directory)
        path = find_artifact(against)
        path = find_newest(path) or path
        return Standard(path=path, shown=show_urls(str(path)))

    def measure(self, model: "keras.Model", staged: Path, inputs: "VerificationInputs | None") -> Measurements | None:
        """Measures the artifact in the fresh process, where the config asks for it."""
        with self._step(Phase.MEASURE) if self._prover.measures else nullcontext():
            return self._prover.measure(model, staged, inputs)

    def publish(
        self, staged: Path, written: Written, result: ProofResult, measurements: Measurements | None
    ) -> Receipt:
        """Puts the artifact in its place, with its receipt beside it."""
        with self._step(Phase.PUBLISH):
            self._destination.upload(staged, self._reporter.note)  # the rest comes after the receipt that says how long

        def make_receipt(published: Path, request: Request | None) -> Receipt:
            contents = written.contents
            return Receipt(
                schema_version=SCHEMA_VERSION,
                status=result.status,
                filepath=str(published.absolute()),
                format=self._format.name,
                read=(hide(self._read),),
                facts={name: hide(value) if isinstance(value, str) else value for name, value in self._facts.items()},
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
                loading=replace(result.loading, libraries=contents.libraries),
                deployment=result.deployment,
                oldest_keras=contents.oldest_keras,
                oldest_tensorflow=contents.oldest_tensorflow,
                scores=result.scores,
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
    def _step(self, phase: Phase) -> Iterator[None]:
        started = time.perf_counter()
        with self._reporter.phase(phase.words):
            yield
        self.seconds[phase] = round(time.perf_counter() - started, 3)

    def _refuse_left_out(self, left_out: tuple[Omission, ...]) -> None:
        refused = [entry for entry in left_out if not entry.intended]
        if self._config.strict and refused:
            is_of_source = all(entry in self._lost for entry in refused)
            which = (
                "The file that the model comes from did" if is_of_source else f"The format {self._format.name!r} does"
            )
            remedy = "List" if is_of_source else "Choose another `save_format`, or list"
            raise ModelError(
                f"{which} not hold all of the model, and `strict` is true; nothing was published.",
                *(f"  {entry.what}: {entry.why}" for entry in refused),
                f"{remedy} it as left out with strict=false.",
            )

    def _refuse_unopened(self, contents: Contents) -> None:
        """Refuses an artifact without what Keras reads, where a Keras has to open it."""
        if self._config.compatibility is not None and not contents.oldest_keras:
            whys = [each.why for each in contents.left_out if each.kind is OmissionKind.TWIN]
            raise ModelError(
                f"No Keras opens this artifact, and compatibility={self._config.compatibility} asks for one; nothing "
                "was published.",
                *(f"  {why}" for why in whys),
                "Choose save_format=h5 or keras, or set compatibility=null.",
            )


def launch_tensorflow() -> None:
    """Imports TensorFlow and makes its devices, which is when it has something to say about them."""
    # They read these when they are imported; the proof's process takes its share of an accelerator.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with needless_imports_hidden():
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
