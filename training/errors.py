"""The root of what a person can mend: a command says it in words, without a traceback."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"://[^\s/]*@")


class TrainingError(Exception):
    """Base of those failures of training whose message is for people."""


def root_cause(error: BaseException) -> str:
    """What began it, in short, without the names and passwords of URIs that libraries quote."""
    while (
        cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    ) is not None:
        error = cause
    return _CREDENTIALS.sub("://", (str(error).splitlines() or [type(error).__name__])[0])
