"""Groups of options: a command takes a dataclass, and each of its fields is an option."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Lets a command take groups of options: of a parameter that is a dataclass, each field is an option.

    A field that is a dataclass is a group in turn.
    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**options: Any) -> None:
        command(**_grouped(signature, options))

    run.__annotations__ = {}  # typer would take those of the command
    run.__signature__ = signature.replace(parameters=_flat(signature))  # type: ignore[attr-defined]
    return run


def _flat(signature: inspect.Signature) -> list[inspect.Parameter]:
    flat = []
    for parameter in signature.parameters.values():
        group = _group(parameter.annotation)
        flat += [parameter.replace(kind=parameter.KEYWORD_ONLY)] if group is None else _flat(group)
    return flat


def _grouped(signature: inspect.Signature, options: Mapping[str, Any]) -> dict[str, Any]:
    grouped = {}
    for name, parameter in signature.parameters.items():
        group = _group(parameter.annotation)
        grouped[name] = options[name] if group is None else parameter.annotation(**_grouped(group, options))
    return grouped


def _group(annotation: Any) -> inspect.Signature | None:
    is_group = isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
    return inspect.signature(annotation, eval_str=True) if is_group else None
