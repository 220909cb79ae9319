"""A tokenizer file that the library accepts, but that no correct program wrote, is refused in one line."""

import base64
import json
import threading
from pathlib import Path

import pytest
from support.factories import VOCABULARY, vocabulary_backend
from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from minbert import load_tokenizer, tokenizer, tokenizer_file
from minbert.errors import InputError
from minbert.time_limit import call_within

REFERENCES = Path(__file__).resolve().parents[1] / "support" / "references" / "tokenizers"
REPLACE = normalizers.Replace("a", "aa")
USUAL = [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.Lowercase()]


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_tokenizer(folder)
    assert str(error.value).isprintable() and str(error.value).startswith(str(folder))
    return str(error.value)


def write(folder: Path, text: str, name: str = "tokenizer.json") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def with_part(folder: Path, name: str, part) -> Path:
    backend = vocabulary_backend()
    setattr(backend, name, part)
    return write(folder, backend.to_str())


@pytest.mark.parametrize(
    "name, part",
    [
        ("normalizer", normalizers.Sequence([REPLACE] * 40)),
        ("normalizer", normalizers.Sequence([normalizers.Sequence([REPLACE] * 4)] * 4)),
        ("normalizer", normalizers.Replace("a", "b" * 1001)),
        ("normalizer", normalizers.Sequence([normalizers.Replace(Regex("(?=a)"), "aa")] * 7)),
        ("normalizer", normalizers.Sequence([normalizers.Prepend("aaa")] * 6)),
        ("pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()] * 40)),
        ("decoder", decoders.Sequence([decoders.Replace("a", "aa")] * 40)),
    ],
)
def test_a_part_that_makes_a_text_many_times_as_long_is_refused(tmp_path, name, part):
    expected = f"tokenizer.json: its {name} can make a text more than 1000 times as long"
    assert refusal(with_part(tmp_path, name, part)) == f"{tmp_path}/{expected}"


def test_a_part_is_seen_through_every_way_to_describe_it(tmp_path):
    """Old files have no types."""
    values = json.loads(vocabulary_backend().to_str())
    step = {"pattern": {"String": "a"}, "content": "aa"}
    write(tmp_path, json.dumps(values | {"normalizer": {"type": "Sequence", "normalizers": [step] * 40}}))
    assert "its normalizer can make" in refusal(tmp_path) or "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name, part",
    [
        ("normalizer", normalizers.Sequence([REPLACE] * 9)),
        ("normalizer", normalizers.Sequence(USUAL * 9)),
        ("pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.Whitespace()] * 9)),
    ],
)  # fmt: skip
def test_a_part_that_keeps_a_text_short_is_accepted(tmp_path, name, part):
    load_tokenizer(with_part(tmp_path, name, part))


def test_the_bound_of_a_replacement_is_reached_by_a_text(tmp_path):
    """What the bound says about four replacements is what they do."""
    backend = vocabulary_backend()
    for part, text in (
        (normalizers.Sequence([REPLACE] * 4), "aaaa"),
        (normalizers.Sequence([normalizers.Replace(Regex("(?=a)"), "a")]), "aaaa"),
    ):
        backend.normalizer = part
        bound = tokenizer_file.growth(json.loads(part.__getstate__())) * len(text)
        assert 0.5 * bound <= len(part.normalize_str(text)) <= bound


def test_the_longest_replacement_of_a_table_of_sentencepiece_counts(tmp_path):
    index = bytes(1024)
    for longest in (3, 2000):
        table = len(index).to_bytes(4, "little") + index + b"ab\0" + b"x" * longest + b"\0c\0"
        part = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
        assert tokenizer_file.growth(part) == longest


def change(values: dict, **model) -> dict:
    return values | {"model": values["model"] | model}


def test_two_tokens_with_one_id_or_one_token_with_two_ids_are_named(tmp_path):
    values = json.loads(vocabulary_backend().to_str())
    vocabulary = values["model"]["vocab"]
    cat, dog = vocabulary["cat"], vocabulary["dog"]
    write(tmp_path, json.dumps(change(values, vocab=vocabulary | {"dog": cat})))
    assert refusal(tmp_path).endswith(f"tokenizer.json: the tokens 'cat' and 'dog' have the same id {cat}")
    text = json.dumps(values).replace(f'"dog": {dog}', f'"dog": {dog}, "cat": {dog}')
    assert "is not valid JSON: the key 'cat' appears twice" in refusal(write(tmp_path, text))
    added = values["added_tokens"]
    write(tmp_path, json.dumps(values | {"added_tokens": [*added, added[0] | {"content": "new", "id": cat}]}))
    assert refusal(tmp_path).endswith(f"the tokens 'cat' and 'new' have the same id {cat}")
    write(tmp_path, json.dumps(values | {"added_tokens": [*added, added[0] | {"content": "cat", "id": 999}]}))
    assert refusal(tmp_path).endswith(f"the token 'cat' has two ids, {cat} and 999")
    load_tokenizer(
        write(tmp_path, json.dumps(values | {"added_tokens": [*added, added[0] | {"content": "cat", "id": cat}]}))
    )


def test_a_piece_that_appears_twice_in_a_list_of_pieces_is_named(tmp_path):
    values = json.loads((REFERENCES / "albert" / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = values["model"]["vocab"]
    write(tmp_path, json.dumps(change(values, vocab=[*pieces, pieces[-1]])))
    assert refusal(tmp_path).endswith(f"the token {pieces[-1][0]!r} has two ids, {len(pieces) - 1} and {len(pieces)}")


def test_a_token_that_appears_twice_in_vocab_txt_is_named_with_both_lines(tmp_path):
    write(tmp_path, "\n".join([*VOCABULARY, "cat"]), "vocab.txt")
    lines = (
        f"vocab.txt:{len(VOCABULARY) + 1}: the token 'cat' appears twice, first in line {VOCABULARY.index('cat') + 1}"
    )
    assert refusal(tmp_path).endswith(lines)


def test_two_tokens_of_vocab_json_with_one_id_are_named(tmp_path):
    write(tmp_path, json.dumps({"<s>": 0, "a": 1, "b": 1}), "vocab.json")
    write(tmp_path, "#version: 0.2\n", "merges.txt")
    assert refusal(tmp_path).endswith("vocab.json: the tokens 'a' and 'b' have the same id 1")


class Endless:
    """Stands for a tokenizer whose pattern takes very long."""

    def __init__(self, backend):
        self.backend, self.end = backend, threading.Event()

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode_batch(self, inputs):
        self.end.wait()


def test_a_text_that_takes_very_long_to_encode_is_an_error(monkeypatch):
    monkeypatch.setattr(tokenizer, "SECONDS", 0.05)
    endless = tokenizer.Tokenizer(Endless(vocabulary_backend()))
    try:
        with pytest.raises(InputError, match="the tokenizer has not encoded 2 texts in 0 seconds"):
            endless(["the cat", "a dog"])
    finally:
        endless.backend.end.set()


def test_a_pattern_that_the_library_gives_up_on_is_an_error():
    """The library panics: it prints lines of its own, and raises what is no Exception."""
    backend = vocabulary_backend()
    backend.normalizer = normalizers.Replace(Regex("^(a+)+$"), "b")
    with pytest.raises(InputError, match=r"cannot encode a text: .*retry-limit-in-match"):
        tokenizer.Tokenizer(backend)(["a" * 40 + "!"])


def test_the_time_limit_grows_with_the_texts(monkeypatch):
    limits = []
    monkeypatch.setattr(tokenizer, "call_within", lambda limit, call: limits.append(limit) or call())
    tokenizer.Tokenizer(vocabulary_backend())(["a" * 20_000, "b"], ["c" * 20_000, "d"])
    assert limits == [pytest.approx(62, abs=0.01)]


def test_a_call_within_its_time_returns_or_raises_what_the_function_does():
    assert call_within(60, lambda: 5) == 5
    with pytest.raises(KeyError, match="x"):
        call_within(60, lambda: {}["x"])
