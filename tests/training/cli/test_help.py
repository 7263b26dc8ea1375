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
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({HEAVY!r} & set(sys.modules))), file=sys.stderr))
import runpy
runpy.run_module("training", run_name="__main__")
"""
WHOLE: Any = get_command(app)


@pytest.mark.parametrize("command", ["", *WHOLE.commands])
def test_help_loads_no_library_of_a_command(command: str) -> None:
    arguments = [*filter(None, [command]), "--help"]
    helped = subprocess.run(
        [sys.executable, "-c", ASK, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert helped.returncode == 0, helped.stderr
    assert "Usage: python -m training" in helped.stdout
    assert json.loads(helped.stderr) == []
