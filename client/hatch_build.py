"""Takes the generated code of the public API into the client, so that no second copy of it is kept."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from typing_extensions import override


class GeneratedCode(BuildHookInterface[Any]):
    """Lays `protos/gen/movierec/gateway` into each archive. A source archive has it inside already."""

    @override
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        generated = root.parent / "protos/gen/movierec/gateway"
        if generated.is_dir():
            build_data["force_include"] |= {
                str(generated): "movierec/gateway",
                str(root / "py.typed"): "movierec/gateway/py.typed",  # its stubs count
            }
