"""What the running system shows: one request's trace, log lines, metrics; and what none of them may hold."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.ports import free_port
from serving.rpc.spans import REQUEST_ID_ATTRIBUTE
from tests.e2e.rest import PERSONAL, Rest
from tests.e2e.system import PATIENCE_SECONDS, System, eventually, running_system
from tests.monitoring.dashboard import ALERTS, MONITORING, dashboard_queries, load, rules, selectors
from tests.serving.collector import Collector, Span, collector

pytestmark = pytest.mark.e2e

USER = 1
STRANGER = 8_765_432_109_876
"""A user id that nothing else looks like."""
SECRET = "canary-5d1f0c"  # noqa: S105  # stands for a real one
DENY = ("fallback_policy", "FALLBACK_POLICY_DENY")
SERVERS = ("gateway", "candidate", "ranking", "similarity")


@pytest.fixture(scope="module")
def traces() -> Iterator[Collector]:
    with collector() as traces:
        yield traces


@pytest.fixture(scope="module")
def system(
    bundle_root: Path, tmp_path_factory: pytest.TempPathFactory, traces: Collector
) -> Iterator[System]:
    """The whole system, traced; the collector asks for a key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.endpoint)
        environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={SECRET}")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running_system(
            bundle_root, tmp_path_factory.mktemp("system"), collector=("127.0.0.1", traces.port)
        ) as system:
            yield system


@pytest.fixture(scope="module")
def rest(system: System) -> Iterator[Rest]:
    with Rest.at(system.plan.url) as rest:
        yield rest


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that scrapes the system every second."""

    client: httpx.Client

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        answer = self.client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """What a query gives now, NaN left out."""
        values = [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]
        return [value for value in values if value == value]  # noqa: PLR0124  # NaN

    def up(self) -> int:
        """How many servers it reaches."""
        try:
            return sum(map(int, self.values("up")))
        except (httpx.TransportError, json.JSONDecodeError):  # it is starting
            return 0


@pytest.fixture(scope="module")
def prometheus(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The committed configuration, but for addresses and intervals."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus here: apt-get install prometheus")
    config = load(MONITORING / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ALERTS)]
    config["scrape_configs"] = [
        job
        for job in config["scrape_configs"]
        if job["job_name"] != "movierec-edge"  # the demo's has no metrics
    ]
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        port = system.servers[job["job_name"].removeprefix("movierec-")].metrics_port.number
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    options = (f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [program, f"--config.file={folder / 'prometheus.yml'}", *options], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            prometheus = Prometheus(client)
            eventually(lambda: prometheus.up() == len(SERVERS))
            yield prometheus
    finally:
        running.terminate()
        running.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def traffic(system: System, rest: Rest, prometheus: Prometheus) -> None:
    """A bit of everything, between two scrapes at least: whole answers, refusals, and weaker lists."""
    movie = system.manifest.golden.similarity.movie_id
    for _ in range(5):
        rest.personal(("user_id", USER))
        rest.batch({"user_id": USER}, {"user_id": 2}, {"user_id": STRANGER})
        rest.popular()
        rest.similar(movie)
        rest.movie(movie)
        rest.why(movie, ("user_id", USER))
        rest.failure(PERSONAL, ("user_id", 0))
    system.kill("ranking")
    assert rest.personal(("user_id", USER)).degraded
    system.mend()


def spans_of(traces: Collector, request_id: str, servers: set[str]) -> list[Span]:
    """The trace of a request, once the edge and these servers have sent their part."""

    def of_request(span: Span) -> bool:
        return span.attributes.get(REQUEST_ID_ATTRIBUTE) == request_id

    def whole(spans: Any) -> bool:
        return {f"movierec-{name}" for name in ("edge", *servers)} <= {
            span.service for span in spans if of_request(span)
        }

    spans = traces.wait_for(whole)
    (trace_id,) = {span.trace_id for span in spans if of_request(span)}
    return [span for span in spans if span.trace_id == trace_id]


def test_one_request_is_one_trace(rest: Rest, traces: Collector) -> None:
    response = rest.client.get(PERSONAL, params={"user_id": USER})
    spans = spans_of(traces, response.headers["x-request-id"], {"gateway", "candidate", "ranking"})
    by_name = {span.name: span for span in spans}
    by_id = {span.id: span.name for span in spans}
    (edge,) = [span for span in spans if span.service == "movierec-edge"]
    assert edge.parent == b""
    request = ("movierec-gateway", "SERVER", "ListPersonalMovies")
    assert by_name[request].parent == edge.id
    calls = {"candidate": "GenerateCandidates", "ranking": "RankMovies"}
    for stage, method in calls.items():
        call, answer = ("movierec-gateway", "CLIENT", method), (f"movierec-{stage}", "SERVER", method)
        assert by_id[by_name[call].parent] == request
        assert by_id[by_name[answer].parent] == call
    assert len(spans) == len(by_name) == 6  # and nothing else: no health check


def test_a_client_may_begin_the_trace(rest: Rest, traces: Collector) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    response = rest.client.get("/api/movies/popular", headers=headers)
    spans = spans_of(traces, response.headers["x-request-id"], {"gateway"})
    assert {span.trace_id for span in spans} == {trace_id}


def test_log_lines_lead_to_the_trace(system: System, rest: Rest, traces: Collector) -> None:
    system.kill("similarity")
    movie = system.manifest.golden.similarity.movie_id
    assert rest.similar(movie).degraded
    system.mend()
    lines = [json.loads(line) for line in system.log("gateway").splitlines() if '"stepped down"' in line]
    # There is one a minute: this list's, or that of one which was asked for while the system began.
    line = next(line for line in reversed(lines) if line["stage"] == "similarity")
    spans = spans_of(traces, line["request_id"], {"gateway"})
    assert line["trace_id"] == spans[0].trace_id
    eventually(lambda: line["request_id"] in system.log("envoy"))


@pytest.mark.usefixtures("traffic")
def test_every_panel_of_the_dashboard_has_data(prometheus: Prometheus) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while (empty := [query for query in dashboard_queries() if not prometheus.values(query)]) and (
        time.monotonic() < end
    ):
        time.sleep(0.5)
    assert empty == []


@pytest.mark.usefixtures("traffic")
def test_alerts_look_at_series_that_exist_from_the_start(prometheus: Prometheus) -> None:
    asked = {selector for rule in rules() for selector in selectors(rule["expr"])}
    assert [selector for selector in asked if not prometheus.values(selector)] == []


@pytest.mark.usefixtures("traffic")
def test_alerts_can_be_evaluated(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in evaluated()))
    assert {rule["name"] for rule in evaluated()} == {rule["alert"] for rule in rules()}


@pytest.mark.row(55, 58)
def test_neither_secrets_nor_user_ids_leak(system: System, rest: Rest, traces: Collector) -> None:
    person = ("user_id", STRANGER)
    movie = system.manifest.golden.similarity.movie_id
    for stage in ("", "ranking", "candidate"):
        if stage:
            system.kill(stage)
        rest.personal(person)
        rest.batch({"user_id": STRANGER}, {"user_id": USER})
        rest.personal_by_post({"user_id": STRANGER, "history": [{"movie_id": movie, "rating": 5}]})
        rest.why(movie, person)
        rest.failure(PERSONAL, person, DENY)
        rest.failure(PERSONAL, person, ("limit", -1))
    system.mend()
    traces.wait_for(lambda spans: len(spans) > 0)
    assert traces.metadata["api-key"] == SECRET  # it was used
    metrics = [
        httpx.get(
            f"http://127.0.0.1:{system.servers[name].metrics_port.number}/metrics", trust_env=False
        ).text
        for name in SERVERS
    ]
    last = rest.client.get("/api/movies/popular").headers["x-request-id"]
    eventually(lambda: last in system.log("envoy"))
    command_lines = [command_line(path) for path in Path("/proc").glob("[0-9]*")]
    logs = [system.log(name) for name in (*SERVERS, "envoy")]
    assert all(logs)
    for text in (*logs, *metrics, *traces.raw):
        assert str(STRANGER) not in text
    for text in (*logs, *metrics, *traces.raw, *command_lines):
        assert SECRET not in text


def command_line(process: Path) -> str:
    """How a process was started; empty when it is gone."""
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
