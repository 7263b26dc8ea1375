"""The containers of deploy/compose.yaml, by way of the engine's command line."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HEALTHY_SECONDS: Final = 90.0
_LOOK_SECONDS: Final = 1.0
"""Each look starts the engine's command line, and takes processor time from what is measured."""
_STOP_SECONDS: Final = 30
_BUNDLES: Final = "/var/lib/movierec"


class EngineError(Exception):
    """A command of the engine that failed, or a container that is not there. The message says which."""


@dataclass(frozen=True)
class Containers:
    """The containers of one compose project."""

    engine: str = "docker"
    """Command of the engine."""
    project: str = "movierec"
    """Name of the compose project."""

    async def of(self, service: str) -> str:
        """The id of a service's container, running or not.

        Raises:
            EngineError: there is none.
        """
        labels = (f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}")
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        ids = (await self._run("ps", "--all", "--quiet", *filters)).split()
        if not ids:
            raise EngineError(
                f"no container of service {service} in project {self.project}: `make web` first"
            )
        return ids[0]

    async def replicas(self, stage: str) -> list[str]:
        """The ids of both containers of a server."""
        return [await self.of(f"{stage}-{number}") for number in (1, 2)]

    async def restart(self, container: str) -> None:
        """SIGTERM, as long as it takes to drain, and a new start."""
        await self._run("restart", "--time", str(_STOP_SECONDS), container)

    async def kill(self, container: str) -> None:
        """SIGKILL."""
        await self._run("kill", container)

    async def start(self, container: str) -> None:
        """Starts one that was killed."""
        await self._run("start", container)

    async def wait_until_healthy(self, container: str) -> None:
        """Returns once the container's own health check succeeds.

        Raises:
            EngineError: it does not in time.
        """
        end = time.monotonic() + _HEALTHY_SECONDS
        while time.monotonic() < end:
            health = (await self._inspect(container))["State"].get("Health", {})
            if health.get("Status") == "healthy":
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise EngineError(f"container {container[:12]} is not healthy after {_HEALTHY_SECONDS:.0f} s")

    async def copy_bundle(self, bundle_id: str, root: Path) -> None:
        """Copies a bundle out of the volume, to where a store at `root` finds it."""
        (root / "bundles").mkdir(parents=True, exist_ok=True)
        gateway = await self.of("gateway-1")
        await self._run("cp", f"{gateway}:{_BUNDLES}/bundles/{bundle_id}", str(root / "bundles"))

    async def train(self, *arguments: str) -> str:
        """Runs a command of the training job on the volumes of the training container; gives its output."""
        container = await self.of("training")
        settings = await self._inspect(container)
        variables = [word for one in settings["Config"]["Env"] for word in ("--env", one)]
        return await self._run(
            "run",
            *("--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108  # in a container
            *("--cpu-shares", "128", "--network", "none", "--volumes-from", container),
            *variables,
            settings["Config"]["Image"],
            *arguments,
            *("--bundle-root", _BUNDLES),
        )

    async def _inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(await self._run("inspect", container))
        return dict(found)

    async def _run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self.engine, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
        if process.returncode:
            text = (errors or output).decode(errors="replace").strip()
            raise EngineError(f"{self.engine} {arguments[0]} failed: {text[-500:]}")
        return output.decode()
