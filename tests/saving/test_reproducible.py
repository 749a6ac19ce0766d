"""The same model gives the same bytes: in another process, order, directory and locale, with another hash seed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .resume_worker import ARTIFACTS

CASES = (
    *("convolution_batch_norm_dropout", "custom_loss_and_metric", "custom_train_step"),
    *("dictionaries_of_inputs_and_outputs", "mixed_float16", "quantized_to_int8", "random_augmentation"),
    *("regularizers_and_constraints", "stateful_gru", "subclassed_model", "text_vectorization_adapted"),
)
_TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which another process made the cases, the last one first."""
    folder = tmp_path_factory.mktemp("again")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path]),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Kathmandu",
        "USER": "somebody",
        # Text is ASCII there wherever the code does not say how it is written.
        "LC_ALL": "POSIX",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
    }
    code = "from saving.resume_worker import main; main()"
    command = [sys.executable, "-c", code, "make", str(folder), *reversed(CASES)]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=1500, umask=0o077)
    return folder


def hash_files(artifact: Path) -> dict[str, str]:
    files = [artifact] if artifact.is_file() else [file for file in sorted(artifact.rglob("*")) if file.is_file()]
    return {str(file.relative_to(artifact.parent)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.xdist_group("reproducible")
@pytest.mark.parametrize("identity", CASES)
def test_the_same_bytes_in_another_process_and_order(identity: str, made: Path, made_again: Path) -> None:
    compared = 0
    for name in ARTIFACTS.values():
        first, second = made / identity / name, made_again / identity / name
        assert first.exists() == second.exists()
        if first.exists():
            assert hash_files(second) == hash_files(first)
            compared += 1
    assert compared >= 2
