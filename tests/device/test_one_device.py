"""No step mixes devices or waits for the device: found without a GPU (see tests/support/one_device.py)."""

from functools import partial

import pytest
import torch
from support.factories import KINDS, make_dataset, make_model
from support.information import INFORMATION
from support.one_device import META, allow_meta, one_device

from minbert import bert
from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.data.task_file import choose_tasks
from minbert.task import Batch
from minbert.training import loop
from minbert.training.evaluation import predict_logits
from minbert.training.loop import Objective, examples_of_task, fit
from minbert.training.runtime import Runtime
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, first_stage, smart
from regularizers.base import Method
from regularizers.estimators import Estimators


@pytest.fixture(autouse=True)
def meta(monkeypatch):
    allow_meta(monkeypatch)


def train_on_meta(option: str, *tasks, settings=(), method: Method | None = None, **loss_weights) -> int:
    """An epoch of the training loop. Returns the number of steps that it has taken."""
    tasks = tasks or (KINDS["two classes"],)
    model, method = make_model(*tasks, num_hidden_layers=2), method or build(option, settings)
    method.attach_with_seed(model, 0)
    method.prepare_with_seed = lambda *_: None  # a first stage reads values, and is no step
    steps, after_step = [], method.after_step
    method.after_step = lambda model, progress: (steps.append(1), after_step(model, progress))
    datasets = [make_dataset(task, size=36 if len(tasks) == 1 else 18) for task in tasks]
    if len(tasks) == 1:
        sampler = BatchSampler(datasets[0], 18, 0, epochs=1)
    else:
        sampler = TaskBatchSampler(datasets, "proportional", 18, 0, epochs=1)
    objective = Objective(model, method, loss_weights).to("meta")
    with one_device():
        fit(objective, sampler, lambda epoch: {}, Settings(lr=1e-3, warmup=0.0, accumulate=2, batch_size=18), META)
    return len(steps)


@pytest.mark.parametrize("kind", ["two classes", "one logit", "separate regression"])
@pytest.mark.parametrize("option", OPTIONS)
def test_the_steps_of_every_option_stay_on_one_device(option, kind):
    assert train_on_meta(option, KINDS[kind]) == 2


@pytest.mark.parametrize("option", OPTIONS)
def test_the_steps_of_several_tasks_stay_on_one_device(option):
    assert train_on_meta(option, *choose_tasks(["sst5", "quora", "sts"]), sts=0.5) == 3


@pytest.mark.parametrize(
    "option, settings",
    [
        ("smart", ["smart.project=normalize", "smart.steps=2", "smart.dropout=off"]),
        ("smart", ["smart.dropout=independent"]),
        ("lnsr", ["lnsr.noise=relative", "lnsr.reduction=sum"]),
        ("l2sp", ["l2sp.include=all"]),
        ("mixout", ["mixout.mask=element"]),
        ("mine", ["mine.marginals=permute", "mine.proj_dim=none"]),
        ("r3f+mine+l2sp", []),
    ],
)
def test_other_settings_stay_on_one_device(option, settings):
    assert train_on_meta(option, settings=settings) == 2


class Finished(Exception):
    """The passes are over, and their results would be read."""


def stop(*_):
    raise Finished


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_stays_on_one_device(kind, monkeypatch):
    monkeypatch.setattr(Runtime, "sum_over_ranks", stop)
    model, dataset = make_model(KINDS[kind]).to("meta"), make_dataset(KINDS[kind])
    with one_device(), pytest.raises(Finished):
        predict_logits(model, dataset, 5, META)


@pytest.mark.parametrize("option", INFORMATION)
def test_the_passes_of_a_first_stage_stay_on_one_device(option, monkeypatch):
    monkeypatch.setattr(first_stage, "standardise", lambda estimators, passes: [len(states) for states in passes()])
    monkeypatch.setattr(first_stage, "fit", stop)  # it reads the bounds to know when to stop
    model, method, dataset = make_model(), build(option), make_dataset(size=36)
    method.attach(model)
    Objective(model, method).to("meta")
    settings = Settings(batch_size=18, data_seed=0)
    batches = partial(examples_of_task, sampler=BatchSampler(dataset, 18, 0, 1), settings=settings, runtime=META)
    with one_device(), pytest.raises(Finished):
        method.prepare(model, batches)


# Planted mistakes, each in one line of a place that a reader would not suspect: the check must find them.


def attention_mask_on_the_cpu(monkeypatch):
    def expand(mask):
        return torch.ones(mask.shape, dtype=torch.bool)[:, None, None]

    monkeypatch.setattr("minbert.classifier.expand_attention_mask", expand)
    return "finetune", "mixes devices"


def noise_on_the_cpu(monkeypatch):
    monkeypatch.setattr(smart, "draw_noise", lambda like, real: torch.randn(like.shape))
    return "smart", "(mul|add) mixes devices"


def projection_on_the_cpu(monkeypatch):
    monkeypatch.setattr(Estimators, "project", lambda self, states: states @ torch.ones(states.shape[-1], 12))
    return "mine", "mm mixes devices"


def permutation_on_the_cpu(monkeypatch):
    def scores(self, z):
        z = z[torch.randperm(len(z))].transpose(0, 1)
        return self.output(z[self.left] @ self.w_x), self.output(z[self.right] @ self.w_y)

    monkeypatch.setattr(Estimators, "scores", scores)
    return "mine", "index mixes devices"


def an_index_that_is_a_list(monkeypatch):
    def scores(self, z):
        z = z.transpose(0, 1)
        return self.output(z[[0, 1]] @ self.w_x), self.output(z[[0, 1]] @ self.w_y)

    monkeypatch.setattr(Estimators, "scores", scores)
    return "mine", "an index that is a list"


def positions_on_the_cpu(monkeypatch):
    embeddings = bert.Embeddings.forward

    def forward(self, input_ids, token_type_ids=None, noise=None):
        return embeddings(self, torch.zeros(input_ids.shape, dtype=torch.long), token_type_ids, noise)

    monkeypatch.setattr(bert.Embeddings, "forward", forward)
    return "finetune", "embedding mixes devices"


def shares_of_the_rows_on_the_cpu(monkeypatch):
    """The sampler's weights: the share of the step's rows that a micro-batch has."""
    shard_rows = loop.shard_rows

    def shard(rows, shard, shards):
        own_rows, weight = shard_rows(rows, shard, shards)
        return own_rows, torch.tensor([weight])

    monkeypatch.setattr(loop, "shard_rows", shard)
    return "finetune", "(mul|add) mixes devices"


def weights_of_examples_on_the_cpu(monkeypatch):
    class Weighted(Method):
        def loss(self, model, batch, clean):
            return clean.logits.sum(-1) @ torch.ones(len(batch))

    return Weighted(), "dot mixes devices"


def labels_left_behind(monkeypatch):
    to = Batch.to

    def forget(self, device):
        batch = to(self, device)
        batch.labels = self.labels
        return batch

    monkeypatch.setattr(Batch, "to", forget)
    return "finetune", "nll_loss_forward mixes devices"


def numbers_copied_in_a_step(monkeypatch):
    class Copying(Method):
        def loss(self, model, batch, clean):
            weights = torch.tensor([1.0] * len(batch), device=clean.logits.device)
            return clean.logits.sum(-1) @ weights

    return Copying(), "torch.tensor copies numbers"


def a_tensor_copied_in_a_step(monkeypatch):
    class Copying(Method):
        def loss(self, model, batch, clean):
            return clean.logits.sum(-1) @ torch.ones(len(batch)).to(clean.logits.device)

    return Copying(), "_to_copy mixes devices"


def a_value_that_is_read(monkeypatch):
    class Reading(Method):
        def penalty(self, model, batch, clean):
            return {"size": clean.logits.square().mean()} if clean.logits.mean() > 0 else {}

    return Reading(), "cannot be called on meta tensors"


def rows_chosen_by_a_mask(monkeypatch):
    class Choosing(Method):
        def penalty(self, model, batch, clean):
            return {"real": clean.hidden[-1][batch.attention_mask].square().mean()}

    return Choosing(), "nonzero"


@pytest.mark.parametrize(
    "plant",
    [attention_mask_on_the_cpu, noise_on_the_cpu, projection_on_the_cpu, permutation_on_the_cpu,
     an_index_that_is_a_list, positions_on_the_cpu, shares_of_the_rows_on_the_cpu, weights_of_examples_on_the_cpu,
     labels_left_behind, numbers_copied_in_a_step, a_tensor_copied_in_a_step, a_value_that_is_read,
     rows_chosen_by_a_mask],
)  # fmt: skip
def test_a_planted_mistake_is_found(plant, monkeypatch):
    planted, message = plant(monkeypatch)
    option, method = ("finetune", planted) if isinstance(planted, Method) else (planted, None)
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        train_on_meta(option, method=method)


def test_a_number_on_the_cpu_may_meet_any_tensor():
    with one_device():
        assert (torch.ones(3, device="meta") * torch.tensor(2.0)).device.type == "meta"
        with pytest.raises(RuntimeError, match="mm mixes devices"):
            torch.ones(3, 3, device="meta") @ torch.ones(3, 3)
