"""The distribution: the clients, and the generated code that they need."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.deploy.edge import ROOT


def test_the_wheel_has_all_that_the_clients_need(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT / "client",
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.iterdir()
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    own, generated = ROOT / "client", ROOT / "protos/gen"
    wanted = {str(path.relative_to(own)) for path in (own / "movierec_client").iterdir() if path.suffix}
    wanted |= {str(path.relative_to(generated)) for path in (generated / "movierec/gateway/v1").glob("*.py*")}
    assert names == {*wanted, "movierec/gateway/py.typed"}
