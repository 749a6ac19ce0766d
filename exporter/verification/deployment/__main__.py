"""`python -m exporter.verification.deployment`: the fresh process of such a proof; see `worker`."""

from exporter.processes.fresh_process import answer_in_children
from exporter.verification.deployment.worker import RuntimeWorker

if __name__ == "__main__":
    answer_in_children(RuntimeWorker)
