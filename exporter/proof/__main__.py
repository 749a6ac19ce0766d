"""`python -m exporter.proof`: the fresh process of a proof; see `prover`."""

import gc

from exporter._collector import collector_paused
from exporter.proof.fresh_process import answer_requests


def main() -> None:
    """Imports TensorFlow and answers requests."""
    with collector_paused():
        from exporter.proof.prover import Prover
    gc.freeze()  # what was imported stays: the collections between two artifacts need not look at it
    answer_requests(Prover())


if __name__ == "__main__":
    main()
