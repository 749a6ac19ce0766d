"""The words are completed in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = r"""
eval "$(exporter completion bash)"
compopt() { :; }
ask() {
    COMP_LINE="$1" COMP_POINT=${#1}
    _exporter exporter
    printf '%s\n' "${COMPREPLY[@]}" --
}
complete -p exporter
"""
# A terminal in which the key Tab is pressed; what stands on the line then is written to a file.
ZSH = r"""
zmodload zsh/zpty
zpty -b shell env TERM=dumb COLUMNS=300 zsh -f -i
zpty -w shell 'eval "$(exporter completion zsh)"; bindkey "^I" complete-word'
number=0
ask() {
    zpty -n -w shell "$1"$'\t\x01echo "<\x05>" >> lines\n'
    (( number += 1 ))
    until [[ -f lines && $(wc -l < lines) -ge $number ]]; do sleep 0.05; done
}
"""


def run_shell(shell: str, script: str, folder: Path) -> str:
    program = shutil.which(shell)
    assert program, f"apt-get install {shell}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    options = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    done = subprocess.run(
        [program, *options, "-c", script],
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my model.keras").touch()
    return tmp_path


def test_bash(folder: Path) -> None:
    lines = ["exporter promo", "exporter save_format=o", r"exporter my\ m", "exporter -m save_format=tf,h"]
    asked = "".join(f"ask '{line}'\n" for line in lines)
    assert run_shell("bash", BASH + asked, folder).splitlines() == [
        *("complete -F _exporter exporter", "promote", "--"),
        # Behind the last sign at which this shell splits a word.
        *("onnx", "openvino", "--"),
        *(r"my\ model.keras", "--"),
        *("tf,h5", "--"),
    ]


def test_fish(folder: Path) -> None:
    lines = ["exporter promo", "exporter save_format=o", r"exporter my\ m"]
    asked = "".join(f"complete -C '{line}' | string split -f 1 \\t\n" for line in lines)
    shown = run_shell("fish", f"exporter completion fish | source\n{asked}", folder)
    assert shown.splitlines() == ["promote", "save_format=onnx", "save_format=openvino", "my model.keras"]


def test_zsh(folder: Path) -> None:
    lines = ["exporter promo", "exporter save_format=op", r"exporter my\ m", "exporter verify.mo"]
    run_shell("zsh", ZSH + "".join(f"ask '{line}'\n" for line in lines), folder)
    assert (folder / "lines").read_text(encoding="utf-8").splitlines() == [
        "<exporter promote>",
        "<exporter save_format=openvino>",
        r"<exporter my\ model.keras>",
        "<exporter verify.mode=>",
    ]
