"""The commands beside the export: named in the help, and described by themselves."""

from pathlib import Path

import pytest
import yaml

from exporter.commands import COMMANDS, run_command

HELP = Path(__file__).parents[1] / "conf" / "config.yaml"


def test_the_help_lists_every_command() -> None:
    template = yaml.safe_load(HELP.read_text(encoding="utf-8"))["hydra"]["help"]["template"]
    section = template.partition("commands, each with a --help of its own\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in section.splitlines()] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: exporter {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_a_fault_of_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command([name, "a", "b", "--surprise"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"exporter: 1 fault in the command line\n  {name}: ")
