"""Two of every server and Envoy between them on this machine, as compose runs them, to be killed and cut off.

Each server has an address of its own. To cut it off, the address is taken away: the way to it then leads into
a tunnel that nobody reads, which drops its packets in silence, as those to a machine that is gone. That takes
a network namespace in which nobody else lives: `unshare --map-root-user --net`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.servers import listening, own_kernels, port_once_serving, running, settings_of
from deploy.demo.plan import envoy_process
from deploy.demo.processes import Process
from deploy.envoy_config import COMPOSE, CONFIG, CONSOLE, Options, render
from serving.bundle import SETTLE_SECONDS

STAGES: Final = ("candidate", "ranking", "similarity")
SERVERS: Final = (*STAGES, "gateway")

_LOOPBACK: Final = "127.0.0.1"
_NETWORK: Final = "10.77.0"
_NOWHERE: Final = "nowhere"
_ALWAYS_THERE: Final = {"lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0"}
_PORTS: Final = {"gateway": 50_051, "candidate": 50_052, "ranking": 50_053, "similarity": 50_054}
_METRICS_PORT: Final = 9_100
_STOP_SECONDS: Final = 30.0


class NetworkError(Exception):
    """A network in which addresses cannot be taken away."""


@dataclass
class Replica:
    """One of two servers of a kind."""

    server: str
    """candidate, ranking, similarity or gateway."""
    host: str
    """Its address, which no other has."""
    log: Path
    settings: Mapping[str, str]
    """Its environment variables."""
    _process: subprocess.Popen[bytes] = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def name(self) -> str:
        """As its log."""
        return self.log.stem

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def metrics(self) -> str:
        """URL."""
        return f"http://{self.host}:{_METRICS_PORT}/metrics"

    def start(self) -> None:
        """Starts the process, and returns at once."""
        module = self.server if self.server == "gateway" else f"{self.server}_service"
        self._process = self._stack.enter_context(
            running((sys.executable, "-m", module), self.log, self.settings)
        )

    def wait_until_serving(self) -> None:
        """Returns once it says that it serves.

        Raises:
            ServerError: it ended, or did not serve in time.
        """
        port_once_serving(self._process, self.log)

    def terminate(self) -> int:
        """Ends it with SIGTERM; gives the exit status once it has drained."""
        self._process.terminate()
        return self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def killed(self) -> bool:
        """Waits for its end, and says whether that was SIGKILL: the kernel sends it where memory runs out."""
        return self._process.wait(_STOP_SECONDS) == -signal.SIGKILL

    def freeze(self) -> None:
        """Stops it with SIGSTOP: it keeps its connections, and is silent."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def cut_off(self) -> None:
        """Lets all packets to it be dropped."""
        _ip("address", "delete", f"{self.host}/32", "dev", "lo")

    def reconnect(self) -> None:
        """Lets packets to it pass again."""
        _ip("address", "replace", f"{self.host}/32", "dev", "lo")

    def close(self) -> None:
        """Ends it."""
        self.thaw()
        self._stack.close()


@dataclass(frozen=True)
class Replicas:
    """All servers, and where clients come in."""

    url: str
    """Of the edge."""
    all: Mapping[str, tuple[Replica, Replica]]
    """By server."""
    envoy_pid: int

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name."""
        ours = {one.name: one.pid for pair in self.all.values() for one in pair}
        return {**ours, "envoy": self.envoy_pid}


@contextmanager
def running_replicas(
    bundle_root: Path, directory: Path, *, poll_seconds: float = 5.0, settle_seconds: float = SETTLE_SECONDS
) -> Iterator[Replicas]:
    """Runs two of every server behind Envoy while the block runs.

    Args:
        bundle_root: where the bundle lies.
        directory: receives logs and Envoy's configuration.
        poll_seconds: how often servers look for another bundle.
        settle_seconds: the settle delay of candidate and similarity.

    Raises:
        NetworkError: this process has no network namespace of its own.
        ServerError: a server does not start.
    """
    _require_own_network()
    polls = {"bundle_poll_seconds": str(poll_seconds), "drain_delay_seconds": "2"}
    settles = {"settle_delay_seconds": str(settle_seconds), "settle_at_start": "true"}
    targets = {f"{stage.name}_target": f"{_LOOPBACK}:{stage.mesh_port}" for stage in COMPOSE.stages}
    own = {"candidate": settles, "ranking": {}, "similarity": settles, "gateway": targets}
    with ExitStack() as stack:
        servers = {
            server: (
                _replica(server, f"{_NETWORK}.{place}1", bundle_root, directory, {**polls, **own[server]}),
                _replica(server, f"{_NETWORK}.{place}2", bundle_root, directory, {**polls, **own[server]}),
            )
            for place, server in enumerate(SERVERS, 1)
        }
        everyone = [one for pair in servers.values() for one in pair]
        for one in everyone:
            one.reconnect()
            one.start()
            stack.callback(one.close)
        for one in everyone:
            one.wait_until_serving()
        command = envoy_between(servers, directory).command
        envoy = stack.enter_context(listening(command, directory / "envoy.log", COMPOSE.edge[1]))
        yield Replicas(f"http://{_LOOPBACK}:{COMPOSE.edge[1]}", servers, envoy.pid)


def _replica(
    server: str, host: str, bundle_root: Path, directory: Path, settings: Mapping[str, str]
) -> Replica:
    place = {"host": host, "port": str(_PORTS[server]), "metrics_port": str(_METRICS_PORT)}
    environment = settings_of(server, bundle_root, **place, **settings) | own_kernels()
    return Replica(server, host, directory / f"{server}-{host[-1]}.log", environment)


def envoy_between(servers: Mapping[str, tuple[Replica, Replica]], directory: Path) -> Process:
    """Envoy, its configuration in a directory: before the gateways, and between them and the stages."""

    def addresses(server: str) -> tuple[tuple[str, int], ...]:
        return tuple((one.host, _PORTS[server]) for one in servers[server])

    root = CONFIG.parents[2].resolve()
    place = replace(
        COMPOSE,
        edge=(_LOOPBACK, COMPOSE.edge[1]),
        gateway=addresses("gateway"),
        files=root / CONFIG.parent,
        console=root / CONSOLE,
        mesh_host=_LOOPBACK,
        stages=tuple(replace(stage, endpoints=addresses(stage.name)) for stage in COMPOSE.stages),
    )
    config = directory / "envoy.yaml"
    config.write_text(render(place, Options(), root=root), encoding="utf-8")
    return envoy_process(config, os.environ)


def _require_own_network() -> None:
    """Gets ready to take addresses away.

    Raises:
        NetworkError: others may use this network, or there is no right to.
    """
    links = {name for _, name in socket.if_nameindex()}
    if links - _ALWAYS_THERE - {_NOWHERE}:
        raise NetworkError("needs a network namespace of its own: unshare --map-root-user --net")
    if _NOWHERE not in links:
        _ip("tuntap", "add", _NOWHERE, "mode", "tun")
        _ip("link", "set", _NOWHERE, "up")
        _ip("route", "add", f"{_NETWORK}.0/24", "dev", _NOWHERE)


def _ip(*arguments: str) -> None:
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
