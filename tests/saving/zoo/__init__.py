"""Small models of every kind, each with a few batches of data, by the id of their test case."""

from . import compilation, custom, optimizers, precision, preprocessing, resources, sequences, structures
from .case import CASES, Case, Data

__all__ = [
    "CASES",
    "Case",
    "Data",
    "compilation",
    "custom",
    "optimizers",
    "precision",
    "preprocessing",
    "resources",
    "sequences",
    "structures",
]
