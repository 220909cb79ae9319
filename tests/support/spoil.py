"""Ways to spoil a file, as hypothesis draws them: byte by byte, and for JSON node by node."""

import copy
import json
import struct

from hypothesis import strategies as st

DEEP = "a hundred thousand lists"  # stands for what json.dumps itself cannot write
NUMBERS = (
    *(0, 1, -1, 2, 3, 12, 1.5, float("nan"), float("inf"), -float("inf"), 1e-300, 1e300),
    *(10**6, 2**31, 10**9, 2**63 - 1, -(2**63), 2**64, 10**30, 10**4000),
)
ODD = (
    *(None, True, False, *NUMBERS),
    *("", "x", "line\nline\x1b[31m\u202e", "\ud800", "a\0b", "..", "y" * 20_000, "I32", "F64"),
    *([], {}, [[]], [0], [1, 2, 3], [10**9, 10**9], [2**62, 4], ["x"], {"x": {}}, DEEP),
)


@st.composite
def spoiled_bytes(draw, data: bytes, most: int = 3) -> bytes:
    """One to `most` flips, deletions, insertions, truncations, or slices that come twice."""
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(1, 40)))
        match draw(st.sampled_from(("flip", "delete", "insert", "cut", "twice", "far"))):
            case "flip" if start < len(data):
                data = data[:start] + bytes([data[start] ^ draw(st.integers(1, 255))]) + data[start + 1 :]
            case "delete":
                data = data[:start] + data[end:]
            case "insert":
                data = data[:start] + draw(INSERTED) + data[start:]
            case "cut":
                data = data[:start]
            case "twice":
                data = data[:end] + data[start:]
            case "far":  # a slice comes again somewhere else
                place = draw(st.integers(0, len(data)))
                data = data[:place] + data[start:end] + data[place:]
    return data


WAYS = ("bytes", "encoding", "separator", "quote", "cut", "drop", "twice", "column", "ends")
ENCODINGS = ("utf-8-sig", "latin-1", "utf-16", "cp1252")


@st.composite
def spoiled_table(draw, data: bytes) -> bytes:
    """A table as people spoil it: another encoding, other separators, quotes, lines cut and moved, columns renamed."""
    for _ in range(draw(st.integers(1, 2))):
        lines = data.split(b"\n")
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(WAYS)):
            case "bytes":
                data = draw(spoiled_bytes(data, 1))
                continue
            case "encoding":
                data = data.decode("utf-8", "replace").encode(draw(st.sampled_from(ENCODINGS)), "replace")
                continue
            case "ends":
                data = data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n"))))
                continue
            case "separator":
                old, new = draw(st.permutations((b",", b"\t", b";", b"|", b":")))[:2]
                lines[line] = lines[line].replace(old, new)
                if draw(st.booleans()):
                    lines = [other.replace(old, new) for other in lines]
            case "quote":
                place = draw(st.integers(0, len(lines[line])))
                lines[line] = lines[line][:place] + draw(st.sampled_from((b'"', b'""', b"'"))) + lines[line][place:]
            case "cut":
                lines[line] = lines[line][: draw(st.integers(0, len(lines[line])))]
            case "drop":
                del lines[line]
            case "twice":
                lines.insert(draw(st.integers(0, len(lines))), lines[line])
            case "column":
                old, new = draw(st.permutations((b"id", b"index", b"review", b"pair", b"stars", b"x", b"Stars")))[:2]
                lines[0] = lines[0].replace(old, new)
        data = b"\n".join(lines)
    return data


FLOATS = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.sampled_from([struct.pack("<f", float(x)) for x in ("nan", "inf", "-inf", "3e38")]),
)
INSERTED = st.one_of(
    st.sampled_from(
        [b"\t", b"\n", b"\r", b'"', b'""', b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1b[31m", "\u2028é".encode()]
    ),
    st.binary(min_size=1, max_size=12),
)


@st.composite
def node(draw, value) -> tuple | None:
    """(container, key) of something inside a JSON value, as likely near the top as deep down. None: it is empty."""
    place = None
    while isinstance(value, dict | list) and value and (place is None or draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        place, value = (value, key), value[key]
    return place


@st.composite
def spoiled_json(draw, value, most: int = 2):
    """Values of another type or size, missing keys, keys of another name, values that change places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        place = draw(node(value))
        if place is None:
            return value
        container, key = place
        match draw(st.sampled_from(("replace", "replace", "replace", "delete", "rename", "swap", "whole"))):
            case "replace":
                alike = type(container[key]) in (int, float) and draw(st.booleans())
                container[key] = copy.deepcopy(draw(st.sampled_from(NUMBERS if alike else ODD)))
            case "delete":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[draw(st.sampled_from(("", "x", "a\nb", "\ud800", "y" * 20_000)))] = container.pop(key)
            case "swap":
                other, there = draw(node(value))
                container[key] = copy.deepcopy(other[there])
            case "whole":
                if draw(st.integers(0, 3)) == 0:
                    value = copy.deepcopy(draw(st.sampled_from(ODD)))
    return value


def dump(value) -> bytes:
    text = json.dumps(value).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)
    return text.encode()


def spoiled_text(value):
    """A JSON file, spoiled as JSON or as bytes."""
    return st.one_of(spoiled_json(value).map(dump), spoiled_bytes(dump(value)))


@st.composite
def spoiled_safetensors(draw, data: bytes) -> bytes:
    """Spoiled in its header, in the length of it, in a few bytes anywhere, or in one of the numbers."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + size], data[8 + size :]
    match draw(st.sampled_from(("json", "json", "json", "header", "length", "anywhere", "number", "number", "cut"))):
        case "json":
            header = dump(draw(spoiled_json(json.loads(header))))
            return struct.pack("<Q", len(header)) + header + body
        case "header":
            header = draw(spoiled_bytes(header, 1))
            return struct.pack("<Q", len(header)) + header + body
        case "length":
            length = draw(st.sampled_from((0, 1, size - 1, size + 1, len(data), 10**8, 2**62, 2**64 - 1)))
            return struct.pack("<Q", length) + header + body
        case "anywhere":
            return draw(spoiled_bytes(data))
        case "number":
            place = 8 + size + 4 * draw(st.integers(0, len(body) // 4 - 1))
            return data[:place] + draw(FLOATS) + data[place + 4 :]
        case "cut":
            return data[: draw(st.integers(0, len(data) - 1))]
