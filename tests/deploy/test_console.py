"""The page for people at the edge: there unless it is left out, in every place."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from deploy.demo.plan import SettingError, envoy_process, has_console
from deploy.demo.processes import Supervisor
from deploy.demo.signals import StopRequest
from deploy.envoy_config import WITHOUT_CONSOLE, render
from tests.deploy.edge import ROOT, Edge, demo_place


@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, 200), ({"MOVIEREC_CONSOLE": "true"}, 200), ({"MOVIEREC_CONSOLE": "false"}, 404)],
)
async def test_the_page_is_there_unless_left_out(
    tmp_path: Path, environment: Mapping[str, str], status: int
) -> None:
    edge = Edge(free_port())
    config = tmp_path / "envoy.yaml"
    config.write_text(render(demo_place(port=edge.port, gateway_port=free_port()), root=ROOT))
    supervisor = Supervisor(tmp_path, StopRequest())
    supervisor.start(envoy_process(config, environment))
    try:
        await edge.wait_for_readiness(503)  # there is no gateway
        async with edge.client() as client:
            for path in ("/", "/console/app.js"):
                assert (await client.get(path)).status_code == status
            assert (await client.post("/")).status_code == 404
            assert (await client.get("/openapi.json")).status_code == 200
    finally:
        supervisor.stop()


def test_a_setting_that_is_neither() -> None:
    with pytest.raises(SettingError, match="MOVIEREC_CONSOLE must be true or false, not 'no'"):
        has_console({"MOVIEREC_CONSOLE": "no"})


def test_the_image_leaves_it_out_in_the_same_way() -> None:
    entrypoint = (ROOT / "deploy/envoy/entrypoint.sh").read_text()
    option, value = WITHOUT_CONSOLE
    assert f"{option} '{value}'" in entrypoint
