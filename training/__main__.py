"""The training job: `python -m training --help`."""

import os

# Before numpy: BLAS threads beside implicit's and CatBoost's own only get in each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from training.release.mlflow_env import MLFLOW_QUIET

os.environ.update({**MLFLOW_QUIET, **os.environ})

import signal
import threading
import warnings
from typing import Final

from training.cli.terminal import accept_any_character
from training.cli.train import app

# pandera imports pyspark's pandas, wherever it is installed; nothing here uses it.
warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)

_TERMINATED: Final = 128 + signal.SIGTERM


def _end_at_sigterm(signals: int) -> None:
    """Ends this process at once, wherever it is: finished steps are kept, and nothing else is half done.

    Python's own handlers wait until CatBoost returns, which may take minutes; and without a handler the
    first process of a container ignores the signal. Python writes signals to the pipe in whatever thread they
    come: to block them there and wait for them here fails, as `multiprocessing` unblocks them.
    """
    while os.read(signals, 1) != bytes([signal.SIGTERM]):
        pass
    os._exit(_TERMINATED)


if __name__ == "__main__":
    signals, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    signal.signal(signal.SIGTERM, lambda *_: None)  # only signals with a handler are written
    threading.Thread(target=_end_at_sigterm, args=(signals,), daemon=True).start()
    accept_any_character()
    app(prog_name="python -m training")
