"""Spoiling valid bytes in ways that keep most of their structure.

What is done is read from a tape, a short byte string: hypothesis draws the tape and, once a case fails, shortens it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

_NUMBERS: Final = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1)
_EDGE: Final = 64  # headers and trailers are where lengths lie

# JSON that no Python value stands for, or that parsers are known to stumble over. Written in the place of a value.
_LITERALS: Final = (
    *("NaN", "-Infinity", "1e400", "-0", "1.0", "1E2", "01", "+1", "0x10", "tru", "", "'a'", "1e-400", "1" * 5000),
    *('"\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', '"é"', '"e\\u0301"', '"\x7f"', "9007199254740993", "1" + "0" * 400),
    *("[" * depth + "]" * depth for depth in (40, 200, 900, 960, 975, 980, 985, 990, 2000, 100_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (40, 300, 470, 900, 960, 970, 980, 990, 20_000)),
)
_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 1024, 1025, 2**24, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, -(2**53), 2**64),
    *(0.5, -0.5, 1e308, 5e-324, 1e21, 1e-7, "", "0", "true", "é" * 50, "a" * 10_000, "ab" * 32, "AB" * 32, "ab" * 64),
    *(
        "\u202e",
        "\x00",
        "../../x",
        "%s%n{0}",
        "ab" * 32 + "\n",
        "00000000-0000-0000-0000-000000000001",
        "urn:uuid:" + "0" * 32,
    ),
    *("BF16", "F8_E4M3", "F8_E5M2", "F64", "C64", [1] * 100, [2**40], [2**53 - 1] * 3),
    *([], {}, [[]], [{}], {"": 1}, {"message": {}}, [0] * 3000, [None] * 5, {str(n): n for n in range(200)}),
)
_KEYS: Final = ("", "extra", "site", "message", "__proto__", "é", "\ud800", "\x00", "shape", "version", "a" * 500)
_RAW: Final = "\x02raw%d\x02"
_RAW_TEXT: Final = re.compile(r'"\\u0002raw(\d+)\\u0002"')
_AGAIN: Final = "\x03"  # at the end of a key: written without it, so that the key is there twice


class Tape:
    """Decisions out of bytes, first to last; after the end each is 0."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def left(self) -> bool:
        return self._position < len(self._data)

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        size = 1 if limit <= 256 else 3
        piece = self._data[self._position : self._position + size]
        self._position += size
        return int.from_bytes(piece, "little") % limit if limit > 0 else 0

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[self.below(len(choices))]

    def place(self, size: int) -> int:
        """A place in `size` bytes: as often near the start or the end as anywhere."""
        near = min(size, _EDGE)
        return (self.below(near), size - 1 - self.below(near), self.below(size))[self.below(3)] if size else 0


# --- bytes


def spoil_bytes(data: bytes, tape: Tape, others: Sequence[bytes] = (b"",)) -> bytes:
    """As many changes as the tape has room for. `others`: what pieces may be taken from."""
    while tape.left:
        data = tape.one(_BYTE_CHANGES)(data, tape.place(len(data)), tape, others)
    return data


def _flip(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << tape.below(8)]) + data[at + 1 :] if data else data


def _set(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data[:at] + bytes([tape.one((tape.below(256), *b"\x00\xff0.-\xb2"))]) + data[at + 1 :]


def _number(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    size = tape.one((1, 2, 4, 8))
    number = (tape.one((*_NUMBERS, len(data), len(data) - 1, len(data) + 1)) % 256**size).to_bytes(size, "little")
    return data[:at] + number + data[at + size :]


def _cut(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data[:at] + data[at + tape.below(300) :]


def _shorten(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data[:at]


def _repeat(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    piece = data[at : at + tape.below(300)]
    return data[:at] + piece * (1 + tape.below(4)) + data[at:]


def _insert(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data[:at] + tape.one((b"\x00", b"\xff", b"\n", b" ", b"\x80")) * (1 + tape.below(64)) + data[at:]


def _lengthen(data: bytes, at: int, tape: Tape, _: Sequence[bytes]) -> bytes:
    return data + tape.one((b"\x00", b"\xff", b"a", b"1")) * tape.below(200_000)


def _graft(data: bytes, at: int, tape: Tape, others: Sequence[bytes]) -> bytes:
    other = tape.one(others)
    return tape.one((data + other, data[:at] + other, other[: len(other) // 2] + data[at:], other))


_BYTE_CHANGES: Final = (_flip, _set, _number, _cut, _shorten, _repeat, _insert, _lengthen, _graft)


# --- JSON


def spoil_json(data: bytes, tape: Tape, others: Sequence[bytes] = (b"null",)) -> bytes:
    """Canonical JSON with nodes, keys and spelling changed; now and then its bytes too."""
    how = tape.below(8)
    value = [json.loads(data)]  # in a list, so that the whole is a node like any other
    for _ in range(1 + tape.below(3) if tape.left else 0):
        _change_node(value, tape, others)
    spaced = {"indent": 1} if how == 1 else {"separators": (",", ":")}
    text = json.dumps(value[0], sort_keys=how != 2, ensure_ascii=how == 3, **spaced)
    text = _RAW_TEXT.sub(lambda found: _LITERALS[int(found[1])], text).replace("\\u0003", "")
    written = text.encode("utf-16" if how == 4 and tape.below(8) == 1 else "utf-8", "surrogatepass")
    return spoil_bytes(written, tape, others) if how == 5 else written


def _change_node(value: list[Any], tape: Tape, others: Sequence[bytes]) -> None:
    holder, key = _node(value, tape)
    change = tape.below(10)
    if change == 0:
        holder[key] = _RAW % tape.below(len(_LITERALS))
    elif change == 1:
        holder[key] = _nudged(holder[key], tape)
    elif change == 2 and holder is not value:
        del holder[key]
    elif change == 3 and holder is not value:
        _double(holder, key, tape)
    elif change == 4:
        _change_inside(holder[key], tape)
    elif change == 5 and isinstance(holder, dict):
        holder[tape.one(_KEYS)] = holder.pop(key)
    elif change == 6:
        holder[key] = tape.one(([holder[key]], {"message": holder[key]}, str(holder[key])[:5000]))
    elif change == 7:
        holder[key] = json.loads(tape.one(others))
    else:
        holder[key] = deepcopy(tape.one(_VALUES))


def _double(holder: Any, key: Any, tape: Tape) -> None:
    """The same element several times; or the same key twice, with two values."""
    if isinstance(holder, list):
        holder[key:key] = [deepcopy(holder[key]) for _ in range(1 + tape.below(3))]
    else:
        holder[key + _AGAIN] = deepcopy(tape.one((holder[key], *_VALUES)))


def _change_inside(node: Any, tape: Tape) -> None:
    if isinstance(node, dict):
        node[tape.one(_KEYS)] = deepcopy(tape.one(_VALUES))
    elif isinstance(node, list):
        node.reverse()


def _node(value: list[Any], tape: Tape) -> tuple[Any, Any]:
    """Some node: what holds it, and under which key or place."""
    holder: Any = value
    key: Any = 0
    while isinstance(holder[key], list | dict) and holder[key] and tape.below(5):
        holder = holder[key]
        key = tape.one(list(holder)) if isinstance(holder, dict) else tape.below(len(holder))
    return holder, key


def _nudged(value: Any, tape: Tape) -> Any:
    """Nearly the same number or text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return tape.one((value + 1, value - 1, -value, value * 2**16))
    if not isinstance(value, str):
        return value
    at = tape.place(len(value))
    other = value[:at] + tape.one("0aZ-é\n\x00") + value[at + 1 :]
    return tape.one((other, value.upper(), value[:at], value + value, "{" + value + "}"))


# --- safetensors: eight bytes of length, a JSON header, the tensors


def spoil_safetensors(data: bytes, tape: Tape, others: Sequence[bytes]) -> bytes:
    """A model file with its header, the JSON in its header's texts, its length or its bytes changed."""
    how, end = tape.below(4), 8 + int.from_bytes(data[:8], "little")
    if how == 0:
        return spoil_bytes(data, tape, others)
    header, tensors = data[8:end], data[end:]
    if how == 1:
        texts = json.loads(header)
        name = tape.one(sorted(texts["__metadata__"]))
        texts["__metadata__"][name] = _inner(texts["__metadata__"][name], tape)
        header = json.dumps(texts, separators=(",", ":")).encode()
    else:
        header = spoil_json(header, tape, [other[8 : 8 + int.from_bytes(other[:8], "little")] for other in others])
    length = tape.one(_NUMBERS) if how == 3 and tape.below(4) == 1 else len(header)
    return length.to_bytes(8, "little") + header + tensors


def _inner(text: str, tape: Tape) -> str:
    try:
        return spoil_json(text.encode(), tape).decode("utf-8", "replace")
    except ValueError:  # the format's name is no JSON
        return spoil_bytes(text.encode(), tape).decode("utf-8", "replace")
