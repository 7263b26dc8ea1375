"""The generated data set in a folder, made once and sealed."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Final

from training.data.download import put_in_place
from training.data.generated import SAMPLE_FILES, VERSION, write_sample

_SEAL: Final = "sample.json"


def keep_sample(folder: Path) -> bool:
    """Makes the sample unless it is there and whole; whether it was made."""
    if _is_complete(folder):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sample-") as aside:
        whole = Path(aside) / folder.name
        whole.mkdir()
        write_sample(whole)
        (whole / _SEAL).write_text(json.dumps(_seal(whole)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # ours: an older version, or damaged
        put_in_place(whole, folder)
    return True


def _is_complete(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _SEAL).read_text(encoding="utf-8")) == _seal(folder))
    except (OSError, ValueError):  # none, or not as we wrote it
        return False


def _seal(folder: Path) -> dict[str, str]:
    """What a complete sample is known by."""
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SAMPLE_FILES}
    return {"version": str(VERSION), **hashes}
