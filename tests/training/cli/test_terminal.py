"""Whatever is printed is data: brackets stay, control characters are shown, no character is too much."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.cli.test_commands import QUICK, write_tastes
from training.cli.train import app

pytestmark = pytest.mark.usefixtures("own_logs")

HOSTILE = "[/] [red]\u0142\u03bb\u4e2d :cat: \x1b[31m\u2019\udce9"
SHOWN = "[/] [red]\\u0142\\u03bb\\u4e2d :cat: \\x1b[31m\\u2019\\udce9"
"""In Latin-1."""

TITLE = "Amélie \u2019s [remastered] [/] :cat:"
JOBS = (
    "preprocess",
    "extract-movies",
    "train-popularity",
    "train-cf --factors 2",
    "train-als --als-factors 2",
    "build-similarity --als-factors 2",
    f"evaluate --seeds 1 --protocol user {' '.join(QUICK)}",
    "tune --trials 1",
)
LISTS = (
    "recommend --user 1 --explain",
    "recommend --user 1 --model als",
    "recommend --user 1 --model svd",
    "recommend --user 999 --model popularity",
)

LATIN_1 = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


PRINTS = """
import sys
from rich.table import Table
from rich.text import Text
from training.progress import Progress
from training.cli.terminal import Terminal

terminal, data = Terminal(width=200), sys.argv[1]
terminal.print(data)
terminal.print(Text(data, style="bold"))
with Progress(terminal).step(data):
    pass
table = Table(data, caption=data)
table.add_row(data)
terminal.print(table)
"""


def test_a_terminal_shows_data_as_they_are() -> None:
    done = python("-c", PRINTS, HOSTILE, **LATIN_1)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.decode("latin-1").splitlines() if "cat" in line]
    assert [SHOWN in line for line in shown[:3]] == [True] * 3
    assert [SHOWN[:40] in line for line in shown[3:]] == [True] * 3  # cells were measured unescaped
    assert not {0x00, 0x1B} & set(done.stdout)


def python(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *map(str, arguments)]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW_", "MOVIEREC_"))}
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        command, capture_output=True, env={**env, "PYTHONPATH": path, **environment}, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def folder(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has a data set and, in `root`, a bundle of it, trained where standard output is Latin-1."""
    folder = tmp_path_factory.mktemp("words") / "my [old] [/] r\u00e9cs \u03bb"
    for name in ("data", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(empty_store, folder / "root")
    write_tastes(folder / "data", title=TITLE)
    options = ("--data-dir", str(folder / "data"), "--bundle-root", str(folder / "root"), "--force")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        result = CliRunner(charset="latin-1").invoke(app, ["train", *options, *QUICK])
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())  # long lines are wrapped
    assert "my [old] [/] récs \\u03bb/root after " in shown
    return folder


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        (LATIN_1, b"Am\xe9lie \\u2019s [remastered] [/] :cat:"),
        (ASCII, b"Am\\xe9lie \\u2019s [remastered] [/]"),
    ],
    ids=["latin-1", "ascii"],
)
def test_recommendations_are_shown_in_any_encoding(
    folder: Path, encoding: dict[str, str], shown: bytes
) -> None:
    root = folder / "root"
    done = python("-m", "training", "recommend", "--user", "1", "--bundle-root", root, **encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(shown) == 10


def test_help_is_shown_in_any_encoding() -> None:
    done = python("-m", "training", "train-als", "--help", **LATIN_1)
    assert done.returncode == 0
    assert b"\\u03bb" in done.stdout


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        *((command, "my [old] [/] récs \\u03bb/") for command in JOBS),
        *((command, "Amélie \\u2019s [remastered] [/] :cat:") for command in LISTS),
    ],
)
def test_each_command_shows_data_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, shown: str
) -> None:
    monkeypatch.setenv("MOVIEREC_DATA_DIR", str(folder / "data"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = [*command.split(), "--bundle-root", str(folder / "root")]
    result = CliRunner(charset="latin-1").invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert shown in " ".join(result.stdout.split())  # long lines are wrapped


@pytest.mark.parametrize("command", ["recommend --user 1", "rollback", "promote", "train", "preprocess"])
def test_failures_name_folders_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    folder = tmp_path / "[/] [red]\x1b[31m"
    monkeypatch.setenv("MOVIEREC_DATA_DIR", str(folder))
    result = CliRunner(charset="latin-1").invoke(app, [*command.split(), "--bundle-root", str(folder)])
    assert result.exit_code == 1
    assert "[/] [red]\\x1b[31m" in result.stderr or command == "promote"
    assert "\x1b" not in result.output
