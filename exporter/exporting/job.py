"""The program on one page: a config becomes a model, the model an artifact, which is verified and published."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from exporter.artifacts.receipt import Receipt
from exporter.config import ExportConfig
from exporter.errors import ExporterError, ModelError, UsageError
from exporter.exporting.destinations.choosing import choose_destination
from exporter.exporting.limits import check_limits
from exporter.exporting.reporting import Reporter, SilentReporter
from exporter.exporting.session import ExportSession
from exporter.exporting.steps import Export
from exporter.processes.interrupts import raise_if_ended
from exporter.text.failures import describe_failure, find_own_place


@contextmanager
def own_failures_named() -> Iterator[None]:
    """Makes an error of ours of one that came from code of the user's, wherever that was run.

    Raises:
        ModelError: There was one.
    """
    try:
        yield
    except ExporterError:
        raise
    except (Exception, SystemExit) as error:
        raise_if_ended(error)
        if not find_own_place(error):
            raise
        raise ModelError(f"Code of your own failed, and nothing was published: {describe_failure(error)}") from (error)


def run_export(
    config: ExportConfig,
    *,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    session: ExportSession | None = None,
) -> Receipt:
    """Builds a model, saves it, proves what was written, and publishes it.

    Args:
        config: The export; `config.model` may be a live `keras.Model`.
        run_directory: Where `receipt.json` is written as well; None for only beside the artifact.
        reporter: Is told about the progress; None for nobody.
        session: What this export shares with others of this process; None for nothing.

    Returns:
        The receipt, which also stands beside the artifact as `<name>.receipt.json`.

    Raises:
        ProofError: What was written is not the same model; nothing was published.
        RegressionError: It is worse than what `config.layout.against` names; nothing was published.
        ExportError: The model could not be built, saved or published; what was at `config.filepath` is unchanged.
        UsageError: A value of the config is out of range, or does not fit the model; every fault is named.
    """
    faults = check_limits(config)
    if faults:
        raise UsageError(faults)
    reporter = reporter or SilentReporter()
    destination = choose_destination(config, reporter.tell_wait)
    with own_failures_named(), ExitStack() as stack:
        stack.callback(destination.close)
        session = session or stack.enter_context(ExportSession())
        export = Export(config, destination, reporter, session, stack)

        export.start_tensorflow()
        model = export.build_model()
        endpoints = export.trace_endpoints(model)
        plan = export.plan(model, endpoints)
        inputs = export.prepare_inputs(model, endpoints)
        with export.stage() as staged:
            written = export.write(plan, staged, inputs)
            result = export.verify(model, staged, written, inputs)
            result = export.compare(staged, written, endpoints, result)
            measurements = export.measure(model, staged, inputs)
            receipt = export.publish(staged, written, result, measurements)
        export.keep_receipt(receipt, run_directory)
        destination.remove_older(receipt.filepath)
    return receipt
