"""Renders the filter of Envoy that refuses a REST request which gives a field twice.

What it knows of requests comes from the descriptors that Envoy's transcoder reads.
"""

import re
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from jinja2 import Environment, StrictUndefined

from deploy.openapi.descriptors import Descriptors, bindings, is_repeated

TEMPLATE: Final = Path("deploy/envoy/unique_fields.lua.jinja")
SCRIPT: Final = Path("deploy/envoy/unique_fields.lua")
"""What Envoy runs."""

_DESCRIPTORS: Final = Path("deploy/envoy/descriptor.binpb")
_PACKAGE: Final = ".movierec.gateway.v1."
_VARIABLE: Final = re.compile(r"\{(\w+)\}")


def render(root: Path = Path()) -> str:
    """Returns the script; `root` is the root of the repository."""
    descriptors = Descriptors.of(FileDescriptorSet.FromString((root / _DESCRIPTORS).read_bytes()))
    methods = descriptors.services[f"{_PACKAGE}MovieService"]
    # A message of another package, which Timestamp is, is a scalar in JSON.
    ours = sorted(
        name for name in descriptors.held_by(m.input_type for m in methods) if name.startswith(_PACKAGE)
    )
    paths = [(binding, method) for method in methods for binding in bindings(method)]
    page = Environment(  # noqa: S701  # Lua, not HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return page.from_string((root / TEMPLATE).read_text(encoding="utf-8")).render(
        messages={
            name.removeprefix(_PACKAGE): [
                {
                    "name": field.name,
                    "spellings": dict.fromkeys((field.name, field.json_name)),
                    "repeated": is_repeated(field),
                    "message": field.type_name in ours and field.type_name.removeprefix(_PACKAGE),
                }
                for field in descriptors.messages[name].field
            ]
            for name in ours
        },
        bindings=[
            {
                "verb": binding.verb.upper(),
                "pattern": _pattern(binding.path),
                "request": method.input_type.removeprefix(_PACKAGE),
                "in_path": _VARIABLE.findall(binding.path),
            }
            for binding, method in sorted(paths, key=lambda pair: pair[0].path.count("{"))
        ],
    )


def _pattern(path: str) -> str:
    """The path as a pattern of Lua; the transcoder accepts a slash at its end."""
    literals = (re.sub(r"([^\w/])", r"%\1", part) for part in _VARIABLE.split(path)[::2])
    return f"^{'[^/]+'.join(literals)}/?$"
