"""What a method says of itself is true: inserts, freezes, needs, fp32. `build` refuses combinations by these words.

Each test finds out what attach and the terms do, and compares that with the flag.
"""

import inspect
from itertools import permutations
from typing import get_type_hints

import pytest
import torch
from support.factories import KINDS, make_dataset, make_model, turn_off_dropout
from torch import nn

from minbert.classifier import SentenceModel
from minbert.errors import InputError
from minbert.published import is_inserted, plain_name
from minbert.task import Batch
from minbert.training.loop import Objective
from regularizers import OPTIONS, build
from regularizers.base import DROPOUT, HIDDEN_STATES, WEIGHTS, Method, Sum, bert_parameters, replaces_loss, unwrap

TASK = KINDS["two classes"]
# Each option at its defaults, and with each of its switches on (freeze=true changes what a method says of itself).
VARIANTS = [(option, ()) for option in OPTIONS] + [
    (option, (f"{option}.{key}=true",))
    for option in OPTIONS
    for key, kind in get_type_hints(OPTIONS[option].__init__).items()
    if kind is bool
]
every_variant = pytest.mark.parametrize("option, settings", VARIANTS, ids=[" ".join((o, *s)) for o, s in VARIANTS])


def only_part(method: Sum) -> Method:
    (part,) = method.parts.values()
    return part


def signature(model: SentenceModel) -> tuple[list, dict]:
    """The modules by name and type, and which parameters require a gradient."""
    modules = [(name, type(module)) for name, module in model.named_modules()]
    return modules, {name: p.requires_grad for name, p in model.named_parameters()}


@every_variant
def test_inserts_is_true_if_and_only_if_attach_changes_modules_or_requires_grad(option, settings):
    model, method = make_model(TASK), build(option, settings)
    before = signature(model)
    method.attach(model)
    changes = signature(model) != before
    assert only_part(method).inserts == changes, (
        f"{option}: attach {'changes' if changes else 'does not change'} modules or requires_grad, so set "
        f"inserts = {changes}. A Sum attaches inserting methods first, so that a snapshot of the model sees all modules"
    )


@every_variant
def test_freezes_says_what_stops_changing(option, settings):
    model, method, batch = make_model(TASK), build(option, settings), make_dataset(TASK).collate(list(range(10)))
    hidden = model.eval()(batch).hidden
    method.attach(model)
    trains = any(p.requires_grad for p in model.bert.parameters())
    frozen = {
        WEIGHTS: any(not p.requires_grad for _, p in bert_parameters(model)),
        HIDDEN_STATES: not trains and same(model.eval()(batch).hidden, hidden),
        DROPOUT: all(module.p == 0 for module in model.bert.modules() if isinstance(module, nn.Dropout)),
    }
    for what, stops in frozen.items():
        assert (what in only_part(method).freezes) == stops, (
            f"{option}: after attach, {what} {'do not change' if stops else 'change'} in training, so "
            f"`freezes` must {'' if stops else 'not '}name them. `build` refuses other methods by it"
        )


def same(some: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@every_variant
def test_needs_names_the_weights_if_and_only_if_a_method_acts_through_their_movement_alone(option, settings):
    """At the pretrained weights such a method adds the same to the loss of every batch (L2-SP: that of the head)."""
    model, plain, method, dataset = make_model(TASK), make_model(TASK), build(option, settings), make_dataset(TASK)
    method.attach(model)
    turn_off_dropout(model)
    turn_off_dropout(plain)
    objective, reference = (Objective(m, x).double().train() for m, x in ((model, method), (plain, build("finetune"))))
    method.prepare(model, lambda task: map(dataset.collate, (list(range(12)), list(range(12, 24)))))
    nudge(model, inserted=True)  # what is inserted may begin as the identity
    batches = [dataset.collate(rows) for rows in (list(range(12)), list(range(12, 24)), list(range(6, 18)))]
    at_start = added_to_the_loss(objective, reference, batches)
    for one in (model, plain):
        nudge(one, inserted=False)
    moved = added_to_the_loss(objective, reference, batches)
    acts_at_start = (at_start - at_start[0]).abs().max() > 1e-9
    acts_when_moved = (moved - at_start).abs().max() > 1e-9
    needs = bool(acts_when_moved and not acts_at_start)
    assert (WEIGHTS in only_part(method).needs) == needs, (
        f"{option}: as long as {WEIGHTS} stay where they began, it adds {at_start.tolist()} to the loss of three "
        f"batches, and {moved.tolist()} once they have moved. So `needs` must {'' if needs else 'not '}name WEIGHTS: "
        "a method whose whole effect is their movement is refused together with one that freezes them"
    )


@torch.no_grad()
def nudge(model: SentenceModel, inserted: bool) -> None:
    """Move either the inserted or the pretrained parameters, the same in every model that has them."""
    for name, p in model.named_parameters():
        if name.startswith("bert.") and is_inserted(name.removeprefix("bert.")) == inserted:
            generator = torch.Generator().manual_seed(sum(map(ord, plain_name(name))))
            p.add_(torch.randn(p.shape, generator=generator).to(p.dtype), alpha=0.3)


def added_to_the_loss(objective: Objective, reference: Objective, batches: list[Batch]) -> torch.Tensor:
    return torch.stack([objective(batch)[0].detach() - reference(batch)[0].detach() for batch in batches])


@every_variant
def test_needs_names_the_hidden_states_if_and_only_if_a_frozen_encoder_contradicts_the_method(option, settings):
    """Either it inserts parameters into the encoder, or none of its terms has a gradient for what still trains."""
    model, method, batch = make_model(TASK), build(option, settings), make_dataset(TASK).collate(list(range(10)))
    model.bert.requires_grad_(False)
    method.attach(model)
    trains_inside = any(p.requires_grad for p in model.bert.parameters())
    terms = method.penalty(model.train(), batch, model(batch))
    trained = [p for p in model.parameters() if p.requires_grad]
    needs = trains_inside or (bool(terms) and not any(reaches(term, trained) for term in terms.values()))
    assert (HIDDEN_STATES in only_part(method).needs) == needs, (
        f"{option}: on a frozen encoder it {'inserts parameters that train' if trains_inside else 'inserts nothing'}, "
        f"and its terms are {list(terms)}. So `needs` must {'' if needs else 'not '}name HIDDEN_STATES: a method that "
        "changes them, or that penalises only them, is refused together with one that keeps them as they are"
    )


def reaches(term: torch.Tensor, parameters: list[torch.Tensor]) -> bool:
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in gradients)


@every_variant
def test_needs_names_dropout_if_and_only_if_a_method_is_about_its_masks(option, settings):
    """Either its first stage draws masks, or without masks all its terms are zero."""
    drawn, dataset = [], make_dataset(TASK)
    model, method = make_model(TASK), build(option, settings)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, *_: drawn.append(module.training))
    only_part(method).attach(model)
    only_part(method).prepare(model, lambda task: map(dataset.collate, (list(range(12)), list(range(12, 24)))))
    model, method, batch = make_model(TASK), build(option, settings), dataset.collate(list(range(10)))
    method.attach(model)
    turn_off_dropout(model)
    terms = method.penalty(model.train(), batch, model(batch))
    needs = any(drawn) or (bool(terms) and not any(term.any() for term in terms.values()))
    assert (DROPOUT in only_part(method).needs) == needs, (
        f"{option}: its first stage draws {'' if any(drawn) else 'no '}masks of dropout, and without dropout its terms "
        f"are {[f'{name} {term:.2g}' for name, term in terms.items()]}. So `needs` must {'' if needs else 'not '}name "
        "DROPOUT: a method that is about the masks is refused together with one that turns them off"
    )


@every_variant
def test_fp32_is_true_if_and_only_if_a_method_perturbs_hidden_states_a_little(option, settings):
    """What enters the layers then depends on the batch's seed, even without dropout."""
    model, method, dataset = make_model(TASK), build(option, settings), make_dataset(TASK)
    method.attach(model)
    turn_off_dropout(model)
    method.prepare(model, lambda task: map(dataset.collate, (list(range(12)), list(range(12, 24)))))
    inputs: list[torch.Tensor] = []
    for layer in model.bert.layers:
        unwrap(layer).attention.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach()))
    objective, passes = Objective(model, method).train(), []
    for seed in (1, 2):
        inputs.clear()
        objective(dataset.collate(list(range(10)), seed=seed))
        passes.append(torch.stack(inputs))
    one, other = passes
    change = (one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)
    perturbs = bool(change.any())
    assert change.max() < 0.5
    assert only_part(method).fp32 == perturbs, (
        f"{option}: without dropout, two seeds move the inputs of the layers by {change.max():.2g} of themselves. "
        f"So set fp32 = {perturbs}: bfloat16 keeps 8 bits, and a small perturbation would be lost in rounding"
    )


def test_a_sum_computes_in_fp32_if_and_only_if_one_of_its_parts_does():
    parts = {option: only_part(build(option)) for option in OPTIONS}
    joined = [(one, other) for one, other in permutations(OPTIONS, 2) if not refuses(f"{one}+{other}")]
    assert len({(parts[one].fp32, parts[other].fp32) for one, other in joined}) == 4  # all four combinations
    for one, other in joined:
        assert build(f"{one}+{other}").fp32 == (parts[one].fp32 or parts[other].fp32), f"{one}+{other}"


def test_build_refuses_what_contradicts_itself_and_nothing_else():
    """By flags alone, for each pair of options. Two methods that have nothing against each other can be joined."""
    parts = {option: only_part(build(option)) for option in OPTIONS}
    alone = [option for option, kind in OPTIONS.items() if kind is Method]
    for one, other in permutations(OPTIONS, 2):
        a, b = parts[one], parts[other]
        contradicts = {*a.freezes} & {*b.needs} or {*b.freezes} & {*a.needs}
        alike = a.kind is not None and a.kind == b.kind
        refused = bool(contradicts or alike or (replaces_loss(a) and replaces_loss(b)) or {one, other} & {*alone})
        assert refuses(f"{one}+{other}") == refused, f"{one}+{other}"


def refuses(option: str) -> bool:
    try:
        build(option)
    except InputError as error:
        assert str(error).startswith(f"--option {option}: ")
        return True
    return False


class Freezing(Method):
    freezes = (WEIGHTS,)
    kind = "a test"


class Needy(Method):
    needs = (WEIGHTS,)


class Alike(Method):
    kind = "a test"


class Replacing(Method):
    def loss(self, model, batch, clean):
        return torch.zeros(())


class ReplacingToo(Replacing):
    pass


@pytest.mark.parametrize(
    "one, other, reason",
    [
        (Needy, Freezing, "one needs the pretrained weights to change, and other freezes them"),
        (Freezing, Needy, "other needs the pretrained weights to change, and one freezes them"),
        (Freezing, Alike, "one and other are both a test; take one of them"),
        (Replacing, ReplacingToo, "one and other both replace the task loss; take one of them"),
    ],
)
def test_a_refusal_gives_its_reason(one, other, reason, monkeypatch):
    monkeypatch.setitem(OPTIONS, "one", one)
    monkeypatch.setitem(OPTIONS, "other", other)
    with pytest.raises(InputError) as error:
        build("one+other")
    assert str(error.value) == f"--option one+other: {reason}"


def test_every_word_of_needs_and_freezes_is_one_of_the_three():
    """A misspelled word would refuse nothing."""
    words = {WEIGHTS, HIDDEN_STATES, DROPOUT}
    for option, settings in VARIANTS:
        part = only_part(build(option, settings))
        assert words.issuperset((*part.needs, *part.freezes)), (
            f"{option}: needs and freezes hold words of regularizers.base: WEIGHTS, HIDDEN_STATES, DROPOUT"
        )


@pytest.mark.parametrize("option", OPTIONS)
def test_neutral_names_hyper_parameters(option):
    keywords = {name for name, p in inspect.signature(OPTIONS[option]).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords.issuperset(OPTIONS[option].neutral or {}), (
        f"{option}: `neutral` maps keywords of the constructor to values, or is None where no settings are neutral"
    )
