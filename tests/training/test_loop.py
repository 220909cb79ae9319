"""The loop: what one step is, however it is cut; what it logs; how it fails."""

import math

import numpy as np
import pytest
import torch
from support.factories import CPU, KINDS, Log, make_dataset, make_model

from minbert.data.tasks import TASKS
from minbert.errors import TrainingError
from minbert.optimizer import AdamW
from minbert.random_state import derive_seed
from minbert.training.evaluation import Evaluator, predict_logits
from minbert.training.loop import backward, fit, shard_rows
from minbert.training.objective import Objective
from minbert.training.runtime import Runtime, compile_layers
from minbert.training.settings import Settings
from regularizers import build
from regularizers.base import Method

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
    """Uneven pieces, and more pieces than rows, too."""
    whole, pieces = gradients(1, rows), gradients(accumulate, rows)
    assert (whole[0] - pieces[0]).norm() < 1e-12 * whole[0].norm()
    assert whole[1].item() == pytest.approx(pieces[1].item(), abs=1e-12)
    assert whole[2] == pieces[2]


def test_rows_are_dealt_out_once():
    for rows in ([1, 2, 3, 4, 5], [7]):
        hands = [shard_rows(rows, i, 3) for i in range(3)]
        assert sorted(r for hand, weight in hands for r in hand if weight) == rows
        assert sum(weight for _, weight in hands) == pytest.approx(1.0)


def run_fit(steps: int, log=None, dataset=None, **settings):
    dataset = dataset or make_dataset(size=30)
    model = make_model()
    settings = Settings(lr=1e-2, warmup=0.1, **settings)
    epochs = []

    def plan(epoch):
        epochs.append(epoch)
        return [(dataset, rows) for rows in dataset.shuffled(4, 0, epoch)]

    objective = Objective(model, build("finetune"))
    totals, history = fit(objective, plan, lambda epoch: {"seen": epoch}, steps, settings, CPU, log or Log())
    return model, totals, history, epochs


def test_steps_epochs_and_the_log():
    log = Log()
    _, totals, history, epochs = run_fit(20, log)  # 8 batches an epoch
    assert epochs == [1, 2, 3] and [h["seen"] for h in history] == [1, 2, 3]
    assert (totals["steps"], totals["epochs"]) == (20, 3)
    assert [row["step"] for row in log.rows] == [8, 10, 16, 20]  # every tenth, and at the end of an epoch
    assert log.rows[-1]["lr"] == pytest.approx(1e-2 * 1 / 18)  # step 19 of 20, after a warm-up of 2
    assert set(log.rows[0]) >= {"step", "epoch", "loss", "penalty", "lr", "gradient_norm", "tokens_per_second"}
    assert totals["examples_per_second"] > 0 and totals["tokens_per_second"] > totals["examples_per_second"]


def test_training_learns():
    log = Log()
    run_fit(80, log)
    assert log.rows[-1]["loss"] < 0.7 * log.rows[0]["loss"]


def test_the_same_seed_gives_the_same_bits():
    a, b, c = (run_fit(9, seed=seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


class Fake(Method):
    """Leaves its marks wherever the loop has to call a method."""

    def __init__(self):
        super().__init__()
        self.warmed, self.progress = 0, []

    def undecayed(self, model):
        return (model.bert.embeddings.token.weight,)

    def warmup(self, model, batches):
        self.warmed += sum(len(batch) for batch in batches())

    def after_step(self, model, progress):
        self.progress.append(progress)
        with torch.no_grad():
            model.bert.pooler.bias.add_(0.01)


def test_a_first_stage_sees_the_pieces_that_training_sees():
    seen, dataset, settings = [], make_dataset(size=12), Settings(lr=1e-3, warmup=0.0, accumulate=6)

    class First(Method):
        def warmup(self, model, batches):
            assert torch.is_autocast_enabled("cpu")  # in the run's precision
            drawn = torch.rand(1).item()
            seen.append(([batch.index.tolist() for batch in batches()], [len(b) for b in batches()], drawn))

    for noise in (1, 2):
        torch.manual_seed(noise)
        plan = lambda epoch: [(dataset, list(range(7))), (dataset, list(range(7, 12)))]  # noqa: E731
        objective = Objective(make_model(seed=noise), First())
        fit(objective, plan, lambda e: {}, 2, settings, Runtime(torch.device("cpu"), "bf16"), Log())
    pieces, sizes, _ = seen[0]
    assert sizes == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] and pieces[:2] == [[0, 6], [1]]
    assert sorted(row for piece in pieces for row in piece) == list(range(12)) and seen[0] == seen[1]


@pytest.mark.parametrize("scaled", [False, True])
def test_fit_equals_the_loop_written_out(scaled, monkeypatch):
    """Eight steps over two epochs, bit for bit: schedule, decay, no bias correction, clipping, dropout in each
    epoch, the method's calls. And with a GradScaler, whose powers of two leave no trace."""
    if scaled:
        monkeypatch.setattr(Runtime, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=1024.0))
    dataset, fake = make_dataset(size=20), Fake()
    settings = Settings(lr=1e-2, warmup=0.25, weight_decay=0.3, clip=0.05, bias_correction=False, accumulate=2, seed=7)
    plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(5, 0, epoch)]  # noqa: E731
    model = make_model()
    log = Log()
    totals, _ = fit(Objective(model, fake), plan, lambda epoch: model.eval() and {}, 8, settings, CPU, log)

    other, losses, tokens = make_model(), [], 0
    decayed = [p for n, p in other.named_parameters() if n.endswith("weight") and "norm" not in n and "token" not in n]
    plain = [p for p in other.parameters() if not any(p is d for d in decayed)]
    optimizer = AdamW([{"params": decayed, "weight_decay": 0.3}, {"params": plain}], correct_bias=False)
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
        torch.nn.utils.clip_grad_norm_(other.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            other.bert.pooler.bias.add_(0.01)

    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-6 if scaled else 0, rtol=0), name
    assert fake.warmed == 20 and fake.progress == [(i + 1) / 8 for i in range(8)]
    assert totals["train_loss"] == pytest.approx(sum(losses[4:]) / 4, abs=1e-6)
    assert totals["examples_per_second"] * totals["seconds"] == pytest.approx(40)
    assert totals["tokens_per_second"] * totals["seconds"] == pytest.approx(tokens)
    assert log.rows[0]["loss"] == pytest.approx(sum(losses[:4]) / 4, abs=1e-6)


def test_every_pass_has_a_seed_of_its_own(monkeypatch):
    model, dataset, seeds = make_model(), make_dataset(), []
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for rank in (0, 1):
        for step in (0, 1):
            runtime = Runtime(torch.device("cpu"), rank=rank, world=1)
            objective = Objective(model, Method())
            backward(objective, dataset, [0, 1, 2, 3], Settings(accumulate=2), runtime, runtime.scaler(), step)
    assert len(set(seeds)) == len(seeds) == 8


class Exploding(Method):
    """A penalty of 0 whose gradient is not a number."""

    def penalty(self, model, batch, clean):
        return {"odd": (0 * model.bert.pooler.bias).abs().sqrt().sum()}


def test_a_gradient_that_is_not_finite_is_found():
    dataset, model = make_dataset(), make_model()
    plan = lambda epoch: [(dataset, [0, 1, 2])]  # noqa: E731
    with pytest.raises(TrainingError, match=r"step 1: the gradient is not finite; rows\.tsv lines 2, 3, 4"):
        fit(Objective(model, Exploding()), plan, lambda e: {}, 1, Settings(lr=1e-3, warmup=0.1), CPU, Log())
    fp16 = Runtime(torch.device("cpu"), "fp16")  # skips such steps, but not ten in a row
    fit(Objective(make_model(), Exploding()), plan, lambda e: {}, 9, Settings(lr=1e-3, warmup=0.1), fp16, Log())
    with pytest.raises(TrainingError, match="step 10: the gradient is not finite"):
        fit(Objective(make_model(), Exploding()), plan, lambda e: {}, 12, Settings(lr=1e-3, warmup=0.1), fp16, Log())


def test_a_loss_that_is_not_finite_names_step_and_examples():
    dataset = make_dataset(TASKS["stsb"], size=30)
    dataset.labels[17] = math.inf
    model = make_model(TASKS["stsb"])
    plan = lambda epoch: [(dataset, list(range(i, i + 5))) for i in range(0, 30, 5)]  # noqa: E731
    with pytest.raises(TrainingError, match=r"step 4: the loss is not finite; rows\.tsv lines 17, 18, 19, 20, 21"):
        fit(Objective(model, build("finetune")), plan, lambda e: {}, 6, Settings(lr=1e-3, warmup=0.1), CPU, Log())


def test_predictions_are_in_the_files_order_whatever_the_batches():
    model, dataset = make_model().double(), make_dataset(size=23)
    whole, small = (predict_logits(model, dataset, size, CPU) for size in (23, 4))
    assert np.allclose(whole, small, atol=1e-6)
    one = model(dataset.collate([11])).logits
    assert np.allclose(whole[11], one.detach().numpy(), atol=1e-6)


def test_mnli_averages_its_two_dev_sets():
    task = KINDS["three classes"]
    model, parts = make_model(task), {"dev": make_dataset(task, 20, 1), "dev-mismatched": make_dataset(task, 11, 2)}
    scores = Evaluator(parts, {split: predict_logits(model, dataset, 8, CPU) for split, dataset in parts.items()})
    accuracies = []
    for dataset in parts.values():
        logits = predict_logits(model, dataset, 8, CPU)
        accuracies.append(float((logits.argmax(-1) == dataset.labels.numpy()).mean()))
    assert scores["metrics"] == {"accuracy": accuracies[0], "accuracy-mismatched": accuracies[1]}
    assert scores["score"] == pytest.approx(sum(accuracies) / 2)


def test_bf16_and_compiled_layers_train_as_well():
    """The losses of every line of the log are those of plain float32, but for rounding."""
    dataset, losses = make_dataset(size=30), []
    plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(4, 0, epoch)]  # noqa: E731
    for runtime, compiled in ((CPU, False), (Runtime(torch.device("cpu"), "bf16"), False), (CPU, True)):
        model, log = make_model(), Log()
        if compiled:
            compile_layers(model, backend="aot_eager")
        objective = Objective(model, build("smart"))
        objective.method.attach(model)
        fit(objective, plan, lambda e: {}, 32, Settings(lr=5e-3, warmup=0.1), runtime, log)
        losses.append([row["loss"] for row in log.rows])
    plain, bf16, compiled = (torch.tensor(own) for own in losses)
    assert (plain - plain[0]).abs().max() > 0.1  # it moves
    assert (bf16 - plain).abs().max() < 0.05 and (compiled - plain).abs().max() < 1e-3
