"""Training, evaluation and prediction by the steps that were saved."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArgumentError
from exporter.saving.configuration.configurations import Config
from exporter.saving.functions.records import STEP, Functions
from exporter.saving.graph.inputs import build_structure, extract_leaves
from exporter.saving.revival.calling import Untracked, call_function, list_specs, takes_tensors


def use_saved_steps(
    model: keras.Model, units: Mapping[str, Any], functions: Functions, config: Config, replaceable: bool
) -> None:
    """Lets a model train and evaluate with the saved steps, until it is compiled anew.

    Args:
        model: A compiled model.
        units: The loaded functions.
        functions: What is known of them.
        config: The compile configuration with which they were traced.
        replaceable: Whether the model can train without them; it does when it is given other data than they take.
    """
    untracked = Untracked(units)
    exact = "exact train" in functions.steps

    def get_function(step: str) -> Any:
        return untracked.value[f"{STEP}{step}"].inference

    def order(logs: Any, step: str) -> Any:
        names = functions.steps[step]
        return {name: logs[name] for name in names} if names else logs

    def run(method: str, steps: Sequence[str], data: Any) -> Any:
        leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
        # It was traced for one replica: several would each train a model of their own.
        distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
        for step in steps if not distributed else ():
            specs = list_specs(get_function(step))
            # A batch whose size is not known fits only a step for batches of any size.
            known = all(spec.shape[:1] in ([None], leaf.shape[:1]) for spec, leaf in zip(specs, leaves, strict=False))
            if known and takes_tensors(specs, leaves) and hasattr(model, "saved_data"):
                return order(call_function(get_function(step), leaves), step)
        if not replaceable and distributed:
            raise ArgumentError(
                f"The saved {method} is for one replica, and this strategy has "
                f"{tf.distribute.get_strategy().num_replicas_in_sync}. Load the model outside of the strategy's scope, "
                "or with its code."
            )
        if not replaceable:
            expected = ", ".join(str(spec.shape) for spec in list_specs(get_function(steps[-1])))
            raise ArgumentError(
                f"The saved {method} takes tensors of the shapes {expected}, like the data that the model was trained "
                f"with. Received: {', '.join(str(leaf.shape) for leaf in leaves)}. Give data of the same structure, or "
                "compile the model anew."
            )
        restore()
        # Now the losses and metrics make their variables, which TensorFlow forbids a function that is traced again; a
        # thread of its own is outside of the function.
        with ThreadPoolExecutor(1) as outside:
            outside.submit(model._symbolic_build, data_batch=data).result()
        return getattr(model, method)(data)

    def restore() -> None:
        for name in replaced:
            vars(model).pop(name, None)

    def train_step(data: Any) -> Any:
        return run("train_step", ("exact train", "train") if exact else ("train",), data)

    def test_step(data: Any) -> Any:
        return run("test_step", ("exact test", "test") if exact else ("test",), data)

    def reset_metrics() -> None:
        get_function("reset")()

    def get_metrics_result() -> Any:
        return order(get_function("results")(), "results")

    def flatten_metrics_in_order(logs: Mapping[str, Any]) -> Any:
        names = functions.steps["evaluation"]
        values = [logs[name] for name in (*names, *sorted(logs.keys() - set(names))) if name in logs]
        return values[0] if len(values) == 1 else values

    def compile_anew(*args: Any, **kwargs: Any) -> None:
        restore()
        model.compile(*args, **kwargs)

    replaced = {
        "train_step": train_step,
        **({"test_step": test_step} if "test" in functions.steps else {}),
        "reset_metrics": reset_metrics,
        "get_metrics_result": get_metrics_result,
        "_flatten_metrics_in_order": flatten_metrics_in_order,
        "compile": compile_anew,
        "saved_data": list_specs(get_function("train")),
        "saved_exact_data": list_specs(get_function("exact train" if exact else "train")),
        "saved_compile_config": Untracked(config),
    }
    for name, value in replaced.items():
        object.__setattr__(model, name, value)


def use_saved_prediction(model: keras.Model, units: Mapping[str, Any], functions: Functions) -> None:
    """Lets a revived model predict as the original's own methods did; what was not saved of them says so."""
    untracked = Untracked(units)

    def predict_step(data: Any) -> Any:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        leaves = extract_leaves(model.revived_inputs.value, (inputs,))
        outputs = call_function(untracked.value[f"{STEP}predict"].inference, leaves)
        # A saved function gives the keys of a dict in sorted order.
        return build_structure(functions.prediction, keras.tree.flatten(outputs))

    def refuse(name: str, why: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
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
