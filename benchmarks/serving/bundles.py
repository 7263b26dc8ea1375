"""What is served while it is measured."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from serving.bundle.store import BundleError, BundleStore

BundleRoot: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Directory of a published bundle. Unset: the demo's, else one that is trained now."),
]
_DEMO: Final = Path("artifacts")
_OWN: Final = Path("build/bench-bundles")


def trained_bundles() -> Path:
    """Where a bundle lies: the demo's, else one that is trained now, unless an earlier run trained the same.

    The training job takes the ratings of `MOVIEREC_DATA_DIR`, and makes a sample up where there are none.
    """
    with suppress(BundleError):
        BundleStore(_DEMO).pointer()
        return _DEMO
    # How good its lists are is no matter here, and no server is waiting for another bundle.
    options = ("--bundle-root", str(_OWN), "--reuse", "--force", "--settle-seconds", "0")
    subprocess.run((sys.executable, "-m", "training", "train", *options), check=True)  # noqa: S603  # our own
    return _OWN
