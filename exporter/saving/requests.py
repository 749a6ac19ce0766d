"""What is asked of a save and of a load, handed on whole to whoever writes or reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.processes.fresh_process import FreshProcess
from exporter.saving.deployment.conversions import CalibrationData
from exporter.saving.deployment.quantizing import Quantize
from exporter.typing.keras import Model
from exporter.typing.structures import Config
from exporter.typing.tensorflow import Step


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """One save.

    Attributes:
        model: The model.
        target: The path to write; for HDF5 also an open `h5py.File`.
        format: The name of the format; None until it is chosen by the suffix.
        include_optimizer: Whether the optimizer and the compile configuration are saved.
        signatures: What `tf.saved_model.save` takes, or None for `serving_default` from the model itself.
        options: What `tf.saved_model.save` takes, or None.
        notes: Files, by name, that are kept inside the artifact, such as the recipe which made it.
        steps: What `signatures` use of the model's training and is traced already: functions of the data, by their
            names in `exporter.saving.functions.records.Functions.steps`.
        config: The model's configuration; None if it has none that makes the same model again.
        quantize: How the artifact is quantised; None for not at all.
        calibration: What that needs to know of the data; None where nothing.
        converter: The process that converts, where one is ready; None to start one.
        compatibility: The release of Keras that has to open the artifact; None for any.
    """

    model: Model
    target: Any
    format: str | None = None
    include_optimizer: bool = True
    signatures: object = None
    options: Any = None
    notes: Mapping[str, bytes] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    config: Config | None = None
    quantize: Quantize | None = None
    calibration: CalibrationData | None = None
    converter: FreshProcess | None = None
    compatibility: str | None = None


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One load.

    Attributes:
        custom_objects: Classes and functions by the name under which the model was saved.
        compile: Whether the model is compiled, and its optimizer's state restored.
        safe_mode: Whether what would run code from inside the artifact, or reach beyond it, is refused.
        endpoint: Of a SavedModel: what a model is made of, see `choose`; None for the model itself where it is there.
        tags: Of a SavedModel with several graphs: the tags of one; None for the one that is served.
    """

    custom_objects: Mapping[str, object] = field(default_factory=dict)
    compile: bool = True
    safe_mode: bool = True
    endpoint: str | None = None
    tags: Sequence[str] | None = None

    def check(self, config: object) -> None:
        """Refuses a configuration that is not safe, in safe mode; see `check_configuration`.

        Raises:
            ArtifactError: It is refused.
        """
        if self.safe_mode:
            from exporter.saving.safety.configurations import check_configuration

            _register_former_classes()
            check_configuration(config, self.custom_objects)

    def deserialize(self, config: object) -> Any:
        """Lets Keras make an object of its configuration."""
        import keras

        _register_former_classes()
        return keras.saving.deserialize_keras_object(config, dict(self.custom_objects), safe_mode=self.safe_mode)

    def is_at_hand(self, name: str) -> bool:
        """Returns whether the class or function of that name is registered or given."""
        import keras

        _register_former_classes()
        if name == "lambda":
            return False
        return keras.saving.get_registered_object(name, custom_objects=dict(self.custom_objects)) is not None


def _register_former_classes() -> None:
    """Lets Keras find the classes of older Keras that are ours."""
    import exporter.saving.legacy.classes  # noqa: F401
