"""The whole of movierec: four servers and Envoy as processes, which a test kills and starts again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.ports import free_port
from deploy import envoy_config
from deploy.demo.plan import Plan, Server, envoy_process, read_plan
from deploy.demo.processes import Process, spawn, tail
from gateway.settings import GatewaySettings
from serving.bundle.manifest import Manifest
from serving.bundle.store import BundleStore
from tests.deploy.edge import ROOT
from tests.e2e.rest import Rest

PATIENCE_SECONDS = 180
TIMES = 10
"""By how much every budget is multiplied: a busy machine is not a fault."""

_BUDGETS = ("request_seconds", "batch_seconds", "candidate_seconds", "ranking_seconds", "similarity_seconds")
_SERVERS = ("GATEWAY", "CANDIDATE", "RANKING", "SIMILARITY")


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def port_settings() -> dict[str, str]:
    """The environment variables that move everything to free ports."""
    names = ["MOVIEREC_ENVOY_PORT"]
    names += [f"MOVIEREC_{server}_{use}" for server in _SERVERS for use in ("PORT", "METRICS_PORT")]
    return {name: str(free_port()) for name in names}


def python_path() -> str:
    """PYTHONPATH that leads a process to this checkout, whichever one is installed."""
    return os.pathsep.join([str(ROOT), str(ROOT / "protos/gen")])


@dataclass
class System:
    """What runs. Between tests it is whole: `mend` after doing harm."""

    plan: Plan
    directory: Path
    """Receives the logs."""
    manifest: Manifest
    """Of the bundle that all serve."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def servers(self) -> dict[str, Server]:
        """Our own servers, by name."""
        return {server.process.name: server for server in (*self.plan.stages, self.plan.gateway)}

    @property
    def _processes(self) -> dict[str, Process]:
        servers = {name: server.process for name, server in self.servers.items()}
        return {**servers, self.plan.envoy.name: self.plan.envoy}

    def start(self, *names: str) -> None:
        """Start processes, each on the port that it had before."""
        for name in names:
            with self._log(name).open("ab") as log:
                self._children[name] = spawn(self._processes[name], log)

    def kill(self, *names: str) -> None:
        """End processes with SIGKILL."""
        for name in names:
            self._children[name].kill()
            self._children[name].wait()

    def freeze(self, name: str) -> None:
        """Stop a process with SIGSTOP: it keeps its connections, and is silent."""
        self._children[name].send_signal(signal.SIGSTOP)

    def counted(self, server: str, name: str, **labels: str) -> float:
        """What a metric of a server stands at: the sum of the series with these labels."""
        port = self.servers[server].metrics_port.number
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS, trust_env=False)
        samples = (s for family in text_string_to_metric_families(answer.text) for s in family.samples)
        return sum(
            s.value for s in samples if s.name == f"movierec_{name}" and labels.items() <= s.labels.items()
        )

    def log(self, name: str) -> str:
        """What a process has logged since the system began."""
        return self._log(name).read_text()

    def mend(self) -> None:
        """Thaw what is frozen, start what is dead, and wait until every server takes part."""
        for child in self._children.values():
            child.send_signal(signal.SIGCONT)  # does nothing to one that has ended
        self.start(*(name for name in self._processes if not self._runs(name)))
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Return once every server takes part in an answer; fail with the logs of what does not start."""
        with Rest.at(self.plan.url) as rest:

            def whole() -> bool:
                ended = [name for name in self._processes if not self._runs(name)]
                assert not ended, self._last_words(ended)
                return rest.is_served_by_all(
                    user_id=self.manifest.golden.candidate.user_id,
                    movie_id=self.manifest.golden.similarity.movie_id,
                )

            try:
                eventually(whole)
            except AssertionError as error:
                pytest.fail(f"{error}\n{self._last_words(self._processes)}", pytrace=False)

    def stop(self) -> None:
        """End everything."""
        for child in self._children.values():
            child.send_signal(signal.SIGCONT)
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _runs(self, name: str) -> bool:
        return name in self._children and self._children[name].poll() is None

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _last_words(self, names: Iterable[str]) -> str:
        return "\n".join(f"--- {name}\n{tail(self._log(name))}" for name in names)


@contextmanager
def running_system(
    bundle_root: Path, directory: Path, *, collector: envoy_config.Address | None = None
) -> Iterator[System]:
    """Run everything while the block runs; with a collector, the edge sends it traces."""
    store = BundleStore(bundle_root)
    with chdir(ROOT):  # which is where the plan's paths begin
        plan = _plan(bundle_root, directory, collector)
        system = System(plan, directory, store.manifest(store.pointer().bundle_id))
        try:
            system.mend()
            yield system
        finally:
            system.stop()


def _plan(bundle_root: Path, directory: Path, collector: envoy_config.Address | None) -> Plan:
    """The demo's plan, with another bundle, and patient."""
    budgets = {
        GatewaySettings.variable(name): str(TIMES * GatewaySettings.model_fields[name].default)
        for name in _BUDGETS
    }
    drain = {f"MOVIEREC_{server}_DRAIN_DELAY_SECONDS": "0" for server in _SERVERS}
    plan = read_plan({**port_settings(), **budgets, **drain})
    place = envoy_config.demo(port=plan.envoy_port.number, gateway_port=plan.gateway.port.number)
    patient = envoy_config.Options(
        deadline_seconds=TIMES * envoy_config.Options.deadline_seconds, collector=collector
    )
    config = directory / "envoy.yaml"
    config.write_text(envoy_config.render(place, patient) + _SPANS_AT_ONCE)
    return replace(
        plan,
        stages=tuple(_serving(stage, bundle_root) for stage in plan.stages),
        gateway=_serving(plan.gateway, bundle_root),
        envoy=_prompt(envoy_process(config, os.environ)),
    )


_SPANS_AT_ONCE = """
layered_runtime: {layers: [{name: test, static_layer: {tracing.opentelemetry.flush_interval_ms: 100}}]}
"""


def _prompt(envoy: Process) -> Process:
    """Envoy, writing its access log at once."""
    return replace(envoy, command=(*envoy.command, "--file-flush-interval-msec", "100"))


def _serving(server: Server, bundle_root: Path) -> Server:
    settings = {
        **server.process.settings,
        f"MOVIEREC_{server.process.name.upper()}_BUNDLE_ROOT": str(bundle_root),
        "PYTHONPATH": python_path(),
    }
    return replace(server, process=replace(server.process, settings=settings))
