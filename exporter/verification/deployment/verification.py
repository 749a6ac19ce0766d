"""The proof: the model's endpoints are asked here, those of the artifact in a process that has only its runtime."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from exporter.artifacts.records import Check, CheckKind, Deployment, Score
from exporter.config import VerifyConfig, VerifyMode
from exporter.errors import ModelError, ProofError
from exporter.models.training.steps import preserve_model
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.fresh_process import FreshProcess, count_bytes, wait_seconds
from exporter.saving.contents import Endpoint, Omission, OmissionKind
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.layout.records import read_record
from exporter.saving.state.replicas import on_one_device
from exporter.text.failures import describe_failure
from exporter.verification.comparing.asked import EndpointInputs, VerificationInputs
from exporter.verification.deployment.comparing import Moved, compare_answers
from exporter.verification.deployment.declared import compare_endpoints
from exporter.verification.deployment.quality.samples import Samples, cut, join
from exporter.verification.deployment.quality.scoring import Labelled, UnscoredError, find_agreement, score_outputs
from exporter.verification.deployment.rounding import Rounding, ask, find_half_unit
from exporter.verification.deployment.worker import split_batches

_REMEDY = (
    "Choose another `quantize`, give more `calibration.samples`, or allow a larger loss with verify.max_accuracy_drop."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentResult:
    """What a proof found.

    Attributes:
        checks: Every comparison, in order; all passed.
        left_out: What could not be compared, and what to set.
        deployment: The figures.
        is_proven: Whether all that the artifact computes was held against the model.
    """

    checks: tuple[Check, ...]
    left_out: tuple[Omission, ...]
    deployment: Deployment
    is_proven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One proof.

    Attributes:
        process: The fresh process.
        model: The model; it is only read.
        save_format: Of the artifact.
        declared: What its endpoints take and return.
        inputs: What they are asked.
        quantize: How it was quantised.
        settings: The recipe's.
        samples: Labelled data to judge it on; None where there is none.
    """

    process: FreshProcess
    model: keras.Model
    save_format: DeployedFormat
    declared: Mapping[str, Endpoint]
    inputs: VerificationInputs
    quantize: Quantize | None
    settings: VerifyConfig
    samples: Samples | None

    def verify(self, artifact: Path) -> DeploymentResult:
        """Proves that an artifact computes what the model computes.

        Args:
            artifact: Where it is.

        Raises:
            ProofError: It does not; the message names each check that failed, with its figure.
        """
        self.process.begin()
        with (
            tempfile.TemporaryDirectory(prefix="exporter-proof-") as folder,
            on_one_device(self.model),
            preserve_model(self.model),
        ):
            found = _Findings([], [], [], [], [])
            self._open(artifact, found)
            if self.settings.mode is VerifyMode.FULL and not found.failed:
                for endpoint in self.inputs.endpoints:
                    self._compare(endpoint, Path(folder), found)
                    self._score(endpoint, Path(folder), found)
        if found.failed:
            raise self._explain(found)
        deployment = Deployment(
            quantize=self.quantize,
            rounding=max(found.rounding, default=None),
            scores=tuple(found.scores),
            agreement=min(found.agreement, default=None),
            data=self.samples.origin if self.samples and found.scores else "",
        )
        is_proven = self.settings.mode is VerifyMode.FULL and (self._is_exact or bool(found.scores))
        return DeploymentResult(
            checks=tuple(found.checks), left_out=tuple(found.left_out), deployment=deployment, is_proven=is_proven
        )

    @property
    def _is_exact(self) -> bool:
        return self.quantize is None or self.quantize.is_exact

    def _open(self, artifact: Path, found: "_Findings") -> None:
        reply = self._ask("open", artifact, save_format=self.save_format.name, path=str(artifact.absolute()))
        if "error" in reply:
            found.checks.append(Check("load", False, "cannot be opened", str(reply["error"]), kind=CheckKind.FACTS))
            return
        alone = "without TensorFlow and Keras" if not reply["imported"] else f"with {', '.join(reply['imported'])}"
        what = f"{self.save_format.runtime_name}, {alone}"
        found.checks.append(Check("load", not reply["imported"], "opened", what, kind=CheckKind.FACTS))
        received = read_record(dict[str, Endpoint], reply["endpoints"])
        found.checks.append(compare_endpoints(self.declared, received))

    def _compare(self, endpoint: EndpointInputs, folder: Path, found: "_Findings") -> None:
        """Compares what the model and the artifact answer to the same batches."""
        names = [leaf.name for leaf in endpoint.inputs.leaves]
        batches = [dict(zip(names, batch, strict=True)) for batch in endpoint.batches]
        name = f"outputs of {endpoint.name}"
        if not batches:
            found.left_out.append(Omission(f"proof of {name}", endpoint.why_none, kind=OmissionKind.COMPARISON))
            return
        assert endpoint.function is not None  # every endpoint of a converted file is declared
        try:
            half_unit, function = find_half_unit(self.model, self.quantize), endpoint.function
            rounding = Rounding(partial(ask, function), batches, half_unit, self.inputs.seed, function.variables)
        except Exception as error:  # the model may be anybody's code
            raise ModelError(
                f"The model cannot compute its own {name} for {self.inputs.origin}, and nothing was published. "
                f"{describe_failure(error)}",
                "Export an endpoint that it can compute here, or publish without a proof: verify=none.",
            ) from error
        answers = self._run(endpoint.name, batches, folder)
        if isinstance(answers, str):
            found.checks.append(Check(name, False, "cannot be computed", answers, kind=CheckKind.OUTPUTS))
            return
        moved = Moved(rounding, self.settings.tolerance if self._is_exact else None)
        check, ratio = compare_answers(name, moved, answers, self.inputs.origin)
        found.checks.append(check)
        found.rounding.extend([] if ratio is None else [ratio])

    def _score(self, endpoint: EndpointInputs, folder: Path, found: "_Findings") -> None:
        """Judges an endpoint by labelled data, beside the model."""
        name, samples = endpoint.name, self.samples
        if samples is None or name not in samples.inputs:
            why = "there is no labelled data" if samples is None else samples.missing[name]
            self._leave_unscored(name, why, found)
            return
        assert endpoint.function is not None
        batches = list(cut(samples.inputs[name], endpoint.inputs))
        count = sum(len(next(iter(batch.values()))) for batch in batches)
        model = join([ask(endpoint.function, batch) for batch in batches])
        answers = self._run(name, batches, folder)
        if isinstance(answers, str):
            found.checks.append(Check(f"quality of {name}", False, "cannot be computed", answers))
            return
        targets = {key: value[:count] for key, value in samples.targets.items()}
        labelled = Labelled(name, model, join(answers), targets)
        agreement = find_agreement(labelled)
        found.agreement.extend([] if agreement is None else [agreement])
        try:
            scores = score_outputs(labelled, self.settings.metric)
        except UnscoredError as error:
            self._leave_unscored(name, str(error), found)
            return
        found.scores.extend(scores)
        found.checks.append(self._judge(name, scores, agreement))

    def _judge(self, name: str, scores: Sequence[Score], agreement: float | None) -> Check:
        most, least = self.settings.max_accuracy_drop, self.settings.min_agreement
        enough = least is None or agreement is None or agreement >= least
        passed = enough and all(most is None or score.loss <= most for score in scores)
        figure = "; ".join(map(str, scores))
        limits = [f"may lose {most:g}"] if most is not None else ["nothing is asked of it"]
        if agreement is not None:
            least_words = f", at least {least:g}" if least is not None else ""
            limits.append(f"decides as the model for {agreement:.1%}{least_words}")
        outputs = ", ".join(score.output for score in scores)
        origin = self.samples.origin if self.samples else ""
        detail = f"{outputs} of {scores[0].samples} samples of {origin}; {'; '.join(limits)}"
        return Check(f"quality of {name}", passed, figure, detail, kind=CheckKind.FACTS)

    def _leave_unscored(self, name: str, why: str, found: "_Findings") -> None:
        """Says that an artifact of integers was not proven; one of floats was, by what it answers."""
        if not self._is_exact:
            remedy = "set verify.data to an .npz file with its inputs by name and the targets as y"
            found.left_out.append(
                Omission(f"proof of {name}", f"{why}; to prove it, {remedy}", kind=OmissionKind.COMPARISON)
            )

    def _run(self, endpoint: str, batches: Sequence[Mapping[str, Array]], folder: Path) -> list[dict[str, Array]] | str:
        """Asks the artifact; returns the error where it cannot answer."""
        question, answer = folder / "question", folder / "answer"
        arrays = {f"{number}/{name}": each for number, batch in enumerate(batches) for name, each in batch.items()}
        write_arrays(question, arrays)
        reply = self._ask("ask", question, endpoint=endpoint, batches=str(question), answers=str(answer))
        if "error" in reply:
            return str(reply["error"])
        return list(split_batches(read_arrays(answer)).values())

    def _ask(self, request: str, size_of: Path, **arguments: object) -> dict[str, Any]:
        return self.process.ask(request, wait_seconds(count_bytes(size_of)), **arguments)

    def _explain(self, found: "_Findings") -> ProofError:
        failed = found.failed
        return ProofError(
            f"The artifact that was written does not compute what the model computes: {len(failed)} of "
            f"{len(found.checks)} checks failed, and nothing was published.",
            *(f"  {check.name}: {check.figure}; {check.detail}" for check in failed),
            *([] if self._is_exact else [_REMEDY]),
            "`verify=none` publishes without a proof.",
            checks=found.checks,
        )


@dataclass(slots=True)
class _Findings:
    checks: list[Check]
    left_out: list[Omission]
    rounding: list[float]
    scores: list[Score]
    agreement: list[float]

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]
