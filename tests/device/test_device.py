"""The loop and the methods on the CPU, and on a GPU where there is one.

The contract of the methods is tested on both in tests/regularizers/test_contract.py. The fused attention kernels of a
GPU want heads of at least 8 entries, so the model is wide.
"""

import json
from functools import partial

import pytest
import torch
import torch.distributed as dist
from support.factories import (
    CPU,
    VOCABULARY,
    WIDE,
    make_batch,
    make_dataset,
    make_model,
    turn_off_dropout,
)
from support.information import INFORMATION
from torch.nn.parallel import DistributedDataParallel as DDP

import train
from minbert import weights
from minbert.data.sampling import BatchSampler
from minbert.optimizer import AdamW, parameter_groups
from minbert.training.checkpoint import Checkpoints
from minbert.training.evaluation import predict_logits
from minbert.training.loop import Objective, backward, fit
from minbert.training.runtime import Runtime, compile_layers
from minbert.training.settings import Settings
from regularizers import OPTIONS, build
from regularizers.base import Method, Sum
from regularizers.perturbation import second_pass

SETTINGS = Settings(lr=1e-3, warmup=0.0, batch_size=12)
# How far a gradient may be from that in float32, as a share of its norm. A number in bf16 has 8 bits, so a product is
# wrong by up to 2⁻⁸, and some ten products follow each other here; in fp16 it has 11 bits.
TOLERANCE = {"bf16": 10 * 2**-8, "fp16": 10 * 2**-11}


@pytest.fixture
def rounding(device) -> float:
    """How far two equal trainings may be apart. A GPU may add up in another order, and Adam makes a whole step, here of
    1e-3, of the last bit of a gradient that is nearly 0: a tenth of that."""
    return 0.0 if device.type == "cpu" else 1e-4


def prepared(option: str, device: torch.device, settings=(), dropout: bool = True) -> Objective:
    """A wide model with the method, after its first stage, on the device."""
    model, method = make_model(**WIDE), build(option, settings)
    method.attach_with_seed(model, 0)
    if not dropout:
        turn_off_dropout(model)
    objective, dataset = Objective(model, method).to(device), make_dataset(size=36)
    halves = list(range(18)), list(range(18, 36))
    method.prepare_with_seed(model, lambda task: (dataset.collate(rows).to(device) for rows in halves), 0)
    return objective.train()


def gradient(objective: Objective, runtime: Runtime, accumulate: int = 1) -> torch.Tensor:
    """The gradient of one step on twenty examples, in one vector on the CPU."""
    scaler, dataset = runtime.scaler(), make_dataset(size=36)
    backward(objective, dataset, list(range(20)), Settings(accumulate=accumulate), runtime, scaler, step=0)
    optimizer = AdamW(objective.model.parameters())
    scaler.unscale_(optimizer)
    return torch.cat([p.grad.flatten().cpu() for p in objective.model.parameters() if p.grad is not None])


# Random numbers.


@pytest.mark.parametrize("place", ["attention_probs_dropout_prob", "hidden_dropout_prob"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_second_pass_repeats_the_dropout_masks(place, compiled, device):
    """On a GPU those of attention are drawn inside the fused kernel, which a test cannot see, and those of compiled
    layers follow from a seed that the layer draws."""
    rates = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0} | {place: 0.5}
    model, batch = make_model(**WIDE, **rates).to(device).train(), make_batch(rows=9, tokens=12).to(device)
    if compiled:
        torch._dynamo.reset()
        compile_layers(model, backend="inductor" if device.type == "cuda" else "aot_eager")
    clean = model(batch)
    shared, independent, without = (
        second_pass(model, batch, clean.hidden[0], clean, dropout) for dropout in ("shared", "independent", "off")
    )
    assert torch.equal(shared, clean.logits)
    assert (independent - clean.logits).abs().max() > 0.01 and (without - clean.logits).abs().max() > 0.01


def test_a_run_depends_on_its_seed_alone(device, rounding):
    def run() -> torch.Tensor:
        torch.rand(3, device=device)  # an earlier draw must not matter
        objective = prepared("smart+mixout", device)
        fit(objective, BatchSampler(make_dataset(), 12, 0, epochs=1), lambda e: {}, SETTINGS, Runtime(device))
        return torch.cat([p.flatten() for p in objective.model.parameters()])

    assert (run() - run()).abs().max() <= rounding


# Precisions.


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(
    "option", [name for name, option in OPTIONS.items() if not option.fp32 and name not in INFORMATION]
)
def test_the_gradient_in_half_precision_is_that_of_float32(option, precision, device):
    """With scaled losses in fp16. (Without dropout: on a GPU the masks depend on the precision. Estimators learn from
    the rounded states, step after step: they become other networks.)"""
    full, half = (prepared(option, device, dropout=False) for _ in range(2))
    expected, found = gradient(full, Runtime(device)), gradient(half, Runtime(device, precision))
    assert torch.isfinite(found).all() and (found - expected).norm() <= TOLERANCE[precision] * expected.norm()
    assert not torch.equal(found, expected)  # the passes did run in half precision


ALLOWED = [
    (name, precision)
    for name, option in OPTIONS.items()
    for precision in (("fp32",) if option.fp32 else ("fp32", *TOLERANCE))
]


@pytest.mark.parametrize("option, precision", ALLOWED)
def test_every_option_trains_in_every_precision_that_it_allows(option, precision, device):
    objective, rows = prepared(option, device), []
    before = {name: p.clone() for name, p in objective.model.named_parameters() if p.requires_grad}
    sampler = BatchSampler(make_dataset(size=36), 12, 0, epochs=1)
    totals, _ = fit(objective, sampler, lambda epoch: {}, SETTINGS, Runtime(device, precision), rows.append)
    moved = [name for name, p in objective.model.named_parameters() if p.requires_grad and (p != before[name]).any()]
    assert totals["steps"] == 3 and any(name.startswith("heads.rte.") for name in moved)
    assert all(torch.isfinite(p).all() for p in objective.parameters())


class ExplodesAtFirst(Method):
    """A penalty whose gradient is not finite in the first two steps."""

    calls = 0

    def penalty(self, model, batch, clean):
        self.calls += 1
        return {"odd": (0 * model.bert.pooler.bias).abs().sqrt().sum()} if self.calls <= 2 else {}


def test_in_fp16_a_step_whose_gradient_is_not_finite_is_skipped_and_lowers_the_scale(device, monkeypatch):
    scalers, make = [], Runtime.scaler
    monkeypatch.setattr(Runtime, "scaler", lambda self: scalers.append(make(self)) or scalers[-1])
    objective = Objective(make_model(**WIDE), Sum({"odd": ExplodesAtFirst()})).to(device)
    before, after = objective.model.bert.pooler.weight.detach().clone(), []
    objective.method.after_step = lambda model, progress: after.append(model.bert.pooler.weight.detach().clone())
    sampler = BatchSampler(make_dataset(), 6, 0, epochs=1)
    fit(objective, sampler, lambda epoch: {}, SETTINGS, Runtime(device, "fp16"))
    assert torch.equal(after[0], before) and torch.equal(after[1], before)
    assert not torch.equal(after[2], before) and not torch.equal(after[3], after[2])
    assert scalers[0].get_scale() == 2.0**16 / 4


# Steps.


@pytest.mark.parametrize("option", ["finetune", "l2sp", "lora"])
def test_the_gradient_is_that_of_the_cpu(option, device):
    """For methods without random numbers."""
    found = gradient(prepared(option, device, dropout=False).double(), Runtime(device))
    expected = gradient(prepared(option, CPU.device, dropout=False).double(), CPU)
    assert (found - expected).norm() <= 1e-12 * expected.norm()


def test_micro_batches_add_up_to_the_whole_batch(device):
    objective = prepared("l2sp", device, dropout=False).double()
    whole = gradient(objective, Runtime(device))
    objective.zero_grad()
    pieces = gradient(objective, Runtime(device), accumulate=3)
    assert (whole - pieces).norm() <= 1e-12 * whole.norm()


def test_the_optimizers_step_for_a_gpu_is_that_for_a_cpu(device, monkeypatch):
    """A GPU updates all parameters with one launch, a CPU one after the other."""
    models = [make_model(**WIDE), make_model(**WIDE).to(device)]
    update, together = AdamW.update, []
    for model in models:
        optimizer = AdamW(parameter_groups(model, 0.1), lr=1e-3)
        if model is models[1] and device.type == "cpu":  # the branch of a GPU
            monkeypatch.setattr(AdamW, "update", lambda self, params, **group: together.append(params[0]))
        for step in range(3):
            for number, p in enumerate(model.parameters()):
                generator = torch.Generator().manual_seed(100 * step + number)
                p.grad = torch.randn(p.shape, generator=generator).to(p.device) if (number + step) % 5 else None
            optimizer.step()
            if together:
                for group in optimizer.param_groups:
                    params = [p for p in group["params"] if p.grad is not None]
                    with torch.no_grad():
                        update(optimizer, params, **{k: v for k, v in group.items() if k != "params"})
                together.clear()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(p, q.cpu(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("option, precision", [("smart", "fp32"), ("mine", "bf16"), ("mixout+l2sp", "fp16")])
def test_a_resumed_run_ends_as_an_undisturbed_one(option, precision, device, rounding, tmp_path, monkeypatch):
    """Scaler, estimators and teacher included. The checkpoint is written from the device and read back to it."""
    # A scaler that doubles its scale after each second step: a resumed run must go on with the scale and the count.
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", partial(scaler, init_scale=4.0, growth_interval=2))
    runtime, sampler = Runtime(device, precision), BatchSampler(make_dataset(size=36), 12, 0, epochs=3)
    scales: list[float] = []
    update = scaler.update
    monkeypatch.setattr(scaler, "update", lambda self: (update(self), scales.append(self.get_scale())))

    class StoppedError(Exception):
        pass

    def stop(epoch: int) -> dict:
        if epoch == 2:
            raise StoppedError
        return {}

    def run(evaluate, folder) -> dict[str, torch.Tensor]:
        objective = Objective(make_model(**WIDE), build(option))
        objective.method.attach_with_seed(objective.model, 0)
        objective.to(device)
        fit(objective, sampler, evaluate, SETTINGS, runtime, checkpoints=Checkpoints(tmp_path / folder))
        return objective.state_dict()

    whole = run(lambda epoch: {}, "whole")
    with pytest.raises(StoppedError):
        run(stop, "resumed")
    resumed = run(lambda epoch: {}, "resumed")
    undisturbed, after_epoch_1 = scales[:9], scales[15:]  # the stopped run took six steps, and saved after three
    assert after_epoch_1 == undisturbed[3:] and (precision != "fp16" or undisturbed[-1] == 64.0)
    for name, tensor in whole.items():
        assert (tensor - resumed[name]).abs().max() <= rounding, name


# Several processes, evaluation, prediction.


def test_a_group_of_one_rank_trains_as_no_group(device, rounding, tmp_path, monkeypatch):
    """DDP and every collective run through NCCL on a GPU, through gloo on a CPU."""

    def run() -> torch.Tensor:
        objective = prepared("mine+l2sp", device)
        fit(objective, BatchSampler(make_dataset(), 12, 0, epochs=2), lambda e: {}, SETTINGS, Runtime(device))
        return torch.cat([p.flatten() for p in objective.parameters()])

    alone = run()
    kind = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(kind, init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        monkeypatch.setattr(Runtime, "is_distributed", True)
        assert isinstance(Runtime(device).wrap(prepared("finetune", device), some_unused=False), DDP)
        grouped = run()
    finally:
        dist.destroy_process_group()
    assert (alone - grouped).abs().max() <= rounding


@pytest.mark.parametrize("size", [1, 7, 100])
def test_predictions_are_those_of_the_cpu(size, device):
    model, dataset = make_model(**WIDE), make_dataset(size=20)
    expected = predict_logits(model, dataset, 4, CPU)
    found = predict_logits(model.to(device), dataset, size, Runtime(device))
    assert abs(found - expected).max() <= 1e-5


def test_a_run_on_the_device_is_complete(device, data_folder, tmp_path):
    """From files to files."""
    weights.save_model(make_model(**WIDE), tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    folder = tmp_path / "run"
    arguments = ["--model", tmp_path / "model", "--data", data_folder, "--out", folder, "--device", device.type]
    assert train.main([*map(str, arguments), "--predict", "test", "--max-length", "32", "--option", "smart"]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["peak_memory_bytes"] > 0 and metrics["examples_per_second"] > 0
    assert (folder / "model" / "model.safetensors").exists()
    predictions = (folder / "predictions" / "test" / "RTE.tsv").read_text().splitlines()
    assert len(predictions) == 8 and {line.split("\t")[1] for line in predictions[1:]} <= {
        "entailment",
        "not_entailment",
    }
