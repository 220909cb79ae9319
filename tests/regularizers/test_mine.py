"""The options mine, ib and ib-sp by their equations, their first stage, and what they refuse."""

import math

import pytest
import torch
from support.factories import CPU, KINDS, QUICK, Log, make_batch, make_dataset, make_model

from minbert.errors import InputError
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import fit
from minbert.training.objective import Objective
from minbert.training.settings import Settings
from regularizers import build, mutual_information
from regularizers.mine import cls_states
from regularizers.mutual_information import Estimators

TASK = KINDS["two classes"]
OPTIONS = ("mine", "ib", "ib-sp")
FULL = {name: getattr(mutual_information, name) for name in QUICK}  # before conftest shortens the first stage


def ready(option: str, *settings: str, rows: int = 10, task=TASK, **changes):
    """(method, model, batch) in float64 and train mode, without a first stage."""
    model = make_model(task, **changes)
    method = build(option, [f"{option}.{setting}" for setting in settings]).parts[option]
    method.attach(model)
    return method.double(), model.double().train(), make_batch(task, rows=rows, tokens=12)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_side_learns_from_its_own_gradient_alone(option):
    method, model, batch = ready(option)
    clean = model(batch)
    networks = {n: p.detach().clone() for n, p in method.named_parameters()}
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    penalty = method.penalty(model, batch, clean)["information"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    assert all(not torch.equal(p, networks[n]) for n, p in method.named_parameters())
    networks = {n: p.detach().clone() for n, p in method.named_parameters()}
    penalty.backward()
    assert any(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.parameters())
    assert all(torch.equal(p, networks[n]) for n, p in method.named_parameters())
    own = {id(p) for group in method.optimizers()[0].param_groups for p in group["params"]}
    assert own == {id(p) for p in method.parameters()} and not own & {id(p) for p in model.parameters()}


def gradient(option: str, mode: str, reference: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the penalty by the embeddings' weight, and the penalty."""
    method, model, batch = ready(option, f"mode={mode}", "weight=0.5", hidden_dropout_prob=0.0)
    method.estimators[TASK.name].reference.fill_(reference)
    penalty = method.penalty(model, batch, model(batch))["information"]
    return torch.autograd.grad(penalty, model.bert.embeddings.token.weight)[0], penalty.detach()


@pytest.mark.parametrize("option", ["mine", "ib-sp"])
def test_only_as_printed_is_the_gradient_blind_to_the_references(option):
    low, high = (gradient(option, "signed", b) for b in (-2.0, 5.0))
    assert torch.equal(low[0], high[0]) and low[0].norm() > 0
    assert (low[1] - high[1]).item() == pytest.approx(0.5 * 2 * 7)  # two pairs
    below, above = (gradient(option, "abs", b) for b in (-2.0, 5.0))
    assert torch.equal(below[0], low[0]) and torch.equal(above[0], -below[0])
    assert below[1] == low[1] and above[1] == -high[1]
    squared = gradient(option, "squared", 5.0)
    assert squared[1] > 0 and torch.nn.functional.cosine_similarity(squared[0].flatten(), above[0].flatten(), 0) > 0.99


def test_mine_compares_the_cls_states_of_adjacent_layers():
    method, model, batch = ready("mine", num_hidden_layers=4)
    clean = model(batch)
    states = cls_states(clean, batch)
    assert states.shape == (10, 4, 12) and torch.equal(states[:, 2], clean.hidden[3][:, 0])
    estimators = method.estimators[TASK.name]
    assert list(zip(estimators.left, estimators.right)) == [(0, 1), (1, 2), (2, 3)]


def states_of(option, method, clean, batch):
    return cls_states(clean, batch) if option == "mine" else method.states(clean, batch)


@pytest.mark.parametrize("layers, chosen", [("all", [1, 2, 3, 4]), ("top4", [2, 3, 4, 5])])
def test_the_bottleneck_compares_layers_with_the_mean_of_the_real_embeddings(layers, chosen):
    method, model, batch = ready("ib", f"layers={layers}", num_hidden_layers=5)
    clean = model.eval()(batch)
    states = method.states(clean, batch)
    for i in range(10):
        real = clean.hidden[0][i, : int(batch.attention_mask[i].sum())]
        assert torch.allclose(states[i, 0], real.mean(0))
    assert states.shape == (10, 5, 12)
    assert all(torch.equal(states[:, k + 1], clean.hidden[i][:, 0]) for k, i in enumerate(chosen))
    estimators = method.estimators[TASK.name]
    assert list(zip(estimators.left, estimators.right)) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_the_bottleneck_is_the_sum_of_the_estimates_that_are_above_zero(monkeypatch):
    method, model, batch = ready("ib", "weight=0.5")
    monkeypatch.setattr(Estimators, "estimate", lambda self, z: torch.tensor([0.5, -3.0]))
    assert method.penalty(model, batch, model(batch))["information"].item() == 0.25


@pytest.mark.parametrize("option", OPTIONS)
def test_a_small_batch_takes_no_part(option):
    method, model, _ = ready(option)
    networks = {n: t.clone() for n, t in method.state_dict().items()}
    batch = make_batch(TASK, rows=7)
    assert method.penalty(model, batch, model(batch)) == {}
    assert all(torch.equal(t, networks[n]) for n, t in method.state_dict().items())
    batch = make_batch(TASK, rows=8, tokens=10)
    assert method.penalty(model, batch, model(batch)).keys() == {"information"}


def first_stage(option: str, *tasks, size: int = 320, dropout: float = 0.1, seed: int = 0):
    """(method, model, datasets, batches) after the first stage on the tiny model."""
    tasks = tasks or (TASK,)
    datasets = [make_dataset(task, size=size, seed=number) for number, task in enumerate(tasks)]
    model = make_model(*tasks, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    method = build(option)
    method.attach(model)
    batches = [d.collate(rows) for d in datasets for rows in d.shuffled(16, 0, 0)]
    torch.manual_seed(seed)
    method.warmup(model, lambda: iter(batches))
    return method.parts[option], model, batches


@pytest.mark.parametrize("option", OPTIONS)
def test_at_the_first_step_estimates_lie_at_their_references(option, monkeypatch):
    """Within two standard deviations over batches; so the references are from states with dropout, like these."""
    monkeypatch.setattr(mutual_information, "STEPS", 300)
    monkeypatch.setattr(mutual_information, "EVERY", 50)
    method, model, batches = first_stage(option)
    estimators = method.estimators[TASK.name]
    assert (estimators.reference > 0.05).all() and (estimators.reference < math.log(16)).all()
    with torch.no_grad():
        values = [estimators(states_of(option, method, model.train()(b), b)) for b in batches]
    values = torch.stack(values)
    assert ((values.mean(0) - estimators.reference).abs() < 2 * values.std(0)).all(), (values, estimators.reference)


@pytest.mark.parametrize("task", [TASK, KINDS["separate classes"]])
def test_the_first_stage_measures_states_with_dropout_and_changes_no_weight(task):
    method, model, batches = first_stage("mine", task)
    plain = make_model(task)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
    plain.eval()
    with torch.no_grad():
        states = torch.cat([states_of("mine", method, plain(b), b) for b in batches])
        noisy = torch.cat([states_of("mine", method, plain.train()(b), b) for b in batches])
    estimators = method.estimators[task.name]
    assert torch.allclose(estimators.std, noisy.std(0), rtol=0.2)
    assert (estimators.std.mean() - states.std(0).mean()) > 2 * (estimators.std.mean() - noisy.std(0).mean()).abs()
    assert (estimators.mean - noisy.mean(0)).abs().max() < 0.3


def test_the_first_stage_tells_what_it_found(caplog):
    method, *_ = first_stage("ib")
    first, second = method.estimators[TASK.name].reference.tolist()
    expected = f"on rte share {first:.2f} {second:.2f} nats; 16 examples show at most 2.77"
    assert f"ib: layers of the pretrained model {expected}" in caplog.text


def test_the_first_stage_repeats_and_keeps_tasks_apart(monkeypatch):
    one, two = (first_stage("mine", seed=0)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = first_stage("mine", seed=1)[0].state_dict()
    assert not torch.equal(one["estimators.rte.reference"], other["estimators.rte.reference"])
    seen, draw = [], mutual_information.draw

    def spy(option, estimators, model, batches, states):
        seen.append({batch.task.name for batch in batches()})
        return draw(option, estimators, model, batches, states)

    monkeypatch.setattr(mutual_information, "draw", spy)
    both, model, batches = first_stage("mine", TASK, KINDS["regression"])
    assert seen == [{"rte"}, {"stsb"}]
    assert both.estimators.keys() == {"rte", "stsb"}
    before = {name: t.clone() for name, t in both.state_dict().items()}
    assert not torch.equal(before["estimators.rte.mean"], before["estimators.stsb.mean"])
    model.train()
    both.penalty(model, batches[0], model(batches[0]))
    changed = {name for name, t in both.state_dict().items() if not torch.equal(t, before[name])}
    assert changed and all(name.startswith("estimators.rte.") for name in changed)


def test_without_weight_there_is_nothing():
    for option in OPTIONS:
        method, model, batch = ready(option, "weight=0")
        assert list(method.state_dict()) == [] and method.optimizers() == ()
        assert method.penalty(model, batch, model(batch)) == {}
        method.warmup(model, None)


@pytest.mark.parametrize("option", OPTIONS)
def test_too_few_examples(option, monkeypatch):
    monkeypatch.setattr(mutual_information, "FEWEST_EXAMPLES", FULL["FEWEST_EXAMPLES"])
    with pytest.raises(InputError, match=rf"--option {option} needs 128 inputs .* not 112 in 7"):
        first_stage(option, size=112)
    first_stage(option, size=128)


@pytest.mark.parametrize(
    "option, setting, message",
    [
        ("mine", "weight=-1", "weight must be a number from 0 up, not -1.0"),
        ("mine", "weight=nan", "weight must be"),
        ("mine", "mode=cube", "mode must be one of abs, squared, signed, not cube"),
        ("mine", "marginals=some", "marginals must be all_pairs or permute, not some"),
        ("mine", "proj_dim=0", "proj_dim must be none or at least 1, not 0"),
        ("mine", "hidden=0", "hidden must be at least 1, not 0"),
        ("mine", "phi_lr=0", "phi_lr must be a number above 0, not 0.0"),
        ("ib", "layers=top", "layers must be all or top4, not top"),
        ("ib", "mode=abs", "ib.mode: ib has weight, layers, "),
        ("ib-sp", "mode=cube", "mode must be one of abs"),
        ("ib-sp", "layers=top", "layers must be all or top4"),
    ],
)
def test_bad_settings(option, setting, message):
    with pytest.raises(InputError, match=message):
        build(option, [f"{option}.{setting}"])


def test_a_model_of_one_layer():
    with pytest.raises(InputError, match="--option ib-sp compares layers, and the model has one"):
        ready("ib-sp", num_hidden_layers=1)


def test_a_resumed_run_has_no_first_stage(tmp_path, monkeypatch):
    stages = []
    stage = mutual_information.draw
    monkeypatch.setattr(mutual_information, "draw", lambda *args: (stages.append(1), stage(*args))[1])

    def run(checkpoint, steps):
        dataset, model = make_dataset(size=30), make_model()
        objective = Objective(model, build("mine"))
        objective.method.attach(model)
        plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(10, 0, epoch)]  # noqa: E731
        fit(objective, plan, lambda e: {}, steps, Settings(lr=1e-2, warmup=0.0), CPU, Log(), checkpoint)
        return objective.state_dict()

    whole = run(Checkpoints(tmp_path), 6)
    assert len(stages) == 1
    kept = Checkpoints(tmp_path)
    resumed = run(kept, 6)
    assert len(stages) == 1 and kept.last_step == 6
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert resumed["method.parts.mine.estimators.rte.reference"].abs().min() > 0
