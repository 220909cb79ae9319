"""Pairs whose sentences are encoded separately: the batch, the comparison, and the saved model."""

import math
from dataclasses import replace

import pytest
import torch
from support.factories import CPU, make_batch, make_dataset, make_model

from minbert import weights
from minbert.classifier import SentenceModel, features
from minbert.data.task_file import choose_tasks
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.training.evaluation import predict_logits
from regularizers import build

CLASSES, SIMILARITY = (replace(TASKS[name], separate=True) for name in ("mnli", "stsb"))


def test_each_sentence_is_an_input_and_the_first_ones_come_first():
    together, separate = make_dataset(TASKS["rte"]), make_dataset(replace(TASKS["rte"], separate=True))
    rows = [3, 1, 17]
    batch, joint = separate.collate(rows), together.collate(rows)
    assert batch.input_ids.shape[0] == 6 and batch.labels.shape == batch.index.shape == (3,) and len(batch) == 3
    assert batch.index.tolist() == rows and torch.equal(batch.labels, joint.labels)
    assert not batch.token_type_ids.any()
    cls, sep = 1, 3  # their numbers in factories.VOCABULARY
    for i in range(3):
        pair = joint.input_ids[i][joint.attention_mask[i]].tolist()
        first, second = (batch.input_ids[n][batch.attention_mask[n]].tolist() for n in (i, 3 + i))
        assert first + second[1:] == pair  # [CLS] a [SEP] b [SEP] has one [CLS] less
        assert first[0] == second[0] == cls and first[-1] == second[-1] == sep
    both = [separate.collate([row]).attention_mask.sum(1) for row in range(24)]
    assert separate.lengths.tolist() == [int(lengths.max()) for lengths in both]
    assert any(first > second for first, second in both) and any(first < second for first, second in both)
    widest = int(batch.attention_mask.sum(1).max())
    assert batch.input_ids.shape[1] == widest == int(separate.lengths[rows].max())


def test_each_sentence_may_be_as_long_as_an_input():
    assert int(make_dataset(CLASSES).lengths.max()) < int(make_dataset(TASKS["mnli"]).lengths.max())
    assert CLASSES.segments == 1 and TASKS["mnli"].segments == 2


@pytest.mark.parametrize("task", [CLASSES, SIMILARITY])
def test_rows_of_like_length_share_a_batch_and_each_comes_once(task):
    dataset = make_dataset(task, size=100)
    batches = dataset.shuffled(8, seed=0, epoch=1)
    assert sorted(row for rows in batches for row in rows) == list(range(100))
    padded = sum(int(dataset.lengths[rows].max()) * len(rows) for rows in batches)
    at_random = sum(int(dataset.lengths[i : i + 8].max()) * len(dataset.lengths[i : i + 8]) for i in range(0, 100, 8))
    assert padded < 0.9 * at_random


def test_two_sentences_are_compared_as_a_slow_loop_does():
    """u, v, |u-v|, uv for classes; 5 uv/(|u||v|) for a similarity. In plain Python."""
    vectors = [[0.5, -1.0, 2.0], [3.0, 0.0, -0.25], [-0.5, 4.0, 1.0], [1.0, 2.0, -2.0]]  # u₁ u₂ v₁ v₂
    pooled = torch.tensor(vectors, dtype=torch.float64)
    for i, (u, v) in enumerate(((vectors[0], vectors[2]), (vectors[1], vectors[3]))):
        expected = [*u, *v, *(abs(a - b) for a, b in zip(u, v)), *(a * b for a, b in zip(u, v))]
        assert features(pooled, CLASSES)[i].tolist() == pytest.approx(expected)
        cosine = sum(a * b for a, b in zip(u, v)) / math.hypot(*u) / math.hypot(*v)
        assert features(pooled, SIMILARITY)[i].tolist() == pytest.approx([5 * cosine])
    assert features(pooled, TASKS["mnli"]) is pooled


def test_a_model_compares_the_pooled_vectors_of_both_sentences():
    """Each sentence through BERT alone, unpadded; a similarity is 5 cos(u, v) before any training."""
    model = make_model(CLASSES, SIMILARITY).double().eval()
    for task in (CLASSES, SIMILARITY):
        dataset = make_dataset(task)
        batch = dataset.collate([1, 2, 5])
        for i, row in enumerate([1, 2, 5]):
            alone = [dataset.ids[dataset.starts[n] :][: dataset.input_lengths[n]].long() for n in (row, 24 + row)]
            u, v = (model.bert(ids[None]).pooler_output[0] for ids in alone)
            if task is SIMILARITY:
                expected = 5 * (u @ v / u.norm() / v.norm())[None]
            else:
                head = model.heads["mnli"]
                expected = head.weight @ torch.cat([u, v, (u - v).abs(), u * v]) + head.bias
            assert torch.allclose(model(batch).logits[i], expected, atol=1e-12)


def test_a_similarity_does_not_depend_on_the_order_of_the_sentences():
    model, batch = make_model(SIMILARITY).eval(), make_batch(SIMILARITY)
    swapped = make_batch(SIMILARITY)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        setattr(swapped, name, getattr(batch, name).roll(5, 0))
    assert torch.allclose(model(batch).logits, model(swapped).logits, atol=1e-6)


def test_dropout_comes_before_the_comparison():
    model, batch = make_model(CLASSES).double().train(), make_batch(CLASSES)
    h = torch.randn(10, 7, 12, dtype=torch.float64)
    model.dropout = torch.nn.Softplus()  # stands in for it: its output is known
    u, v = torch.log1p(torch.exp(torch.tanh(model.bert.pooler(h[:, 0])))).chunk(2)
    head = model.heads["mnli"]
    expected = torch.cat([u, v, (u - v).abs(), u * v], dim=1) @ head.weight.T + head.bias
    assert torch.allclose(model.head(h, batch), expected)


def test_a_cosine_has_no_dropout():
    """Equal vectors are most similar in training too; the other head's dropout is at work."""
    model = make_model(CLASSES, SIMILARITY).train()
    h = torch.randn(4, 7, 12).repeat(2, 1, 1)
    for task, equal in ((SIMILARITY, True), (CLASSES, False)):
        one, other = (model.head(h, make_batch(task, rows=4)) for _ in range(2))
        assert torch.equal(one, other) == equal
        assert task is CLASSES or one.flatten().tolist() == pytest.approx([5.0] * 4)


def test_a_perturbation_reaches_both_sentences():
    """All 2B inputs of SMART's ascent and of its second pass move, within one radius."""
    model, batch, moved = make_model(CLASSES).train(), make_batch(CLASSES), []
    method = build("smart", ["smart.mu=0"])
    clean, encode = model(batch), model.encode

    def watch(h, batch, start=0):
        moved.append((h.detach() - clean.hidden[0]).abs().amax((1, 2)))
        return encode(h, batch, start)

    model.encode = watch
    method.penalty(model, batch, clean)
    assert len(moved) == 2
    assert all(len(change) == 10 and (change > 0).all() and (change < 1.01e-2).all() for change in moved)


def test_single_sentences_stay_as_they_are():
    sst5, quora, sts = choose_tasks(["sst5", "quora", "sts"], "separate")
    assert (sst5.separate, quora.separate, sts.separate) == (False, True, True) and sst5 is not TASKS["quora"]
    assert choose_tasks(["sst5", "quora"]) == [TASKS["sst5"], TASKS["quora"]]


@pytest.mark.parametrize("tasks", [(CLASSES,), (SIMILARITY,), (CLASSES, SIMILARITY, TASKS["rte"])])
@pytest.mark.parametrize("option", ["finetune", "r4f", "adapter", "pal"])
def test_a_saved_model_of_separate_pairs_loads_again(tmp_path, tasks, option):
    saved, read = (make_model(*tasks, seed=seed) for seed in (1, 2))
    for model in (saved, read):
        build(option).attach(model)
    weights.save_model(saved, tmp_path)
    weights.load_model(read, tmp_path)
    for task in tasks:
        dataset = make_dataset(task)
        a, b = (predict_logits(model, dataset, 7, CPU) for model in (saved, read))
        assert a == pytest.approx(b, abs=1e-6)


def test_config_json_names_no_classifier_that_transformers_could_not_build(tmp_path, read_json):
    for tasks, name in (
        ((TASKS["rte"],), "BertForSequenceClassification"),
        ((CLASSES,), "BertModel"),
        ((TASKS["rte"], TASKS["stsb"]), "BertModel"),
    ):
        weights.save_model(make_model(*tasks), tmp_path / name / tasks[0].name)
        assert read_json(tmp_path / name / tasks[0].name / "config.json")["architectures"] == [name]


def test_config_json_names_no_classifier_whose_head_needs_inserted_modules(tmp_path, read_json):
    """Without its adapters the head would give other answers."""
    for option, name in (("adapter", "BertModel"), ("lora", "BertModel"), ("mixout", "BertForSequenceClassification")):
        model = make_model(TASKS["rte"])
        build(option).attach(model)
        weights.save_model(model, tmp_path / option)
        assert read_json(tmp_path / option / "config.json")["architectures"] == [name]
    with pytest.raises(InputError, match="for a run's head, name the run's folder"):
        SentenceModel.from_pretrained(tmp_path / "adapter")
