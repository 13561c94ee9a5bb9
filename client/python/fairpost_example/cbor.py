"""Deterministic CBOR (RFC 8949, section 4.2.1), and the few shapes that the CDDL has.

Each value has exactly one encoding. So what a lenient library has decoded is encoded again, and must give the same
bytes: that refuses long heads, indefinite lengths, keys twice or out of order, and bytes behind the end.
"""

from collections.abc import Mapping

import cbor2


class Refused(Exception):
    """It does not count, and why."""


def require(holds: bool, why: str) -> None:
    """Refuses unless it holds. (Python's own `assert` goes away under -O.)"""
    if not holds:
        raise Refused(why)


def encode(value) -> bytes:
    """The one encoding. Maps here have small integer keys, for which every canonical order is the same."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, most: int = 16 * 1024 * 1024):
    """The value in `data`, which has at most so many bytes. Types are for the functions below to check."""
    require(len(data) <= most, f"{len(data)} bytes, and at most {most} are read")
    try:
        value = cbor2.loads(data)
        again = encode(value)
    except Exception as error:  # The library has many; all of them mean that these are no bytes of ours.
        raise Refused(f"not CBOR: {error}") from None
    require(again == data, "not the one deterministic encoding")
    return value


# `type(x) is t` and not `isinstance`: to Python, true is an int and equals 1, even as a map's key. Within a tag, cbor2
# gives arrays and maps that can't be changed.


def uint(value, least: int = 0, most: int = 2**64 - 1) -> int:
    require(type(value) is int and least <= value <= most, f"an integer from {least} to {most} expected")
    return value


def octets(value, *lengths: int) -> bytes:
    """A byte string; of one of these lengths, if any is given."""
    require(type(value) is bytes and (not lengths or len(value) in lengths), f"bytes expected, {lengths}")
    return value


def octets_or_null(value, *lengths: int) -> bytes | None:
    return None if value is None else octets(value, *lengths)


def text(value, least: int, most: int) -> str:
    """A text string of so many bytes of UTF-8."""
    require(type(value) is str and least <= len(value.encode()) <= most, f"text of {least} to {most} bytes expected")
    return value


def array(value, least: int, most: int) -> list:
    require(type(value) in (list, tuple) and least <= len(value) <= most, f"an array of {least} to {most} items expected")
    return value


def record(value, *keys: int) -> list:
    """The values of a map that has just these keys."""
    require(isinstance(value, Mapping) and all(type(key) is int for key in value), "a map with integer keys expected")
    require(sorted(value) == sorted(keys), f"keys {sorted(keys)} expected, found {sorted(value)}")
    return [value[key] for key in keys]


def tagged(value, tag: str, count: int) -> list:
    """The values of keys 1 to `count` of a map that says in key 0 what it is."""
    found, *values = record(value, *range(count + 1))
    require(found == tag, f"this is {found!r}, not {tag}")
    return values
