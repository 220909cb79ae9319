"""What the tokenizers library accepts in a tokenizer.json, but a correct file never holds."""

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from minbert.errors import InputError

MOST_GROWTH = 1000  # times as long as the text. The tokenizers of the four families stay below 100.


def check_tokens(values: dict[str, Any], path: Path) -> None:
    """Raise InputError that names two tokens with one id, or one token with two ids.

    `values` is the content of a file that the library has read: its parts have the right types.
    """
    ids: dict[str, int] = {}
    tokens: dict[int, str] = {}
    for token, number in tokens_of(values):
        if ids.setdefault(token, number) != number:
            raise InputError(f"{path}: the token {token!r} has two ids, {ids[token]} and {number}")
        if tokens.setdefault(number, token) != token:
            raise InputError(f"{path}: the tokens {tokens[number]!r} and {token!r} have the same id {number}")


def tokens_of(values: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """(token, id) of the vocabulary, then of the added tokens, which can be in the vocabulary, too."""
    vocabulary = values["model"].get("vocab", {})
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # of a Unigram model: a list of [token, score]
        yield from ((token, number) for number, (token, _) in enumerate(vocabulary))
    yield from ((token["content"], token["id"]) for token in values.get("added_tokens") or ())


def check_growth(backend: Tokenizer, path: Path) -> None:
    """Raise InputError if a part of the tokenizer can make a text many times as long.

    A sequence of forty replacements "a" -> "aa" makes a terabyte of one letter. No time limit could help: the memory is
    full within seconds, and the library then ends the process. So the file is refused before the first text.
    """
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        part = getattr(backend, name)
        # The library's own description, because a file can describe the same part in several ways.
        if part is not None and growth(json.loads(part.__getstate__())) > MOST_GROWTH:
            raise InputError(f"{path}: its {name} can make a text more than {MOST_GROWTH} times as long")


def growth(part: dict[str, Any]) -> float:
    """How many times as long a part can make a text at most.

    Lower-casing and similar steps count as 1, because repeating them changes nothing.
    """
    match part:
        case {"type": "Sequence", **fields}:
            return math.prod(growth(step) for steps in fields.values() for step in steps)
        case {"type": "Replace", "pattern": {"String": pattern}, "content": content} if pattern:
            return max(1.0, len(content) / len(pattern))
        case {"type": "Replace", "content": content}:  # a regular expression can match the empty text
            return 1.0 + len(content)
        case {"type": "Prepend", "prepend": text}:
            return 1.0 + len(text)
        case {"type": "ByteLevel"}:  # one character, of at most two bytes, for each byte
            return 2.0
        case {"type": "Precompiled", "precompiled_charsmap": table}:
            return longest_replacement(base64.b64decode(table))
    return 1.0


def longest_replacement(table: bytes) -> float:
    """SentencePiece's table: the length of an index, the index, and then the replacements, with a zero after each."""
    start = 4 + int.from_bytes(table[:4], "little")
    return max(1.0, *(len(text) for text in table[start:].split(b"\0")))
