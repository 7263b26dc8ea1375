"""The training job: `python -m training --help`."""

import os

# Before numpy: BLAS threads beside implicit's and CatBoost's own only get in each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from training.commands import app

if __name__ == "__main__":
    app(prog_name="python -m training")
