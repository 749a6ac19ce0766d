"""TensorFlow's C API through ctypes, with the installed library and without the Python package `tensorflow`.

The functions and types are those of `tensorflow/c/c_api.h`, `tf_tensor.h` and `tf_tstring.h`; the messages are those
of `tensorflow/core/protobuf/meta_graph.proto` and `saver.proto`, with the fields that a C program needs.
"""

import ctypes
import importlib.util
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Self

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

_STRING = 7
_STRING_BYTES = 24  # sizeof(TF_TString)
_NUMBERS = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    9: np.int64,
    10: np.bool_,
    22: np.uint32,
    23: np.uint64,
}
_CODES = {np.dtype(kind): code for code, kind in _NUMBERS.items()}

# Name -> fields: (name, number, type, whether there are many). A map is a list of entries with a key and a value.
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "Saver": [("filename", 1, "string", False), ("save", 2, "string", False), ("restore", 3, "string", False)],
    "Tensor": [("name", 1, "string", False), ("dtype", 2, "int32", False)],
    "TensorEntry": [("key", 1, "string", False), ("value", 2, "Tensor", False)],
    "Signature": [
        ("inputs", 1, "TensorEntry", True),
        ("outputs", 2, "TensorEntry", True),
        ("method_name", 3, "string", False),
    ],
    "SignatureEntry": [("key", 1, "string", False), ("value", 2, "Signature", False)],
    "MetaGraph": [("saver", 3, "Saver", False), ("signatures", 5, "SignatureEntry", True)],
}


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("data_deallocator", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


class CApiError(Exception):
    """A status of TensorFlow's that is not OK."""


class Session:
    """A SavedModel in a session; use it as a context manager.

    Attributes:
        signatures: The endpoints: name -> `(inputs, outputs, method name)`, each with the tensors' names.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Loads the graph for serving, and its variables and tables.

        Args:
            path: The SavedModel directory.
            threads: Within an operation, and of operations that run side by side.
        """
        self._library = _load_library()
        self._status = self._library.TF_NewStatus()
        self._graph = self._library.TF_NewGraph()
        options = self._library.TF_NewSessionOptions()
        # ConfigProto: intra_op_parallelism_threads is field 2, inter_op_parallelism_threads is field 5.
        config = bytes([0x10, threads, 0x28, threads])
        self._library.TF_SetConfig(options, config, len(config), self._status)
        self._check()
        described = self._library.TF_NewBuffer()
        tags = (c_char_p * 1)(b"serve")
        self._session = self._library.TF_LoadSessionFromSavedModel(
            options, None, str(path).encode(), tags, 1, self._graph, described, self._status
        )
        self._library.TF_DeleteSessionOptions(options)
        self._check()
        content = ctypes.string_at(described.contents.data, described.contents.length)
        self._library.TF_DeleteBuffer(described)
        meta_graph = _make_message_class("MetaGraph").FromString(content)
        self._saver = meta_graph.saver
        self.signatures: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
            entry.key: (
                {tensor.key: tensor.value.name for tensor in entry.value.inputs},
                {tensor.key: tensor.value.name for tensor in entry.value.outputs},
                entry.value.method_name,
            )
            for entry in meta_graph.signatures
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.TF_DeleteSession(self._session, self._status)
        self._library.TF_DeleteGraph(self._graph)
        self._library.TF_DeleteStatus(self._status)

    def call(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Calls an endpoint.

        Args:
            signature: Its name.
            inputs: Its inputs, by name; strings are arrays of bytes objects.

        Returns:
            Its outputs, by name.

        Raises:
            CApiError: TensorFlow refuses, or fails.
        """
        places, results, _ = self.signatures[signature]
        feeds = {places[name]: array for name, array in inputs.items()}
        return dict(zip(results, self._run(feeds, list(results.values())), strict=True))

    def save_variables(self, prefix: Path) -> None:
        """Runs the graph's own save operation, which writes a checkpoint.

        Args:
            prefix: Of the checkpoint's files.
        """
        name = np.array(str(prefix).encode(), object)
        self._run({self._saver.filename: name}, [self._saver.save])

    def _run(self, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str]) -> list[NDArray[Any]]:
        places = (_Output * len(feeds))(*map(self._find_output, feeds))
        tensors = (c_void_p * len(feeds))(*map(self._make_tensor, feeds.values()))
        wanted = (_Output * len(fetches))(*map(self._find_output, fetches))
        results = (c_void_p * len(fetches))()
        self._library.TF_SessionRun(
            *(self._session, None, places, tensors, len(feeds)),
            *(wanted, results, len(fetches), None, 0, None, self._status),
        )
        for tensor in tensors:
            self._library.TF_DeleteTensor(tensor)
        self._check()
        return [self._take_array(tensor) for tensor in results]

    def _find_output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        if found is None:
            raise CApiError(f"the graph has no operation {operation!r}")
        return _Output(found, int(index or 0))

    def _make_tensor(self, array: NDArray[Any]) -> int:
        strings = array.dtype == object
        code = _STRING if strings else _CODES[array.dtype]
        size = array.size * _STRING_BYTES if strings else array.nbytes
        shape = (c_int64 * array.ndim)(*array.shape)
        tensor: int = self._library.TF_AllocateTensor(code, shape, array.ndim, size)
        data = self._library.TF_TensorData(tensor)
        if not strings:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
            return tensor
        for index, text in enumerate(array.reshape(-1)):
            place = data + index * _STRING_BYTES
            self._library.TF_StringInit(place)
            self._library.TF_StringCopy(place, text, len(text))
        return tensor

    def _take_array(self, tensor: int | None) -> NDArray[Any]:
        library = self._library
        code = library.TF_TensorType(tensor)
        shape = tuple(library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor)))
        data = library.TF_TensorData(tensor)
        array: NDArray[Any]
        if code == _STRING:
            count = int(np.prod(shape, dtype=np.int64))
            places = [data + index * _STRING_BYTES for index in range(count)]
            texts = [
                ctypes.string_at(library.TF_StringGetDataPointer(place), library.TF_StringGetSize(place))
                for place in places
            ]
            array = np.array(texts, object).reshape(shape)
        else:
            content = ctypes.string_at(data, library.TF_TensorByteSize(tensor))
            array = np.frombuffer(content, _NUMBERS[code]).reshape(shape)
        library.TF_DeleteTensor(tensor)
        return array

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            raise CApiError(self._library.TF_Message(self._status).decode())


def _load_library() -> Any:
    # The specification of a package is found without importing it.
    specification = importlib.util.find_spec("tensorflow")
    if specification is None or specification.origin is None:
        raise CApiError("TensorFlow is not installed")
    library = ctypes.CDLL(str(Path(specification.origin).with_name("libtensorflow_cc.so.2")))
    text, buffer = c_char_p, POINTER(_Buffer)
    types: dict[str, tuple[Any, list[Any]]] = {
        "TF_NewStatus": (c_void_p, []),
        "TF_DeleteStatus": (None, [c_void_p]),
        "TF_GetCode": (c_int, [c_void_p]),
        "TF_Message": (text, [c_void_p]),
        "TF_NewGraph": (c_void_p, []),
        "TF_DeleteGraph": (None, [c_void_p]),
        "TF_NewSessionOptions": (c_void_p, []),
        "TF_DeleteSessionOptions": (None, [c_void_p]),
        "TF_SetConfig": (None, [c_void_p, text, c_size_t, c_void_p]),
        "TF_NewBuffer": (buffer, []),
        "TF_DeleteBuffer": (None, [buffer]),
        "TF_LoadSessionFromSavedModel": (
            c_void_p,
            [c_void_p, c_void_p, text, POINTER(text), c_int, c_void_p, buffer, c_void_p],
        ),
        "TF_DeleteSession": (None, [c_void_p, c_void_p]),
        "TF_GraphOperationByName": (c_void_p, [c_void_p, text]),
        "TF_SessionRun": (
            None,
            [
                *(c_void_p, c_void_p, POINTER(_Output), POINTER(c_void_p), c_int),
                *(POINTER(_Output), POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p),
            ],
        ),
        "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
        "TF_DeleteTensor": (None, [c_void_p]),
        "TF_TensorData": (c_void_p, [c_void_p]),
        "TF_TensorType": (c_int, [c_void_p]),
        "TF_TensorByteSize": (c_size_t, [c_void_p]),
        "TF_NumDims": (c_int, [c_void_p]),
        "TF_Dim": (c_int64, [c_void_p, c_int]),
        "TF_StringInit": (None, [c_void_p]),
        "TF_StringCopy": (None, [c_void_p, text, c_size_t]),
        "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
        "TF_StringGetSize": (c_size_t, [c_void_p]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _make_message_class(name: str) -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    plain = {"string": kinds.TYPE_STRING, "int32": kinds.TYPE_INT32}
    file = descriptor_pb2.FileDescriptorProto(name="c_api.proto", package="c_api", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field, number, kind, many in fields:
            label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            added = described.field.add(name=field, number=number, label=label)
            added.type = plain.get(kind, kinds.TYPE_MESSAGE)
            if kind not in plain:
                added.type_name = f".c_api.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"c_api.{name}"))
