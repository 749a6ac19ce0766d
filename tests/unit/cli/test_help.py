"""The pages of help say all that there is, since they are derived from it."""

from contextlib import suppress

import pytest

from exporter import errors
from exporter.cli.commands import COMMANDS, run_command
from exporter.cli.help import list_rows
from exporter.cli.help.front import HEIGHT, WIDTH, write_front_page
from exporter.cli.help.pages import list_topics
from exporter.config import JobConfig, VerifyConfig, read_keys
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.saving.formats import FORMATS


def test_the_first_page_is_one_screen() -> None:
    lines = write_front_page(COMMANDS).splitlines()
    assert len(lines) < HEIGHT  # the prompt takes a line
    assert max(map(len, lines)) < WIDTH
    words = " ".join(lines).replace(",", " ").split()
    assert {*COMMANDS, *FORMATS, *list_topics()} <= set(words)


def test_every_key_and_every_option_is_described() -> None:
    names = [name for name, _ in list_rows("keys")]
    options = [f"{file.parent.name}={file.stem}" for file in CONFIG_DIRECTORY.glob("*/*.yaml")]
    assert {*read_keys(JobConfig), *(f"verify.{key}" for key in read_keys(VerifyConfig)), *options} <= set(names)
    described = dict(list_rows("keys"))
    assert described["verify.mode"].startswith("full | reload | none")
    assert all(described[option] for option in options)


def test_every_format_is_described() -> None:
    assert [name for name, _ in list_rows("formats")] == [f"save_format={name}" for name in FORMATS]


def test_every_exit_code_of_an_error_is_described() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {str(each.exit_code) for each in kinds if issubclass(each, errors.ExporterError)}
    assert codes <= {name for name, _ in list_rows("exit-codes")}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param([], "troubleshooting  What each exit code", id="topics"),
        pytest.param(["commands"], "exporter rerun", id="commands"),
        pytest.param(["exit", "codes"], "nothing was published", id="a section"),
        pytest.param(["exit_codes"], "nothing was published", id="underscore"),
        pytest.param(["Quantisation"], "max_accuracy_drop", id="a capital"),
        pytest.param(["sweeps"], "hydra/launcher=joblib", id="a page"),
        pytest.param(["diff"], "usage: exporter diff ", id="a command"),
        pytest.param(["layout"], "layout=tf_serving", id="a group"),
        pytest.param(["verify.batch_sizes"], "each is predicted and compared", id="a key"),
    ],
)
def test_a_topic_is_shown(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # which a command's own help raises
        assert run_command(["help", *words]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        pytest.param("verfy.mode", "did you mean exporter help verify.mode?", id="near"),
        pytest.param("sweep", "did you mean exporter help sweeps?", id="a topic"),
        pytest.param("exitcodes", "did you mean exporter help exit-codes?", id="a section"),
        pytest.param("zzz", "see exporter help", id="far"),
    ],
)
def test_an_unknown_topic_is_answered_with_what_to_type(
    word: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(["help", word])
    assert ended.value.code == 2
    assert f"{word}: there is no such topic, command or key; {remedy}\n" in capsys.readouterr().err
