"""The loop: one step in pieces and in the whole; what it logs; how it fails."""

import math

import pytest
import torch
from support.factories import CPU, ListSampler, make_dataset, make_model

from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.data.tasks import TASKS
from minbert.errors import TrainingError
from minbert.optimizer import AdamW
from minbert.random_state import derive_seed
from minbert.training.loop import Objective, backward, discard, examples_of_task, fit, shard_rows
from minbert.training.runtime import Runtime
from minbert.training.settings import Settings
from regularizers import build
from regularizers.base import Method, Sum
from regularizers.smart import Smart

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def gradients(accumulate: int, rows: list[int]):
    model, dataset = make_model(**NO_DROPOUT).double().train(), make_dataset()
    objective = Objective(model, build("finetune"))
    settings = Settings(accumulate=accumulate)
    terms, tokens = backward(objective, dataset, rows, settings, CPU, CPU.scaler(), 0)
    return torch.cat([p.grad.flatten() for p in model.parameters()]), terms["task"], tokens


@pytest.mark.parametrize("rows", [list(range(10)), [4, 7, 2], [5]])
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_micro_batches_add_up_to_the_whole_batch(accumulate, rows):
    """Uneven pieces too, and more pieces than rows."""
    whole, pieces = gradients(1, rows), gradients(accumulate, rows)
    assert (whole[0] - pieces[0]).norm() < 1e-12 * whole[0].norm()
    assert whole[1].item() == pytest.approx(pieces[1].item(), abs=1e-12)
    assert whole[2] == pieces[2]


@pytest.mark.parametrize("rows", [[1, 2, 3, 4, 5], [7]])
def test_each_row_is_in_one_shard_and_the_weights_sum_to_1(rows):
    shards = [shard_rows(rows, i, 3) for i in range(3)]
    assert sorted(row for own, weight in shards for row in own if weight) == rows
    assert all(own for own, _ in shards) and sum(weight for _, weight in shards) == pytest.approx(1.0)


def run_fit(steps: int, write_row=discard, **settings):
    """8 batches an epoch."""
    model, sampler = make_model(), BatchSampler(make_dataset(size=30), 4, 0, epochs=None, max_steps=steps)
    settings = Settings(lr=1e-2, warmup=0.1, **settings)
    objective = Objective(model, build("finetune"))
    totals, history = fit(objective, sampler, lambda epoch: {"seen": epoch}, settings, CPU, write_row)
    return model, totals, history


def test_a_run_counts_its_steps_and_epochs_and_logs_every_tenth_step_and_the_last_of_an_epoch():
    rows = []
    _, totals, history = run_fit(20, rows.append)
    assert history == [{"epoch": epoch, "seen": epoch} for epoch in (1, 2, 3)]
    assert (totals["steps"], totals["epochs"]) == (20, 3)
    assert [row["step"] for row in rows] == [8, 10, 16, 20]
    assert rows[-1]["lr"] == pytest.approx(1e-2 * 1 / 18)  # step 19 of 20, after a warm-up of 2
    assert set(rows[0]) >= {"step", "epoch", "loss", "penalty", "lr", "gradient_norm", "tokens_per_second"}
    assert totals["examples_per_second"] > 0 and totals["tokens_per_second"] > totals["examples_per_second"]


def test_the_loss_falls():
    rows = []
    run_fit(80, rows.append)
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]


def test_equal_seeds_give_equal_weights_bit_for_bit():
    a, b, c = (run_fit(9, seed=seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


class Traced(Method):
    """Leaves a trace in every call that the loop makes."""

    def __init__(self):
        super().__init__()
        self.prepared, self.progress = 0, []

    def undecayed(self, model):
        return (model.bert.embeddings.token.weight,)

    def prepare(self, model, batches):
        self.prepared += sum(len(batch) for batch in batches("rte"))

    def after_step(self, model, progress):
        self.progress.append(progress)
        with torch.no_grad():
            model.bert.pooler.bias.add_(0.01)


def test_the_first_stage_sees_each_example_once_in_the_micro_batches_of_training():
    """In the precision of the run, and from a seed of its own."""
    seen, dataset = [], make_dataset(size=12)
    settings = Settings(lr=1e-3, warmup=0.0, batch_size=7, data_seed=3, accumulate=6)

    class First(Method):
        def prepare(self, model, batches):
            assert torch.is_autocast_enabled("cpu")
            drawn = torch.rand(1).item()
            calls = [[batch.index.tolist() for batch in batches("rte")] for _ in range(2)]
            assert calls[0] == calls[1]
            seen.append((calls[0], drawn))

    for noise in (1, 2):
        torch.manual_seed(noise)
        objective = Objective(make_model(seed=noise), Sum({"first": First()}))
        sampler = BatchSampler(dataset, 7, 3, epochs=1)
        fit(objective, sampler, lambda e: {}, settings, Runtime(torch.device("cpu"), "bf16"))
    assert seen[0] == seen[1]
    pieces = [rows[i::6] for _, rows in sampler.epoch(1) for i in range(6) if rows[i::6]]
    assert seen[0][0] == pieces and sorted(row for piece in pieces for row in piece) == list(range(12))


def test_the_first_stage_is_the_same_on_every_rank_and_sees_one_task():
    datasets = [make_dataset(TASKS[name], size) for name, size in (("rte", 11), ("stsb", 5))]
    sampler = TaskBatchSampler(datasets, "round-robin", 4, 0, epochs=1)
    settings, seen = Settings(batch_size=4, data_seed=0, accumulate=2), []
    for rank in (0, 1):
        runtime = Runtime(torch.device("cpu"), rank=rank, world_size=2)
        batches = list(examples_of_task("rte", sampler, settings, runtime))
        assert all(batch.task is TASKS["rte"] for batch in batches)
        seen.append([batch.index.tolist() for batch in batches])
    assert seen[0] == seen[1] and sorted(row for rows in seen[0] for row in rows) == list(range(11))
    assert max(map(len, seen[0])) == 1  # a batch of 4 on two ranks, in two micro-batches each


@pytest.mark.parametrize("scaled, clip", [(False, 0.05), (True, 0.05), (False, 0.0)])
def test_fit_equals_the_loop_written_out(scaled, clip, monkeypatch):
    """Eight steps over two epochs, bit for bit: schedule, decay, no bias correction, clipping, dropout in each
    epoch, the method's calls. And with a GradScaler, whose powers of two leave no trace."""
    if scaled:
        monkeypatch.setattr(Runtime, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=1024.0))
    dataset, traced = make_dataset(size=20), Traced()
    settings = Settings(
        lr=1e-2, warmup=0.25, weight_decay=0.3, clip=clip, bias_correction=False, accumulate=2, seed=7,
        adam_betas=(0.7, 0.9), adam_eps=1e-3,
    )  # fmt: skip
    model, rows_of_log = make_model(), []
    objective, sampler = Objective(model, Sum({"traced": traced})), BatchSampler(dataset, 5, 0, epochs=2)
    totals, _ = fit(objective, sampler, lambda epoch: model.eval() and {}, settings, CPU, rows_of_log.append)

    other, losses, tokens = make_model(), [], 0
    decayed = [p for n, p in other.named_parameters() if n.endswith("weight") and "norm" not in n and "token" not in n]
    plain = [p for p in other.parameters() if not any(p is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": plain}]
    optimizer = AdamW(groups, betas=(0.7, 0.9), eps=1e-3, correct_bias=False)
    batches = [rows for epoch in (1, 2) for rows in dataset.shuffled(5, 0, epoch)]
    other.train()
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (step / 2 if step < 2 else (8 - step) / 6)
        mean = 0.0
        for micro, piece in enumerate((rows[0::2], rows[1::2])):
            batch = dataset.collate(piece)
            torch.manual_seed(derive_seed(7, step, micro, 0))
            loss = torch.nn.functional.cross_entropy(other(batch).logits, batch.labels)
            (loss * (len(piece) / len(rows))).backward()
            mean += loss.item() * len(piece) / len(rows)
            tokens += int(batch.attention_mask.sum())
        losses.append(mean)
        if clip:
            torch.nn.utils.clip_grad_norm_(other.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            other.bert.pooler.bias.add_(0.01)

    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-6 if scaled else 0, rtol=0), name
    assert traced.prepared == 20 and traced.progress == [(i + 1) / 8 for i in range(8)]
    assert totals["train_loss"] == pytest.approx(sum(losses[4:]) / 4, abs=1e-6)
    assert totals["examples_per_second"] * totals["seconds"] == pytest.approx(40)
    assert totals["tokens_per_second"] * totals["seconds"] == pytest.approx(tokens)
    assert rows_of_log[0]["loss"] == pytest.approx(sum(losses[:4]) / 4, abs=1e-6)


def test_every_pass_on_every_rank_has_a_seed_of_its_own(monkeypatch):
    model, dataset, seeds = make_model(), make_dataset(), []
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for rank in (0, 1):
        for step in (0, 1):
            runtime = Runtime(torch.device("cpu"), rank=rank)
            objective = Objective(model, Method())
            backward(objective, dataset, [0, 1, 2, 3], Settings(accumulate=2), runtime, runtime.scaler(), step)
    assert len(set(seeds)) == len(seeds) == 8


class Exploding(Method):
    """A penalty of 0 whose gradient is not a number."""

    def penalty(self, model, batch, clean):
        return {"odd": (0 * model.bert.pooler.bias).abs().sqrt().sum()}


def explode(steps: int, precision: str) -> dict:
    """The totals of a run in which every gradient explodes."""
    objective = Objective(make_model(), Sum({"exploding": Exploding()}))
    sampler, settings = ListSampler(make_dataset(), [[0, 1, 2]], steps), Settings(lr=1e-3, warmup=0.1)
    return fit(objective, sampler, lambda e: {}, settings, Runtime(torch.device("cpu"), precision))[0]


def test_a_gradient_that_is_not_finite_ends_the_run():
    with pytest.raises(TrainingError, match=r"step 1: the gradient is not finite; rows\.tsv lines 2, 3, 4"):
        explode(1, "fp32")


def test_in_fp16_steps_without_a_finite_gradient_are_skipped_but_not_ten_in_a_row():
    assert explode(9, "fp16")["steps"] == 9
    with pytest.raises(TrainingError, match="step 10: the gradient is not finite"):
        explode(12, "fp16")


def test_a_loss_that_is_not_finite_names_step_and_examples():
    dataset = make_dataset(TASKS["stsb"], size=30)
    dataset.labels[17] = math.inf
    model = make_model(TASKS["stsb"])
    sampler = ListSampler(dataset, [list(range(i, i + 5)) for i in range(0, 30, 5)])
    with pytest.raises(TrainingError, match=r"step 4: the loss is not finite; rows\.tsv lines 17, 18, 19, 20, 21"):
        fit(Objective(model, build("finetune")), sampler, lambda e: {}, Settings(lr=1e-3, warmup=0.1), CPU)


def test_a_method_alone_trains_without_a_sum_around_it():
    """A library user may hand a Method to the loop; train.py always hands over a Sum."""
    model, method = make_model(), Smart()
    method.attach_with_seed(model, seed=3)
    sampler = BatchSampler(make_dataset(), batch_size=8, seed=0, epochs=1)
    totals, history = fit(Objective(model, method), sampler, lambda epoch: {}, Settings(lr=1e-3, warmup=0.1), CPU)
    assert totals["steps"] == 3 and history == [{"epoch": 1}]
