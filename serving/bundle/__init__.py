"""What training hands over: one immutable, versioned directory that all servers load."""

from typing import Final

SETTLE_SECONDS: Final = 60.0
"""From a move of the pointer to the moment at which all processes answer from its new bundle."""
