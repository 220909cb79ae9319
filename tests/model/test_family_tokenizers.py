"""Tokenizers of all families against transformers' ids, which tests/support/make_tokenizers.py has written."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Backend

from minbert import hub, load_tokenizer
from minbert.errors import InputError
from minbert.families import FAMILIES
from minbert.tokenizer import Tokenizer

REFERENCES = Path(__file__).parents[1] / "support" / "references" / "tokenizers"
FOLDERS = ("bert", "distilbert", "roberta", "albert")
TEXTS = json.loads((REFERENCES / "texts.json").read_text(encoding="utf-8"))
NEXT = TEXTS[1:] + TEXTS[:1]  # the pair of a text is the text after it
LENGTHS = (7, 16)


def expected(name: str) -> dict[str, list]:
    return json.loads((REFERENCES / name / "ids.json").read_text(encoding="utf-8"))


def ids_of(encodings) -> list[list[int]]:
    return [encoding.input_ids for encoding in encodings]


def segments_of(encodings) -> list[list[list[int]]]:
    """Of each input the ids in segment 0 and the ids in segment 1."""
    found = []
    for ids, types in encodings:
        assert types == sorted(types)
        found.append([ids[: types.count(0)], ids[types.count(0) :]])
    return found


def copy(name: str, folder: Path) -> Path:
    """The files of a tokenizer in a folder that a test may change. Returns the folder."""
    shutil.copytree(REFERENCES / name, folder, dirs_exist_ok=True)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_tokenizer(folder)
    return str(error.value)


def change_json(path: Path, change) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_the_texts_have_many_scripts_controls_long_words_special_tokens_and_nothing():
    assert len(TEXTS) >= 200 and len(set(TEXTS)) == len(TEXTS) and "" in TEXTS
    everything = "".join(TEXTS)
    for character in "éßЖΩאصम生は한ა😀\u200d\ufe0f\x00\t\r\n\x1b\u2028\ufeff\u0301\U0010ffff":
        assert character in everything
    for token in (*FAMILIES["bert"].tokenizer.special_tokens, *FAMILIES["roberta"].tokenizer.special_tokens):
        assert token in everything
    assert max(len(word) for text in TEXTS for word in text.split()) > 100


@pytest.mark.parametrize("name", [*FOLDERS, "roberta-space"])
def test_ids_of_texts_equal_transformers(name):
    assert ids_of(load_tokenizer(REFERENCES / name)(TEXTS)) == expected(name)["texts"]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", FOLDERS)
def test_ids_of_texts_that_are_cut_equal_transformers(name, length):
    assert ids_of(load_tokenizer(REFERENCES / name)(TEXTS, None, length)) == expected(name)[f"texts {length}"]


@pytest.mark.parametrize("name", FOLDERS)
def test_ids_and_segments_of_pairs_equal_transformers(name):
    pairs = load_tokenizer(REFERENCES / name)(TEXTS[::4], NEXT[::4])
    assert segments_of(pairs) == expected(name)["pairs"]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", FOLDERS)
def test_ids_and_segments_of_pairs_that_are_cut_equal_transformers(name, length):
    pairs = load_tokenizer(REFERENCES / name)(TEXTS[::2], NEXT[::2], length)
    assert segments_of(pairs) == expected(name)[f"pairs {length}"]


def test_roberta_has_two_separators_between_texts_and_one_segment():
    tokenizer = load_tokenizer(REFERENCES / "roberta")
    (encoding,) = tokenizer(["a"], ["b"])
    tokens = [tokenizer.backend.id_to_token(number) for number in encoding.input_ids]
    assert tokens == ["<s>", "a", "</s>", "</s>", "b", "</s>"] and encoding.token_type_ids == [0] * 6


def test_vocab_json_and_merges_txt_make_the_tokenizer_of_tokenizer_json(tmp_path):
    shutil.copy(REFERENCES / "roberta.json", tmp_path / "tokenizer.json")
    whole, parts = load_tokenizer(tmp_path), load_tokenizer(REFERENCES / "roberta")
    assert whole(TEXTS, NEXT) == parts(TEXTS, NEXT)
    assert whole.backend.get_vocab() == parts.backend.get_vocab()
    assert whole.backend.get_added_tokens_decoder() == parts.backend.get_added_tokens_decoder()
    for tokenizer in (whole, parts):
        assert tokenizer.backend.decode(tokenizer([TEXTS[0]])[0].input_ids) == TEXTS[0]


@pytest.mark.parametrize("name", [*FOLDERS, "roberta-space"])
def test_a_saved_tokenizer_of_each_family_loads_again_with_or_without_config_json(name, tmp_path):
    tokenizer = load_tokenizer(REFERENCES / name)
    before = tokenizer(TEXTS, NEXT, 16)
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["truncation"] is None
    assert load_tokenizer(tmp_path)(TEXTS, NEXT, 16) == before
    shutil.copy(REFERENCES / name / "config.json", tmp_path)
    again = load_tokenizer(tmp_path)
    assert again(TEXTS, NEXT, 16) == before
    for name in ("pad_id", "mask_id", "special_ids"):
        assert getattr(again, name) == getattr(tokenizer, name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_saved_tokenizer_tells_transformers_its_special_tokens_and_inputs(name, tmp_path):
    load_tokenizer(REFERENCES / name).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    kind = FAMILIES[name].tokenizer
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is
    names = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    assert [config[token] for token in names] == [kind.cls, kind.sep, kind.pad, kind.unknown, kind.mask]
    assert ("token_type_ids" in config["model_input_names"]) == (name in ("bert", "albert"))


def test_a_special_token_that_the_vocabulary_lacks_is_not_named_to_transformers(tmp_path):
    folder = copy("bert", tmp_path / "a")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.mask_id is None and tokenizer.special_ids == [0, 1, 2, 3]
    tokenizer.save(folder)
    assert "mask_token" not in json.loads((folder / "tokenizer_config.json").read_text())


def test_padding_mask_and_special_ids_are_those_of_the_vocabulary():
    roberta = load_tokenizer(REFERENCES / "roberta")
    assert (roberta.pad_id, roberta.mask_id) == (1, 800) and roberta.special_ids == [0, 1, 2, 3, 800]
    bert = load_tokenizer(REFERENCES / "bert")
    assert (bert.pad_id, bert.mask_id) == (0, 11) and bert.special_ids == [0, 8, 9, 10, 11]
    albert = load_tokenizer(REFERENCES / "albert")
    assert (albert.pad_id, albert.mask_id) == (0, 4) and albert.special_ids == [0, 1, 2, 3, 4]


def test_special_tokens_that_were_added_to_a_tokenizer_are_special_ids():
    backend = load_tokenizer(REFERENCES / "albert").backend
    backend.add_special_tokens(["<speaker>"])
    backend.add_tokens(["ordinary"])
    tokenizer = Tokenizer(backend)
    assert tokenizer.special_ids == [0, 1, 2, 3, 4, 900] and len(tokenizer) == 902


@pytest.mark.parametrize("name", FOLDERS)
def test_a_mask_in_a_text_is_one_token(name):
    tokenizer = load_tokenizer(REFERENCES / name)
    (encoding,) = tokenizer([f"the cat {FAMILIES[name].tokenizer.mask} on the mat ."])
    assert encoding.input_ids.count(tokenizer.mask_id) == 1


@pytest.mark.parametrize("family", FOLDERS)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_tokenizer_of_another_type_than_the_family_has_is_refused(tmp_path, name, family):
    folder = copy(name, tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    actual, wanted = FAMILIES[name].tokenizer.model, FAMILIES[family].tokenizer.model
    if actual == wanted:
        assert ids_of(load_tokenizer(folder)(TEXTS)) == expected(name)["texts"]
    else:
        assert f" is a {actual} tokenizer, a model of type {family} has a {wanted} tokenizer" in refusal(folder)


def test_a_config_json_without_a_model_type_is_that_of_a_bert(tmp_path):
    folder = copy("roberta", tmp_path)
    (folder / "config.json").write_text("{}")
    assert "a model of type bert has a WordPiece tokenizer" in refusal(folder)


@pytest.mark.parametrize("model_type", [None, 5, ["roberta"], "gpt2"])
def test_a_config_json_of_no_family_leaves_the_choice_to_the_special_tokens(tmp_path, model_type):
    folder = copy("roberta", tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert ids_of(load_tokenizer(folder)(TEXTS)) == expected("roberta")["texts"]


@pytest.mark.parametrize("tokens", [["<s>"], ["</s>"], ["<pad>"], ["<s>", "</s>", "<pad>"]])
@pytest.mark.parametrize("config", [True, False])
def test_special_tokens_that_a_roberta_tokenizer_lacks_are_named(tmp_path, tokens, config):
    folder = copy("roberta", tmp_path)
    if not config:
        (folder / "config.json").unlink()
    change_json(folder / "vocab.json", lambda vocabulary: [vocabulary.pop(token) for token in tokens])
    family = "roberta" if config else "a family with a BPE tokenizer"
    assert f"vocab.json lacks {', '.join(tokens)}: it is not a tokenizer of {family}" in refusal(folder)


def test_a_unigram_tokenizer_without_an_unknown_token_is_refused(tmp_path):
    folder = copy("albert", tmp_path)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.model = models.Unigram([(token, -1.0) for token in ("<pad>", "[CLS]", "[SEP]", "[MASK]", "a")])
    with pytest.raises(Exception, match="unk_id"):  # the library complains only when it meets an unknown character
        backend.encode("z")
    # The added tokens still have the ids of the old vocabulary.
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(backend.to_str()) | {"added_tokens": []}))
    assert "tokenizer.json lacks <unk>: it is not a tokenizer of albert" in refusal(folder)


def test_a_padding_id_that_differs_from_the_one_of_a_roberta_is_refused(tmp_path):
    folder = copy("roberta", tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 1}))
    assert load_tokenizer(folder).pad_id == 1
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 0}))
    assert "vocab.json: <pad> has id 1, config.json has pad_token_id 0" in refusal(folder)


def test_a_vocab_json_without_merges_txt_is_refused(tmp_path):
    folder = copy("roberta", tmp_path)
    (folder / "merges.txt").unlink()
    assert refusal(folder) == f"{folder} has vocab.json, but not merges.txt"


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("merges.txt", b"#version: 0.2\na b c\n", "invalid at line 1"),
        ("merges.txt", b"#version: 0.2\nzz yy\n", "out of vocabulary"),
        ("merges.txt", b"\xff b\n", "UTF-8"),
        ("vocab.json", b"[1]", "Bad vocabulary"),
        ("vocab.json", b"{", "EOF"),
        ("vocab.json", b'{"a": -1}', "Bad vocabulary"),
        ("config.json", b"{", "config.json is not valid JSON"),
        ("tokenizer_config.json", b'{"add_prefix_space": "no"}', "add_prefix_space must be true or false, not 'no'"),
        ("tokenizer_config.json", b'{"add_prefix_space": null}', "add_prefix_space must be true or false, not None"),
    ],
)
def test_broken_files_of_a_byte_level_tokenizer_are_refused(tmp_path, name, data, message):
    folder = copy("roberta", tmp_path)
    (folder / name).write_bytes(data)
    text = refusal(folder)
    assert message in text and str(folder) in text and "\n" not in text


def test_the_space_before_a_roberta_mask_belongs_to_it():
    tokenizer = load_tokenizer(REFERENCES / "roberta")
    (with_space,), (without,) = tokenizer(["a <mask>b"]), tokenizer(["a<mask>b"])
    assert with_space == without
    added = tokenizer.backend.get_added_tokens_decoder()
    assert added[800] == AddedToken("<mask>", lstrip=True, normalized=False, special=True)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_that_a_tokenizer_is_made_of_is_downloaded_from_the_hub(name):
    files = {path.name for path in (REFERENCES / name).iterdir()} - {"ids.json"}
    assert files <= set(hub.FILES)
