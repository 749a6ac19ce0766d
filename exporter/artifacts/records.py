"""What a receipt records."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from exporter.saving.contents import ContentItem, Endpoint, Omission, find_omission_kind
from exporter.storage.digests import FileRecord
from exporter.text.showing import escape_line

SCHEMA_VERSION = 1


class Status(StrEnum):
    """How far an artifact got that was published."""

    PROVEN = "proven"  # a fresh process compared everything, and every check passed
    WRITTEN = "written"  # it was written, and at most loaded again


class Phase(StrEnum):
    """What an export does, from its beginning to its end."""

    START = "start"
    BUILD = "build"
    TRACE = "trace"
    WRITE = "write"
    PROVE = "prove"
    MEASURE = "measure"
    PUBLISH = "publish"

    @property
    def words(self) -> str:
        """What a person reads."""
        return _PHASES[self]


_PHASES = {
    Phase.START: "start TensorFlow",
    Phase.BUILD: "build the model",
    Phase.TRACE: "trace the endpoints",
    Phase.WRITE: "write the artifact",
    Phase.PROVE: "prove it",
    Phase.MEASURE: "measure it",
    Phase.PUBLISH: "publish it",
}

# What the version before wrote into a receipt, whatever a person reads today.
_FORMER_PHASES = {
    "start TensorFlow": Phase.START,
    "build the model": Phase.BUILD,
    "trace the endpoints": Phase.TRACE,
    "write the artifact": Phase.WRITE,
    "prove it": Phase.PROVE,
    "measure it": Phase.MEASURE,
    "publish it": Phase.PUBLISH,
}


class CheckKind(StrEnum):
    """What a check compared, whatever its name is."""

    STATE = "state"  # the values of variables
    OUTPUTS = "outputs"  # what is answered to the same inputs
    TRAINING = "training"  # what a training step makes of the variables
    FACTS = "facts"  # anything else: that it loads, flags, names, settings


# By the names of the version before, which wrote no kinds. Any other name was that of outputs.
_FORMER_KINDS = {
    **dict.fromkeys(
        ("weights", "optimizer", "random state", "values of replicas", "lookup tables", "state"), CheckKind.STATE
    ),
    **dict.fromkeys(
        ("load", "trainable flags", "dtype policies", "LoRA, quantization", "compile", "signatures"), CheckKind.FACTS
    ),
    "training step": CheckKind.TRAINING,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of the artifact with the model.

    Attributes:
        name: What was compared, such as `predictions`.
        passed: Whether the artifact was the same.
        figure: The measured result in a few words, such as `bit-equal` or `largest difference 1.2e-07`.
        detail: What the figure was measured on, or where the difference is.
        difference: The largest absolute difference between two numbers; 0 where all are bit-equal, and None where
            there are no numbers to compare, or numbers of different shapes.
        kind: What kind of thing was compared.
    """

    name: str
    passed: bool
    figure: str
    detail: str
    difference: float | None = field(default=None, compare=False)  # the figure says the same in words
    kind: CheckKind = field(default=CheckKind.FACTS, compare=False)  # and the name says this


def update_record(record: Any) -> Any:
    """Writes a record of the version before as this one does: that wrote no kinds, and phases by what a person reads.

    Args:
        record: What JSON holds, which may be anything.
    """
    if not isinstance(record, dict):
        return record
    finders = {"checks": ("name", _find_kind), "left_out": ("what", find_omission_kind)}
    added: dict[str, Any] = {}
    for key, (field_name, find) in finders.items():
        entries = record.get(key)
        if isinstance(entries, list):
            added[key] = [
                {"kind": find(each[field_name]).value, **each}
                if isinstance(each, dict) and isinstance(each.get(field_name), str)
                else each
                for each in entries
            ]
    seconds = record.get("seconds")
    if isinstance(seconds, dict):
        added["seconds"] = {_FORMER_PHASES.get(name, name): duration for name, duration in seconds.items()}
    return {**record, **added}


def _find_kind(name: str) -> CheckKind:
    return _FORMER_KINDS.get(name, CheckKind.OUTPUTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What the fresh process measured of the finished artifact.

    Attributes:
        reader: What loaded and called it: the endpoint of a SavedModel through `tf.saved_model.load`, or our
            `load_model` with one traced call.
        batch_size: Samples in the batch that was predicted.
        runs: Predictions that were measured.
        load_seconds: From the path to a model in memory; TensorFlow was imported before.
        first_seconds: The first prediction, with everything that is made only then.
        median_seconds: Of the predictions after the warm-up.
        p90_seconds: What 90 % of them took at most.
        p99_seconds: What 99 % of them took at most.
        memory_bytes: By how much the resident size of the process grew at most from then on: TensorFlow itself, which
            was there before, is not counted.
    """

    reader: str
    batch_size: int
    runs: int
    load_seconds: float
    first_seconds: float
    median_seconds: float
    p90_seconds: float
    p99_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Score:
    """How well one output of an endpoint does on labelled data.

    Attributes:
        endpoint: The name of the endpoint.
        output: The name of the output.
        metric: The name of what was measured, such as `accuracy`.
        model: Of the model.
        artifact: Of the artifact.
        samples: On how many samples.
        loss: By how much the artifact does worse; below zero where it does better.
        higher_is_better: Whether a larger value of the metric is the better one; None where it does not say.
    """

    endpoint: str
    output: str
    metric: str
    model: float
    artifact: float
    samples: int
    loss: float
    higher_is_better: bool | None = None

    def __str__(self) -> str:
        """Tells it in a few words, such as `accuracy 0.9806 (-0.0028)`."""
        return f"{self.metric} {self.artifact:.4f} ({self.artifact - self.model:+.4f})"

    @property
    def change(self) -> float:
        """By how much the artifact has more than the model."""
        return self.artifact - self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is known of an artifact that holds what endpoints compute.

    Attributes:
        quantize: How it was quantised; None if it was not.
        rounding: The largest difference of an output to the model's, in units of what rounding does to the model
            itself; None where that was not compared.
        scores: How well it does on labelled data; empty where there was none.
        agreement: The share of real samples for which it decides as the model does; None where nothing decides.
        data: Where the labelled data are from; empty where there were none.
        calibration: Where the data are from that it was calibrated with, and how many; empty where it was not.
    """

    quantize: str | None = None
    rounding: float | None = None
    scores: tuple[Score, ...] = ()
    agreement: float | None = None
    data: str = ""
    calibration: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """One file that the recipe reads.

    Attributes:
        key: The dotted path in the recipe, such as `model.filepath`.
        path: What stands there.
        sha256: Of the file; of a directory, as `digest_files` takes it.
        size: Bytes.
    """

    key: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Repository:
    """The git repository that a recipe is in.

    Attributes:
        commit: The one that is checked out.
        dirty: Whether a file that git knows differs from it.
    """

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """What an export ran on.

    Attributes:
        processor: Its name.
        cores: How many the process may use.
        memory_bytes: Of the machine.
        system: The operating system and its release.
        gpus: Their names.
        int8_instructions: Those of the processor that multiply int8, as the system calls them, such as `avx512_vnni`:
            what quantisation gains depends on them. None where that is not known.
    """

    processor: str
    cores: int
    memory_bytes: int
    system: str
    gpus: tuple[str, ...]
    int8_instructions: tuple[str, ...] | None = None  # former versions did not write it

    def __str__(self) -> str:
        """Says it in a few words."""
        gpus = "".join(f", {gpu}" for gpu in self.gpus)
        memory = f"{self.memory_bytes / 2**30:.0f} GiB memory"
        return escape_line(f"{self.cores} cores of {self.processor}, {memory}{gpus}, {self.system}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the artifact's server, which was read again by what the endpoint declares.

    Attributes:
        endpoint: Which it asks.
        body: JSON, as TF Serving's REST interface takes it; None for a long one.
        file: Absolute path of the file that holds a long one; None for a short one.
    """

    endpoint: str
    body: str | None
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What loads an artifact beside its path.

    Attributes:
        imports: The modules to import before: they register the model's classes, or hold the `custom_objects`.
        custom_objects: Where the classes and functions are that are not registered, such as `layers.Gate`, by the name
            in the model's configuration.
        safe_mode: False where the artifact holds code of its maker, such as a Python lambda.
        libraries: The modules that register operations of the graph, which TensorFlow alone lacks.
    """

    imports: tuple[str, ...] = ()
    custom_objects: dict[str, str] = field(default_factory=dict)
    safe_mode: bool = True
    libraries: tuple[str, ...] = ()

    def write_lines(self, filepath: str, reader: str = "exporter") -> list[str]:
        """Writes the lines of Python that load the artifact, in any process.

        Args:
            filepath: Of the artifact.
            reader: The module whose `load_model` is called: `exporter` or `keras.models`.
        """
        arguments = [repr(filepath)]
        if self.custom_objects:
            objects = ", ".join(f"{name!r}: {place}" for name, place in self.custom_objects.items())
            arguments.append(f"custom_objects={{{objects}}}")
        if not self.safe_mode:
            arguments.append("safe_mode=False")
        modules = dict.fromkeys((*self.libraries, *self.imports, reader.partition(".")[0]))
        return [f"import {', '.join(modules)}", f"model = {reader}.load_model({', '.join(arguments)})"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFields:
    """Everything that is known about one finished export.

    Attributes:
        schema_version: Of this record's layout.
        status: Proven or only written.
        filepath: Absolute path of the artifact.
        format: `tf`, `h5` or `keras`.
        read: What the model was made from, a line each.
        recipe: The resolved recipe; what it takes from the environment stands as it says it, such as
            `${oc.env:NAME}`.
        inputs: The files that the recipe reads.
        repository: That of the recipe; None where there is none, or no git.
        versions: Of the software that took part, by name.
        files: Every file of the artifact, sorted by path.
        total_bytes: The sum of their sizes.
        signatures: The endpoints, by name; empty unless the format is `tf`.
        request: One to try a server with; None unless the format is `tf`, and where JSON cannot say the inputs.
        held: What the artifact holds.
        left_out: What it does not hold, and why.
        checks: Each comparison of the proof.
        seconds: Duration of each phase, in order.
        measurements: What was measured of the artifact; None where nothing was.
        peak_memory_bytes: The largest resident size of the exporting process during the export, TensorFlow included.
        started: When the export began, ISO 8601 with a time zone.
        finished: When the artifact was at its path, ISO 8601 with a time zone.
        host: Name of the machine.
        machine: What it is.
        loading: What loads the artifact.
        deployment: What is known of one that holds what endpoints compute; None of one that holds the model.
        oldest_keras: The oldest release of Keras that can open it, of those that were tried; empty where none can.
        oldest_tensorflow: Likewise of TensorFlow, without Keras.
        scores: How well one that holds the model does on labelled data, beside the version before; empty where that was
            not compared.
        came_from: Where its bytes were before, in words; empty where they were exported to where they are.
        facts: What the source of the model tells of it beside, such as metrics of its own, by name.
    """

    schema_version: int
    status: Status
    filepath: str
    format: str
    read: tuple[str, ...]
    recipe: dict[str, Any]
    inputs: tuple[Input, ...]
    repository: Repository | None
    versions: dict[str, str]
    files: tuple[FileRecord, ...]
    total_bytes: int
    signatures: dict[str, Endpoint]
    request: Request | None
    held: tuple[ContentItem, ...]
    left_out: tuple[Omission, ...]
    checks: tuple[Check, ...]
    seconds: dict[Phase, float]
    measurements: Measurements | None
    peak_memory_bytes: int
    started: str
    finished: str
    host: str
    machine: Machine
    loading: Loading = field(default_factory=Loading)  # former versions did not write it
    deployment: Deployment | None = None  # nor this
    oldest_keras: str = ""  # nor this
    oldest_tensorflow: str = ""  # nor this
    scores: tuple[Score, ...] = ()  # nor this
    came_from: str = ""  # nor this
    facts: dict[str, int | float | str] = field(default_factory=dict)  # nor this
