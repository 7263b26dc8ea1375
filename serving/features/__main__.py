"""Prints docs/features.md: `python -m serving.features > docs/features.md`."""

import sys

from serving.features.documentation import document

sys.stdout.write(document())
