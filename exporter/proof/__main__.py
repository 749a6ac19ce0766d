"""`python -m exporter.proof`: the fresh process of a proof; see `prover`."""

from exporter._collector import imports_set_aside
from exporter.proof.fresh_process import answer_requests


def main() -> None:
    """Imports TensorFlow and answers requests."""
    with imports_set_aside():
        from exporter.proof.prover import Prover
    answer_requests(Prover())


if __name__ == "__main__":
    main()
