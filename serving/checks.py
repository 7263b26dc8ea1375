"""Checks requests against the table of limits, before they are decoded: every broken rule is named."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from serving.errors import FieldViolation, InvalidArgumentError
from serving.ids import all_differ
from serving.limits import LIMITS, NOT_AFTER, STAGE_LIMITS, UNLESS, Limits, Measure

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_REQUESTS_OF_THEIR_OWN: Final = frozenset({"requests", "queries"})
"""Lists whose entries have the limits of whole requests."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A field that has rules of its own, or whose parts have."""

    name: str
    allows: Callable[[Any], bool]
    """Whether a value may stand in it; of a list, whether it may have so many entries."""
    rule: str
    """The same in words."""
    optional: bool
    """Whether it may be unset, and is then not looked at."""
    text: Limits | None = None
    """Of a single text, which may break more rules than one."""
    unless: str | None = None
    """The other field that lets this one be unset."""
    repeated: bool = False
    unique: bool = False
    """Whether the entries must differ."""
    entries: Limits | None = None
    """Of each entry."""
    parts: "_Fields | None" = None
    """Of the message, or of each entry that is one."""


@dataclass(frozen=True)
class _Fields:
    """What to look at in one type of message."""

    fields: Sequence[_Field]
    ordered: Sequence[tuple[str, str]]
    """Pairs of fields of which the first must not be greater."""


class Checker:
    """Checks messages against one column of the table.

    What to look at is worked out once per type of message. The entries of a list that is too long are not
    looked at: it may hold a million of them.

    Args:
        limits: by field, as in `serving.limits`.
    """

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._limits = limits
        self._known: dict[str, _Fields] = {}
        """By the full name of a request's type."""

    def violations(self, request: Message) -> list[FieldViolation]:
        """The rules that a request breaks, in the order of its fields."""
        found: list[FieldViolation] = []
        _check(request, self._fields_of(request), "", found)
        return found

    def require(self, request: Message) -> None:
        """Checks a request.

        Raises:
            InvalidArgumentError: it breaks rules; all are named.
        """
        require_none(self.violations(request))

    def _fields_of(self, request: Message) -> _Fields:
        descriptor: Any = request.DESCRIPTOR
        if descriptor.full_name not in self._known:
            self._known[descriptor.full_name] = self._worked_out(descriptor, "")
        return self._known[descriptor.full_name]

    def _worked_out(self, descriptor: Descriptor, key: str) -> _Fields:
        """What to look at; `key` stands before the message's fields in the table."""
        names = {field.name for field in descriptor.fields}
        fields = (self._field(descriptor, field, key, names) for field in descriptor.fields)
        return _Fields(
            fields=[field for field in fields if field is not None],
            ordered=[(low, high) for low, high in NOT_AFTER.items() if {low, high} <= names],
        )

    def _field(
        self, descriptor: Descriptor, field: FieldDescriptor, key: str, names: set[str]
    ) -> _Field | None:
        name = field.name
        limits = self._limits.get(f"{descriptor.name}.{name}") or self._limits.get(key + name)
        entries = self._limits.get(f"{key}{name}[]")
        parts = None
        if field.message_type is not None and field.message_type.full_name != _TIMESTAMP:
            inner = f"{key}{name}[]." if field.is_repeated else f"{key}{name}."
            parts = self._worked_out(field.message_type, "" if name in _REQUESTS_OF_THEIR_OWN else inner)
        if not (limits or entries or parts or field.enum_type):
            return None
        rule = "must be a value of the enum" if limits is None else limits.rule
        other = UNLESS.get(name)
        unless = other if other in names and limits is not None and not limits.hold(0) else None
        is_text = limits is not None and limits.measure is Measure.CHARACTERS
        return _Field(
            name=name,
            allows=_allows(field, limits),
            rule=rule if unless is None else f"{rule}, or unset with a {unless}",
            optional=field.has_presence,
            text=limits if is_text else None,
            unless=unless,
            repeated=field.is_repeated,
            unique=limits is not None and limits.unique,
            entries=entries,
            parts=parts,
        )


PUBLIC: Final = Checker(LIMITS)
"""Checks requests of clients."""
STAGE: Final = Checker(STAGE_LIMITS)
"""Checks requests to a stage."""


def require_none(violations: Sequence[FieldViolation]) -> None:
    """Ends a check.

    Raises:
        InvalidArgumentError: a rule was broken.
    """
    if violations:
        raise InvalidArgumentError(violations)


def _check(message: Message, fields: _Fields, path: str, found: list[FieldViolation]) -> None:
    for field in fields.fields:
        if field.repeated:
            _check_list(getattr(message, field.name), field, path + field.name, found)
        elif field.optional and not message.HasField(field.name):
            continue
        elif field.parts is not None:
            _check(getattr(message, field.name), field.parts, f"{path}{field.name}.", found)
        else:
            value = getattr(message, field.name)
            may_be_unset = field.unless is not None and getattr(message, field.unless)
            if not field.allows(value) and not (value == 0 and may_be_unset):
                rules = _broken(value, field.text) if field.text is not None else [field.rule]
                found += (FieldViolation(path + field.name, rule) for rule in rules)
    for low, high in fields.ordered:
        if (
            message.HasField(low)
            and message.HasField(high)
            and getattr(message, low) > getattr(message, high)
        ):
            found.append(FieldViolation(path + low, f"must not be after {high}"))


def _check_list(values: Sequence[Any], field: _Field, path: str, found: list[FieldViolation]) -> None:
    if not field.allows(len(values)):
        found.append(FieldViolation(path, field.rule))
        return
    if not values:
        return
    if field.parts is not None:
        for place, entry in enumerate(values):
            _check(entry, field.parts, f"{path}[{place}].", found)
        if field.unique:
            rule = f"must not stand in the {field.name} twice"
            places = _repeated([entry.movie_id for entry in values])
            found += (FieldViolation(f"{path}[{place}].movie_id", rule) for place in places)
    elif field.entries is not None:
        _check_entries(values, field.entries, path, found, unique=field.unique)


def _check_entries(
    values: Sequence[Any], limits: Limits, path: str, found: list[FieldViolation], *, unique: bool
) -> None:
    """Checks at least one text or number; numbers first all at once: 300 take 5 µs, not 300."""
    if limits.measure is not Measure.CHARACTERS:
        numbers = np.asarray(values)
        # Of ids, the upper limit is that of their type.
        hold = np.isfinite(numbers).all() if limits.measure is Measure.FINITE else numbers.min() >= limits.low
        if hold and not (unique and not all_differ(numbers)):
            return
    for place, value in enumerate(values):
        found += (FieldViolation(f"{path}[{place}]", rule) for rule in _broken(value, limits))
    if unique:
        places = _repeated(values)
        found += (FieldViolation(f"{path}[{place}]", "must not stand in the list twice") for place in places)


def _allows(field: FieldDescriptor, limits: Limits | None) -> Callable[[Any], bool]:
    """Whether a field's value, or the number of its entries, is allowed."""
    if field.enum_type is not None:
        return frozenset(field.enum_type.values_by_number).__contains__  # proto3 lets any number through
    if limits is None:
        return lambda _: True
    match limits.measure:
        case Measure.SECONDS:
            return lambda value: limits.hold(value.seconds)
        case Measure.CHARACTERS | Measure.FINITE:
            return lambda value: not _broken(value, limits)
        case _:
            return limits.hold


def _broken(value: Any, limits: Limits) -> list[str]:
    """The rules that a text or an entry breaks, in words."""
    match limits.measure:
        case Measure.CHARACTERS:
            broken = [] if limits.hold(len(value)) else [limits.rule]
            if value and limits.pattern is not None and re.fullmatch(limits.pattern, value) is None:
                broken.append(limits.pattern_rule)
            return broken
        case Measure.FINITE:
            return [] if math.isfinite(value) else [limits.rule]
        case _:
            return [] if limits.hold(value) else [limits.rule]


def _repeated(values: Iterable[object]) -> list[int]:
    """Places of values that stood earlier in the list."""
    known: set[object] = set()
    places = []
    for place, value in enumerate(values):
        if value in known:
            places.append(place)
        known.add(value)
    return places
