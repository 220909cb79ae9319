"""Perplexity with the top layers reset: against a slow loop over copied layers, at both ends, of a uniform guess."""

import copy
import csv
import itertools
import math
import operator
from pathlib import Path

import pytest
import torch

import sample
from minbert.data.readers import Example, Examples
from minbert.errors import InputError
from minbert.mlm import IGNORE, MaskedLanguageModel
from minbert.tokenizer import Tokenizer, load_tokenizer
from papers.stability.perplexity import (
    main,
    mask_text,
    perplexities,
    perplexity_figure,
    read_blocks,
    sample_text,
    split_text,
)
from papers.stability.runs import Group
from regularizers import build
from tests.support.factories import CONFIG, make_model, vocabulary_backend

CPU = torch.device("cpu")
TEXT = "the cat sees a red bird . " * 9 + "no dog hears , or sleeps . " * 7
LAYERS = CONFIG.num_hidden_layers


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(vocabulary_backend())


@pytest.fixture(scope="module")
def masked(tokenizer):
    """Texts of 3 to 19 words, with their masks, in one Batch."""
    words = TEXT.split()
    rows = [Example(str(n), " ".join(words[n : 2 * n]), None, None) for n in range(3, 20)]
    return mask_text(Examples(Path("text"), rows, []), tokenizer, 30)


@pytest.fixture(scope="module")
def text(masked):
    return list(split_text(masked, 4, CPU))


def pretrained(**changes) -> MaskedLanguageModel:
    """With a bias, so that the head is no symmetric guess."""
    model = MaskedLanguageModel(make_model(**changes).bert).double().eval()
    torch.nn.init.normal_(model.bias)
    return model


@torch.no_grad()
def slow_perplexity(bert, head: MaskedLanguageModel, batch) -> float:
    """Input after input, without padding. `head` gives its own embeddings as the output matrix."""
    likelihoods = []
    for ids, types, mask, labels in zip(batch.input_ids, batch.token_type_ids, batch.attention_mask, batch.labels):
        length = int(mask.sum())
        h = bert(ids[None, :length], token_type_ids=types[None, :length]).last_hidden_state[0]
        logits = head.norm(head.activation(head.transform(h))) @ head.bert.embeddings.token.weight.T + head.bias
        for t in range(length):
            if labels[t] != IGNORE:
                likelihoods.append(logits[t].log_softmax(0)[labels[t]].item())
    return math.exp(-sum(likelihoods) / len(likelihoods))


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_each_k_equals_copied_layers(masked, text, family):
    model, tuned = pretrained(family=family), make_model(seed=1, family=family).double().eval().bert
    values = perplexities(tuned, model, text)
    assert len(values) == LAYERS + 1
    for k, value in enumerate(values):
        mixed = copy.deepcopy(tuned)
        for index in range(LAYERS - k, LAYERS):
            mixed.layers[index] = model.bert.layers[index]
        assert value == pytest.approx(slow_perplexity(mixed, model, masked), rel=1e-9)


def test_with_the_embeddings_reset_the_last_value_is_that_of_the_pretrained_model(masked, text):
    model, tuned = pretrained(), make_model(seed=1).double().eval().bert
    kept, reset = (perplexities(tuned, model, text, reset_embeddings=flag) for flag in (False, True))
    assert reset[-1] == pytest.approx(slow_perplexity(model.bert, model, masked), rel=1e-9)
    assert reset[:-1] == kept[:-1] and reset[-1] != pytest.approx(kept[-1], rel=1e-3)


def test_an_untuned_model_has_the_same_perplexity_at_every_k(text):
    model = pretrained()
    values = perplexities(model.bert, model, text)
    assert values == [pytest.approx(values[0], rel=1e-12)] * (LAYERS + 1)


def test_the_output_matrix_is_not_the_tuned_one(text):
    model, tuned = pretrained(), make_model(seed=1).double().eval().bert
    before = perplexities(tuned, model, text)
    with torch.no_grad():
        tuned.embeddings.token.weight[CONFIG.vocab_size - 1] += 9  # a word that is not in the text: only logits change
    torch.testing.assert_close(perplexities(tuned, model, text), before)


def test_a_uniform_guess_has_the_size_of_the_vocabulary_as_its_perplexity(text):
    model = pretrained()
    for parameter in (model.norm.weight, model.norm.bias, model.bias):
        torch.nn.init.zeros_(parameter)
    assert perplexities(model.bert, model, text) == [pytest.approx(CONFIG.vocab_size)] * (LAYERS + 1)


def test_inserted_modules_of_the_run_stay_in_the_lower_layers(text):
    model, tuned = pretrained(), make_model()
    build("adapter", ()).attach(tuned)
    for name, parameter in tuned.bert.named_parameters():
        if "adapter" in name:
            torch.nn.init.normal_(parameter)
    values = perplexities(tuned.double().eval().bert, model, text, "rte")
    assert values[-1] == pytest.approx(perplexities(model.bert, model, text)[0])
    assert len({round(value, 6) for value in values}) == LAYERS + 1


def test_the_masks_do_not_depend_on_the_size_of_the_batches(masked):
    model, tuned = pretrained(), make_model(seed=1).double().eval().bert
    one, many = (perplexities(tuned, model, list(split_text(masked, size, CPU))) for size in (1, 100))
    assert one == pytest.approx(many, rel=1e-12)


def test_about_15_percent_of_the_ordinary_tokens_are_masked():
    tokenizer = load_tokenizer(sample.MODEL)
    batch = mask_text(sample_text(), tokenizer, 60)
    chosen = batch.labels != IGNORE
    original = torch.where(chosen, batch.labels, batch.input_ids)
    special = torch.isin(original, torch.tensor(tokenizer.special_ids))
    assert chosen[0, 1] and not (chosen & special).any()
    assert chosen.sum().item() / (~special).sum().item() == pytest.approx(0.15, abs=0.01)
    assert (batch.input_ids[chosen] == tokenizer.mask_id).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (batch.input_ids[chosen] == batch.labels[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_blocks_hold_all_words_in_order_and_fit(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("the cats\n\nsee a dog\n " + "birds " * 20)
    rows = read_blocks(path, tokenizer, 9).rows
    assert " ".join(row.text for row in rows).split() == path.read_text().split()
    lengths = [len(encoding.input_ids) for encoding in tokenizer([row.text for row in rows])]
    assert max(lengths) <= 9 and min(lengths[:-1]) >= 8  # a word of two tokens may not fit


def test_an_empty_text_is_refused(tmp_path, tokenizer):
    (tmp_path / "empty.txt").write_text(" \n\n")
    with pytest.raises(InputError, match="has no words"):
        read_blocks(tmp_path / "empty.txt", tokenizer, 9)


def test_a_perplexity_too_large_for_a_number_is_infinite(text):
    model = pretrained()
    model.bias.data[-1] = 1e5  # sure of a word that is not in the text
    assert perplexities(model.bert, model, text) == [math.inf] * (LAYERS + 1)


def test_the_script_writes_its_files(runs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("papers.stability.perplexity.SAMPLE_PAIRS", 11)
    argv = ["--device", "cpu", "--reset-embeddings", "--out", str(tmp_path)]
    assert main([*(str(run.folder) for run in runs), *argv]) == 0
    rows = list(csv.DictReader((tmp_path / "perplexity.tsv").open(), delimiter="\t"))
    assert [row["k"] for row in rows] == ["0", "1", "2", "3", "4"] * 2 + [""]
    assert rows[4]["perplexity"] == rows[9]["perplexity"] == rows[10]["perplexity"]
    assert not caplog.records  # no warning that the checkpoint has no pooler
    assert (tmp_path / "perplexity.png").exists()


def test_the_titles_of_many_groups_do_not_overlap(runs):
    groups = [Group(f"rte-{letter}", "successful", runs) for letter in "abcdefg"]
    figure = perplexity_figure(groups, {run.folder: [3.0, 2.0, 1.5] for run in runs}, 1.5)
    figure.canvas.draw()
    for first, second in itertools.pairwise(figure.axes):
        for text in ("_left_title", "xaxis.label"):
            boxes = [operator.attrgetter(text)(axes).get_window_extent() for axes in (first, second)]
            assert boxes[0].x1 < boxes[1].x0


def test_the_script_takes_a_text(runs, tmp_path):
    (tmp_path / "text.txt").write_text("a sailor stole a shovel at the station .\n" * 9)
    argv = ["--text", str(tmp_path / "text.txt"), "--block", "20", "--device", "cpu", "--out", str(tmp_path)]
    assert main([str(runs[0].folder), *argv]) == 0


def test_another_model_needs_a_text(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("papers.stability.perplexity.sample.MODEL", Path(tmp_path))
    assert main([str(runs[0].folder), "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "it needs --text FILE" in capsys.readouterr().err


def test_a_block_without_room_for_words_is_refused(runs, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a sailor\n")
    argv = ["--text", str(tmp_path / "text.txt"), "--block", "1", "--out", str(tmp_path)]
    assert main([str(runs[0].folder), *argv]) == 2
    assert capsys.readouterr().err.endswith("argument --block: must be at least 5, not 1\n")
