"""`python -m exporter.verification`: the fresh process of a verification; see `worker`."""

from exporter.processes.collector import imports_set_aside
from exporter.processes.fresh_process import answer_in_children
from exporter.processes.imports import claim_process, needless_imports_hidden


def main() -> None:
    """Imports TensorFlow, and answers the requests about each artifact in a child that knows nothing else."""
    claim_process()
    with imports_set_aside(), needless_imports_hidden():
        from exporter.verification.worker import VerificationWorker
    answer_in_children(VerificationWorker)


if __name__ == "__main__":
    main()
