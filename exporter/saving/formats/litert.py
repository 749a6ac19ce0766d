"""LiteRT's file, for phones, browsers and small devices."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.deployment.remedies import OPEN_LISTS, explain_half
from exporter.saving.formats.deployed import NUMBERS, DeployedFormat
from exporter.saving.formats.format import read_head

if TYPE_CHECKING:
    from exporter.saving.deployment.graph import Computation

# Of these LiteRT has none in half precision.
_PRODUCTS = ("BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "MatMul")
_HALF = {"half", "float16", "bfloat16"}


class LiteRtFile(DeployedFormat):
    """A `.tflite` file with all endpoints."""

    def sniff(self, path: Path) -> bool:
        """Knows it by the identifier behind the first offset, as every FlatBuffer has one."""
        return path.is_file() and read_head(path)[4:] == b"TFL3"

    def list_unheld(self, name: str, computation: "Computation") -> Iterator[str]:
        """Knows recurrent layers and half precision beside what all formats do; see `DeployedFormat`."""
        yield from super().list_unheld(name, computation)
        if computation.has_open_lists:
            yield OPEN_LISTS
        half = sorted(kind for kind in _PRODUCTS if computation.operations.get(kind, frozenset()) & _HALF)
        if half:
            yield explain_half(half)

    def list_lines(self, file: str, endpoint: str, given: str) -> list[str]:
        """Lists lines for LiteRT's interpreter; see `DeployedFormat`."""
        return [
            "import numpy, ai_edge_litert.interpreter",
            f"interpreter = ai_edge_litert.interpreter.Interpreter({file!r})",
            f"run = interpreter.get_signature_runner({endpoint!r})",
            f"outputs = run(**{given})",
        ]


FORMAT = LiteRtFile(
    name="litert",
    label="LiteRT file",
    noun="a LiteRT file",
    suffixes=(".tflite",),
    packages={
        "ai_edge_litert": "running a LiteRT file",
        "ai_edge_quantizer": "quantising a LiteRT file",
    },
    extra="litert",
    quantizations=(
        Quantize.FLOAT16,
        Quantize.INT8_DYNAMIC,
        Quantize.INT8,
        Quantize.INT8_WEIGHTS,
        Quantize.INT4_WEIGHTS,
    ),
    dtypes=NUMBERS | {"string", "complex64", "complex128"},
    converter="exporter.saving.deployment.converters.litert",
    runtime="exporter.saving.deployment.runtimes.litert:LiteRtRuntime",
    runtime_name="LiteRT",
    needs_saver=True,
    inspector="exporter.artifacts.inspection.deployed:open_deployed",
)
