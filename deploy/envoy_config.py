"""The edge's configuration on other ports, for whoever cannot use those that it names."""

from pathlib import Path
from typing import Any, Final

import yaml

CONFIG: Final = Path("deploy/envoy/envoy.yaml")
"""Valid as it lies there when Envoy is started from the root of the repository."""
OPENAPI: Final = Path("deploy/envoy/openapi.json")
"""What Envoy serves at /openapi.json."""
DEFAULT_PORT: Final = 8080
DEFAULT_GATEWAY_PORT: Final = 50051


def render(*, port: int, gateway_port: int, root: Path = Path()) -> str:
    """Return the configuration with these ports.

    Args:
        port: where Envoy listens.
        gateway_port: where it finds the gateway, on this machine.
        root: the root of the repository, as seen from where Envoy will be started.
    """
    config: dict[str, Any] = yaml.safe_load((root / CONFIG).read_text(encoding="utf-8"))
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    (manager,) = listener["filter_chains"][0]["filters"]
    for http_filter in manager["typed_config"]["http_filters"]:
        settings = http_filter["typed_config"]
        if "proto_descriptor" in settings:
            settings["proto_descriptor"] = str(root / settings["proto_descriptor"])
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        body = route.get("direct_response", {}).get("body", {})
        if "filename" in body:
            body["filename"] = str(root / body["filename"])
    (gateway,) = config["static_resources"]["clusters"]
    (locality,) = gateway["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = gateway_port
    return yaml.safe_dump(config, sort_keys=False)
