"""Where a Chromium is, and how it is started so that it asks no other host for anything."""

import os
import shutil
from typing import Final

_BINARIES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
# The last ones keep it from looking up hosts of its maker.
OPTIONS: Final = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"] + [
    f"--disable-{what}" for what in ("background-networking", "component-update", "sync")
]
MISSING: Final = "no Chromium: apt-get install chromium, or name one in MOVIEREC_CHROMIUM"


def chromium_path() -> str | None:
    """The program: that of MOVIEREC_CHROMIUM, else one that is installed; None where there is none."""
    return os.environ.get("MOVIEREC_CHROMIUM") or next(filter(None, map(shutil.which, _BINARIES)), None)
