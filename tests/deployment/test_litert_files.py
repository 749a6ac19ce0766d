"""LiteRT files of anybody's: damage is named, and a small one cannot become a large thing."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ArtifactError
from exporter.saving.deployment.runtimes.litert import LiteRtRuntime
from exporter.saving.formats.deployed import DeployedFormat

from .conftest import DEPLOYED, Bench
from .models import make

pytestmark = pytest.mark.xdist_group("deployment")


@pytest.fixture(scope="module")
def content(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound file."""
    [litert] = [each for each in DEPLOYED if each.name == "litert"]
    assert isinstance(litert, DeployedFormat)
    target = tmp_path_factory.mktemp("litert") / "model.tflite"
    bench.convert(litert, make("branches"), target)
    return target.read_bytes()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], None]:
    def read(changed: bytes) -> None:
        (tmp_path / "model.tflite").write_bytes(changed)
        LiteRtRuntime.read_file(tmp_path / "model.tflite")

    return read


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), is_cut=st.booleans())
def test_damage_is_named_or_harmless(
    content: bytes, read: Callable[[bytes], None], place: float, byte: int, is_cut: bool
) -> None:
    position = int(place * len(content))
    rest = b"" if is_cut else content[position + 1 :]
    with suppress(ArtifactError):  # whatever else is raised is a fault of ours
        read(content[:position] + bytes([byte]) + rest)


def make_aliases(count: int) -> bytes:
    """Makes a file in which many graphs are one, and many tensors of it are one."""
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * count)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("count", [300, 30_000])
def test_parts_that_stand_for_many_are_refused(count: int, read: Callable[[bytes], None]) -> None:
    aliases = make_aliases(count)
    with pytest.raises(
        ArtifactError, match=rf"model\.tflite is refused: its parts are longer than its {len(aliases):,} bytes\.$"
    ):
        read(aliases)
