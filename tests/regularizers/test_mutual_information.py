"""Estimators of mutual information against closed forms and slow loops; the first stage; what their methods share."""

import itertools
import math

import pytest
import torch
from support.factories import CPU, KINDS, make_batch, make_dataset, make_model
from support.information import INFORMATION, TASK, only_term, prepared, ready

from minbert.data.sampling import BatchSampler
from minbert.errors import InputError
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import Objective, fit
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, mutual_information
from regularizers.mutual_information import Estimators, adam, bound

FEWEST_EXAMPLES = mutual_information.FEWEST_EXAMPLES  # before conftest shortens the first stage
WITH_MODE = [name for name in INFORMATION if hasattr(OPTIONS[name], "mode")]


def gaussians(rho: float, number: int, seed: int) -> torch.Tensor:
    """[N,2,1] with information -log(1-ρ²)/2, moved and stretched."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, number, 1, generator=generator)
    return torch.stack([x, rho * x + math.sqrt(1 - rho**2) * noise], 1)


@pytest.mark.parametrize(
    "rho, marginals", [(0.0, "all_pairs"), (0.5, "all_pairs"), (0.9, "all_pairs"), (0.9, "permute")]
)
def test_the_estimate_of_gaussians_is_their_known_information(rho, marginals, monkeypatch):
    monkeypatch.setattr(mutual_information, "STEPS", 600)
    monkeypatch.setattr(mutual_information, "EVERY", 100)
    torch.manual_seed(0)
    estimators = Estimators([(0, 1)], 2, 1, None, 16, marginals)
    mutual_information.fit(estimators, [list(gaussians(rho, 12_800, seed=1).split(64))], adam(estimators, 1e-2))
    found = mutual_information.measure(estimators, gaussians(rho, 40_000, seed=2).split(400)).item()
    truth = -math.log(1 - rho**2) / 2
    assert abs(found - truth) < (0.05 * truth if rho else 0.03), (found, truth)


def wild(marginals="all_pairs", seed: int = 0, scale: float = 1.0) -> tuple[Estimators, torch.Tensor]:
    """Estimators of two pairs of three variables, not fitted, in float64; and states [9,3,5]."""
    torch.manual_seed(seed)
    estimators = Estimators([(0, 1), (0, 2)], 3, 5, 4, 6, marginals).double()
    estimators.mean.normal_()
    estimators.std.uniform_(0.5, 2.0)
    for p in estimators.parameters():
        p.mul_(scale)
    return estimators, torch.randn(9, 3, 5, dtype=torch.float64)


def slow_score(estimators, pair: int, a: torch.Tensor, c: torch.Tensor) -> float:
    """G of one pair of projected vectors, unit by unit."""
    total = 0.0
    for k in range(6):
        unit = estimators.b[pair, 0, k].item()
        unit += sum(a[d].item() * estimators.w_x[pair, d, k].item() for d in range(4))
        unit += sum(c[d].item() * estimators.w_y[pair, d, k].item() for d in range(4))
        total += estimators.w_2[pair, k, 0].item() * max(0.0, unit)
    return total


def test_scores_and_bound_equal_a_slow_loop():
    estimators, states = wild()
    z = [[] for _ in range(9)]
    for i in range(9):
        for v in range(3):
            standard = [(states[i, v, d] - estimators.mean[v, d]) / estimators.std[v, d] for d in range(5)]
            projected = [sum(standard[d] * estimators.directions[d, q] for d in range(5)) for q in range(4)]
            z[i].append(torch.tensor([math.asinh(value) for value in projected], dtype=torch.float64))
    joint, scores = estimators.scores(estimators.project(states))
    assert torch.allclose(estimators.directions.T @ estimators.directions, torch.eye(4, dtype=torch.float64), atol=1e-6)
    for pair, (left, right) in enumerate([(0, 1), (0, 2)]):
        slow = [[slow_score(estimators, pair, z[i][left], z[j][right]) for j in range(9)] for i in range(9)]
        assert torch.allclose(scores[pair], torch.tensor(slow, dtype=torch.float64), rtol=1e-10)
        value = sum(slow[i][i] for i in range(9)) / 9
        value -= math.log(sum(math.exp(g) for row in slow for g in row) / 81)
        assert estimators(states)[pair].item() == pytest.approx(value, rel=1e-9)
    assert torch.equal(joint, scores.diagonal(dim1=1, dim2=2))


def test_permuted_marginals_are_pairs_of_the_batch():
    """The x in order, and each y once, all pairs of variables shuffled alike."""
    estimators, states = wild("permute")
    z = estimators.project(states)
    torch.manual_seed(3)
    joint, marginal = estimators.scores(z)
    torch.manual_seed(3)
    order = torch.randperm(9)
    assert (order != torch.arange(9)).any()
    estimators.marginals = "all_pairs"
    own, scores = estimators.scores(z)
    assert torch.allclose(joint, own) and torch.allclose(marginal, scores[:, torch.arange(9), order])


def test_with_all_pairs_no_network_gets_above_log_b():
    for seed in range(20):
        for scale in (1.0, 5.0, 100.0):
            estimators, states = wild(seed=seed, scale=scale)
            assert (estimators(states) <= math.log(9) + 1e-9).all()
    peak = 50 * torch.eye(9, dtype=torch.float64).unsqueeze(0)
    assert bound(peak.diagonal(dim1=1, dim2=2), peak).item() == pytest.approx(math.log(9))


def test_adding_a_constant_to_all_scores_changes_nothing_even_if_it_is_large():
    joint, scores = torch.randn(2, 9).double(), torch.randn(2, 9, 9).double()
    for constant in (3.0, -700.0, 5000.0):
        assert torch.allclose(bound(joint + constant, scores + constant), bound(joint, scores))


def test_bf16_states_are_estimated_in_float32():
    estimators, states = wild()
    estimators.float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = estimators(states.bfloat16())
    assert inside.dtype == torch.float32 and torch.equal(inside, estimators(states.bfloat16().float()))


def test_the_ascent_follows_the_corrected_gradient():
    """In the first step of a fresh Adam only signs count. So this test looks at the gradient that Adam was given."""
    estimators, states = wild()
    z, seen = estimators.project(states), []
    estimators.log_ema.fill_(0.7)

    class Spy:
        def step(self):
            seen.extend(p.grad for p in estimators.parameters())

        def zero_grad(self):
            pass

    estimators.ascend(z, Spy())
    ema = math.log(0.99 * math.exp(0.7)) + torch.zeros(2).double()
    _, scores = estimators.scores(z)
    ema = (ema.exp() + 0.01 * scores.exp().mean((1, 2))).log()
    assert torch.allclose(estimators.log_ema, ema)
    estimators.requires_grad_(True)
    joint, scores = estimators.scores(z)
    value = joint.mean(1) - (scores - ema[:, None, None]).exp().mean((1, 2))
    expected = torch.autograd.grad(-value.sum(), list(estimators.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(seen, expected, strict=True))


def test_the_ascent_raises_the_bound():
    estimators, states = wild()
    z, optimizer = estimators.project(states), adam(estimators, 1e-3)
    values = []
    for _ in range(20):
        values.append(estimators.estimate(z))
        estimators.ascend(z, optimizer)
    assert (values[-1] > values[0]).all()


def test_the_networks_with_the_best_bound_on_held_out_batches_are_kept(monkeypatch):
    """The networks could learn the fitted examples by heart, so the held out ones decide."""
    values = iter([0.0, 1.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0])
    seen = []

    def measure(estimators, batches):
        seen.append((len(batches), {n: t.clone() for n, t in estimators.state_dict().items()}))
        return torch.full((2,), next(values))

    monkeypatch.setattr(mutual_information, "measure", measure)
    monkeypatch.setattr(mutual_information, "STEPS", 1000)
    monkeypatch.setattr(mutual_information, "EVERY", 20)
    estimators, _ = wild()
    used = []
    ascend = Estimators.ascend
    monkeypatch.setattr(Estimators, "ascend", lambda self, z, o: (used.append(int(z[0, 0, 0])), ascend(self, z, o)))
    batches = [torch.full((8, 3, 4), float(k)).double() for k in range(25)]
    assert mutual_information.fit(estimators, [batches, batches], adam(estimators, 1e-3))
    assert set(used) == set(range(25)) - {0, 10, 20} and seen[0][0] == 6
    assert len(used) == 7 * 20  # smoothed: .5 .65 .32 .16 ...: the second is best
    best = seen[2][1]
    assert all(torch.equal(t, best[n]) for n, t in estimators.state_dict().items() if n != "reference")
    assert not torch.equal(estimators.w_x, seen[0][1]["w_x"]) and not torch.equal(estimators.w_x, seen[-2][1]["w_x"])


# The first stage.


@pytest.mark.parametrize("option", INFORMATION)
def test_a_model_that_never_moves_has_gaps_whose_mean_is_zero_within_noise(option, monkeypatch):
    """Two epochs of a second stage in which the model has learning rate 0, with new masks in each pass."""
    for name, value in {"STEPS": 300, "EVERY": 50, "DRAWS": 4, "REHEARSAL": 100}.items():
        monkeypatch.setattr(mutual_information, name, value)
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
    seen, draw = [], mutual_information.draw

    def spy(method, estimators, model, batches):
        seen.append({batch.task.name for batch in batches()})
        return draw(method, estimators, model, batches)

    monkeypatch.setattr(mutual_information, "draw", spy)
    method, model, batches = prepared(option, TASK, KINDS["regression"])
    assert seen == [{"rte"}, {"stsb"}] and method.estimators.keys() == {"rte", "stsb"}
    before = {name: t.clone() for name, t in method.state_dict().items()}
    assert not torch.equal(before["estimators.rte.mean"], before["estimators.stsb.mean"])
    only_term(method, model.train(), batches["rte"][0])
    changed = {name for name, t in method.state_dict().items() if not torch.equal(t, before[name])}
    assert changed and all(name.startswith("estimators.rte.") for name in changed)


@pytest.mark.parametrize("option", INFORMATION)
def test_too_few_examples_for_a_first_stage_are_refused(option, monkeypatch):
    monkeypatch.setattr(mutual_information, "FEWEST_EXAMPLES", FEWEST_EXAMPLES)
    with pytest.raises(InputError, match=rf"--option {option} needs 128 inputs .* not 112 in 7"):
        prepared(option, size=112)
    prepared(option, size=128)


def test_the_references_are_the_mean_of_what_the_second_stage_would_see(monkeypatch):
    """Seven passes over five batches, each with new masks. The first half of the estimates does not count."""
    monkeypatch.setattr(mutual_information, "REHEARSAL", 7)
    method, model, batches = prepared("mine", size=80)
    estimators, seen, values = method.estimators["rte"], [], []
    follow = method.follow

    def spy(estimators, z):
        seen.append(z)
        values.append(follow(estimators, z))
        return values[-1]

    monkeypatch.setattr(method, "follow", spy)
    mutual_information.rehearse(method, estimators, model, lambda: iter(batches["rte"]))
    assert len(seen) == 7 and torch.equal(estimators.reference, (values[3] + values[4] + values[5] + values[6]) / 4)
    assert seen[0].shape == seen[5].shape and not torch.equal(seen[0], seen[5])  # one batch, twice


@pytest.mark.parametrize("enough, passes", [(79, 1), (80, 1), (160, 2), (1000, 4)])
def test_large_sets_are_drawn_fewer_times(enough, passes, monkeypatch):
    for name, value in {"ENOUGH": enough, "DRAWS": 4}.items():
        monkeypatch.setattr(mutual_information, name, value)
    method, model, batches = prepared("mine", size=80)
    draws = mutual_information.draw(method, method.estimators["rte"], model, lambda: iter(batches["rte"]))
    assert [len(z) for z in draws] == [5] * passes
    assert len({z[0].sum().item() for z in draws}) == passes  # with new masks


@pytest.mark.parametrize("dropout, warns", [(0.0, True), (0.1, False)])
def test_a_model_without_dropout_is_named(dropout, warns, caplog):
    prepared("mine", dropout=dropout)
    assert ("mine: the model has no dropout" in caplog.text) == warns


@pytest.mark.parametrize("limit, warns", [(10, True), (1000, False)])
def test_a_first_stage_that_ends_at_the_limit_says_so(limit, warns, caplog, monkeypatch):
    monkeypatch.setattr(mutual_information, "STEPS", limit)
    monkeypatch.setattr(mutual_information, "PATIENCE", 2)
    values = itertools.chain([0.0, 1.0, 2.0, 3.0], itertools.repeat(0.0))  # of each evaluation: they stop rising
    monkeypatch.setattr(mutual_information, "measure", lambda *_: torch.full((2,), next(values)))
    prepared("mine")
    assert (f"mine: the estimates for rte still rose after {limit} steps, the limit" in caplog.text) == warns


@pytest.mark.parametrize("share, warns", [(0.79, False), (0.81, True)])
@pytest.mark.parametrize("marginals", ["all_pairs", "permute"])
def test_references_near_the_limit_of_a_batch_are_named(marginals, share, warns):
    estimators, _ = wild(marginals)
    estimators.reference.copy_(torch.tensor([0.1, share * math.log(16)]))
    text = mutual_information.describe(estimators, [[torch.zeros(16, 3, 4)]])
    assert ("too near" in text) == (warns and marginals == "all_pairs")


def test_a_resumed_run_has_no_first_stage(tmp_path, monkeypatch):
    stages, draw = [], mutual_information.draw

    def counted(*arguments):
        stages.append(1)
        return draw(*arguments)

    monkeypatch.setattr(mutual_information, "draw", counted)

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


# What the methods share.


@pytest.mark.parametrize("option", INFORMATION)
def test_the_model_and_the_estimators_each_learn_from_their_own_gradient_alone(option):
    method, model, batch = ready(option)
    clean = model(batch)
    method.penalty(model, batch, clean)  # new networks may estimate less than 0, for which `ib` has no gradient
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


def gradient(option: str, mode: str, reference: float) -> tuple[torch.Tensor, float]:
    """The penalty's gradient by the token embeddings, and the penalty."""
    method, model, batch = ready(option, f"mode={mode}", "weight=0.5", hidden_dropout_prob=0.0)
    method.estimators[TASK.name].reference.fill_(reference)
    penalty = only_term(method, model, batch)
    return torch.autograd.grad(penalty, model.bert.embeddings.token.weight)[0], penalty.item()


def is_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a - b).norm() <= 1e-9 * b.norm()


@pytest.mark.parametrize("option", WITH_MODE)
def test_only_with_the_signed_distance_is_the_gradient_blind_to_the_references(option):
    low, high = (gradient(option, "signed", reference) for reference in (-2.0, 5.0))
    assert is_close(low[0], high[0]) and low[0].norm() > 1e-6
    assert low[1] - high[1] == pytest.approx(0.5 * 2 * 7)  # two pairs
    below, above = (gradient(option, "abs", reference) for reference in (-2.0, 5.0))
    assert is_close(below[0], low[0]) and is_close(above[0], -low[0])
    assert below[1] == pytest.approx(low[1]) and above[1] == pytest.approx(-high[1])
    squared = gradient(option, "squared", 5.0)
    assert squared[1] > 0 and torch.nn.functional.cosine_similarity(squared[0].flatten(), above[0].flatten(), 0) > 0.99


@pytest.mark.parametrize("option", INFORMATION)
def test_a_micro_batch_of_fewer_than_eight_examples_has_no_penalty(option):
    method, model, _ = ready(option)
    networks = {n: t.clone() for n, t in method.state_dict().items()}
    batch = make_batch(TASK, rows=7)
    assert method.penalty(model, batch, model(batch)) == {}
    assert all(torch.equal(t, networks[n]) for n, t in method.state_dict().items())
    batch = make_batch(TASK, rows=8, tokens=10)
    assert method.penalty(model, batch, model(batch)).keys() == {"information"}


@pytest.mark.parametrize("option", INFORMATION)
def test_a_batch_is_estimated_before_the_networks_learn_from_it(option):
    method, model, batch = ready(option)
    estimators = method.estimators["rte"]
    z = estimators.project(method.states(model(batch), batch))
    before = estimators.estimate(z)
    assert torch.equal(method.follow(estimators, z), before)
    assert (estimators.estimate(z) > before).all()


@pytest.mark.parametrize("option", INFORMATION)
def test_the_networks_take_as_many_steps_as_ascents_says(option, monkeypatch):
    calls = []
    monkeypatch.setattr(mutual_information.Estimators, "ascend", lambda self, z, optimizer: calls.append(1))
    only_term(*ready(option, "ascents=3"))
    assert len(calls) == 3


@pytest.mark.parametrize("option", INFORMATION)
def test_without_weight_there_are_no_estimators(option):
    method, model, batch = ready(option, "weight=0")
    assert list(method.state_dict()) == [] and method.optimizers() == ()
    assert method.penalty(model, batch, model(batch)) == {}
    method.prepare(model, None)


@pytest.mark.parametrize("option", INFORMATION)
def test_a_model_with_one_layer_is_refused(option):
    with pytest.raises(InputError, match=f"--option {option} compares layers, and the model has only one"):
        ready(option, num_hidden_layers=1)


@pytest.mark.parametrize(
    "setting, message",
    [
        ("weight=-1", "weight must be at least 0 and finite, not -1.0"),
        ("marginals=some", "marginals must be one of all_pairs, permute, not some"),
        ("proj_dim=0", "proj_dim must be none or at least 1, not 0"),
        ("hidden=0", "hidden must be at least 1, not 0"),
        ("ascents=0", "ascents must be at least 1, not 0"),
        ("phi_lr=0", "phi_lr must be above 0 and finite, not 0.0"),
    ],
)
@pytest.mark.parametrize("option", INFORMATION)
def test_a_bad_setting_is_refused(option, setting, message):
    with pytest.raises(InputError, match=f"--set {option}: {message}"):
        build(option, [f"{option}.{setting}"])
