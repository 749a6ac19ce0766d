"""How an artifact is proven and measured: one that holds the model, or one that holds what endpoints compute."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifacts.records import Check, Deployment, Loading, Measurements, Score, Status
from exporter.config import ExportConfig, MeasureMode, VerifyMode
from exporter.exporting.session import ExportSession
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import Contents, Omission
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import Format
from exporter.verification.deployment.worker import start_runtime

if TYPE_CHECKING:
    import keras

    from exporter.models.endpoints.building import BuiltEndpoint
    from exporter.saving.deployment.conversions import CalibrationData
    from exporter.verification.comparing.asked import VerificationInputs
    from exporter.verification.deployment.quality.data import RealData

# What imports TensorFlow is imported by the method that needs it: it has been started by then.


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResult:
    """What a proof found.

    Attributes:
        status: How far the artifact is proven.
        checks: Every comparison, in order; all passed.
        left_out: What the artifact turned out not to hold, or what could not be compared.
        loading: With what it is loaded.
        deployment: What is known of one that holds what endpoints compute.
        scores: How well it does on labelled data, beside the version before; empty where that was not compared.
    """

    status: Status = Status.WRITTEN
    checks: tuple[Check, ...] = ()
    left_out: tuple[Omission, ...] = ()
    loading: Loading = field(default_factory=Loading)
    deployment: Deployment | None = None
    scores: tuple[Score, ...] = ()


class Prover(ABC):
    """Proves and measures artifacts in a fresh process, as far as a config asks.

    Attributes:
        proves: Whether anything is proven.
        measures: Whether anything is measured.
        process: The fresh process; None where it has nothing to do.
    """

    def __init__(self, config: ExportConfig, session: ExportSession) -> None:
        """Starts the process, which imports what it needs while the model is built."""
        self._config = config
        self.proves = config.verify.mode is not VerifyMode.NONE
        self.measures = config.measure.mode is MeasureMode.ALWAYS
        self.process = session.open_process(self.start) if self.proves or self.measures else None

    @staticmethod
    @abstractmethod
    def start() -> FreshProcess:
        """Starts the fresh process."""

    def warm_up(self) -> None:  # noqa: B027  not every process has something to do
        """Lets the process make itself ready, while this one imports TensorFlow."""

    def find_calibration(self, endpoints: "Mapping[str, BuiltEndpoint]") -> "CalibrationData | None":
        """Reads the data that an artifact is calibrated with; None where it is not."""
        return None

    @abstractmethod
    def prepare(self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]") -> "VerificationInputs | None":
        """Draws what the model and the artifact are asked; None where nobody asks."""

    @abstractmethod
    def verify(
        self, model: "keras.Model", staged: Path, contents: Contents, inputs: "VerificationInputs | None"
    ) -> ProofResult:
        """Proves that an artifact is what was asked for."""

    @abstractmethod
    def measure(self, model: "keras.Model", staged: Path, inputs: "VerificationInputs | None") -> Measurements | None:
        """Measures an artifact."""


class ModelProver(Prover):
    """Proves that an artifact is the same model, bit for bit."""

    def __init__(self, config: ExportConfig, session: ExportSession, holds_endpoints: bool) -> None:
        super().__init__(config, session)
        self._holds_endpoints = holds_endpoints

    @staticmethod
    def start() -> FreshProcess:
        """Starts the fresh process, which has TensorFlow and Keras."""
        return FreshProcess("exporter.verification")

    def warm_up(self) -> None:
        """Lets the process make its devices."""
        from exporter.verification import verification

        if self.process:
            verification.warm_up(self.process)

    def prepare(self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]") -> "VerificationInputs | None":
        """Draws inputs, or reads those of the recipe's file; also for requests to a server."""
        from exporter.verification.inputs import prepare_inputs

        if not (self.proves or self._holds_endpoints):
            return None
        return prepare_inputs(model, self._config.verify, self._config.seed, dict(endpoints) or None)

    def verify(
        self, model: "keras.Model", staged: Path, contents: Contents, inputs: "VerificationInputs | None"
    ) -> ProofResult:
        """Compares everything that the artifact holds."""
        from exporter.verification import verification
        from exporter.verification.custom_objects import find_needs

        if not (self.process and inputs and self.proves):
            return ProofResult(loading=find_needs(model).to_loading())
        config = self._config
        result = verification.verify(
            self.process,
            model,
            staged,
            inputs,
            mode=config.verify.mode,
            include_optimizer=config.include_optimizer,
            tags=config.options.extra_tags,
            omissions=contents.left_out,
        )
        is_proven = config.verify.mode is VerifyMode.FULL
        return ProofResult(
            status=Status.PROVEN if is_proven else Status.WRITTEN,
            checks=result.checks,
            left_out=result.left_out,
            loading=result.loading,
        )

    def measure(self, model: "keras.Model", staged: Path, inputs: "VerificationInputs | None") -> Measurements | None:
        """Measures it with our `load_model`, or as it is served."""
        from exporter.verification import measuring

        if not (self.process and self.measures):
            return None
        config = self._config
        return measuring.measure(
            self.process, model, staged, config.measure, seed=config.seed, tags=config.options.extra_tags
        )


class DeploymentProver(Prover):
    """Proves that an artifact computes what the model computes, in its own runtime."""

    def __init__(self, config: ExportConfig, session: ExportSession, save_format: DeployedFormat) -> None:
        super().__init__(config, session)
        self._format = save_format
        self._data: RealData | None = None

    @staticmethod
    def start() -> FreshProcess:
        """Starts the fresh process, which has neither TensorFlow nor Keras."""
        return start_runtime()

    def find_calibration(self, endpoints: "Mapping[str, BuiltEndpoint]") -> "CalibrationData | None":
        """Reads the real data, to calibrate the artifact with and to judge it on."""
        from exporter.verification.deployment.quality.data import read_data

        self._data = read_data(self._config, endpoints)
        return self._data.calibration

    def prepare(self, model: "keras.Model", endpoints: "Mapping[str, BuiltEndpoint]") -> "VerificationInputs | None":
        """Draws inputs: what is answered to them shows whether the artifact is sound, without any data."""
        from exporter.verification.inputs import prepare_inputs

        if not (self.proves or self.measures):
            return None
        return prepare_inputs(model, replace(self._config.verify, data=None), self._config.seed, dict(endpoints))

    def verify(
        self, model: "keras.Model", staged: Path, contents: Contents, inputs: "VerificationInputs | None"
    ) -> ProofResult:
        """Compares what endpoints answer, and judges it by labelled data."""
        from exporter.verification.deployment.verification import Proof

        if not (self.process and inputs and self.proves):
            return ProofResult(deployment=Deployment(quantize=self._config.quantize))
        proof = Proof(
            process=self.process,
            model=model,
            save_format=self._format,
            declared=contents.signatures,
            inputs=inputs,
            quantize=self._config.quantize,
            settings=self._config.verify,
            samples=self._data.labelled if self._data else None,
        )
        result = proof.verify(staged)
        calibration = self._data.calibration if self._data else None
        deployment = replace(result.deployment, calibration=calibration.origin if calibration else "")
        return ProofResult(
            status=Status.PROVEN if result.is_proven else Status.WRITTEN,
            checks=result.checks,
            left_out=result.left_out,
            deployment=deployment,
        )

    def measure(self, model: "keras.Model", staged: Path, inputs: "VerificationInputs | None") -> Measurements | None:
        """Measures it in its own runtime, with one thread."""
        from exporter.verification.deployment.measuring import measure

        if not (self.process and self.measures and inputs):
            return None
        return measure(self.process, self._format, staged, inputs, self._config.measure)


def choose_prover(config: ExportConfig, session: ExportSession, save_format: Format) -> Prover:
    """Chooses how artifacts of a format are proven."""
    if isinstance(save_format, DeployedFormat):
        return DeploymentProver(config, session, save_format)
    return ModelProver(config, session, save_format.holds_endpoints)
