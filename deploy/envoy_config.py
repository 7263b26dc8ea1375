"""Envoy's configuration for demo, compose and Kubernetes, rendered from one template.

`python -m deploy.envoy_config` writes the committed files; with a place and options it prints one.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from jinja2 import Environment, StrictUndefined

TEMPLATE: Final = Path("deploy/envoy/envoy.yaml.jinja")
CONFIG: Final = Path("deploy/envoy/envoy.yaml")
"""The demo's: valid as it lies there when Envoy is started from the root of the repository."""
OPENAPI: Final = Path("deploy/envoy/openapi.json")
"""What Envoy serves at /openapi.json."""
DEFAULT_PORT: Final = 8080
DEFAULT_GATEWAY_PORT: Final = 50051

Address: TypeAlias = tuple[str, int]
"""Host and port."""


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


@dataclass(frozen=True)
class Place:
    """Where Envoy runs: all that differs between one place and another."""

    edge: Address
    """Where clients come in."""
    gateway: tuple[Address, ...]
    """The gateway."""
    files: Path
    """Directory with descriptor.binpb and openapi.json, as Envoy sees it."""
    gateway_replicas: bool = False
    """Whether the gateway is a name for several replicas; else one host, given by address."""
    mesh_host: str | None = None
    """Address of the gateway's way to the stages; none: it calls them itself."""
    stages: tuple[Stage, ...] = ()
    """What that way leads to."""
    admin: Address | None = None
    """Where Envoy is told to drain; on no other address than loopback."""

    def file(self, name: str) -> str:
        """The path of a file that Envoy reads."""
        return str(self.files / name)


@dataclass(frozen=True)
class Options:
    """What an operator may choose, in any place."""

    deadline_seconds: float = 2.0
    """Longest time for an answer."""
    requests_per_second: int = 1_000
    """What one Envoy lets through; the rest is 429."""
    heap_bytes: int = 256 * 1024 * 1024
    """Memory for Envoy's heap; near it, it sheds load. Less than the container's limit."""


def demo(
    *, port: int = DEFAULT_PORT, gateway_port: int = DEFAULT_GATEWAY_PORT, files: Path = CONFIG.parent
) -> Place:
    """Before one gateway on this machine, which calls the stages itself."""
    return Place(edge=("127.0.0.1", port), gateway=(("127.0.0.1", gateway_port),), files=files)


_STAGES: Final = (
    Stage("candidate", "movierec.candidate.v1.CandidateService", 50152, (("candidate", 50052),), 0.06),
    Stage("ranking", "movierec.ranking.v1.RankingService", 50153, (("ranking", 50053),), 0.1),
    Stage("similarity", "movierec.similarity.v1.SimilarityService", 50154, (("similarity", 50054),), 0.06),
)
_IMAGE_FILES: Final = Path("/etc/movierec")
_ADMIN: Final = ("127.0.0.1", 9901)
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # of the container

COMPOSE: Final = Place(
    edge=(_EVERYWHERE, DEFAULT_PORT),
    gateway=(("gateway", DEFAULT_GATEWAY_PORT),),
    files=_IMAGE_FILES,
    gateway_replicas=True,
    mesh_host=_EVERYWHERE,
    stages=_STAGES,
    admin=_ADMIN,
)
"""Containers that are edge and mesh for every replica of everything."""
KUBERNETES: Final = replace(
    COMPOSE,
    gateway=(("127.0.0.1", DEFAULT_GATEWAY_PORT),),
    gateway_replicas=False,
    mesh_host="127.0.0.1",
)
"""A sidecar of each pod of the gateway."""
GENERATED: Final = {
    CONFIG: demo(),
    CONFIG.with_name("compose.yaml"): COMPOSE,
    CONFIG.with_name("kubernetes.yaml"): KUBERNETES,
}
"""The committed files."""


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
    return template.render(place=place, options=options or Options())


def _address(address: Address) -> str:
    host, port = address
    return f"{{address: {json.dumps(host)}, port_value: {port}}}"


def main() -> None:
    """Writes the committed files."""
    for path, place in GENERATED.items():
        path.write_text(render(place), encoding="utf-8")


if __name__ == "__main__":
    main()
