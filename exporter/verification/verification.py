"""The verification: a fresh process loads what was written and is compared with the model that it was made from.

The model is only read. What is asked of both, and how their answers are compared, is known by each check; here they are
asked in an order that lets both processes work at the same time.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import tensorflow as tf

from exporter.artifacts.records import Check, Loading
from exporter.config import VerifyMode
from exporter.errors import ProofError
from exporter.models.randomness import has_accelerator, operations_deterministic
from exporter.models.training.steps import preserve_model, warnings_kept_back
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import Omission
from exporter.saving.state.replicas import on_one_device
from exporter.typing.keras import Model
from exporter.verification.checks import load_checks
from exporter.verification.comparing.asked import VerificationInputs
from exporter.verification.comparing.base import Answer, CheckType, Comparison, Effect, GraphNeededError, Reader
from exporter.verification.comparing.reference import Reference
from exporter.verification.conversation import Conversation
from exporter.verification.custom_objects import find_needs

_CHECKS = load_checks()


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What a verification found.

    Attributes:
        checks: Every comparison, in order; all passed.
        left_out: What the artifact turned out not to hold for readers other than ours.
        loading: With what the fresh process loaded it.
    """

    checks: tuple[Check, ...]
    left_out: tuple[Omission, ...]
    loading: Loading = field(default_factory=Loading)


def warm_up(process: FreshProcess) -> None:
    """Lets the fresh process begin a new artifact and make its devices, with as many threads as this one.

    Args:
        process: The fresh process; it may have proven other artifacts before, of which nothing is left.
    """
    process.begin()
    process.tell(
        "start",
        threads=[
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ],
        deterministic=has_accelerator(),
    )


def verify(
    process: FreshProcess,
    model: Model,
    staged: Path,
    inputs: VerificationInputs,
    *,
    mode: VerifyMode,
    include_optimizer: bool,
    tags: Sequence[str] = (),
    safe_mode: bool = False,
    omissions: Sequence[Omission] = (),
) -> VerificationResult:
    """Proves that a staged artifact is the model.

    Args:
        process: The fresh process, warmed up.
        model: The model that the artifact was made from; it is not changed.
        staged: The artifact.
        inputs: The batches to compare on.
        mode: `full` or `reload`.
        include_optimizer: Whether the optimizer was saved.
        tags: Of the SavedModel's graph, beside `serve`.
        safe_mode: Whether code inside the artifact is refused.
        omissions: What the artifact is known not to hold, which may be why it is not the same model.

    Returns:
        The checks, all of which passed.

    Raises:
        ProofError: At least one check failed; the message names each with its figure.
        ExportError: The fresh process died or did not answer.
    """
    needs = find_needs(model)
    with (
        on_one_device(model),  # as the other process has it
        preserve_model(model),
        warnings_kept_back(),
        operations_deterministic(has_accelerator()),
        tempfile.TemporaryDirectory(prefix="exporter-proof-") as exchange,
    ):
        reference = Reference(
            model, staged, inputs, mode=mode, include_optimizer=include_optimizer, missing_code=needs.explain()
        )
        conversation = Conversation(process, staged, Path(exchange), needs, tags=tags, safe_mode=safe_mode)
        opened, outcomes = _compare(conversation, reference)
    checks = [outcome for outcome in outcomes if isinstance(outcome, Check)]
    left_out = [outcome for outcome in outcomes if isinstance(outcome, Omission)]
    if not all(check.passed for check in checks):
        raise _explain_failure(
            checks, omissions, lacks_code=bool(opened.error and needs.explain()), own=conversation.own_failures
        )
    loading = replace(needs.to_loading(opened.opened["imported"]), safe_mode=conversation.opens_safely)
    return VerificationResult(tuple(checks), tuple(left_out), loading)


def _explain_failure(
    checks: Sequence[Check], omissions: Sequence[Omission], lacks_code: bool, own: Sequence[str]
) -> ProofError:
    failed = [check for check in checks if not check.passed]
    known = [f"  not held: {each.what}: {each.why}" for each in omissions if not each.intended]
    failures = [told for told in own if any(told in check.detail for check in failed)]
    report = "" if known or lacks_code or failures else "Please report it with the model; "
    found = "The artifact that was written is not the same model"
    if failures:
        found = "The artifact that was written cannot be proven, since code of the model's own fails in a new process"
    return ProofError(
        f"{found}: {len(failed)} of {len(checks)} checks failed, and nothing was published.",
        *(f"  {check.name}: {check.figure}; {check.detail}" for check in failed),
        *known,
        f"{report}`verify=none` publishes without a proof.",
        checks=checks,
    )


def _compare(conversation: Conversation, reference: Reference) -> tuple[Answer, list[Check | Omission]]:
    """Asks and compares everything, in graphs where that turns out to be the only way.

    Returns:
        What the worker said when it loaded the artifact, and the outcomes in the order of `CHECKS`.
    """
    conversation.open(Reader.EXPORTER)
    # What only looks comes first, on both sides: a call may leave something behind. The worker loads meanwhile.
    planned = _plan(reference, looking=True)
    for _, comparison in planned:
        comparison.expect()
    if reference.mode is VerifyMode.FULL:
        reference.ask()
    opened = conversation.receive_opened()
    if opened.error:
        return opened, _finish(conversation, [entry for entry in planned if entry[0].decides], opened, {})
    if reference.mode is VerifyMode.FULL:
        reference.adapt(opened.opened["revived"])

    acting = _plan(reference, looking=False)
    planned += acting
    receivers = _send(conversation, planned)
    for _, comparison in acting:
        comparison.expect()
    answers = {comparison: receive() for comparison, receive in receivers.items()}
    try:
        return opened, _finish(conversation, planned, opened, answers)
    except GraphNeededError:
        return _compare(conversation, reference.in_graphs())


def _plan(reference: Reference, looking: bool) -> list[tuple[CheckType, Comparison]]:
    checks = [check for check in _CHECKS if reference.mode in check.modes and (check.effect is Effect.LOOKS) is looking]
    return [(check, comparison) for check in checks for comparison in check.plan(reference)]


def _send(
    conversation: Conversation, planned: Sequence[tuple[CheckType, Comparison]]
) -> dict[Comparison, Callable[[], Answer]]:
    """Sends the questions, so that each reader loads the artifact once, and what changes a model comes last."""
    readers = list(Reader)
    receivers = {}
    for check, comparison in sorted(planned, key=lambda entry: (readers.index(entry[0].reader), entry[0].effect)):
        question = comparison.ask()
        if question is not None:
            receivers[comparison] = conversation.ask(check, question)
    return receivers


def _finish(
    conversation: Conversation,
    planned: Sequence[tuple[CheckType, Comparison]],
    opened: Answer,
    answers: Mapping[Comparison, Answer],
) -> list[Check | Omission]:
    """Compares the halves, in the order in which the outcomes are shown."""
    return [
        outcome
        for check, comparison in sorted(planned, key=lambda entry: _CHECKS.index(entry[0]))
        for outcome in comparison.compare(answers.get(comparison, opened), partial(conversation.ask, check))
    ]
