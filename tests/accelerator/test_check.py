"""The check of an accelerator says when there is none."""

import os
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

from exporter.models.randomness import operations_deterministic
from exporter.saving.private_api import is_op_determinism_enabled


def test_without_a_gpu_nothing_is_claimed() -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "check.py"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (
        2,
        "check: TensorFlow sees no GPU here, and nothing was checked; --cpu tries the script without one\n",
    )


def test_operations_are_asked_to_be_deterministic_for_a_while() -> None:
    with operations_deterministic(wanted=True):
        assert is_op_determinism_enabled()
        with operations_deterministic(wanted=True):
            pass
        assert is_op_determinism_enabled()
    assert not is_op_determinism_enabled()
    with operations_deterministic(wanted=False):
        assert not is_op_determinism_enabled()
    assert tf.random.normal(()).shape == ()
