"""The gate before a publication: the new artifact is held against the one whose clients it is to serve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.artifacts.inspection import open_artifact
from exporter.artifacts.inspection.comparison import compare_signatures, measure_size
from exporter.artifacts.records import Check, CheckKind, Score
from exporter.config import ExportConfig, LayoutConfig
from exporter.errors import ArtifactError, RegressionError
from exporter.models.endpoints.building import BuiltEndpoint
from exporter.models.endpoints.declarations import EVALUATE, TRAIN
from exporter.saving.contents import Endpoint, Omission, OmissionKind, format_bytes
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.text.showing import list_first
from exporter.verification.answers.asking import Answers, ask_artifacts
from exporter.verification.deployment.quality.data import read_labelled
from exporter.verification.deployment.quality.samples import Samples, Served, cut, join
from exporter.verification.deployment.quality.scoring import Labelled, UnscoredError, score_outputs

_DATA = "set verify.data to an .npz file with its inputs by name and the targets as y"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What a new artifact is held against.

    Attributes:
        path: Of the artifact; None where there is none yet.
        shown: The place in messages.
    """

    path: Path | None
    shown: str


@dataclass(frozen=True, slots=True)
class _Default:
    """The endpoint that a model gives by itself."""

    inputs: Inputs
    preprocess: None = None


@dataclass(slots=True)
class Findings:
    """What the gate found.

    Attributes:
        checks: Every comparison, in order.
        left_out: What could not be compared, and why.
        scores: How well the new artifact does on labelled data, beside the other one.
    """

    checks: list[Check] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def leave_out(self, what: str, why: str) -> None:
        """Notes what could not be compared."""
        self.left_out.append(Omission(f"comparison of {what}", why, intended=True, kind=OmissionKind.COMPARISON))


def hold_against(
    standard: Standard,
    staged: Path,
    signatures: Mapping[str, Endpoint],
    config: ExportConfig,
    endpoints: Mapping[str, BuiltEndpoint],
) -> Findings:
    """Compares a new artifact with another one: what clients rely on, how good it is, and how large.

    Args:
        standard: The other one.
        staged: The new one, complete.
        signatures: What its endpoints take and return; empty where its format has none.
        config: The export, checked.
        endpoints: The same endpoints, as they were traced.

    Returns:
        What was compared; nothing is worse.

    Raises:
        RegressionError: Something is worse than `config.layout` allows; the message names all of it.
        ArtifactError: The other one cannot be read.
    """
    found = Findings()
    former: Mapping[str, Endpoint] = {}
    if standard.path is None:
        found.leave_out("versions", f"there is no version in {standard.shown} yet")
    else:
        former = _read_endpoints(standard.path)
        _compare_contracts(former, signatures, standard, found)
        _compare_sizes(standard.path, staged, config.layout, found)
    _compare_scores(standard, former, signatures, staged, config, endpoints, found)
    failed = [check for check in found.checks if not check.passed]
    if failed:
        raise RegressionError(
            f"The artifact that was written is a regression against {standard.shown}: {len(failed)} of "
            f"{len(found.checks)} comparisons failed, and nothing was published.",
            *(f"  {check.name}: {check.figure}; {check.detail}" for check in failed),
            *(f"  {each.what}: {each.why}" for each in found.left_out),
            "Allow more with layout.max_accuracy_drop or layout.max_growth, or publish it all the same with "
            "layout.against=null.",
            checks=found.checks,
        )
    return found


def _read_endpoints(path: Path) -> Mapping[str, Endpoint]:
    try:
        with open_artifact(path) as artifact:
            return artifact.graph.signatures if artifact.graph is not None else {}
    except ArtifactError as error:
        raise ArtifactError(
            f"{error} Nothing was published, for nothing can be held against it: name another artifact with "
            "layout.against=PATH, or publish without with layout.against=null."
        ) from error


def _compare_contracts(
    former: Mapping[str, Endpoint], signatures: Mapping[str, Endpoint], standard: Standard, found: Findings
) -> None:
    if not former or not signatures:
        which = standard.shown if not former else "the new artifact"
        found.leave_out("contracts", f"{which} has no endpoints")
        return
    differences = compare_signatures(former, signatures)
    broken = [f"{each.path}: {each.message}" for each in differences if not each.compatible]
    others = [f"{each.path}: {each.message}" for each in differences if each.compatible]
    figure = f"{len(broken)} broken" if broken else "kept"
    told = list_first(broken or others, 20) or f"{len(former)} endpoint{'s' if len(former) != 1 else ''}, all the same"
    found.checks.append(Check("contract", not broken, figure, f"{told}; against {standard.shown}"))


def _compare_sizes(former: Path, staged: Path, layout: LayoutConfig, found: Findings) -> None:
    before, after = measure_size(former), measure_size(staged)
    growth = after / before if before else float("inf")
    most = layout.max_growth
    limit = "any growth is allowed" if most is None else f"may be {most:g} times as large"
    figure = f"{format_bytes(after)}, {growth:.2f} times {format_bytes(before)}"
    found.checks.append(Check("size", most is None or after <= most * before, figure, limit))


def _compare_scores(
    standard: Standard,
    former: Mapping[str, Endpoint],
    signatures: Mapping[str, Endpoint],
    staged: Path,
    config: ExportConfig,
    endpoints: Mapping[str, BuiltEndpoint],
    found: Findings,
) -> None:
    """Scores both on the same labelled data, each by its own answers."""
    scored: Mapping[str, Served] = {
        name: each for name, each in endpoints.items() if each.method not in (TRAIN, EVALUATE)
    }
    if not endpoints:
        scored = {name: _Default(_describe(each)) for name, each in signatures.items()}
    samples = read_labelled(config, scored) if scored else None
    if samples is None:
        found.leave_out("accuracies", f"there is no labelled data: {_DATA}" if scored else "there are no endpoints")
        return
    if not samples.targets:
        found.leave_out("accuracies", f"{samples.origin} has no targets: {_DATA}")
        return
    for name, why in samples.missing.items():
        found.leave_out(f"the accuracy of {name}", f"{why}; {_DATA}")
    questions = {name: list(cut(samples.inputs[name], scored[name].inputs)) for name in samples.inputs}
    comparable = {}
    for name, batches in questions.items():
        if not batches:
            found.leave_out(f"the accuracy of {name}", f"{samples.origin} has fewer samples than it takes at once")
        else:
            comparable[name] = batches
    if not comparable:
        return
    paths = [staged] if standard.path is None else [staged, standard.path]
    answers = ask_artifacts(paths, comparable)
    for name, batches in comparable.items():
        count = sum(len(next(iter(batch.values()))) for batch in batches)
        limited = replace(samples, targets={key: value[:count] for key, value in samples.targets.items()})
        _score(name, answers, limited, former, standard, config, found)


def _describe(endpoint: Endpoint) -> Inputs:
    leaves = (InputLeaf(name, tensor.shape or (), tensor.dtype) for name, tensor in endpoint.inputs.items())
    return Inputs(tuple(leaves), ())


def _score(
    name: str,
    answers: Sequence[Answers],
    samples: Samples,
    former: Mapping[str, Endpoint],
    standard: Standard,
    config: ExportConfig,
    found: Findings,
) -> None:
    new, *others = answers
    what = f"the accuracy of {name}"
    if name in new.faults:
        found.checks.append(Check(f"accuracy of {name}", False, "cannot be computed", new.faults[name]))
        return
    after = join(new.batches[name])
    why = None
    if others and former and name not in former:
        why = f"{standard.shown} has no such endpoint"
    elif others and name in others[0].faults:
        why = f"{standard.shown} does not answer: {others[0].faults[name]}"
    elif others and not others[0].batches[name][0].keys() & after.keys():
        why = f"{standard.shown} returns other outputs"
    before = after if why or not others else join(others[0].batches[name])
    shared = [key for key in after if key in before]
    try:
        scores = score_outputs(
            Labelled(name, {key: before[key] for key in shared}, {key: after[key] for key in shared}, samples.targets),
            config.verify.metric,
        )
    except UnscoredError as error:
        found.leave_out(what, str(error))
        return
    found.scores += scores
    if why:
        found.leave_out(what, why)
    elif others:
        found.checks.append(_judge(name, scores, samples, config.layout.max_accuracy_drop))


def _judge(name: str, scores: Sequence[Score], samples: Samples, most: float | None) -> Check:
    figure = "; ".join(f"{score.metric} {score.artifact:.4f} ({score.change:+.4f})" for score in scores)
    limit = "nothing is asked of it" if most is None else f"may fall by {most:g}"
    outputs = ", ".join(score.output for score in scores)
    detail = f"{outputs} of {scores[0].samples} samples of {samples.origin}; {limit}"
    passed = all(most is None or score.loss <= most for score in scores)
    return Check(f"accuracy of {name}", passed, figure, detail, kind=CheckKind.FACTS)
