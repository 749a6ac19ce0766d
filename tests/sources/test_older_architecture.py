"""An architecture that Keras 2 wrote, with weights in any form that it wrote them in.

The files of `keras_2` are of TensorFlow 2.15: `model.to_json()`, `save_weights` in two forms, `save`, and what was
predicted. Those of `yaml_architectures` are what `gen_yaml.txt` wrote with Keras 1.2.2, 2.2.4 and TensorFlow 1.15.
"""

from pathlib import Path

import numpy as np
import pytest

from exporter.errors import ArtifactError
from exporter.saving.layout.documents import parse_yaml_configuration
from exporter.sources import architecture
from exporter.sources._mistaken import explain_no_model

FILES = Path(__file__).parent / "keras_2"
FORMS = {"checkpoint": "ckpt", "weights": "cnn.weights.h5", "archive": "cnn.keras"}


@pytest.mark.parametrize("form", FORMS)
def test_it_predicts_what_it_did(form: str) -> None:
    model = architecture(str(FILES / "cnn.json"), str(FILES / FORMS[form]))
    with np.load(FILES / "expected.npz") as expected:
        np.testing.assert_allclose(model.predict(expected["x"], verbose=0), expected["y"], rtol=1e-5, atol=1e-6)
        stored = {expected[name].tobytes() for name in expected.files if name.startswith("w#")}
    assert {np.asarray(weight).tobytes() for weight in model.get_weights()} == stored


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.train.Checkpoint(step=tf.Variable(1)).write(str(tmp_path / "other"))
    with pytest.raises(ArtifactError, match=r"has no value for \d+ of the \d+ weights of the model 'cnn', such as"):
        architecture(str(FILES / "cnn.json"), str(tmp_path / "other"))


def test_a_checkpoint_of_today_is_read(tmp_path: Path) -> None:
    import tensorflow as tf

    model = architecture(str(FILES / "cnn.json"), str(FILES / "ckpt"))
    tf.train.Checkpoint(model=model).write(str(tmp_path / "today"))
    again = architecture(str(FILES / "cnn.json"), str(tmp_path / "today"))
    for first, second in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(first, second)


YAML = Path(__file__).parent / "yaml_architectures"
WRITERS = sorted(each.name for each in YAML.iterdir() if each.is_dir())


@pytest.mark.parametrize("kind", ["cnn", "two"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_to_yaml_wrote_is_read(writer: str, kind: str) -> None:
    place = YAML / writer / kind
    model = architecture(f"{place}.yaml", f"{place}.h5")
    with np.load(f"{place}.npz") as expected:
        inputs = [expected[name] for name in ("x0", "x1") if name in expected]
        outputs = model(inputs if len(inputs) > 1 else inputs[0])
        np.testing.assert_allclose(outputs, expected["y"], rtol=1e-5, atol=1e-7)


def test_aliases_become_values_of_their_own() -> None:
    text = b"backend: tensorflow\nfirst: &id001 !!python/tuple [3, 3]\nsecond: *id001\n"
    value = parse_yaml_configuration(text, "it")
    assert value == {"backend": "tensorflow", "first": [3, 3], "second": [3, 3]}
    assert value["first"] is not value["second"]


BOMB = "class_name: x\na0: &a0 [x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(BOMB, "is damaged: it stands for more than 1,000,000 values.", id="aliases of aliases"),
        pytest.param("class_name: &a [*a]\n", "is damaged: the alias 'a' stands for nothing before it.", id="itself"),
        pytest.param("class_name: *a\n", "is damaged: the alias 'a' stands for nothing before it.", id="nothing"),
        pytest.param(
            "class_name: !!python/object/apply:os.system ['touch /tmp/here']\n",
            "is damaged: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
            id="code",
        ),
        pytest.param(
            "class_name: !!python/object/apply:numpy.dtype {state: 1}\n",
            "is damaged: 'args'.",
            id="dtype without a name",
        ),
        pytest.param(
            "class_name: !!python/object/apply:numpy.core.multiarray.scalar [O8, !!binary MAAAAAAAAAA=]\n",
            "is damaged: it has a number that is none.",
            id="number that is an object",
        ),
        pytest.param("class_name: 2001-01-01\n", "is damaged: it holds what no configuration does: ", id="date"),
        pytest.param("class_name: " + "[" * 5000, "is refused: it is nested too deeply.", id="depth"),
        pytest.param("class_name: " + " " * (1 << 20), "is refused: it has 1,048,588 bytes; at most", id="length"),
    ],
)
def test_yaml_that_is_no_configuration_is_refused(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(ArtifactError) as caught:
        architecture(str(path), str(YAML / "tf-1.15" / "cnn.h5"))
    assert str(caught.value).startswith(f"'{path}' {fault}")


def test_yaml_given_as_a_model_is_answered_with_its_source() -> None:
    path = YAML / "tf-1.15" / "cnn.yaml"
    assert explain_no_model(path) == (
        f"{path} is YAML: the configuration of a model without its weights. "
        f"Use model=architecture model.config={path} model.weights=WEIGHTS"
    )
