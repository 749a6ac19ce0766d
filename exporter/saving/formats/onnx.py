"""ONNX, for ONNX Runtime on servers, desktops and in browsers."""

from pathlib import Path

from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats.deployed import NUMBERS, DeployedFormat
from exporter.saving.formats.format import read_head

# A file is a message of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: its first field is the version, which
# is a small number, and the next one is one of these.
_VERSION_FIELD = 0x08
_VERSIONS = range(3, 64)
_NEXT_FIELDS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72})


class OnnxFile(DeployedFormat):
    """A `.onnx` file with one endpoint; under any other name, a directory with a file for each."""

    def writes_directory(self, path: Path) -> bool:
        """Tells it by the suffix."""
        return path.suffix.lower() not in self.suffixes

    def sniff(self, path: Path) -> bool:
        """Knows a file by its first two fields, since ONNX has no magic bytes."""
        if not path.is_file():
            return super().sniff(path)
        head = read_head(path)
        return len(head) > 2 and head[0] == _VERSION_FIELD and head[1] in _VERSIONS and head[2] in _NEXT_FIELDS

    def list_lines(self, file: str, endpoint: str, given: str) -> list[str]:
        """Lists lines for ONNX Runtime; see `DeployedFormat`."""
        return [
            "import numpy, onnxruntime",
            f"session = onnxruntime.InferenceSession({file!r})",
            f"outputs = session.run(None, {given})",
        ]


FORMAT = OnnxFile(
    name="onnx",
    label="ONNX",
    noun="an ONNX file",
    suffixes=(".onnx",),
    packages={
        "tf2onnx": "converting to ONNX",
        "onnx": "writing ONNX",
        "onnxruntime": "running ONNX",
        "onnx_ir": "quantising ONNX",
    },
    extra="onnx",
    quantizations=(Quantize.FLOAT16, Quantize.INT8_DYNAMIC, Quantize.INT8, Quantize.INT4_WEIGHTS),
    # An unknown field of 82 bytes, which readers of protobuf pass over: the tag of field 1000, and its length.
    seal_head=b"\xc2\x3e\x52",
    converter="exporter.saving.deployment.converters.onnx",
    runtime="exporter.saving.deployment.runtimes.onnx:OnnxRuntime",
    runtime_name="ONNX Runtime",
    inside=".onnx",
    dtypes=NUMBERS | {"string"},
    inspector="exporter.artifacts.inspection.deployed:open_deployed",
)
