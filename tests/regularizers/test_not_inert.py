"""A penalty at its defaults must pull: on the trained sample model its gradient is at least 1 % of the task's."""

import copy

import pytest
import torch
from support.factories import CPU, Log

import sample
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples, subset
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import fit
from minbert.training.objective import Objective
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, mutual_information
from regularizers.base import Method


@pytest.fixture(scope="module")
def trained():
    """The sample's BERT after a hundred steps on its RTE, and the data."""
    task, tokenizer = TASKS["rte"], load_tokenizer(sample.MODEL)
    dataset = Dataset(task, subset(read_examples(task, sample.DATA, "train"), 1600), tokenizer, 128)
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(sample.MODEL), [task])
    train(model, build("finetune"), dataset, 100)
    return model, dataset


def train(model, method, dataset, steps: int) -> None:
    plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(16, 0, epoch)]  # noqa: E731
    fit(Objective(model, method), plan, lambda e: {}, steps, Settings(lr=5e-4, warmup=0.1), CPU, Log())


def length(loss, model) -> float:
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return torch.stack([g.norm() for g in gradients if g is not None]).norm().item()


@pytest.mark.parametrize("option", [name for name, o in OPTIONS.items() if o.penalty is not Method.penalty])
def test_gradient_of_the_penalty(option, trained, monkeypatch):
    model, dataset = trained
    for name, value in {"STEPS": 500, "EVERY": 50}.items():
        monkeypatch.setattr(mutual_information, name, value)
    method, shares = build(option), []
    model = copy.deepcopy(model)
    method.attach(model)
    # A few steps of its own: L2-SP measures a distance, SMART's teacher lags behind.
    train(model, method, dataset, 20)
    model.train()
    for number, rows in enumerate(dataset.shuffled(16, 0, 9)[:4]):
        torch.manual_seed(number)
        batch = dataset.collate(rows)
        clean = model(batch)
        terms = method.penalty(model, batch, clean)
        shares.append(length(sum(terms.values()), model) / length(dataset.task.loss(clean.logits, batch.labels), model))
    print(option, shares)
    assert sum(shares) / len(shares) > 0.01
