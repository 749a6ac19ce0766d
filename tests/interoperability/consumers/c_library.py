"""TensorFlow's C API."""

from pathlib import Path

from ..c_api import Session
from ..cases import BEST, CASES, Array, Case, Endpoint, encode
from . import Ways


def open_endpoint(folder: Path, case: Case) -> Endpoint:
    session = Session(folder / case.artifact)

    def call(inputs: Array) -> Array:
        return session.call(case.endpoint, {case.input: encode(inputs)})[case.output]

    return call


WAYS: Ways = {"c_library": (open_endpoint, (*CASES, BEST))}
