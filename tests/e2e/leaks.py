"""What no text that a client gets may hold: names of classes, paths of files, addresses, stacks.

Envoy names types of the API, such as google.protobuf.Timestamp: the API's descriptors have them too.
"""

import re
from typing import Final

_INSIDE: Final = re.compile(
    r"Traceback|\b\w+(?:Error|Exception)\b|\bobject at 0x|<class |\w\.py\b|_pb2"
    r"|/(?:etc|home|opt|proc|root|srv|tmp|usr|var|work)/"
)


def leaks(text: str) -> list[str]:
    """Whatever of that a text holds."""
    return _INSIDE.findall(text)
