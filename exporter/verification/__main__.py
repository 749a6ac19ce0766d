"""`python -m exporter.verification`: the fresh process of a verification; see `worker`."""

import sys

from exporter.processes.collector import imports_set_aside
from exporter.processes.fresh_process import answer_in_children


def main() -> None:
    """Imports TensorFlow, and answers the requests about each artifact in a child that knows nothing else."""
    # Keras imports this wherever it is installed, for its galleries of pictures: a seventh of the start.
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
    with imports_set_aside():
        from exporter.verification.worker import VerificationWorker
    del sys.modules["matplotlib"]  # the code of a model may import it
    answer_in_children(VerificationWorker)


if __name__ == "__main__":
    main()
