"""What the formats have in common that hold what endpoints compute, for a runtime of others."""

import hashlib
import importlib
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArtifactError, ExportError, RefusedExportError
from exporter.processes.arrays import write_arrays
from exporter.processes.fresh_process import FreshProcess, count_bytes, wait_seconds
from exporter.saving.contents import SERVING_DEFAULT, ContentItem, Contents, Endpoint, Omission, Tensor
from exporter.saving.deployment.conversions import CalibrationData, Conversion
from exporter.saving.deployment.documents import Calibration, Document
from exporter.saving.formats.format import Format
from exporter.saving.layout.names import DOCUMENT
from exporter.saving.layout.records import read_record
from exporter.text.printable import escape

if TYPE_CHECKING:
    import keras

    from exporter.saving.deployment.graph import Computation
    from exporter.saving.deployment.runtimes.base import Runtime
    from exporter.saving.requests import LoadRequest, SaveRequest

# What every runtime takes and returns.
NUMBERS = frozenset(
    {"bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)


@dataclass(frozen=True, kw_only=True)
class DeployedFormat(Format):
    """A format that another's converter makes of our SavedModel.

    Attributes:
        holds_endpoints: See `Format`.
        holds_model: See `Format`.
        converter: The module that runs in the process of a conversion.
        runtime: The class that opens an artifact, as `module:class`.
        runtime_name: What a person calls that runtime.
        needs_saver: Whether the converter restores the variables as a session does.
        inside: The ending of the files in a directory of the format; empty if it is never one.
        dtypes: What an endpoint may take and return.
    """

    holds_endpoints: bool = True
    holds_model: bool = False
    converter: str
    runtime: str
    runtime_name: str
    needs_saver: bool = False
    inside: str = ""
    dtypes: frozenset[str]

    def is_whole(self, names: Collection[str]) -> bool:
        """Knows a directory that we wrote by our own document, beside files of the format."""
        first = {name.partition("/")[0] for name in names}
        return DOCUMENT.partition("/")[0] in first and any(name.endswith(self.inside) for name in first if self.inside)

    def sniff(self, path: Path) -> bool:
        """Knows a directory by a file of the format in it."""
        if path.is_dir():
            return bool(self.inside) and any(each.is_file() for each in path.glob(f"*{self.inside}"))
        return super().sniff(path)

    def find_runtime(self) -> "type[Runtime]":
        """Imports the class that opens an artifact, and with it what the extra of this format installs."""
        module, _, name = self.runtime.partition(":")
        found: type[Runtime] = getattr(importlib.import_module(module), name)
        return found

    def start_converter(self) -> FreshProcess:
        """Starts the process of the converter, which imports what it needs while this one goes on."""
        return FreshProcess(
            self.converter,
            role=f"The converter for {self.label}",
            remedy="Give it more memory, or export a smaller model.",
            has_home=False,
        )

    def write(self, request: "SaveRequest") -> Contents:
        """Converts a SavedModel of the endpoints, in a process that sees nothing but a directory of its own."""
        target: Path = request.target
        with ExitStack() as stack:
            stack.enter_context(_part_removed(target))
            place = target.parent.absolute()  # the process works elsewhere
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conversion-", dir=place)))
            process = request.converter or stack.enter_context(self.start_converter())
            process.begin()
            conversion, document = self._prepare(request, work)
            # Every weight is read a few times by passes that are slower than a disk.
            reply = process.ask("convert", 4 * wait_seconds(count_bytes(work)), **conversion.to_json())
            if "refused" in reply:
                raise _refuse(request.model, reply["refused"])
            if "error" in reply:
                raise ExportError(
                    f"The converter for {self.label} failed: {reply['error']}. Nothing was published. Export the model "
                    "in another format, or report it to the converter's makers with a SavedModel of the model."
                )
            if target.is_dir():  # by which it is known as ours, and may be replaced as a whole
                (target / DOCUMENT).parent.mkdir(parents=True)
                (target / DOCUMENT).write_text(document.to_json(), encoding="utf-8")
        return self._describe(document, read_record(tuple[str, ...], reply["remarks"]))

    def _prepare(self, request: "SaveRequest", work: Path) -> tuple[Conversion, Document]:
        from exporter.saving.deployment.graph import describe, write_graph
        from exporter.saving.graph.inputs import describe_inputs
        from exporter.saving.graph.signatures import canonicalize, trace_serving

        model = request.model
        functions = (
            {SERVING_DEFAULT: trace_serving(model, describe_inputs(model))}
            if request.signatures is None
            else canonicalize(request.signatures)
        )
        faults = [why for name, each in functions.items() for why in self.list_unheld(name, describe(name, each))]
        if faults:
            raise _refuse(model, " ".join(faults))
        endpoints = write_graph(functions, work / "saved_model", self.needs_saver)
        few = list(_list_few(request.calibration, endpoints)) if request.calibration else []
        if few:
            raise _refuse(model, " ".join(few))
        files, calibration = self._write_samples(request.calibration, endpoints, work)
        document = Document(
            quantize=request.quantize,
            endpoints=endpoints,
            calibration=calibration,
            notes={name: note.decode() for name, note in request.notes.items()},
        )
        conversion = Conversion(
            saved_model=work / "saved_model",
            endpoints=endpoints,
            target=request.target.absolute(),
            document=document.to_json(),
            quantize=request.quantize,
            calibration=files,
        )
        return conversion, document

    def list_unheld(self, name: str, computation: "Computation") -> Iterator[str]:
        """Says what the format cannot hold of an endpoint, as far as that is known without its converter.

        Args:
            name: Of the endpoint.
            computation: What it computes.
        """
        for each, dtype in computation.dtypes.items():
            if dtype not in self.dtypes:
                yield (
                    f"The endpoint {name!r} has {each!r} of the dtype {dtype}, which {self.noun} cannot "
                    "take or return: give it another dtype with a cast inside of the endpoint."
                )

    @staticmethod
    def _write_samples(
        data: CalibrationData | None, endpoints: Mapping[str, Endpoint], work: Path
    ) -> tuple[dict[str, Path], Calibration | None]:
        if data is None:
            return {}, None
        digest, files = hashlib.sha256(), {}
        for number, name in enumerate(endpoints):
            files[name] = work / f"samples-{number}"
            samples = data.samples[name]
            write_arrays(files[name], samples)
            for key in sorted(samples):
                digest.update(f"{name}/{key} {samples[key].dtype} {samples[key].shape}".encode())
                digest.update(samples[key].tobytes())
        count = min(len(array) for arrays in data.samples.values() for array in arrays.values())
        return files, Calibration(origin=data.origin, samples=count, sha256=digest.hexdigest())

    def _describe(self, document: Document, remarks: tuple[str, ...]) -> Contents:
        held = [ContentItem("computation", describe_quantization(document))]
        held += [ContentItem("remark", remark) for remark in remarks]
        left_out = Omission(
            "the model itself",
            f"{self.noun} holds what endpoints compute: neither the configuration nor training, optimizer or metrics",
            intended=True,
        )
        return Contents(tuple(held), (left_out,), document.endpoints)

    def write_lines(self, path: str, endpoints: Mapping[str, Endpoint]) -> list[str]:
        """Writes the lines of Python that ask an artifact with its runtime alone, in any process.

        Args:
            path: Of the artifact.
            endpoints: What it takes and returns; the first of them is asked.
        """
        name, endpoint = next(iter(endpoints.items()))
        file = f"{path}/{name}{self.inside}" if self.writes_directory(Path(path)) else path
        given = ", ".join(f"{key!r}: {write_example(tensor)}" for key, tensor in endpoint.inputs.items())
        return self.list_lines(file, name, f"{{{given}}}")

    @abstractmethod
    def list_lines(self, file: str, endpoint: str, given: str) -> list[str]:
        """Lists the lines for an endpoint.

        Args:
            file: The path of the file that it is in.
            endpoint: Its name.
            given: A dict of arrays by the names of its inputs, as Python.
        """

    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Refuses to: there is no model in it.

        Raises:
            ArtifactError: Always.
        """
        raise ArtifactError(
            f"{escape(str(path))} is {self.noun}, which holds what endpoints compute and no Keras model. Load what "
            "the model was exported from, or export it in a format that holds the model as well, such as "
            "save_format=keras; `exporter inspect` shows what is in it."
        )

    def inspect(self, path: Path, stack: ExitStack) -> Any:
        """Opens an artifact for an inspection; see `Format`."""
        self.check_packages()
        return super().inspect(path, stack)


def _list_few(data: CalibrationData, endpoints: Mapping[str, Endpoint]) -> Iterator[str]:
    """Says which endpoints take more samples at a time than there are."""
    for name, endpoint in endpoints.items():
        sizes = [tensor.shape[0] for tensor in endpoint.inputs.values() if tensor.shape]
        rows = max((size for size in sizes if size is not None), default=1)
        given = min(map(len, data.samples[name].values()), default=rows)
        if given < rows:
            yield (
                f"The endpoint {name!r} takes {rows:,} samples at a time, and there are {given:,} to calibrate it "
                f"with: give {rows:,} or more."
            )


def _refuse(model: "keras.Model", why: str) -> RefusedExportError:
    return RefusedExportError(f"The model {model.name!r} cannot be exported like this: {why}")


@contextmanager
def _part_removed(target: Path) -> Iterator[None]:
    """Leaves nothing of an artifact that did not become whole."""
    try:
        yield
    except BaseException:
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        raise


def write_example(tensor: Tensor) -> str:
    """Writes the Python that makes an input of zeros, or of an empty text, with 1 for each dimension that may vary."""
    shape = tuple(1 if size is None else size for size in tensor.shape or ())
    return f"numpy.full({shape}, '', object)" if tensor.dtype == "string" else f"numpy.zeros({shape}, {tensor.dtype!r})"


def describe_quantization(document: Document) -> str:
    """Says in a few words how an artifact was quantised."""
    words = str(document.quantize) if document.quantize else "float32, as the model"
    if document.calibration is not None:
        words += f", calibrated with {document.calibration.samples} samples of {document.calibration.origin}"
    return words
