"""How a command speaks to people, and how it ends when something is wrong."""

import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import typer

from training.cli.terminal import Terminal, printable
from training.errors import TrainingError, root_cause


def open_console() -> Terminal:
    """The console of a command; only warnings are logged beside it, in sentences."""
    from serving.logs import configure_logs

    configure_logs("training", "warning", render=_sentence)
    # Where there is no terminal to ask: wide enough for the table.
    return Terminal(width=None if sys.stdout.isatty() else 110)


def _sentence(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """A log event as people read it: what it is, what it is about, and why."""
    level, text = str(event["level"]).capitalize(), str(event["event"])
    known = {"event", "error", "exception", "level", "logger", "service", "timestamp"}
    details = [f"{name.replace('_', ' ')} {value}" for name, value in event.items() if name not in known]
    about = f" ({', '.join(details)})" if details else ""
    reasons = "".join(f": {event[name]}" for name in ("error", "exception") if name in event)
    return printable(f"{level}: {text}{about}{reasons}")


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Failures that a person can mend are said in words on stderr, with exit status 1, not as a traceback."""
    try:
        yield
    except Exception as error:
        message = _words_for(error)
        if message is None:
            raise
        typer.echo(printable(message), err=True)
        raise typer.Exit(1) from None


def _words_for(error: Exception) -> str | None:
    """What a person is told; None for a failure that is a bug."""
    from serving.bundle.store import BundleError

    if isinstance(error, BundleError | MemoryError | OSError | TrainingError):
        return _with_notes(error)
    from catboost import CatBoostError
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return f"the registry does not answer: {root_cause(error)}"
    return _with_notes(error) if isinstance(error, CatBoostError) else None


def _with_notes(error: Exception) -> str:
    return ". ".join([str(error), *getattr(error, "__notes__", [])])
