"""Model folders that are broken or contradict themselves: one line that says what, where and which tensor or field."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.factories import CONFIG, VOCABULARY, make_model, vocabulary_backend

from minbert import load_tokenizer, published, weights
from minbert.bert import BertModel
from minbert.errors import InputError

WORDS, NORM = "embeddings.word_embeddings.weight", "encoder.layer.1.output.LayerNorm.bias"


@pytest.fixture
def checkpoint(tmp_path) -> tuple[Path, dict]:
    """A whole folder, and its tensors."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    tensors = {published.published_name(name): tensor for name, tensor in make_model().bert.state_dict().items()}
    save_file(tensors, tmp_path / weights.WEIGHTS)
    return tmp_path, tensors


def refusal(load, folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load(folder)
    assert str(error.value).isprintable() and str(folder) in str(error.value)
    return str(error.value)


def test_the_table_of_published_shapes_is_that_of_the_model(checkpoint):
    _, tensors = checkpoint
    sizes = published.expected_sizes(CONFIG.family, CONFIG.num_hidden_layers, "pooler.dense")
    shapes = {name: published.shape_of(CONFIG, fields) for name, fields in sizes.items()}
    assert shapes == {name: list(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vocab_size": 10**9}, f"{WORDS} is [30, 12], config.json says [1000000000, 12] (vocab_size)"),
        ({"hidden_size": 12 * 10**8}, f"{WORDS} is [30, 12], config.json says [30, 1200000000] (hidden_size)"),
        ({"intermediate_size": 10**30}, "(intermediate_size)"),
        ({"max_position_embeddings": 2**63}, "(max_position_embeddings)"),
        ({"type_vocab_size": 10**12}, "(type_vocab_size)"),
        ({"num_hidden_layers": 10**9}, "config.json says num_hidden_layers 1000000000, the file has 3"),
        ({"num_hidden_layers": 1}, "config.json says num_hidden_layers 1, the file has 3"),
    ],
)
def test_a_field_that_contradicts_the_weights_is_named_before_it_takes_memory(checkpoint, change, message, monkeypatch):
    folder, _ = checkpoint
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict() | change))
    monkeypatch.setattr(BertModel, "__init__", lambda *_: pytest.fail("the model was built"))
    said = refusal(BertModel.from_pretrained, folder)
    assert message in said and len(said) < 1500


def test_only_the_first_ten_contradictions_are_listed(checkpoint):
    folder, _ = checkpoint
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict() | {"hidden_size": 24}))
    said = refusal(BertModel.from_pretrained, folder)
    assert said.count("config.json says") == published.MAX_SHOWN and said.endswith("; and 42 more")


def test_a_model_folder_without_config_json_is_refused(checkpoint):
    folder, _ = checkpoint
    (folder / "config.json").unlink()
    said = refusal(BertModel.from_pretrained, folder)
    assert said.endswith("config.json does not exist: a model folder needs config.json and model.safetensors")


@pytest.mark.parametrize("value", [[], {}, ["gelu"], None, "tanh"])
def test_an_activation_that_is_none_is_refused(checkpoint, value):
    """A list has no hash: a search in a set of names would be a TypeError."""
    folder, _ = checkpoint
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict() | {"hidden_act": value}))
    said = refusal(BertModel.from_pretrained, folder)
    assert said.endswith(f"config.json: hidden_act {value!r} is not supported, only gelu, gelu_new")


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1, -1000])
def test_truncated_weights_are_refused(checkpoint, kept):
    folder, _ = checkpoint
    data = (folder / weights.WEIGHTS).read_bytes()
    (folder / weights.WEIGHTS).write_bytes(data[:kept])
    assert f"{weights.WEIGHTS} cannot be read as safetensors: " in refusal(BertModel.from_pretrained, folder)


def header(**entry) -> bytes:
    text = json.dumps({WORDS: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        header(dtype="F31"),
        header(dtype="line\nline"),
        header(shape=[2**62, 4]),
        header(shape=[-1]),
        header(data_offsets=[0, 10**9]),
        header()[:8] + b"[" * 100,
        (2**63).to_bytes(8, "little") + header()[8:],
    ],
)
def test_corrupted_weights_are_refused(checkpoint, data):
    folder, _ = checkpoint
    (folder / weights.WEIGHTS).write_bytes(data)
    assert f"{weights.WEIGHTS} cannot be read as safetensors: " in refusal(BertModel.from_pretrained, folder)


@pytest.mark.parametrize(
    "value, dtype", [("nan", "float32"), ("inf", "float16"), ("-inf", "bfloat16"), (1e300, "float64")]
)
def test_a_tensor_with_a_number_that_is_not_finite_is_named(checkpoint, value, dtype):
    """The number 1e300 is infinity in float32."""
    folder, tensors = checkpoint
    tensors[NORM] = tensors[NORM].to(getattr(torch, dtype))
    tensors[NORM][3] = float(value)
    save_file({f"bert.{name}": tensor for name, tensor in tensors.items()}, folder / weights.WEIGHTS)
    assert f"{folder}: {NORM} holds NaN or infinity" in refusal(BertModel.from_pretrained, folder)


def test_huge_numbers_in_double_precision_load(checkpoint):
    """Their sum in float32 is infinite, but each number is finite."""
    folder, tensors = checkpoint
    tensors[NORM] = torch.full_like(tensors[NORM], 3e38, dtype=torch.float64)
    save_file(tensors, folder / weights.WEIGHTS)
    assert torch.equal(BertModel.from_pretrained(folder).layers[1].feed_forward_norm.bias, tensors[NORM].float())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "int64", "float8_e4m3fn", "complex64"])
def test_only_floating_point_numbers_without_a_scale_are_read(checkpoint, dtype):
    folder, tensors = checkpoint
    tensors[NORM] = tensors[NORM].to(getattr(torch, dtype))
    save_file(tensors, folder / weights.WEIGHTS)
    assert f"{NORM} is {dtype}, which is not one of float16, " in refusal(BertModel.from_pretrained, folder)


def test_one_tensor_under_an_old_and_a_new_name_is_refused(checkpoint):
    folder, tensors = checkpoint
    save_file(tensors | {f"bert.{NORM}": torch.zeros(12)}, folder / weights.WEIGHTS)
    assert f"{NORM} appears twice, under an old and a new name" in refusal(BertModel.from_pretrained, folder)


SHARD = "model-00001-of-00001.safetensors"


@pytest.mark.parametrize(
    "name", ["..", "", "../" + SHARD, "a\0.safetensors", "\ud800.safetensors", "a\nb", 5, None, []]
)
def test_an_index_that_names_anything_but_safetensors_files_beside_it_is_refused(checkpoint, name):
    folder, _ = checkpoint
    (folder / weights.WEIGHTS).rename(folder / SHARD)
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": {"a": SHARD, "b": name}}))
    refusal(BertModel.from_pretrained, folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": ' + "[" * 10**5, '"\ud800"'])
def test_an_index_without_a_table_of_files_is_refused(checkpoint, text):
    folder, _ = checkpoint
    (folder / weights.WEIGHTS).unlink()
    (folder / weights.INDEX).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert weights.INDEX in refusal(BertModel.from_pretrained, folder)


def tokenizer_json(folder: Path, change) -> Path:
    """The test's tokenizer, with `change` made to its JSON. Returns the folder."""
    values = json.loads(vocabulary_backend().to_str())
    change(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


def drop(*tokens):
    def change(values):
        values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in tokens]
        for token in tokens:
            del values["model"]["vocab"][token]

    return change


@pytest.mark.parametrize("tokens", [["[CLS]"], ["[SEP]"], ["[UNK]"], ["[CLS]", "[SEP]"]])
def test_a_tokenizer_without_a_token_that_encoding_needs_is_refused(tmp_path, tokens):
    tokenizer_json(tmp_path, lambda values: (drop(*tokens)(values), values.update(post_processor=None)))
    assert f"tokenizer.json lacks {', '.join(tokens)}: " in refusal(load_tokenizer, tmp_path)


def test_a_tokenizer_without_a_padding_token_pads_with_id_0(tmp_path):
    tokenizer = load_tokenizer(tokenizer_json(tmp_path, drop("[PAD]")))
    assert tokenizer.pad_id == 0
    assert tokenizer(["the cat"])[0].input_ids == [
        VOCABULARY.index(token) for token in ("[CLS]", "the", "cat", "[SEP]")
    ]


def break_template(values):
    del values["post_processor"]["special_tokens"]["[SEP]"]  # the library would panic at the first text


def use_unknown_segments(values):
    for piece in values["post_processor"]["pair"]:
        next(iter(piece.values()))["type_id"] = 300


TEMPLATES = {
    "none": lambda values: values.update(post_processor=None),
    "broken": break_template,
    "unknown segments": use_unknown_segments,
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_template_of_a_tokenizer_json_is_replaced_by_that_of_bert(tmp_path, template):
    (encoding,) = load_tokenizer(tokenizer_json(tmp_path, TEMPLATES[template]))(["the cat"], ["a dog"])
    tokens = ["[CLS]", "the", "cat", "[SEP]", "a", "dog", "[SEP]"]
    assert encoding.input_ids == [VOCABULARY.index(token) for token in tokens]
    assert encoding.token_type_ids == [0, 0, 0, 0, 1, 1, 1]


def test_the_error_of_a_broken_tokenizer_json_is_one_line(tmp_path):
    tokenizer_json(tmp_path, lambda values: values.update(version="first\nsecond \x1b[31m"))
    assert "tokenizer.json cannot be read: Unknown tokenizer version 'first" in refusal(load_tokenizer, tmp_path)


def vocabulary(folder: Path, data: bytes, config: dict | None = None) -> Path:
    (folder / "vocab.txt").write_bytes(data)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


GOOD = "\n".join(VOCABULARY).encode()


def test_a_byte_order_mark_before_a_vocabulary_is_not_part_of_it(tmp_path):
    with_mark = load_tokenizer(vocabulary(tmp_path, b"\xef\xbb\xbf" + GOOD))(["cat"])
    assert with_mark == load_tokenizer(vocabulary(tmp_path, GOOD))(["cat"])


def test_a_vocabulary_that_is_not_utf_8_or_lacks_special_tokens_is_refused(tmp_path):
    assert "vocab.txt:3 is not UTF-8" in refusal(load_tokenizer, vocabulary(tmp_path, b"a\nb\n\xff\n"))
    assert "vocab.txt lacks [PAD], [UNK]" in refusal(load_tokenizer, vocabulary(tmp_path, b"a\n[CLS]\n[SEP]\n"))


@pytest.mark.parametrize("name, value", [("do_lower_case", "yes"), ("do_lower_case", None), ("strip_accents", 1)])
def test_the_switches_of_a_tokenizer_config_must_be_true_or_false(tmp_path, name, value):
    said = refusal(load_tokenizer, vocabulary(tmp_path, GOOD, {name: value}))
    assert f"tokenizer_config.json: {name} must be true or false, not {value!r}" in said


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    tokenizer = load_tokenizer(vocabulary(tmp_path, GOOD + b"\nmore1\nmore2\nmore3\nmore4"))
    with pytest.raises(InputError, match="ids go up to 30, the model's vocab_size is 30"):
        CONFIG.check_input(len(tokenizer) - 1, 32, 2)
    CONFIG.check_input(len(tokenizer) - 2, 32, 2)
