"""EventBridge's pattern language, as far as it goes here; the rest is refused.

It is used by rules and, on the JSON of a record, by the filters of event source
mappings. Supported: nested objects, exact values, ``prefix``, ``suffix``,
``equals-ignore-case``, ``exists``, ``numeric`` and ``anything-but`` of values or of one
``prefix`` or ``suffix``. An operator that is not here is an error when the rule or
mapping is made, never a silent mismatch.
"""

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any, Self

from infra.local.errors import UnsupportedByTwinError

_KIND = "event pattern"
_MISSING = object()
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class EventPattern:
    """A pattern that is understood in full.

    Parameters
    ----------
    pattern
        The pattern, parsed.
    place
        Who wrote it, for the error.

    Raises
    ------
    UnsupportedByTwinError
        If the pattern uses an operator that is not understood.

    Examples
    --------
    >>> pattern = EventPattern({"source": ["aws.s3"], "size": [{"numeric": [">", 0]}]})
    >>> pattern.matches({"source": "aws.s3", "size": 3})
    True
    >>> pattern.matches({"source": "aws.s3"})
    False
    """

    def __init__(self, pattern: Mapping[str, Any], *, place: str = "pattern") -> None:
        _check(pattern, place)
        self._pattern = pattern

    @classmethod
    def of_json(cls, text: str, *, place: str = "pattern") -> Self:
        """Return the pattern written as JSON."""
        return cls(json.loads(text), place=place)

    def matches(self, event: Any) -> bool:
        """Return whether `event` has all that the pattern asks for."""
        return _matches(self._pattern, event)


def _check(pattern: Any, place: str) -> None:
    if not isinstance(pattern, Mapping):
        raise UnsupportedByTwinError(
            place, _KIND, f"{pattern!r} where an object is due"
        )
    for key, wanted in pattern.items():
        if key == "$or":
            raise UnsupportedByTwinError(place, _KIND, "the operator '$or'")
        if isinstance(wanted, Mapping):
            _check(wanted, place)
        elif isinstance(wanted, list):
            for item in wanted:
                _check_item(item, place)
        else:
            raise UnsupportedByTwinError(place, _KIND, f"{wanted!r} outside a list")


def _check_item(item: Any, place: str) -> None:
    if not isinstance(item, Mapping):
        return
    known = {"prefix", "suffix", "equals-ignore-case"}
    ((name, argument),) = item.items() if len(item) == 1 else ((str(item), None),)
    understood = (
        (name in known and isinstance(argument, str))
        or (name == "exists" and isinstance(argument, bool))
        or (name == "numeric" and _is_numeric(argument))
        or (name == "anything-but" and _is_anything_but(argument))
    )
    if not understood:
        raise UnsupportedByTwinError(place, _KIND, f"the operator {json.dumps(item)}")


def _is_numeric(argument: Any) -> bool:
    return (
        isinstance(argument, list)
        and len(argument) % 2 == 0
        and all(sign in _COMPARISONS for sign in argument[::2])
        and all(isinstance(bound, int | float) for bound in argument[1::2])
    )


def _is_anything_but(argument: Any) -> bool:
    if isinstance(argument, Mapping):
        return list(argument) in (["prefix"], ["suffix"]) and all(
            isinstance(text, str) for text in argument.values()
        )
    items = argument if isinstance(argument, list) else [argument]
    return all(isinstance(item, str | int | float) for item in items)


def _matches(pattern: Mapping[str, Any], event: Any) -> bool:
    for key, wanted in pattern.items():
        value = event.get(key, _MISSING) if isinstance(event, Mapping) else _MISSING
        if isinstance(wanted, Mapping):
            if not _matches(wanted, value):
                return False
        elif not any(_matches_item(item, value) for item in wanted):
            return False
    return True


def _matches_item(item: Any, value: Any) -> bool:  # noqa: PLR0911 - one return an operator
    if isinstance(item, Mapping):
        ((name, argument),) = item.items()
        if name == "exists":
            return (value is not _MISSING) is bool(argument)
        if value is _MISSING:
            return False
        if isinstance(value, list):
            return any(_matches_item(item, each) for each in value)
        if name == "numeric":
            pairs = zip(argument[::2], argument[1::2], strict=True)
            return _is_number(value) and all(
                _COMPARISONS[sign](value, bound) for sign, bound in pairs
            )
        if name == "anything-but":
            if isinstance(argument, Mapping):
                return not _matches_item(argument, value)
            others = argument if isinstance(argument, list) else [argument]
            return not any(_same(other, value) for other in others)
        return isinstance(value, str) and _matches_text(name, argument, value)
    if isinstance(value, list):
        return any(_matches_item(item, each) for each in value)
    return value is not _MISSING and _same(item, value)


def _matches_text(name: str, argument: str, value: str) -> bool:
    match name:
        case "prefix":
            return value.startswith(argument)
        case "suffix":
            return value.endswith(argument)
        case _:
            return value.casefold() == argument.casefold()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(first: Any, second: Any) -> bool:
    """Compare as JSON does: ``true`` is not 1."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)
