"""OpenVINO's IR, for Intel's processors and graphics, and for ARM: two files for each endpoint, in a directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats.deployed import NUMBERS, DeployedFormat

if TYPE_CHECKING:
    from exporter.saving.deployment.graph import Computation


class OpenVinoDirectory(DeployedFormat):
    """A directory with `<endpoint>.xml` and `<endpoint>.bin` for each endpoint."""

    def sniff(self, path: Path) -> bool:
        """Knows it by a pair of files."""
        return path.is_dir() and any(each.with_suffix(".bin").is_file() for each in path.glob(f"*{self.inside}"))

    def list_unheld(self, name: str, computation: "Computation") -> Iterator[str]:
        """Knows texts beside what all formats do; see `DeployedFormat`."""
        texts = [repr(each) for each, dtype in computation.dtypes.items() if dtype == "string"]
        if texts:
            yield (
                f"The endpoint {name!r} has texts ({', '.join(texts)}), and OpenVINO has no operations for texts: "
                "export an endpoint that takes token ids and returns numbers."
            )
        else:
            yield from super().list_unheld(name, computation)

    def list_lines(self, file: str, endpoint: str, given: str) -> list[str]:
        """Lists lines for OpenVINO's runtime; see `DeployedFormat`."""
        return [
            "import numpy, openvino",
            # It computes in less where the processor is faster at that, and then differs from what was proven.
            "exact = {'INFERENCE_PRECISION_HINT': 'f32'}",
            f"model = openvino.Core().compile_model({file!r}, 'CPU', exact)",
            f"outputs = model({given})",
        ]


FORMAT = OpenVinoDirectory(
    name="openvino",
    label="OpenVINO IR",
    noun="an OpenVINO IR",
    ending="_openvino",
    is_directory=True,
    packages={"openvino": "converting to OpenVINO and running it", "nncf": "quantising for OpenVINO"},
    extra="openvino",
    quantizations=(Quantize.FLOAT16, Quantize.INT8, Quantize.INT8_WEIGHTS, Quantize.INT4_WEIGHTS),
    converter="exporter.saving.deployment.converters.openvino",
    runtime="exporter.saving.deployment.runtimes.openvino:OpenVinoRuntime",
    runtime_name="OpenVINO",
    inside=".xml",
    dtypes=NUMBERS | {"bfloat16"},
    inspector="exporter.artifacts.inspection.deployed:open_deployed",
)
