"""The contract of regularizers/base.py, for every registered method and every kind of task."""

import copy
import inspect
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from support.factories import CPU, KINDS, attached, inserted, make_dataset, make_model, noise_by_place

from minbert.errors import InputError
from minbert.optimizer import AdamW, parameter_groups
from minbert.published import is_inserted, plain_name
from minbert.random_state import derive_seed
from minbert.training.loop import backward
from minbert.training.objective import Objective
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, describe
from regularizers.base import Method, Sum

COMBINATIONS = [
    "frozen+smart", "smart+frozen", "adapter+lhuc", "smart+pal+lhuc", "lnsr+l2sp", "mixout+r4f+noise", "mine+smart",
]  # fmt: skip
SETTINGS = Settings(lr=1e-2, weight_decay=0.1, clip=1.0)


class Trainer:
    """The steps of training.fit, one at a time."""

    def __init__(self, option: str, settings=(), task=KINDS["two classes"], **config):
        self.dataset = make_dataset(task)
        self.model, self.method = make_model(task, **config), build(option, settings)
        self.method.attach(self.model)
        self.method.warmup(self.model, lambda: map(self.dataset.collate, (list(range(12)), list(range(12, 24)))))
        self.objective = Objective(self.model, self.method).train()
        self.optimizer = AdamW(parameter_groups(self.model, 0.1, self.method.undecayed(self.model)), lr=1e-2)
        self.done = 0

    def steps(self, number: int):
        for _ in range(number):
            rows = [(self.done * 10 + i) % 24 for i in range(10)]
            self.terms, _ = backward(self.objective, self.dataset, rows, SETTINGS, CPU, CPU.scaler(), self.done)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.done += 1
            self.method.after_step(self.model, self.done / 6)
        return self


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def plain_run(steps: int = 6):
    """Fine-tuning without any of it: the model, the loss, torch's own machinery around AdamW."""
    task = KINDS["two classes"]
    model, dataset = make_model(task).train(), make_dataset(task)
    optimizer = AdamW(parameter_groups(model, 0.1), lr=1e-2)
    for step in range(steps):
        batch = dataset.collate([(step * 10 + i) % 24 for i in range(10)])
        torch.manual_seed(derive_seed(0, step, 0, 0))
        torch.nn.functional.cross_entropy(model(batch).logits, batch.labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize("option", [name for name, option in OPTIONS.items() if option.neutral is not None])
def test_a_neutral_method_equals_plain_fine_tuning_bit_for_bit(option):
    settings = [f"{option}.{key}={value}" for key, value in OPTIONS[option].neutral.items()]
    assert same(Trainer(option, settings).steps(6).model.state_dict(), plain_run())


@pytest.mark.parametrize("option", ["smart+l2sp+lnsr", "mixout+r3f", "noise+mine+ib"])
def test_neutral_methods_together_do_too(option):
    settings = [f"{name}.{key}={value}" for name in option.split("+") for key, value in OPTIONS[name].neutral.items()]
    assert same(Trainer(option, settings).steps(6).model.state_dict(), plain_run())


@pytest.mark.parametrize("option", [name for name, option in OPTIONS.items() if name != "finetune"])
def test_a_method_at_its_defaults_does_not(option):
    assert not same(Trainer(option).steps(6).model.state_dict(), plain_run())


@pytest.mark.parametrize("option", [*OPTIONS, *COMBINATIONS])
def test_save_rebuild_load_and_go_on_equals_uninterrupted(option):
    whole, first, second = Trainer(option).steps(6), Trainer(option).steps(3), Trainer(option)
    second.objective.load_state_dict(first.objective.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for mine, saved in zip(second.method.optimizers(), first.method.optimizers(), strict=True):
        mine.load_state_dict(saved.state_dict())
    second.done = 3
    assert same(second.steps(3).objective.state_dict(), whole.objective.state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_works_for_every_kind_and_leaves_the_frozen_alone(option, kind):
    trainer = Trainer(option, task=KINDS[kind])
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.steps(3)
    for name, p in trainer.model.named_parameters():
        assert torch.isfinite(p).all()
        if not p.requires_grad:
            assert torch.equal(p, before[name])
    assert any(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())
    for name, term in trainer.terms.items():
        assert term.shape == () and (name == "task" or term > 0), (name, term)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_more_padding_changes_nothing(option, kind, monkeypatch):
    """Dropout 0 and the same noise on the real tokens, whatever the shape that is asked for."""
    for name in ("randn_like", "rand_like"):
        monkeypatch.setattr(torch, name, noise_by_place())
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    trainer = Trainer(option, task=KINDS[kind], **no_dropout)
    trainer.objective.double()
    results = []
    start, optimizers = copy.deepcopy(trainer.objective.state_dict()), trainer.method.optimizers()
    for extra in (0, 6):
        trainer.objective.load_state_dict(start)  # a penalty may train networks of its own
        for optimizer in optimizers:
            optimizer.state.clear()
        batch = trainer.dataset.collate([0, 3, 7, 9, 12, 13, 17, 19, 22])
        for field in ("input_ids", "token_type_ids", "attention_mask"):
            setattr(batch, field, torch.nn.functional.pad(getattr(batch, field), (0, extra)))
        trainer.model.zero_grad()
        loss, terms = trainer.objective(batch)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        results.append((trainer.model(batch).logits.detach(), loss.detach(), gradient, *terms.values()))
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= 1e-5 * a.norm()


@pytest.mark.parametrize("option", OPTIONS)
def test_evaluation_knows_nothing_of_the_method(option):
    """The logits are those of the weights alone, in a plain model; inserted modules, which are weights too, stay."""
    trainer = Trainer(option).steps(2)
    plain = make_model(KINDS["two classes"])
    weights = {plain_name(name): tensor for name, tensor in trainer.model.state_dict().items()}
    weights |= {f"heads.{task}.weight": head.weight for task, head in trainer.model.heads.items()}
    if any(is_inserted(name.removeprefix("bert.")) for name in weights if name.startswith("bert.")):
        build(option).attach(plain)
    plain.load_state_dict({name: weights[plain_name(name)] for name in plain.state_dict()})
    trainer.objective.eval()
    batch = trainer.dataset.collate([1, 2, 3])
    assert torch.equal(trainer.model(batch).logits, plain.eval()(batch).logits)


class Part(Method):
    """Writes down in which order the parts of a Sum attach."""

    order: ClassVar[list[str]] = []

    def __init__(self, name: str, inserts: bool, lr: float, fp32: bool):
        super().__init__()
        self.name, self.inserts, self.lr, self.fp32 = name, inserts, lr, fp32

    def attach(self, model):
        self.order.append(self.name)

    def warmup(self, model, batches):
        self.drawn = torch.rand(1).item()


def test_a_sum_attaches_inserting_parts_first_and_takes_the_most_careful_settings():
    a, b, c = Part("a", False, None, True), Part("b", True, 1e-3, False), Part("c", True, 3e-4, False)
    whole = Sum({"a": a, "b": b, "c": c})
    whole.attach(None)
    assert Part.order == ["b", "c", "a"]
    assert (whole.lr, whole.fp32) == (3e-4, True)


def test_a_part_draws_the_same_alone_and_in_company():
    alone, company = Trainer("smart"), Trainer("frozen+smart")
    batch = alone.dataset.collate([1, 2, 3])
    drawn = []
    for trainer in (alone, company):
        torch.manual_seed(5)
        drawn.append(trainer.objective(batch)[1]["smart.smoothness"])
    assert torch.equal(*drawn)


def test_a_first_stage_draws_the_same_alone_and_in_company():
    a, b = Part("a", False, None, False), Part("b", False, None, False)
    drawn = []
    for parts in ({"b": b}, {"a": a, "b": b}):
        torch.manual_seed(5)
        Sum(parts).warmup(None, None)
        drawn.append(b.drawn)
    assert drawn[0] == drawn[1] != a.drawn


def test_a_part_inserts_the_same_alone_and_in_company():
    alone, first, second = (
        {plain_name(name): p for name, p in inserted(attached(option)).items()}
        for option in ("adapter", "adapter+low-rank", "low-rank+adapter")
    )
    assert alone and all(torch.equal(p, first[name]) for name, p in alone.items())
    assert first.keys() == second.keys() and all(torch.equal(p, second[name]) for name, p in first.items())


@pytest.mark.parametrize(
    "option, settings, message",
    [
        ("smrat", [], "'smrat' is none of finetune, "),
        ("l2sp+frozen", [], "l2sp needs the pretrained weights to change, and frozen freezes them"),
        ("adapter+mixout", [], "mixout needs the pretrained weights to change, and adapter freezes them"),
        ("mine+frozen", [], "mine needs the hidden states to change, and frozen freezes them"),
        ("mixout+mine", [], "mine needs the masks of dropout to change, and mixout freezes them"),
        ("ib+ib-sp", [], "ib and ib-sp are both a bottleneck; take one of them"),
        ("mine", ["mine.ascents=0"], "ascents must be at least 1, not 0"),
        ("frozen+lnsr", [], "lnsr needs the hidden states to change, and frozen freezes them"),
        ("r3f+r4f", [], "r3f and r4f are both R3F; take one of them"),
        ("smart+smart", [], "each method once"),
        ("finetune+smart", [], "finetune alone"),
        ("frozen+lhuc", [], "lhuc needs the hidden states to change, and frozen freezes them"),
        ("pal+frozen", [], "pal needs the hidden states to change, and frozen freezes them"),
        ("pal+low-rank", [], "pal and low-rank are both a branch beside each layer; take one of them"),
        ("pal", ["pal.heads=5"], "heads must divide size, and 5 does not divide 204"),
        ("pal", ["pal.out_act=relu"], "out_act must be none or gelu"),
        ("low-rank", ["low-rank.size=0"], "size must be at least 1, not 0"),
        ("adapter", ["adapter.size=0"], "size must be at least 1"),
        ("adapter", ["adapter.std=nan"], "std must be a number from 0 up"),
        ("adapter", ["adapter.place=middle"], "place must be houlsby, before or after, not middle"),
        ("finetune", ["smart.eps=1"], "smart is not in --option finetune"),
        ("smart", ["smart.eps=1", "smart.eps=2"], "smart.eps is set twice"),
        ("smart", ["smart.eps"], "must look like smart.eps=1e-3"),
        ("smart", ["smart.epsilon=1"], "smart has weight, eps, "),
        ("smart", ["smart.eps=small"], "smart.eps=small: not a value of type float"),
        ("smart", ["smart.eps=-1"], "smart: eps must be a number from 0 up, not -1.0"),
        ("smart", ["smart.eps=nan"], "smart: eps must be"),
        ("smart", ["smart.beta=0.9"], "not a value of type tuple"),
        ("smart", ["smart.beta=0.9,1.1"], "beta must be two numbers from 0 to 1"),
        ("smart", ["smart.project=clip"], "project must be clamp or normalize"),
        ("smart", ["smart.dropout=on"], "dropout must be one of shared, independent, off"),
    ],
)
def test_bad_options_and_settings(option, settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build(option, settings)


def test_settings_are_converted():
    part = build("smart", ["smart.eps=1e-3", "smart.steps=2", "smart.beta=0.5,0.75", "smart.sigma=none"]).parts["smart"]
    assert (part.eps, part.steps, part.beta, part.sigma, part.eta) == (1e-3, 2, (0.5, 0.75), 1e-3, 0.1)


def test_describe_lists_every_option_and_hyper_parameter():
    text = describe()
    for name, option in OPTIONS.items():
        assert f"\n{name} " in f"\n{text}"
        for key in inspect.signature(option).parameters:
            assert key in ("args", "kwargs") or f"{name}.{key}=" in text


FILES = sorted(
    {Path(inspect.getfile(option)) for option in OPTIONS.values()} - {Path(inspect.getfile(OPTIONS["finetune"]))}
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tags_of_header_and_code_agree(path):
    """Every numbered equation and difference of the header stands at a line of code, and the other way round."""
    header, code = re.fullmatch(r'"""(.*?)"""(.*)', path.read_text(encoding="utf-8"), re.DOTALL).groups()
    tag = re.compile(r"\((?:m|§)?[\d.]+\)|\bD\d+\b|Alg\.\d+ l\.\d+")
    in_code = {t for comment in re.findall(r"  # (.*)", code) for t in tag.findall(comment)}
    declared = set(re.findall(r"^  (\(m?\d+\)|D\d+) ", header, re.MULTILINE)) | set(
        re.findall(r"  (\(m\d+\))  ", header)
    )
    assert declared == in_code
    for section in ("Idea:", "Objective", "Symbols:", "Cost:", "Differences:"):
        assert section in header
