"""The ways to quantise a deployed artifact, as a recipe calls them."""

from enum import StrEnum


class Quantize(StrEnum):
    """What becomes of the numbers of an artifact."""

    FLOAT16 = "float16"  # weights are float16
    INT8_DYNAMIC = "int8_dynamic"  # weights are int8; what flows between layers is quantised while it runs
    INT8 = "int8"  # weights and what flows between layers are int8, in ranges that calibration data tells
    INT8_WEIGHTS = "int8_weights"  # weights are int8; it computes in float32
    INT4_WEIGHTS = "int4_weights"  # weights are int4; it computes in float32

    @property
    def is_exact(self) -> bool:
        """Whether what it changes is rounding alone, so that any input shows whether the artifact is sound."""
        return self is Quantize.FLOAT16

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs data of the kind that the model will be asked."""
        return self is Quantize.INT8
