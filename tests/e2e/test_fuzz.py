"""Requests that schemathesis makes up from the OpenAPI document: the system answers as the document says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.edge import ROOT
from tests.e2e.system import System, python_path

pytestmark = pytest.mark.e2e

EXAMPLES = os.environ.get("MOVIEREC_FUZZ_EXAMPLES", "10")
"""Per operation; `make fuzz` wants more."""


@pytest.mark.row(57)
def test_the_system_does_what_the_document_says(system: System) -> None:
    schemathesis = Path(sys.executable).with_name("schemathesis")
    arguments = ("--seed", "0", "--max-examples", EXAMPLES)
    done = subprocess.run(
        [
            schemathesis,
            "--config-file=tests/e2e/schemathesis.toml",
            "run",
            f"{system.plan.url}/openapi.json",
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert done.returncode == 0, done.stdout + done.stderr
