"""Ids, segments and truncation. Equality with transformers on the GLUE files: benchmarks/parity.py."""

import json

import pytest
from support.factories import VOCABULARY
from tokenizers import Tokenizer as Backend

from minbert import load_tokenizer
from minbert.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return tmp_path


def tokens(encoding) -> list[str]:
    return [VOCABULARY[i] for i in encoding.input_ids]


def test_a_pair_has_segments(folder):
    (encoding,) = load_tokenizer(folder)(["The Cat runs."], ["a dog"])
    assert tokens(encoding) == ["[CLS]", "the", "cat", "runs", ".", "[SEP]", "a", "dog", "[SEP]"]
    assert encoding.token_type_ids == [0] * 6 + [1] * 3


def test_words_are_split_into_pieces_and_unknown_words_marked(folder):
    (encoding,) = load_tokenizer(folder)(["cats zebra"])
    assert tokens(encoding) == ["[CLS]", "cat", "##s", "[UNK]", "[SEP]"]


def test_lower_casing_follows_the_config(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    (encoding,) = load_tokenizer(folder)(["The cat"])
    assert tokens(encoding) == ["[CLS]", "[UNK]", "cat", "[SEP]"]


@pytest.mark.parametrize("max_length, first, second", [(9, 4, 2), (8, 3, 2), (7, 2, 2), (5, 1, 1)])
def test_the_longer_text_is_cut_first(folder, max_length, first, second):
    (encoding,) = load_tokenizer(folder)(["cat dog bird fish red"], ["green small"], max_length)
    assert len(encoding.input_ids) == max_length
    assert encoding.token_type_ids == [0] * (first + 2) + [1] * (second + 1)


def test_without_a_length_texts_are_cut_to_the_512_positions_of_bert(folder):
    (encoding,) = load_tokenizer(folder)(["cat " * 600])
    assert len(encoding.input_ids) == 512 and tokens(encoding)[-1] == "[SEP]"


def test_truncation_and_padding_of_a_tokenizer_json_are_switched_off(folder, tmp_path_factory):
    plain = load_tokenizer(folder)
    backend = plain.backend
    backend.enable_truncation(4)
    backend.enable_padding(length=12, pad_id=2, pad_token="[PAD]")
    other = tmp_path_factory.mktemp("json")
    backend.save(str(other / "tokenizer.json"))
    assert len(Backend.from_file(str(other / "tokenizer.json")).encode("cat dog bird fish").ids) == 12
    (encoding,) = load_tokenizer(other)(["cat dog bird fish red green"])
    assert tokens(encoding) == ["[CLS]", "cat", "dog", "bird", "fish", "red", "green", "[SEP]"]


def test_a_saved_tokenizer_loads_again_without_truncation(folder, tmp_path_factory):
    tokenizer, other = load_tokenizer(folder), tmp_path_factory.mktemp("saved")
    before = tokenizer(["cats run"], ["the DOG."], 6)
    tokenizer.save(other)
    assert load_tokenizer(other)(["cats run"], ["the DOG."], 6) == before
    assert len(load_tokenizer(other)(["cat " * 100])[0].input_ids) == 102  # no truncation was saved


def test_accents_and_chinese_characters_follow_the_config(folder):
    assert tokens(load_tokenizer(folder)(["Cät"])[0]) == ["[CLS]", "cat", "[SEP]"]  # lower-casing strips accents
    (folder / "tokenizer_config.json").write_text(json.dumps({"strip_accents": False, "tokenize_chinese_chars": False}))
    plain = load_tokenizer(folder)
    assert tokens(plain(["cät"])[0]) == ["[CLS]", "[UNK]", "[SEP]"]
    assert tokens(plain(["猫猫"])[0]) == ["[CLS]", "[UNK]", "[SEP]"]  # one word, where it would else be two
    (folder / "tokenizer_config.json").unlink()
    assert tokens(load_tokenizer(folder)(["猫猫"])[0]) == ["[CLS]", "[UNK]", "[UNK]", "[SEP]"]


def test_a_vocabulary_may_have_windows_line_ends(folder):
    (folder / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode())
    assert tokens(load_tokenizer(folder)(["the cat"])[0]) == ["[CLS]", "the", "cat", "[SEP]"]


@pytest.mark.parametrize("vocabulary, config, message", [("cat", None, "lacks"), (None, "[1]", "one JSON object")])
def test_broken_tokenizer_files_are_refused(folder, vocabulary, config, message):
    if vocabulary:
        (folder / "vocab.txt").write_text(vocabulary)
    if config:
        (folder / "tokenizer_config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        load_tokenizer(folder)


def test_a_folder_without_a_tokenizer_or_with_a_broken_one_is_refused(folder, tmp_path_factory):
    with pytest.raises(InputError, match=r"neither tokenizer.json nor vocab.txt"):
        load_tokenizer(tmp_path_factory.mktemp("empty"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(folder)
