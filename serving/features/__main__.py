"""Writes docs/features.md anew, but for what was measured: `python -m serving.features docs/features.md`."""

import sys
from pathlib import Path

from serving.features.documentation import document, measured_part

page = Path(sys.argv[1])
page.write_text(document(measured_part(page.read_text(encoding="utf-8"))), encoding="utf-8")
