"""Alerts and dashboard name what processes really show; each alert fires when it should, and only then."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.metrics import GatewayMetrics
from ranking_service.metrics import RankingMetrics
from serving.rpc.metrics import ServerMetrics
from tests.deploy.edge import EDGE_METRIC, ROOT
from tests.monitoring.dashboard import (
    DASHBOARD,
    MONITORING,
    dashboard_queries,
    load,
    metric_names,
    panels,
    rules,
)

UNIT_TESTS = Path(__file__).with_name("alerts.test.yml")
RUNBOOKS = ROOT / "docs/operations/runbooks.md"
OBSERVABILITY = ROOT / "docs/operations/observability.md"
SERVERS = ("candidate_service", "gateway", "ranking_service", "serving", "similarity_service")
JOBS = {
    "movierec-gateway": (["gateway"], 9101),
    "movierec-candidate": (["candidate"], 9102),
    "movierec-ranking": (["ranking"], 9103),
    "movierec-similarity": (["similarity"], 9104),
    "movierec-edge": (["envoy"], 9105),
}
"""What each job asks: names and port."""


def promtool(*arguments: str | Path) -> None:
    """Run promtool; it fails with what is wrong."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shown() -> set[str]:
    """Every name under which the processes show something."""
    server = ServerMetrics.create("gateway")
    GatewayMetrics.create(server.registry)
    registries = [server.registry, CollectorRegistry()]
    RankingMetrics(registries[1])
    ProcessCollector(registry=registries[1])
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {EDGE_METRIC} | {
        f"{family.name}{ending}"
        for registry in registries
        for family in registry.collect()
        for ending in endings[family.type]
    }


def test_the_rules_are_valid() -> None:
    promtool("check", "config", MONITORING / "prometheus.yml")


def test_each_alert_fires_and_falls_silent() -> None:
    promtool("test", "rules", UNIT_TESTS)


def test_every_alert_is_tested_both_ways() -> None:
    cases = [case for test in load(UNIT_TESTS)["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fires == silent == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / path == RUNBOOKS
    assert rule["alert"] in OBSERVABILITY.read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)
    (section,) = (text for heading, text in sections if heading.lower().replace(" ", "-") == anchor)
    assert rule["alert"] in section


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in rules()), *dashboard_queries()])
def test_every_metric_exists(query: str) -> None:
    assert metric_names(query) <= shown()


def test_every_metric_is_explained() -> None:
    page = OBSERVABILITY.read_text(encoding="utf-8")
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown() if name.startswith("movierec_")}
    assert {name for name in ours if f"`{name}" not in page} == set()
    assert set(re.findall(r"`(movierec_\w+)", page)) <= ours


def test_every_log_event_is_explained() -> None:
    sources = [file.read_text() for name in SERVERS for file in sorted((ROOT / name).rglob("*.py"))]
    call = re.compile(r'_logger\.\w+\((?:\s|#.*\n)*"([^"]+)"')
    logged = {event for text in sources for event in call.findall(text)}
    table = OBSERVABILITY.read_text(encoding="utf-8").partition("| `event` |")[2].partition("\n\n")[0]
    named = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {event for row in named for event in re.findall(r"`([^`]+)`", row)} == logged


def test_prometheus_finds_every_process() -> None:
    jobs = load(MONITORING / "prometheus.yml")["scrape_configs"]
    found = {
        job["job_name"]: (job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["port"]) for job in jobs
    }
    assert found == JOBS


def test_rules_look_back_over_four_scrapes() -> None:
    """With one sample in its range a rate is nothing, and the alert never fires; a scrape may fail, too."""
    compose, kubernetes = (load(MONITORING / name) for name in ("prometheus.yml", "kubernetes.yml"))
    (job,) = kubernetes["scrape_configs"]
    scrapes = {compose["global"]["scrape_interval"], job["scrape_interval"]}
    ranges = {found for rule in rules() for found in re.findall(r"\[(\w+)\]", rule["expr"])}
    assert min(map(_seconds, ranges)) >= 4 * max(map(_seconds, scrapes))


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_the_kubernetes_job_is_valid(tmp_path: Path) -> None:
    config = load(MONITORING / "kubernetes.yml")
    (job,) = config["scrape_configs"]
    # Debian's Prometheus knows no Kubernetes: what is left is checked.
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    path = tmp_path / "prometheus.yml"
    path.write_text(json.dumps(config))
    promtool("check", "config", path)


def test_the_dashboard_can_be_provisioned() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["uid"] == dashboard["title"] == "movierec"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    for one, other in zip(dashboard["panels"], dashboard["panels"][1:], strict=False):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["y"] == b["y"] and a["x"] + a["w"] == b["x"]
        assert beside or b["x"] == 0, f"{one['title']} and {other['title']} overlap"
    (provider,) = load(MONITORING / "grafana/dashboards/movierec.yml")["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"
    (source,) = load(MONITORING / "grafana/datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
