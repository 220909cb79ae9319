"""No method is inert: on the trained sample model, the gradient of each of its terms at its default settings is at
least 1 % of the task's, for a classification and for a regression.

A method that replaces the loss counts by what its gradient differs from the task's.
"""

import copy
from collections import defaultdict

import pytest
import torch
from support.factories import CPU

import sample
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples, subset
from minbert.data.sampling import BatchSampler
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, first_stage
from regularizers.base import Method, Sum, replaces_loss

ADDS_TO_THE_LOSS = [name for name, option in OPTIONS.items() if option.penalty is not Method.penalty]
REPLACES_THE_LOSS = [name for name, option in OPTIONS.items() if option.loss is not Method.loss]
ACTS_ON_THE_LOSS = [name for name in OPTIONS if name in {*ADDS_TO_THE_LOSS, *REPLACES_THE_LOSS}]
Gradients = dict[str, torch.Tensor]  # by term


@pytest.fixture(scope="module", params=[("rte", 100, 5e-4), ("stsb", 300, 1e-3)], ids=["classes", "regression"])
def trained(request) -> tuple[SentenceModel, Dataset]:
    """The sample's BERT, trained until it answers better than a constant, and the data."""
    name, steps, lr = request.param
    task, tokenizer = TASKS[name], load_tokenizer(sample.MODEL)
    dataset = Dataset(task, subset(read_examples(task, sample.DATA, "train"), 480), tokenizer, 128)
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(sample.MODEL), [task])
    train(model, build("finetune"), dataset, steps, lr)
    return model, dataset


def train(model: SentenceModel, method: Sum, dataset: Dataset, steps: int, lr: float) -> None:
    sampler = BatchSampler(dataset, batch_size=16, seed=0, epochs=None, max_steps=steps)
    fit(Objective(model, method), sampler, lambda epoch: {}, Settings(lr=lr, warmup=0.1), CPU)


@pytest.fixture
def attached(trained, monkeypatch):
    """attached(option) -> the trained model with the method in it, after twenty steps of the method's own: L2-SP
    measures a distance, and SMART's teacher lags behind."""
    model, dataset = trained
    for name, value in {"STEPS": 200, "EVERY": 50, "REHEARSAL": 30}.items():
        monkeypatch.setattr(first_stage, name, value)

    def attach(option: str) -> tuple[SentenceModel, Sum, Dataset]:
        ours, method = copy.deepcopy(model), build(option)
        method.attach(ours)
        train(ours, method, dataset, 20, 5e-4)
        return ours.train(), method, dataset

    return attach


def gradients(model: SentenceModel, method: Sum, dataset: Dataset, rows: list[int], seed: int) -> Gradients:
    """Of the task's own loss, of each penalty, and of what a method's loss adds to the task's."""
    batch = dataset.collate(rows, seed=seed)
    torch.manual_seed(seed)
    clean = model(batch)
    losses = {"task": dataset.task.loss(clean.logits, batch.labels)}
    if any(replaces_loss(part) for part in method.parts.values()):
        losses["loss"] = method.loss(model, batch, clean) - losses["task"]
    losses |= method.penalty(model, batch, clean)
    return {name: gradient(loss, model) for name, loss in losses.items()}


def gradient(loss: torch.Tensor, model: SentenceModel) -> torch.Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


@pytest.mark.parametrize("option", ACTS_ON_THE_LOSS)
def test_the_gradient_of_each_term_is_at_least_one_percent_of_the_tasks(option, attached):
    model, method, dataset = attached(option)
    shares = defaultdict(list)
    for number, rows in enumerate(dataset.shuffled(16, 0, 9)[:4]):
        terms = gradients(model, method, dataset, rows, seed=number)
        for name in terms.keys() - {"task"}:
            shares[name].append((terms[name].norm() / terms["task"].norm()).item())
    assert shares, f"{option}: penalty returns no term for a batch of 16"
    for name, values in shares.items():
        share = sum(values) / len(values)
        assert share >= 0.01, (
            f"{option}: the gradient of {name} is {share:.2g} of the task's. Choose a default weight, or "
            "a perturbation, whose gradient is at least 1 % of the task's, and state the share in the header"
        )
