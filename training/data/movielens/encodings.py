"""Bytes of a file as text. Data sets since 2014 and 10M are UTF-8, those of 100K and 1M are Latin-1."""

import re
from typing import Final

from training.data.movielens.problems import LineError

_UNDECODED: Final = re.compile("[\udc80-\udcff]")
_DECODED: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")


def decoded(content: bytes) -> str:
    """A file as text: UTF-8, maybe with a byte order mark, else Latin-1 or its superset Windows-1252.

    A file has one encoding. Where some of its characters are UTF-8, a byte that is not is damage: read as
    Latin-1, the whole file would have "AmÃ©lie" for "Amélie".

    Raises:
        LineError: both are in it; the lines are those that are not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="surrogateescape")
    if _DECODED.search(text):
        lines = [line for line, part in enumerate(text.split("\n"), start=1) if _UNDECODED.search(part)]
        raise LineError("must be UTF-8, as other lines are", lines)
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")
