"""What a model, an artifact and its endpoints are asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.models.predictions import Predictor, describe_tensors
from exporter.processes.arrays import Array
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.graph.inputs import Inputs
from exporter.typing.tensorflow import ConcreteFunction
from exporter.verification.comparing.calls import name_answers


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """A method of the model's own that an endpoint uses, and what it is asked as users call it.

    Attributes:
        method: Its name.
        keywords: The names of its arguments.
        takes: Their tensors and, in `structure`, what each argument is made of.
        arrays: One array per dense tensor by which those of `takes` are served.
    """

    method: str
    keywords: tuple[str, ...]
    takes: Inputs
    arrays: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class EndpointInputs:
    """One endpoint and what it is asked.

    Attributes:
        name: Of the endpoint.
        inputs: What it takes, as the SignatureDef says it: the leaves have the names, shapes and dtypes of its inputs.
        batches: What it is asked: for each batch one array per leaf of `inputs`, strings as objects. Empty where no
            examples can be made.
        why_none: Why there are none, with the remedy; else empty.
        moves_state: Whether a call may change variables, as a training step does: no request to warm up a server.
        function: The traced function; None for the model's own inference.
        by_sample: Whether every array has a row per sample: the parts of a ragged or sparse tensor have not.
    """

    name: str
    inputs: Inputs
    batches: tuple[tuple[Array, ...], ...]
    why_none: str = ""
    moves_state: bool = False
    function: ConcreteFunction | None = None
    by_sample: bool = True

    def describe(self, predictor: Predictor) -> Endpoint:
        """Describes the inputs and outputs, which the file must declare.

        Args:
            predictor: The model's own inference.
        """
        leaves = {leaf.name: Tensor(leaf.shape, leaf.dtype) for leaf in self.inputs.leaves}
        outputs = (
            predictor.describe_outputs()
            if self.function is None
            else describe_tensors(name_answers(self.function.structured_outputs))
        )
        return Endpoint({name: leaves[name] for name in sorted(leaves)}, outputs)


@dataclass(frozen=True, slots=True)
class VerificationInputs:
    """The batches on which the model and the artifact are compared.

    Attributes:
        takes: What the model takes.
        batches: One array per input, for each batch.
        origin: Where the batches come from, in a few words.
        seed: Of what is drawn beside them: targets, and inputs for endpoints with inputs of their own.
        batch_sizes: Of what is drawn beside them.
        predictor: The model as a function of its inputs.
        endpoints: The endpoints of a SavedModel, and what they are asked.
        methods: The methods of the model's own that they use, each with the same arguments once.
        data: The file that the batches come from; None if they were drawn.
        targets: The targets and sample weights of that file, by name; empty if they are drawn.
    """

    takes: Inputs
    batches: tuple[tuple[Array, ...], ...]
    origin: str
    seed: int
    batch_sizes: tuple[int, ...]
    predictor: Predictor
    endpoints: tuple[EndpointInputs, ...] = ()
    methods: tuple[MethodInputs, ...] = ()
    data: Path | None = None
    targets: Mapping[str, Array] = field(default_factory=dict)
