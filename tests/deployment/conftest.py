from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import pytest

from exporter.config import OptionsConfig, SignatureConfig, VerifyConfig
from exporter.exporting.proving import DeploymentProver
from exporter.exporting.session import ExportSession
from exporter.models.endpoints.building import BuiltEndpoint, build_endpoints
from exporter.saving.contents import SERVING_DEFAULT, Contents
from exporter.saving.deployment.conversions import CalibrationData
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.requests import SaveRequest
from exporter.verification.deployment.quality.samples import Samples
from exporter.verification.deployment.verification import DeploymentResult, Proof
from exporter.verification.inputs import prepare_inputs

DEPLOYED = [each for each in FORMATS.values() if isinstance(each, DeployedFormat)]


class Bench:
    """Converts and proves with the processes that all tests of a worker share."""

    def __init__(self, session: ExportSession) -> None:
        self._session = session

    def build(self, model: keras.Model, **declared: SignatureConfig) -> dict[str, BuiltEndpoint]:
        """Traces the endpoints of a model."""
        return build_endpoints(model, declared or {SERVING_DEFAULT: SignatureConfig()}, OptionsConfig())

    def convert(
        self,
        save_format: DeployedFormat,
        model: keras.Model,
        target: Path,
        endpoints: Mapping[str, BuiltEndpoint] | None = None,
        quantize: Quantize | None = None,
        calibration: CalibrationData | None = None,
    ) -> Contents:
        """Writes an artifact."""
        built = endpoints or self.build(model)
        request = SaveRequest(
            model,
            target,
            save_format.name,
            signatures={name: each.function for name, each in built.items()},
            quantize=quantize,
            calibration=calibration,
            converter=self._session.open_process(save_format.start_converter),
            notes={"recipe.yaml": b"seed: 1\n"},
        )
        return save_format.write(request)

    def prove(
        self,
        save_format: DeployedFormat,
        model: keras.Model,
        artifact: Path,
        contents: Contents,
        endpoints: Mapping[str, BuiltEndpoint] | None = None,
        quantize: Quantize | None = None,
        samples: Samples | None = None,
        **settings: Any,
    ) -> DeploymentResult:
        """Proves an artifact."""
        built = dict(endpoints or self.build(model))
        verify = VerifyConfig(**settings)
        return Proof(
            process=self._session.open_process(DeploymentProver.start),
            model=model,
            save_format=save_format,
            declared=contents.signatures,
            inputs=prepare_inputs(model, verify, 0, built),
            quantize=quantize,
            settings=verify,
            samples=samples,
        ).verify(artifact)


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    with ExportSession() as session:
        yield Bench(session)


@pytest.fixture(params=DEPLOYED, ids=lambda each: each.name)
def save_format(request: pytest.FixtureRequest) -> DeployedFormat:
    chosen: DeployedFormat = request.param
    return chosen


@pytest.fixture
def place(tmp_path: Path) -> Callable[[DeployedFormat], Path]:
    """Gives a path for an artifact."""
    return lambda save_format: tmp_path / f"artifact{''.join(save_format.suffixes[:1])}"
