"""JSON text to Python values and back, with numbers as `float` or digit for digit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


class _NeedsDigits(Exception):
    """The value holds a `Decimal`, which the standard encoder does not know."""


def _default(value: object) -> object:
    """What the standard encoder is to write instead of a value that it does not know."""
    if isinstance(value, Decimal):
        raise _NeedsDigits
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _integer(digits: str) -> int | Decimal:
    # An int has no negative zero.
    return Decimal(digits) if digits == "-0" else int(digits)


def decode(text: str | bytes, decimal: bool) -> Any:
    """The value of a JSON text. With `decimal`, a number with a fraction or exponent is a Decimal."""
    if decimal:
        return json.loads(text, parse_float=Decimal, parse_int=_integer)
    return json.loads(text)


def encode(value: object) -> str:
    """The JSON text of a value.

    Raises ValueError for NaN and infinities, TypeError for what JSON does not have.
    """
    try:
        return json.dumps(
            value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_default
        )
    except _NeedsDigits:
        return "".join(_parts(value))


def _parts(value: object) -> list[str]:
    """The same text, by hand: the standard encoder can't be told how to write a number."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a JSON number")
        return [str(value)]
    if isinstance(value, Mapping):
        parts: list[str] = []
        for name, member in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{name!r} is not a string, as a name in JSON must be")
            parts += [",", encode(name), ":", *_parts(member)]
        return ["{", *parts[1:], "}"]
    if isinstance(value, (list, tuple)):
        elements: list[str] = []
        for element in value:
            elements += [",", *_parts(element)]
        return ["[", *elements[1:], "]"]
    return [encode(value)]
