"""The recipe calls what is there: every module, command and option of ``recipes/nano.sh``."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

RECIPE = Path(__file__).parents[3] / "recipes" / "nano.sh"
LINES = RECIPE.read_text().replace("\\\n", " ").splitlines()


def calls(pattern: str) -> list[tuple[str, set[str]]]:
    """What a line calls and the options that it gives it."""
    found = [re.search(pattern, line) for line in LINES if not line.startswith("#")]
    return [(m[1], set(re.findall(r"(?<=\s)--[a-z][\w-]*", re.split(r" && | \|\| ", m[2])[0]))) for m in found if m]


MODULES = calls(r"-m hwsi\.training\.nano\.(\w+)(.*)")
COMMANDS = calls(r"\$hwsi ((?:phantom|train|bench) \w+)(.*)")


def test_the_recipe_goes_through_all_stages_in_order() -> None:
    names = [name for name, _ in MODULES]
    assert names.index("words") < names.index("align") < names.index("refresh") < names.index("instruct")
    text = RECIPE.read_text()
    marks = ["nano.words", "nano.align", "train project", "nano.instruct", "train expert", "train prefer", "nano.pack"]
    assert [text.index(m) for m in marks] == sorted(text.index(m) for m in marks)


@pytest.mark.parametrize(("module", "options"), MODULES)
def test_a_module_of_the_recipe_knows_its_options(
    module: str, options: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [module, "--help"])
    with pytest.raises(SystemExit) as done:
        import_module(f"hwsi.training.nano.{module}").main()
    assert done.value.code == 0
    known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    assert options <= known


@pytest.mark.parametrize(("command", "options"), COMMANDS)
def test_a_command_of_the_recipe_knows_its_options(command: str, options: set[str]) -> None:
    from hwsi.cli.app import app

    told = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert options <= set(re.findall(r"--[a-z][\w-]*", told.output))
