"""How a command speaks to people, and how it ends when something is wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from catboost import CatBoostError
from mlflow.exceptions import MlflowException
from rich.console import Console

from serving.bundle.store import BundleError
from serving.logs import configure_logs
from serving.settings import LogLevel
from training.lock import BusyError
from training.models.two_stage import TooFewUsersError
from training.movielens.problems import DataError
from training.options import ParametersError
from training.registry import RegistryError, root_cause
from training.tracking import ServerError


def open_console() -> Console:
    """The console of a command; only warnings are logged beside it."""
    configure_logs("training", LogLevel.WARNING)
    # Where there is no terminal to ask: wide enough for the table.
    return Console(width=None if sys.stdout.isatty() else 110)


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Failures that a person can mend are said in words on stderr, with exit status 1, not as a traceback."""
    try:
        yield
    except (
        BundleError,
        BusyError,
        DataError,
        ParametersError,
        RegistryError,
        ServerError,
        TooFewUsersError,
    ) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except MlflowException as error:
        typer.echo(f"the registry does not answer: {root_cause(error)}", err=True)
        raise typer.Exit(1) from None
    except (OSError, CatBoostError) as error:
        # A full disk, most of all: what is served stays, and the rest goes when the job is run again.
        typer.echo(f"{error}. Nothing was published; what is served stays", err=True)
        raise typer.Exit(1) from None
