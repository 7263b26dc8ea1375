"""Help costs nothing but its own: no command's libraries are loaded before it runs."""

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from training.cli.train import app

HEAVY = {
    *("catboost", "implicit", "jinja2", "matplotlib", "mlflow", "optuna", "pandas", "pandera", "pooch"),
    *("pyarrow", "requests", "scipy", "shap", "sqlalchemy", "structlog"),
}
"""What some command needs, and takes longer to import than all that help needs."""
ASK = f"""
import contextlib, io, json, runpy, sys

asked = {{}}
for command in sys.argv[1:]:
    sys.argv[1:] = [*command.split(), "--help"]
    printed = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(printed):
        runpy.run_module("training", run_name="__main__")
    asked[command] = printed.getvalue(), sorted({HEAVY!r} & set(sys.modules))
print(json.dumps(asked))
"""
COMMANDS: Any = get_command(app)


@pytest.fixture(scope="module")
def asked() -> dict[str, tuple[str, list[str]]]:
    """By command, asked one after another in a fresh interpreter: its help, and what is loaded by then."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, "", *COMMANDS.commands], capture_output=True, text=True, check=True
    )
    answers: dict[str, tuple[str, list[str]]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("command", ["", *COMMANDS.commands])
def test_help_loads_no_library_of_a_command(asked: dict[str, tuple[str, list[str]]], command: str) -> None:
    printed, loaded = asked[command]
    assert " ".join(f"Usage: python -m training {command} [OPTIONS]".split()) in printed
    assert loaded == []
