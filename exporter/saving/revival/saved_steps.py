"""Training, evaluation and prediction by the steps that were saved."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import keras
import tensorflow as tf

from exporter.errors import ArgumentError
from exporter.saving.functions.records import STEP, Functions, UnitFunctions
from exporter.saving.graph.inputs import build_structure, extract_leaves
from exporter.saving.revival.calling import Untracked, call_function, list_specs, takes_tensors
from exporter.saving.revival.layers import RevivedModel
from exporter.typing.keras import Model
from exporter.typing.structures import Config, Nested
from exporter.typing.tensorflow import Tensor, TFFunction


def use_saved_steps(
    model: Model, units: Mapping[str, UnitFunctions], functions: Functions, config: Config, replaceable: bool
) -> None:
    """Lets a model train and evaluate with the saved steps, until it is compiled anew.

    Args:
        model: A compiled model.
        units: The loaded functions.
        functions: What is known of them.
        config: The compile configuration with which they were traced.
        replaceable: Whether the model can train without them; it does when it is given other data than they take.
    """
    steps = _SavedSteps(model, units, functions, replaceable)
    replaced = {
        "train_step": steps.train_step,
        **({"test_step": steps.test_step} if "test" in functions.steps else {}),
        "reset_metrics": steps.reset_metrics,
        "get_metrics_result": steps.get_metrics_result,
        "_flatten_metrics_in_order": steps.flatten_metrics_in_order,
        "compile": steps.compile_anew,
        "saved_data": list_specs(steps.get_function("train")),
        "saved_exact_data": list_specs(steps.get_function("exact train" if steps.is_exact else "train")),
        "saved_compile_config": Untracked(config),
    }
    steps.replaced = tuple(replaced)
    for name, value in replaced.items():
        object.__setattr__(model, name, value)


class _SavedSteps:
    """The saved steps of one model, in the place of its own methods.

    Attributes:
        is_exact: Whether there are steps for the size of batch that the model was trained with.
        replaced: The attributes of the model that these stand in.
    """

    def __init__(
        self, model: Model, units: Mapping[str, UnitFunctions], functions: Functions, replaceable: bool
    ) -> None:
        self._model = model
        self._units = units
        self._functions = functions
        self._replaceable = replaceable
        self.is_exact = "exact train" in functions.steps
        self.replaced: tuple[str, ...] = ()

    def get_function(self, step: str) -> TFFunction:
        """Returns the function of a step."""
        return self._units[f"{STEP}{step}"].inference

    def train_step(self, data: Nested[Tensor]) -> Nested[Tensor]:
        """Trains on one batch."""
        return self._run("train_step", ("exact train", "train") if self.is_exact else ("train",), data)

    def test_step(self, data: Nested[Tensor]) -> Nested[Tensor]:
        """Evaluates one batch."""
        return self._run("test_step", ("exact test", "test") if self.is_exact else ("test",), data)

    def reset_metrics(self) -> None:
        """Resets the metrics inside the steps."""
        self.get_function("reset")()

    def get_metrics_result(self) -> Nested[Tensor]:
        """Returns what the steps log at the end of an epoch."""
        return self._order(self.get_function("results")(), "results")

    def flatten_metrics_in_order(self, logs: Mapping[str, Tensor]) -> Tensor | list[Tensor]:
        """Returns what `evaluate` does, in the original's order."""
        names = self._functions.steps["evaluation"]
        values = [logs[name] for name in (*names, *sorted(logs.keys() - set(names))) if name in logs]
        return values[0] if len(values) == 1 else values

    def compile_anew(self, *args: object, **kwargs: object) -> None:
        """Compiles the model, which trains with its own steps from then on."""
        self._restore()
        self._model.compile(*args, **kwargs)

    def _restore(self) -> None:
        for name in self.replaced:
            vars(self._model).pop(name, None)

    def _order(self, logs: Any, step: str) -> Nested[Tensor]:
        names = self._functions.steps[step]
        return {name: logs[name] for name in names} if names else logs

    def _run(self, method: str, steps: Sequence[str], data: Nested[Tensor]) -> Nested[Tensor]:
        model = self._model
        leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
        # It was traced for one replica: several would each train a model of their own.
        distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
        for step in steps if not distributed else ():
            specs = list_specs(self.get_function(step))
            # A batch whose size is not known fits only a step for batches of any size.
            known = all(spec.shape[:1] in ([None], leaf.shape[:1]) for spec, leaf in zip(specs, leaves, strict=False))
            if known and takes_tensors(specs, leaves) and hasattr(model, "saved_data"):
                return self._order(call_function(self.get_function(step), leaves), step)
        if not self._replaceable:
            self._refuse(method, steps, leaves, distributed)
        self._restore()
        # Now the losses and metrics make their variables, which TensorFlow forbids a function that is traced again; a
        # thread of its own is outside of the function.
        with ThreadPoolExecutor(1) as outside:
            outside.submit(model._symbolic_build, data_batch=data).result()
        outputs: Nested[Tensor] = getattr(model, method)(data)
        return outputs

    def _refuse(self, method: str, steps: Sequence[str], leaves: Sequence[Tensor], distributed: bool) -> NoReturn:
        if distributed:
            raise ArgumentError(
                f"The saved {method} is for one replica, and this strategy has "
                f"{tf.distribute.get_strategy().num_replicas_in_sync}. Load the model outside of the strategy's scope, "
                "or with its code."
            )
        expected = ", ".join(str(spec.shape) for spec in list_specs(self.get_function(steps[-1])))
        raise ArgumentError(
            f"The saved {method} takes tensors of the shapes {expected}, like the data that the model was trained "
            f"with. Received: {', '.join(str(leaf.shape) for leaf in leaves)}. Give data of the same structure, or "
            "compile the model anew."
        )


def use_saved_prediction(model: RevivedModel, units: Mapping[str, UnitFunctions], functions: Functions) -> None:
    """Lets a revived model predict as the original's own methods did; what was not saved of them says so."""
    untracked = Untracked(units)

    def predict_step(data: Nested[Tensor]) -> Nested[Tensor]:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        leaves = extract_leaves(model.revived_inputs.value, (inputs,))
        outputs = call_function(untracked.value[f"{STEP}predict"].inference, leaves)
        # A saved function gives the keys of a dict in sorted order.
        return build_structure(functions.prediction, keras.tree.flatten(outputs))

    def refuse(name: str, why: str) -> Callable[..., Nested[Tensor]]:
        def method(*args: object, **kwargs: object) -> NoReturn:
            raise ArgumentError(
                f"The model's own `{name}` was not saved, since {why}. Call the model itself, or load it with the code "
                f"of {type(model).__name__}."
            )

        return method

    replaced = {name: refuse(name, why) for name, why in functions.lost.items()}
    if functions.prediction is not None:
        replaced["predict_step"] = predict_step
    for name, method in replaced.items():
        object.__setattr__(model, name, method)
    if replaced:
        object.__setattr__(model, "saved_prediction", Untracked(tuple(replaced)))
