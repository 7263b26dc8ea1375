"""How a command speaks to people, and how it ends when something is wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from catboost import CatBoostError
from mlflow.exceptions import MlflowException

from serving.bundle.store import BundleError
from serving.logs import configure_logs
from serving.settings import LogLevel
from training.cli.options import ParametersError
from training.cli.terminal import Terminal, printable
from training.data.movielens.problems import DataError
from training.lock import BusyError
from training.models.als import FitError
from training.models.ranker_groups import TooFewUsersError
from training.release.local_store import StoreError
from training.release.registry import RegistryError, root_cause
from training.release.tracking import RecordError, ServerError


def open_console() -> Terminal:
    """The console of a command; only warnings are logged beside it."""
    configure_logs("training", LogLevel.WARNING)
    # Where there is no terminal to ask: wide enough for the table.
    return Terminal(width=None if sys.stdout.isatty() else 110)


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Failures that a person can mend are said in words on stderr, with exit status 1, not as a traceback."""
    try:
        yield
    except MlflowException as error:
        message = f"the registry does not answer: {root_cause(error)}"
    except (
        BundleError,
        BusyError,
        CatBoostError,
        DataError,
        FitError,
        MemoryError,
        OSError,
        ParametersError,
        RecordError,
        RegistryError,
        ServerError,
        StoreError,
        TooFewUsersError,
    ) as error:
        message = ". ".join([str(error), *getattr(error, "__notes__", [])])
    else:
        return
    typer.echo(printable(message), err=True)
    raise typer.Exit(1)


@contextmanager
def before_publication() -> Iterator[None]:
    """Adds to a failure of the machine, a full disk most of all, that it left what is served as it was."""
    try:
        yield
    except (CatBoostError, MemoryError, OSError) as error:
        error.add_note("Nothing was published; what is served stays")
        raise
