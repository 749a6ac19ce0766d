"""The process of one consumer: `python -m interoperability.worker CONSUMER FOLDER`.

It opens every case in every way, computes batches of 1, 2 and 3, and pickles what came of it as
`FOLDER/CONSUMER.pickle`. It imports nothing that the consumer does not.
"""

import importlib
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .cases import COUNTS, Array


@dataclass(slots=True)
class Report:
    """What came of a consumer.

    Attributes:
        outputs: Way -> identity of the case -> size of the batch -> outputs.
        errors: Way -> identity of the case -> the error that was raised.
        imported: Way -> which of the packages that an artifact is made with are imported by then.
    """

    outputs: dict[str, dict[str, dict[int, Array]]] = field(default_factory=dict)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)
    imported: dict[str, list[str]] = field(default_factory=dict)


def main() -> None:
    """Writes the report."""
    consumer, folder = sys.argv[1], Path(sys.argv[2])
    report = Report()
    for way, (open_endpoint, cases) in importlib.import_module(f"interoperability.consumers.{consumer}").WAYS.items():
        outputs = report.outputs.setdefault(way, {})
        errors = report.errors.setdefault(way, {})
        for case in cases:
            inputs = case.read_inputs(folder)
            try:
                endpoint = open_endpoint(folder, case)
                outputs[case.identity] = {count: endpoint(inputs[:count]) for count in COUNTS}
            except Exception as error:
                errors[case.identity] = f"{type(error).__name__}: {error}"
        report.imported[way] = [name for name in ("tensorflow", "keras", "exporter") if name in sys.modules]
    (folder / f"{consumer}.pickle").write_bytes(pickle.dumps(report))


if __name__ == "__main__":
    # A report is pickled as what every process knows it as.
    from interoperability.worker import main as run

    run()
