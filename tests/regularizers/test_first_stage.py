"""The first stage of the methods with estimators: the fit, the references, and what it says of them."""

import itertools
import math
from functools import partial

import pytest
import torch
from support.factories import CPU, KINDS, make_dataset, make_model
from support.information import INFORMATION, TASK, only_term, prepared, wild

from minbert.data.sampling import BatchSampler
from minbert.errors import InputError
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import Objective, fit
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, first_stage
from regularizers.estimators import Estimators, adam

FEWEST_EXAMPLES = first_stage.FEWEST_EXAMPLES  # before conftest shortens the first stage


def test_the_networks_with_the_best_bound_on_held_out_batches_are_kept(monkeypatch):
    """The networks could learn the fitted examples by heart, so the held out ones decide."""
    values = iter([0.0, 1.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0])
    seen = []

    def measure(estimators, batches):
        seen.append((len(batches), {n: t.clone() for n, t in estimators.state_dict().items()}))
        return torch.full((2,), next(values))

    monkeypatch.setattr(first_stage, "measure", measure)
    monkeypatch.setattr(first_stage, "STEPS", 1000)
    monkeypatch.setattr(first_stage, "EVERY", 20)
    estimators, _ = wild()
    used = []
    ascend = Estimators.ascend
    monkeypatch.setattr(Estimators, "ascend", lambda self, z, o: (used.append(int(z[0, 0, 0])), ascend(self, z, o)))
    batches = [torch.full((8, 3, 4), float(k)).double() for k in range(25)]
    assert first_stage.fit(estimators, [batches, batches], adam(estimators, 1e-3))
    assert set(used) == set(range(25)) - {0, 10, 20} and seen[0][0] == 6
    assert len(used) == 7 * 20  # smoothed: .5 .65 .32 .16 ...: the second is best
    best = seen[2][1]
    assert all(torch.equal(t, best[n]) for n, t in estimators.state_dict().items() if n != "reference")
    assert not torch.equal(estimators.w_x, seen[0][1]["w_x"]) and not torch.equal(estimators.w_x, seen[-2][1]["w_x"])


@pytest.mark.parametrize("option", INFORMATION)
def test_a_model_that_never_moves_has_gaps_whose_mean_is_zero_within_noise(option, monkeypatch):
    """Two epochs of a second stage in which the model has learning rate 0, with new masks in each pass."""
    for name, value in {"STEPS": 300, "EVERY": 50, "DRAWS": 4, "REHEARSAL": 100}.items():
        monkeypatch.setattr(first_stage, name, value)
    method, model, batches = prepared(option, size=640)
    estimators = method.estimators[TASK.name]
    assert (estimators.reference > 0.05).all() and (estimators.reference < math.log(16)).all()
    model.train()
    gaps = []
    with torch.no_grad():
        for batch in 2 * batches[TASK.name]:
            z = estimators.project(method.states(model(batch), batch))
            gaps.append(method.follow(estimators, z) - estimators.reference)
    gaps = torch.stack(gaps)
    # The mean of 80 gaps, and the reference is a mean of 50. Neighbours are not independent, so three standard errors.
    noise = 3 * gaps.std(0) * (1 / 80 + 1 / 50) ** 0.5
    assert (gaps.mean(0).abs() < noise).all(), (gaps.mean(0), noise)


@pytest.mark.parametrize("task", [TASK, KINDS["separate classes"]], ids=lambda task: f"separate={task.separate}")
@pytest.mark.parametrize("option", INFORMATION)
def test_the_first_stage_measures_states_with_dropout_and_changes_no_weight_of_the_model(option, task):
    method, model, batches = prepared(option, task)
    plain, batches = make_model(task), batches[task.name]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
    plain.eval()
    with torch.no_grad():
        states = torch.cat([method.states(plain(b), b) for b in batches])
        noisy = torch.cat([method.states(plain.train()(b), b) for b in batches])
    estimators = method.estimators[task.name]
    assert torch.allclose(estimators.std, noisy.std(0), rtol=0.2)
    assert (estimators.std.mean() - states.std(0).mean()) > 2 * (estimators.std.mean() - noisy.std(0).mean()).abs()
    assert (estimators.mean - noisy.mean(0)).abs().max() < 0.3


@pytest.mark.parametrize("option", INFORMATION)
def test_the_first_stage_logs_the_references_and_their_ceiling(option, caplog):
    method, *_ = prepared(option)
    values = " ".join(f"{value:.2f}" for value in method.estimators[TASK.name].reference)
    expected = f"{option}: layers of the pretrained model on rte share {values} nats; 16 examples show at most 2.77"
    assert expected in caplog.text


@pytest.mark.parametrize("option", INFORMATION)
def test_the_first_stage_depends_on_its_seed_alone(option):
    one, two, other = (prepared(option, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["estimators.rte.reference"], other["estimators.rte.reference"])


@pytest.mark.parametrize("option", INFORMATION)
def test_the_estimators_of_a_task_see_the_batches_of_that_task_alone(option, monkeypatch):
    seen, states = [], OPTIONS[option].states

    def spy(method, output, batch):
        seen.append(batch.task.name)
        return states(method, output, batch)

    monkeypatch.setattr(OPTIONS[option], "states", spy)
    method, model, batches = prepared(option, TASK, KINDS["regression"])
    assert [task for task, _ in itertools.groupby(seen)] == list(method.estimators) == ["rte", "stsb"]
    before = {name: t.clone() for name, t in method.state_dict().items()}
    assert not torch.equal(before["estimators.rte.mean"], before["estimators.stsb.mean"])
    only_term(method, model.train(), batches["rte"][0])
    changed = {name for name, t in method.state_dict().items() if not torch.equal(t, before[name])}
    assert changed and all(name.startswith("estimators.rte.") for name in changed)


@pytest.mark.parametrize("option", INFORMATION)
def test_too_few_examples_for_a_first_stage_are_refused(option, monkeypatch):
    monkeypatch.setattr(first_stage, "FEWEST_EXAMPLES", FEWEST_EXAMPLES)
    with pytest.raises(InputError, match=rf"--option {option} needs 128 inputs .* not 112 in 7"):
        prepared(option, size=112)
    prepared(option, size=128)


def test_the_references_are_the_mean_of_what_the_second_stage_would_see(monkeypatch):
    """Seven passes over five batches, each with new masks. The first half of the estimates does not count."""
    monkeypatch.setattr(first_stage, "REHEARSAL", 7)
    method, model, batches = prepared("mine", size=80)
    estimators, seen, values = method.estimators["rte"], [], []
    follow = method.follow

    def spy(estimators, z):
        seen.append(z)
        values.append(follow(estimators, z))
        return values[-1]

    monkeypatch.setattr(method, "follow", spy)
    first_stage.rehearse(estimators, partial(method.pass_over, model, lambda: batches["rte"]), method.follow)
    assert len(seen) == 7 and torch.equal(estimators.reference, (values[3] + values[4] + values[5] + values[6]) / 4)
    assert seen[0].shape == seen[5].shape and not torch.equal(seen[0], seen[5])  # one batch, twice


@pytest.mark.parametrize("enough, passes", [(79, 1), (80, 1), (160, 2), (1000, 4)])
def test_large_sets_are_drawn_fewer_times(enough, passes, monkeypatch):
    for name, value in {"ENOUGH": enough, "DRAWS": 4}.items():
        monkeypatch.setattr(first_stage, name, value)
    method, model, batches = prepared("mine", size=80)
    states = partial(method.pass_over, model, lambda: batches["rte"])
    draws = first_stage.draw(method.estimators["rte"], states)
    assert [len(z) for z in draws] == [5] * passes
    assert len({z[0].sum().item() for z in draws}) == passes  # with new masks


@pytest.mark.parametrize("dropout, warns", [(0.0, True), (0.1, False)])
def test_a_model_without_dropout_is_named(dropout, warns, caplog):
    prepared("mine", dropout=dropout)
    assert ("mine: the model has no dropout" in caplog.text) == warns


@pytest.mark.parametrize("limit, warns", [(10, True), (1000, False)])
def test_a_first_stage_that_ends_at_the_limit_says_so(limit, warns, caplog, monkeypatch):
    monkeypatch.setattr(first_stage, "STEPS", limit)
    monkeypatch.setattr(first_stage, "PATIENCE", 2)
    values = itertools.chain([0.0, 1.0, 2.0, 3.0], itertools.repeat(0.0))  # of each evaluation: they stop rising
    monkeypatch.setattr(first_stage, "measure", lambda *_: torch.full((2,), next(values)))
    prepared("mine")
    assert (f"mine: the estimates for rte still rose after {limit} steps, the limit" in caplog.text) == warns


@pytest.mark.parametrize("share, warns", [(0.79, False), (0.81, True)])
@pytest.mark.parametrize("marginals", ["all_pairs", "permute"])
def test_references_near_the_limit_of_a_batch_are_named(marginals, share, warns):
    estimators, _ = wild(marginals)
    estimators.reference.copy_(torch.tensor([0.1, share * math.log(16)]))
    text = first_stage.describe(estimators, rows=16)
    assert ("too near" in text) == (warns and marginals == "all_pairs")


def test_a_resumed_run_has_no_first_stage(tmp_path, monkeypatch):
    stages, draw = [], first_stage.draw

    def counted(*arguments):
        stages.append(1)
        return draw(*arguments)

    monkeypatch.setattr(first_stage, "draw", counted)

    def run() -> dict:
        model = make_model()
        objective = Objective(model, build("mine"))
        objective.method.attach(model)
        sampler = BatchSampler(make_dataset(size=30), 10, 0, epochs=2)
        settings = Settings(lr=1e-2, warmup=0.0, batch_size=10)
        fit(objective, sampler, lambda epoch: {}, settings, CPU, checkpoints=Checkpoints(tmp_path))
        return objective.state_dict()

    whole, resumed = run(), run()  # the second run finds the checkpoint of the first one's last step
    assert len(stages) == 1
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert resumed["method.parts.mine.estimators.rte.reference"].abs().min() > 0


def test_mean_and_standard_deviation_are_those_of_all_states_together():
    """Batches of different sizes: each state counts the same."""
    passes = [torch.randn(9, 2, 5), 3 + 2 * torch.randn(31, 2, 5)]
    estimators = Estimators([(0, 1)], 2, 5, 4, 6, "all_pairs")
    assert first_stage.standardise(estimators, lambda: passes) == [9, 31]
    states = torch.cat(passes)
    assert torch.allclose(estimators.mean, states.mean(0), atol=1e-5)
    assert torch.allclose(estimators.std, states.std(0, correction=0), rtol=1e-5)
