"""What Prometheus is asked for: by the alerts, and by the panels of the dashboard."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.edge import ROOT

MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = MONITORING / "grafana/dashboards/movierec.json"
ALERTS = MONITORING / "alerts.yml"

_VARIABLES = {"$__rate_interval": "5m", "$process": "movierec-.+"}
"""What Grafana would put in their places."""


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Every panel that shows data."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def dashboard_queries() -> list[str]:
    """Every query of the dashboard, as Grafana sends it."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in _VARIABLES.items():
        queries = [query.replace(variable, value) for query in queries]
    return queries


def metric_names(query: str) -> set[str]:
    """The metrics in a query."""
    return set(re.findall(r"\b(?:movierec|process|envoy_http)_\w+", query))


def selectors(query: str) -> set[str]:
    """The metrics of our own processes in a query, with the labels that it asks for."""
    return set(re.findall(r"\b(?:movierec|process)_\w+(?:\{[^}]*\})?", query))
