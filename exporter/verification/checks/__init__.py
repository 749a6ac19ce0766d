"""What a verification compares: each check is a module, and has a line in `CHECKS`."""

from importlib import import_module

from exporter.verification.comparing.base import CheckType

# The modules, in the order in which their outcomes are shown. Each defines its `CHECK`.
CHECKS = (
    "load",
    "answers.predictions",
    "state.variables",
    "state.layers",
    "state.compilation",
    "answers.usage",
    "answers.methods",
    "training_step",
    "signatures",
    "answers.endpoints",
    "answers.stock_keras",
)


def load_checks() -> tuple[CheckType, ...]:
    """Imports the checks, in the process that compares and in the one that answers."""
    return tuple(import_module(f"{__name__}.{module}").CHECK for module in CHECKS)
