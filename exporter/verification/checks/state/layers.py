"""Whether the layers of both models are alike: trainable flags, dtype policies, and what they acquired."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission
from exporter.saving.rebuilding.acquired import collect_acquired
from exporter.saving.state.collecting import collect
from exporter.saving.state.policies import find_policy
from exporter.typing.keras import Model
from exporter.verification.comparing.base import Ask, CheckType, Message
from exporter.verification.comparing.comparisons import check_equal
from exporter.verification.comparing.described import Described
from exporter.verification.comparing.facts import find_revived, make_plain


def answer(model: Model, question: Message) -> Message:
    """Describes the layers of the loaded model."""
    return Message(_describe(model))


def _describe(model: Model, include_optimizer: bool = True) -> dict[str, Any]:
    """Describes the layers of a model.

    Args:
        model: A built model.
        include_optimizer: Whether the optimizer belongs to the state.

    Returns:
        Plain data: `trainable` (address -> flag), `dtype_policies` (address -> name), `acquired` (as `collect_acquired`
        says it), `stateless` (the addresses of the layers without variables) and `revived` (those of the layers that
        live on without their code).
    """
    state = collect(model, include_optimizer)
    layers = {each.path: each.target for each in state.tree if isinstance(each.target, keras.layers.Layer)}
    return make_plain(
        {
            "trainable": dict(state.trainable),
            "dtype_policies": {path: find_policy(layer).name for path, layer in layers.items()},
            "acquired": collect_acquired(state),
            "stateless": [path for path, layer in layers.items() if not layer.variables],
            "revived": find_revived(model),
        }
    )


class _Layers(Described):
    def compare_facts(self, ours: Mapping[str, Any], theirs: Mapping[str, Any], ask: Ask) -> Iterator[Check | Omission]:
        layers = f"{len(ours['trainable']) - 1} layers"  # the model itself stands among them
        revived = set(theirs["revived"]) - set(ours["revived"])
        if revived:
            layers += f", {len(revived - {''})} of them revived without their code"
        # A call makes layers that hold nothing, such as those of a preprocessor, and the next call makes them again.
        fleeting = set(ours["stateless"]) - set(theirs["trainable"])
        flags = {path: flag for path, flag in ours["trainable"].items() if path not in fleeting}
        yield check_equal("trainable flags", flags, theirs["trainable"], layers)
        # The saved functions of a revived layer hold what its inner layers compute in; only it has a policy.
        policies = theirs["dtype_policies"]
        known = {
            path: name
            for path, name in ours["dtype_policies"].items()
            if path in policies or path not in revived | fleeting
        }
        yield check_equal("dtype policies", known, policies, layers)
        if ours["acquired"] or theirs["acquired"]:
            number = f"{len(ours['acquired'])} layers, adapted or quantized"
            yield check_equal("LoRA, quantization", ours["acquired"], theirs["acquired"], number)


CHECK = CheckType(name="layers", plan=lambda reference: [_Layers(reference, _describe)], answer=answer)
