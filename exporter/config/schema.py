"""The recipe as plain data: what `conf/`, `recipes/` and the command line compose to.

Nothing here knows Hydra, OmegaConf or TensorFlow. `_hydra.py` fills these classes from YAML;
`jobs.export` reads them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, Final, get_type_hints

from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats import FORMATS

# Marks a field that is no key of a recipe.
INTERNAL: Final = {"internal": True}
# Marks a key that shapes no artifact, so that none keeps it.
UNKEPT: Final = {"unkept": True}


def read_keys(schema: Any, *, kept: bool = False) -> dict[str, Any]:
    """Returns the keys of a schema class with their type hints.

    Args:
        schema: The class.
        kept: Whether only those are wanted that an artifact keeps.
    """
    hints = get_type_hints(schema, include_extras=True)
    without = {"internal", "unkept"} if kept else {"internal"}
    return {each.name: hints[each.name] for each in fields(schema) if not without & each.metadata.keys()}


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """Says of a text that it is one of these, as they are at the time of the question."""

    names: Mapping[str, Any]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


# A function itself, which Python may give where YAML has `_target_`.
Live = Callable[..., Any]

SaveFormat = Annotated[str, Choices(FORMATS)]


class VerifyMode(StrEnum):
    """How much is proven before the artifact reaches its path."""

    FULL = "full"  # a fresh process loads it and compares everything
    RELOAD = "reload"  # a fresh process loads it and predicts
    NONE = "none"  # nothing is proven


class VariablePolicy(StrEnum):
    """`tf.saved_model.experimental.VariablePolicy`, by name."""

    NONE = "none"  # as TensorFlow does by default
    SAVE_VARIABLE_DEVICES = "save_variable_devices"  # keep the device that each variable was on
    EXPAND_DISTRIBUTED_VARIABLES = "expand_distributed_variables"  # also every replica's component


class Sharding(StrEnum):
    """How the variables are spread over checkpoint files."""

    SHARD_BY_TASK = "shard_by_task"  # one file per task: TensorFlow's default
    MAX_SHARD_SIZE = "max_shard_size"  # files of at most `max_shard_size` bytes


class Batch(StrEnum):
    """How many examples an endpoint takes at once, where that is not a number."""

    DYNAMIC = "dynamic"  # any number


@dataclass(kw_only=True, slots=True)
class TensorConfig:
    """One input of an endpoint."""

    shape: list[int | None] | None = None  # null for a dimension that may vary; default: the model's own
    dtype: str | None = None  # default: the model's own
    ragged_rank: int | None = None  # how many dimensions after the first vary in length from row to row


@dataclass(kw_only=True, slots=True)
class SignatureConfig:
    """One endpoint of a SavedModel."""

    method: str = "predict"  # predict | train | evaluate | the name of a method of the model
    batch: Batch | int | None = None  # dynamic | N: the first dimension of every input; null: as the shapes say
    inputs: dict[str, TensorConfig | dict[str, Any] | list[Any]] = field(default_factory=dict)  # by name; or nested
    outputs: dict[str, str] | list[str] = field(default_factory=list)  # of the method, in order; {new: own} renames
    preprocess: dict[str, Any] | list[Any] | Live = field(default_factory=dict)  # steps before the method, in the graph
    postprocess: dict[str, Any] | list[Any] | Live = field(default_factory=dict)  # steps on the outputs, in the graph


@dataclass(kw_only=True, slots=True)
class ShardingConfig:
    """`experimental_sharding_callback`: how the variables are spread over files."""

    policy: Sharding | None = None  # null: one file
    max_shard_size: int | None = None  # bytes, for policy=max_shard_size


@dataclass(kw_only=True, slots=True)
class OptionsConfig:
    """`tf.saved_model.SaveOptions`, field by field."""

    namespace_whitelist: list[str] = field(default_factory=list)  # custom-op namespaces that may be saved
    save_debug_info: bool = False  # write debug/saved_model_debug_info.pb with stack traces
    function_aliases: dict[str, str] = field(default_factory=dict)  # alias -> endpoint
    experimental_debug_stripper: bool = False  # remove Assert, CheckNumerics and Print nodes
    experimental_io_device: str | None = None  # the device that does the input and output, such as /job:localhost
    experimental_variable_policy: VariablePolicy | None = None  # what is kept of the variables' placement
    experimental_custom_gradients: bool = True  # keep gradient functions: a revived model needs them to train
    experimental_image_format: bool = False  # disabled by TensorFlow's open-source builds
    experimental_skip_saver: bool = False  # leave the graph's own save and restore nodes out
    experimental_sharding_callback: ShardingConfig = field(default_factory=ShardingConfig)
    extra_tags: list[str] = field(default_factory=list)  # tags of the MetaGraph beside "serve"


class LayoutKind(StrEnum):
    """What stands at `filepath`."""

    SINGLE = "single"  # the artifact itself
    TF_SERVING = "tf_serving"  # a directory of numbered versions, as TF Serving watches it


@dataclass(kw_only=True, slots=True)
class LayoutConfig:
    """Where the artifact stands, and what a model server finds in it."""

    kind: LayoutKind = LayoutKind.SINGLE
    version: str = "auto"  # auto: the next integer | timestamp: Unix seconds | a number; for kind=tf_serving
    keep: int | None = None  # how many versions stay, the newest ones; null: all of them; for kind=tf_serving
    warmup: bool | None = None  # requests that TF Serving runs when it loads the model; null: versions, where it can
    against: str | None = field(default=None, metadata=UNKEPT)  # latest | a path: it may not be worse; null: not asked
    max_accuracy_drop: float | None = field(default=0.01, metadata=UNKEPT)  # on labelled data; null: reported only
    max_growth: float | None = field(default=None, metadata=UNKEPT)  # at most so many times the bytes; null: any number


@dataclass(kw_only=True, slots=True)
class VerifyConfig:
    """The proof."""

    mode: VerifyMode = VerifyMode.FULL
    batch_sizes: list[int] = field(default_factory=lambda: [1, 2, 3])  # each is predicted and compared
    data: str | None = None  # .npz: inputs by name, targets as y or y/<output>; default: seeded random ones
    tolerance: float = 8.0  # times the model's own rounding: by so much what another's converter made may differ
    metric: str | dict[str, Any] | Live | None = None  # of Keras, {_target_}, or {output: either}; default: accuracy
    max_accuracy_drop: float | None = 0.01  # of a converted artifact, on labelled data; null: reported only
    min_agreement: float | None = None  # share of samples for which it decides as the model does; null: reported only
    environments: list[str] = field(default_factory=list, metadata=UNKEPT)  # directories: proven there too


@dataclass(kw_only=True, slots=True)
class CalibrationConfig:
    """The data in whose ranges `quantize: int8` counts."""

    data: str | dict[str, Any] | Live | None = None  # .npz, or {_target_} that yields batches; null: the source's own
    samples: int = 200  # of each endpoint


class MeasureMode(StrEnum):
    """When load time, latency and memory of the artifact are measured."""

    SWEEPS = "sweeps"  # in every job of a sweep, and not in a single run
    ALWAYS = "always"  # also in a single run
    NEVER = "never"


@dataclass(kw_only=True, slots=True)
class MeasureConfig:
    """What is measured of a finished artifact in the fresh process."""

    mode: MeasureMode = MeasureMode.SWEEPS
    batch_size: int = 1  # samples in the batch that is predicted
    warm_up: int = 10  # predictions that are not counted
    runs: int = 100  # predictions that are


@dataclass(kw_only=True, slots=True)
class Origin:
    """Where a config comes from."""

    directory: str | None = None  # of the user's own recipes; null: the config was made in Python
    written: dict[str, Any] = field(default_factory=dict)  # dotted path -> what is stored for the value that is there


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """One export: the arguments of `save_model`, where the model comes from, and what is done with the result."""

    model: Any  # {_target_: dotted name of a function that returns a keras.Model, **arguments}, or a live keras.Model
    filepath: str  # relative to the caller's directory
    save_format: SaveFormat | None = None  # null: by the suffix of filepath
    overwrite: bool = True  # replace what is at filepath
    include_optimizer: bool = True  # the optimizer's state and the compile configuration
    signatures: dict[str, SignatureConfig] = field(default_factory=dict)  # empty: serving_default from the model
    options: OptionsConfig = field(default_factory=OptionsConfig)  # SavedModel only
    compatibility: str | None = None  # a release of Keras that has to open the artifact, such as 3.9; null: any
    quantize: Quantize | None = None  # how the numbers of a converted artifact are made smaller; null: not at all
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)  # for quantize=int8
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    seed: int = 0  # of Python, NumPy and Keras, before the model is built, and of the proof's inputs
    strict: bool = False  # true: what the format cannot hold is an error; false: it is listed as left out
    measure: MeasureConfig = field(default_factory=MeasureConfig, metadata=UNKEPT)  # how fast and how large it is
    origin: Origin = field(default_factory=Origin, repr=False, compare=False, metadata=INTERNAL)


class OnError(StrEnum):
    """What a sweep does after a job that failed."""

    CONTINUE = "continue"  # the other jobs run all the same
    STOP = "stop"  # no job is started any more


class Objective(StrEnum):
    """The figure that a job returns, for a sweeper that searches for the smallest."""

    BYTES = "bytes"  # of the artifact
    SAVE = "save"  # seconds to write the artifact
    LOAD = "load"  # seconds to load it in the fresh process
    FIRST = "first"  # seconds of the first prediction
    LATENCY = "latency"  # seconds, median of the predictions
    P90 = "p90"  # seconds that 90 % of the predictions take at most
    P99 = "p99"  # seconds that 99 % of the predictions take at most
    MEMORY = "memory"  # bytes, the largest resident size while the artifact is loaded and predicts
    DIFFERENCE = "difference"  # largest difference between the artifact and the model
    ACCURACY = "accuracy"  # 1 - accuracy on labelled data, or another metric so that the smaller is the better
    AGREEMENT = "agreement"  # 1 - share of the samples for which the artifact decides as the model does


@dataclass(kw_only=True, slots=True)
class JobConfig(ExportConfig):
    """What a command line composes to: an export, and how a sweep of them goes."""

    on_error: OnError = OnError.CONTINUE  # what a sweep does after a job that failed
    resume: bool = False  # run only what the newest sweep of this recipe has not finished
    objective: Objective | None = None  # what a job returns, for a sweeper that searches
    results_url: str | None = None  # URL in a store, where the results and the report of a sweep meet
    verbose: bool = False  # true: the summary lists all that the artifact holds, and every check
