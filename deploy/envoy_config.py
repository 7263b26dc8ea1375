"""Envoy's configuration for demo, compose and Kubernetes, rendered from one template.

`python -m deploy.envoy_config` writes the committed files; with a place and options it prints one.
"""

import json
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

from jinja2 import Environment, StrictUndefined

from deploy import unique_fields
from serving.shards import MAX_USER_SHARDS, USER_SHARD_HEADER, UserShard

TEMPLATE: Final = Path("deploy/envoy/envoy.yaml.jinja")
CONFIG: Final = Path("deploy/envoy/envoy.yaml")
"""The demo's: valid as it lies there when Envoy is started from the root of the repository."""
DEFAULT_PORT: Final = 8080
DEFAULT_GATEWAY_PORT: Final = 50051
CONSOLE: Final = Path("console")
"""The page for people, seen from the root of the repository."""
WITHOUT_CONSOLE: Final = (
    "--config-yaml",
    "layered_runtime: {layers: [{name: console, static_layer: {movierec_console_percent: 0}}]}",
)
"""What Envoy is started with to leave the page out."""
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: no inline code, no other origin."""

Address: TypeAlias = tuple[str, int]
"""Host and port."""
_MAX_PORT: Final = 65_535


@dataclass(frozen=True)
class Stage:
    """A stage that the gateway calls through Envoy."""

    name: str
    """Of listener, cluster and host."""
    service: str
    """Full name of its service, which is also what its health is asked for."""
    mesh_port: int
    """Where the gateway finds it."""
    endpoints: tuple[Address, ...]
    """What resolves to its replicas."""
    per_try_seconds: float
    """A replica that takes longer is left for another: within the gateway's budget for the stage."""
    connect_seconds: float = 0.05
    """As one that takes longer to connect; with TLS, the handshake is in it."""
    shards: tuple[tuple[Address, ...], ...] = ()
    """What resolves to the replicas of each shard of the users; none: every replica serves everybody."""

    @property
    def clusters(self) -> tuple["Cluster", ...]:
        """The replicas that may answer for each other."""
        if not self.shards:
            return (Cluster(self.name, self.endpoints),)
        return tuple(
            Cluster(f"{self.name}-shard-{index}", endpoints, str(UserShard(index, len(self.shards))))
            for index, endpoints in enumerate(self.shards)
        )


@dataclass(frozen=True)
class Cluster:
    """Replicas of a stage that answer for the same users."""

    name: str
    endpoints: tuple[Address, ...]
    user_shard: str | None = None
    """What a call's header must say to come here; none: there is but this cluster."""


@dataclass(frozen=True)
class Place:
    """Where Envoy runs: all that differs between one place and another."""

    edge: Address
    """Where clients come in."""
    gateway: tuple[Address, ...]
    """The gateway."""
    files: Path
    """Directory with descriptor.binpb, openapi.json and unique_fields.lua, as Envoy sees it."""
    console: Path = CONSOLE
    """Directory with the page for people, as Envoy sees it."""
    gateway_replicas: bool = False
    """Whether the gateway is a name for several replicas; else one host, given by address."""
    mesh_host: str | None = None
    """Address of the gateway's way to the stages; none: it calls them itself."""
    stages: tuple[Stage, ...] = ()
    """What that way leads to."""
    admin: Address | None = None
    """Where Envoy is told to drain; on no other address than loopback."""
    metrics: Address | None = None
    """Where Prometheus reads what the edge answered; needs admin."""

    @property
    def mesh_on_loopback(self) -> bool:
        """Whether the gateway's calls reach Envoy without leaving the host or pod."""
        return self.mesh_host is not None and ip_address(self.mesh_host).is_loopback

    def file(self, name: str) -> str:
        """The path of a file that Envoy reads."""
        return _quoted(self.files / name)


@dataclass(frozen=True)
class Jwt:
    """Which tokens open the edge: those that this issuer made for this audience."""

    jwks: Path
    """File with the issuer's public keys, as Envoy sees it."""
    issuer: str
    """The claim `iss`."""
    audience: str
    """The claim `aud`."""


@dataclass(frozen=True)
class Options:
    """What an operator may choose, in any place."""

    deadline_seconds: float = 2.0
    """Longest time for an answer."""
    requests_per_second: int = 1_000
    """What one Envoy lets through, of look-ups and of everything else; the rest is 429."""
    heap_bytes: int = 256 * 1024 * 1024
    """Memory for Envoy's heap; near it, it sheds load. Less than the container's limit."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser: https://example.com."""
    jwt: Jwt | None = None
    """Which tokens callers must show; none: everybody may call."""
    edge_tls: bool = False
    """Whether the edge speaks TLS, with tls.crt and tls.key of /etc/movierec/tls/edge."""
    mesh_tls: bool = False
    """Whether the gateway and the stages do, mutually, with tls.crt, tls.key and ca.crt of …/tls/mesh."""
    collector: Address | None = None
    """Receiver of traces, OTLP over gRPC without TLS; none: the edge does not trace."""
    traced_percent: float = 100
    """Of the requests whose client has not chosen: how many are traced, by the servers as well."""


def demo(
    *,
    port: int = DEFAULT_PORT,
    gateway_port: int = DEFAULT_GATEWAY_PORT,
    files: Path = CONFIG.parent,
    console: Path = CONSOLE,
) -> Place:
    """Before one gateway on this machine, which calls the stages itself."""
    return Place(
        edge=("127.0.0.1", port), gateway=(("127.0.0.1", gateway_port),), files=files, console=console
    )


_STAGES: Final = (
    Stage("candidate", "movierec.candidate.v1.CandidateService", 50152, (("candidate", 50052),), 0.06),
    Stage("ranking", "movierec.ranking.v1.RankingService", 50153, (("ranking", 50053),), 0.1),
    Stage("similarity", "movierec.similarity.v1.SimilarityService", 50154, (("similarity", 50054),), 0.06),
)
_OF_USERS: Final = ("candidate", "ranking")
"""Stages that hold what is known of users."""
_IMAGE_FILES: Final = Path("/etc/movierec")
_ADMIN: Final = ("127.0.0.1", 9901)
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # of the container

COMPOSE: Final = Place(
    edge=(_EVERYWHERE, DEFAULT_PORT),
    gateway=(("gateway", DEFAULT_GATEWAY_PORT),),
    files=_IMAGE_FILES,
    console=_IMAGE_FILES / "console",
    gateway_replicas=True,
    mesh_host=_EVERYWHERE,
    stages=_STAGES,
    admin=_ADMIN,
    metrics=(_EVERYWHERE, 9105),
)
"""Containers that are edge and mesh for every replica of everything."""
KUBERNETES: Final = replace(
    COMPOSE,
    gateway=(("127.0.0.1", DEFAULT_GATEWAY_PORT),),
    gateway_replicas=False,
    mesh_host="127.0.0.1",
)
"""A sidecar of each pod of the gateway."""


def sharded(place: Place, user_shards: int) -> Place:
    """The place with candidate and ranking in shards of the users: `candidate-shard-0` and so on."""
    return replace(
        place,
        stages=tuple(
            replace(
                stage,
                endpoints=(),
                shards=tuple(
                    tuple((f"{host}-shard-{index}", port) for host, port in stage.endpoints)
                    for index in range(user_shards)
                ),
            )
            if stage.name in _OF_USERS
            else stage
            for stage in place.stages
        ),
    )


PLACES: Final = {"demo": demo(), "compose": COMPOSE, "kubernetes": KUBERNETES}
"""By name."""
GENERATED: Final = {
    CONFIG: PLACES["demo"],
    CONFIG.with_name("compose.yaml"): COMPOSE,
    CONFIG.with_name("kubernetes.yaml"): KUBERNETES,
    CONFIG.with_name("compose-sharded.yaml"): sharded(COMPOSE, 2),
    Path("deploy/kubernetes/overlays/sharded/kubernetes.yaml"): sharded(KUBERNETES, 2),
}
"""The committed files: each place with the default options, and two shards of users where there are any."""


def render(place: Place, options: Options | None = None, *, root: Path = Path()) -> str:
    """Return the configuration for a place.

    Args:
        place: where Envoy will run.
        options: what the operator chose; none for the defaults.
        root: the root of the repository.
    """
    # YAML, not HTML: what is not a number is quoted by _address or comes from this module.
    page = Environment(  # noqa: S701
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    page.filters["address"] = _address
    page.filters["seconds"] = lambda value: f"{value:.6g}s"
    template = page.from_string((root / TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        place=place,
        options=options or Options(),
        shard_header=USER_SHARD_HEADER,
        page=_page(place, root),
        page_policy=_PAGE_POLICY,
    )


def _page(place: Place, root: Path) -> list[tuple[str, str, str]]:
    """Path, file and content type of all that the page for people is made of."""
    files = sorted(path for path in (root / CONSOLE).rglob("*") if path.suffix in _CONTENT_TYPES)
    return [
        (
            "/" if path.name == "index.html" else f"/console/{path.relative_to(root / CONSOLE)}",
            _quoted(place.console / path.relative_to(root / CONSOLE)),
            _CONTENT_TYPES[path.suffix],
        )
        for path in files
    ]


def _quoted(path: Path) -> str:
    """A path in quotes: a folder may have brackets in its name."""
    return json.dumps(str(path), ensure_ascii=False)


def _address(address: Address) -> str:
    host, port = address
    return f"{{address: {json.dumps(host)}, port_value: {port}}}"


def _host_and_port(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ArgumentTypeError("must be HOST:PORT")
    return host.strip("[]"), int(port)


def _number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Numbers that Envoy takes: it would refuse to start with others."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ArgumentTypeError(f"must be {low} to {high}")
        return value

    return number


def main(arguments: list[str] | None = None) -> None:
    """Writes the committed files, or prints a place's configuration with other options."""
    parser = ArgumentParser(prog="python -m deploy.envoy_config", description=main.__doc__)
    parser.add_argument(
        "place", nargs="?", choices=PLACES, help="what to print; none: write the committed files"
    )
    parser.add_argument(
        "--user-shards",
        type=_number(int, 1, MAX_USER_SHARDS),
        default=1,
        metavar="N",
        help="shards of the users; not in the demo",
    )
    parser.add_argument(
        "--requests-per-second",
        type=_number(int, 1, 2**32 - 1),
        default=Options.requests_per_second,
        metavar="N",
    )
    parser.add_argument(
        "--heap-bytes", type=_number(int, 1, 2**63 - 1), default=Options.heap_bytes, metavar="N"
    )
    parser.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN", help="may be repeated"
    )
    parser.add_argument(
        "--jwks", type=Path, metavar="FILE", help="where Envoy finds the issuer's public keys"
    )
    parser.add_argument("--jwt-issuer", metavar="ISS")
    parser.add_argument("--jwt-audience", metavar="AUD")
    parser.add_argument("--edge-tls", action="store_true", help="clients speak TLS")
    parser.add_argument("--mesh-tls", action="store_true", help="gateway and stages speak mutual TLS")
    parser.add_argument(
        "--collector",
        type=_host_and_port,
        metavar="HOST:PORT",
        help="receives the edge's traces by OTLP over gRPC",
    )
    parser.add_argument(
        "--traced-percent", type=_number(float, 0, 100), default=Options.traced_percent, metavar="P"
    )
    chosen = parser.parse_args(arguments)
    jwt = (chosen.jwks, chosen.jwt_issuer, chosen.jwt_audience)
    if any(jwt) and not all(jwt):
        parser.error("--jwks, --jwt-issuer and --jwt-audience need each other")
    options = Options(
        requests_per_second=chosen.requests_per_second,
        heap_bytes=chosen.heap_bytes,
        cors_origins=tuple(chosen.cors_origin),
        jwt=Jwt(*jwt) if all(jwt) else None,
        edge_tls=chosen.edge_tls,
        mesh_tls=chosen.mesh_tls,
        collector=chosen.collector,
        traced_percent=chosen.traced_percent,
    )
    if chosen.place is not None:
        place = PLACES[chosen.place]
        if chosen.user_shards > 1:
            if not place.stages:
                parser.error("--user-shards: the demo has no shards")
            place = sharded(place, chosen.user_shards)
        sys.stdout.write(render(place, options))
    elif options == Options() and chosen.user_shards == 1:
        for path, place in GENERATED.items():
            path.write_text(render(place), encoding="utf-8")
        unique_fields.SCRIPT.write_text(unique_fields.render(), encoding="utf-8")
    else:
        parser.error("options need a place: the committed files have none")


if __name__ == "__main__":
    main()
