"""ONNX files of anybody's: what they say is read, nothing in them is followed, and none costs more than it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporter.errors import ArtifactError
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.deployment.documents import KEY, Document
from exporter.saving.deployment.runtimes import onnx_files
from exporter.saving.deployment.runtimes.onnx import ENDPOINT_KEY, OnnxRuntime


def make_model(*nodes: Any, constants: Any = ()) -> Any:
    """Makes a model that returns `y` of `x`, a float32 of any size."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    nodes = nodes or (helper.make_node("Identity", ["x"], ["y"]),)
    graph = helper.make_graph(list(nodes), "graph", values[:1], values[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="other")


def test_a_file_of_another_writer_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "theirs.onnx"
    constants = [helper.make_tensor("c", TensorProto.FLOAT, [2], [1.0, 2.0])] * 2
    constants.append(helper.make_tensor("names", TensorProto.STRING, [1], ["größe".encode()]))
    constants.append(helper.make_tensor("small", TensorProto.INT4, [3], [1, -2, 3]))
    file.write_bytes(
        make_model(helper.make_node("Add", ["x", "c"], ["y"]), constants=constants[1:2]).SerializeToString()
    )
    runtime = OnnxRuntime(file)
    assert runtime.endpoints == {
        SERVING_DEFAULT: Endpoint({"x": Tensor((None,), "float32")}, {"y": Tensor((None,), "float32")})
    }
    np.testing.assert_array_equal(runtime.call(SERVING_DEFAULT, {"x": np.ones(2, "float32")})["y"], [2.0, 3.0])
    assert list(OnnxRuntime(tmp_path).endpoints) == ["theirs"]
    file.write_bytes(make_model(constants=constants).SerializeToString())
    content = OnnxRuntime.read_file(file)
    assert (content.writer, content.document, dict(content.operations)) == ("other", None, {"Identity": 1})
    assert {name: (each.dtype, each.shape) for name, each in content.constants.items()} == {
        "c": ("float32", (2,)),
        "c_2": ("float32", (2,)),
        "names": ("string", (1,)),
        "small": ("int4", (3,)),
    }
    assert content.constants["names"].read().tolist() == ["größe".encode()]
    assert content.constants["small"].read().tobytes() == b"\xe1\x03"
    np.testing.assert_array_equal(content.constants["c"].read(), [1.0, 2.0])


def make_external(location: str) -> Any:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="8")
    return make_model(helper.make_node("Add", ["x", "c"], ["y"]), constants=[tensor]).SerializeToString()


def test_what_is_kept_beside_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "theirs.onnx"
    file.write_bytes(make_external("theirs.data"))
    (tmp_path / "theirs.data").write_bytes(np.array([1.0, 2.0], "float32").tobytes())
    constant = OnnxRuntime.read_file(file).constants["c"]
    assert (constant.size, constant.read().tolist()) == (8, [1.0, 2.0])
    (tmp_path / "theirs.data").write_bytes(b"1234")
    with pytest.raises(ArtifactError, match=r"cannot be read at 'c': .* It is damaged or incomplete\.$"):
        constant.read()


def make_empty_messages() -> bytes:
    nodes = b"\x0a\x00" * 1_001
    return b"\x08\x08\x3a" + bytes([len(nodes) & 127 | 128, len(nodes) >> 7]) + nodes


WRONG_SHAPE = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"1234")
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"no model", r"file\.onnx is damaged: it is no ONNX model: "),
    "empty": (lambda: b"", r"file\.onnx is damaged: it is no ONNX model: it has no graph that returns anything\.$"),
    "half": (lambda: make_model().SerializeToString()[:-9], r"file\.onnx is damaged: it is no ONNX model: "),
    "absolute-place": (
        lambda: make_external("/etc/passwd"),
        r"is refused: its constant 'c' is kept at '/etc/passwd'; only files beside it are read\.$",
    ),
    "place-above": (lambda: make_external("a/../../secret"), r"is kept at 'a/../../secret'; only files beside it"),
    "no-place": (lambda: make_external(""), r"is kept at ''; only files beside it"),
    "claimed-size": (
        lambda: make_model(constants=[WRONG_SHAPE]).SerializeToString(),
        r"is damaged: its constant 'c' of float32 \(1099511627776,\) has 4 bytes\.$",
    ),
    "negative-size": (
        lambda: make_model(
            constants=[TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b"")]
        ).SerializeToString(),
        r"is damaged: its constant 'c' of float32 \(-1,\) has 0 bytes\.$",
    ),
    "many-messages": (make_empty_messages, r"is refused: it has more than 1,000 parts\.$"),
}


@pytest.mark.parametrize("identity", [pytest.param(name, id=name) for name in HOSTILE])
def test_a_hostile_or_damaged_file_is_refused(identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "MAX_MESSAGES", 1000)
    make, text = HOSTILE[identity]
    file = tmp_path / "file.onnx"
    file.write_bytes(make())
    with pytest.raises(ArtifactError, match=text):
        OnnxRuntime.read_file(file)


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"12345678")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "file.onnx").write_bytes(make_external("link"))
    with pytest.raises(ArtifactError, match=r"cannot be read at 'c': "):
        OnnxRuntime.read_file(folder).constants["file/c"].read()
    with pytest.raises(ArtifactError, match=r"file\.onnx cannot be opened by ONNX Runtime: "):
        OnnxRuntime(folder)


def test_a_directory_is_one_export(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not an ONNX artifact: no file in it ends with \.onnx\.$"):
        OnnxRuntime(tmp_path)
    for name in ("a", "b"):
        model = make_model()
        document = Document(endpoints={}, notes={"from": name}).to_json()
        helper.set_model_props(model, {ENDPOINT_KEY: "same", KEY: document})
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"two files of it say that they are the endpoint 'same'\.$"):
        OnnxRuntime(tmp_path)
    with pytest.raises(ArtifactError, match=r"b\.onnx is not of the same export as another file of it\.$"):
        OnnxRuntime.read_file(tmp_path)


def test_a_foreign_document_is_told_by_its_place(tmp_path: Path) -> None:
    model = make_model()
    helper.set_model_props(model, {KEY: "[1]"})
    (tmp_path / "file.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"file\.onnx: the document is damaged: "):
        OnnxRuntime.read_file(tmp_path)
