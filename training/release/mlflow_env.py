"""How MLflow keeps quiet. It reads these as it is imported, so that entry points set them before all else."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MLFLOW_QUIET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is sent to its makers
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs a traceback of what it raises, and we say it in words
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
)
"""Environment variables."""
