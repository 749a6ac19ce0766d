"""LiteRT's C API, without its Python: `python -I litert_c.py FILE SIGNATURE INPUTS ANSWERS`.

The structures and calls are those of https://github.com/google-ai-edge/LiteRT/tree/main/litert/c, as an application in
C writes them. An endpoint, given by its number, takes and gives one tensor of float32; each row is asked by itself.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path

import numpy as np

CPU, READ, WRITE, FLOAT32, MAX_RANK = 1, 0, 1, 1, 8
FIRST = ctypes.c_size_t(0)
ONE = ctypes.c_size_t(1)


class Layout(ctypes.Structure):
    """`LiteRtLayout`: the rank in seven bits, then one that says whether there are strides."""

    _fields_ = (
        ("head", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * MAX_RANK),
        ("strides", ctypes.c_uint32 * MAX_RANK),
    )


class TensorType(ctypes.Structure):
    """`LiteRtRankedTensorType`."""

    _fields_ = (("element", ctypes.c_int), ("layout", Layout))


def find_library() -> ctypes.CDLL:
    """Opens the library that LiteRT's wheel has for applications in C."""
    found = importlib.util.find_spec("ai_edge_litert")
    assert found is not None
    assert found.origin is not None
    return ctypes.CDLL(str(Path(found.origin).with_name("libLiteRt.so")))


LIBRARY = find_library()


def call(name: str, *arguments: object) -> None:
    """Calls a function that returns a status."""
    status = getattr(LIBRARY, name)(*arguments)
    if status:
        raise SystemExit(f"{name} returned {status}")


def make(name: str, *arguments: object) -> ctypes.c_void_p:
    """Calls a function whose last argument is where it leaves what it makes."""
    made = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(made))
    return made


def main() -> None:
    """Asks a file all rows."""
    file, signature, inputs, answers = sys.argv[1:]
    number = ctypes.c_size_t(int(signature))
    [rows] = np.load(inputs).values()
    environment = make("LiteRtCreateEnvironment", 0, None)
    model = make("LiteRtCreateModelFromFile", environment, file.encode())
    options = make("LiteRtCreateOptions")
    call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
    compiled = make("LiteRtCreateCompiledModel", environment, model, options)

    taken_layout, given_layout, no_change = Layout(), Layout(), ctypes.c_bool(False)
    call("LiteRtGetCompiledModelInputTensorLayout", compiled, number, FIRST, ctypes.byref(taken_layout))
    call("LiteRtGetCompiledModelOutputTensorLayouts", compiled, number, ONE, ctypes.byref(given_layout), no_change)
    buffers = {}
    for kind, layout in (("Input", taken_layout), ("Output", given_layout)):
        needed = make(f"LiteRtGetCompiledModel{kind}BufferRequirements", compiled, number, FIRST)
        kept = ctypes.byref(TensorType(FLOAT32, layout))
        buffers[kind] = make("LiteRtCreateManagedTensorBufferFromRequirements", environment, kept, needed)

    shape = tuple(given_layout.dimensions[: given_layout.head & 0x7F])
    received = []
    for row in rows[:, None]:
        place = ctypes.c_void_p()
        call("LiteRtLockTensorBuffer", buffers["Input"], ctypes.byref(place), WRITE)
        ctypes.memmove(place, np.ascontiguousarray(row).ctypes.data, row.nbytes)
        call("LiteRtUnlockTensorBuffer", buffers["Input"])
        given, taken = ((ctypes.c_void_p * 1)(buffers[kind]) for kind in ("Input", "Output"))
        call("LiteRtRunCompiledModel", compiled, number, ONE, given, ONE, taken)
        answer = np.empty(shape, "float32")
        call("LiteRtLockTensorBuffer", buffers["Output"], ctypes.byref(place), READ)
        ctypes.memmove(answer.ctypes.data, place, answer.nbytes)
        call("LiteRtUnlockTensorBuffer", buffers["Output"])
        received.append(answer)
    np.save(answers, np.concatenate(received))
    heavy = sorted({"exporter", "tensorflow", "keras", "ai_edge_litert"} & set(sys.modules))
    assert not heavy, heavy


if __name__ == "__main__":
    main()
