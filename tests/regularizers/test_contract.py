"""The contract of a method, for every registered option. Each message tells the author of a method what to do.

docs/add-a-method.md explains the contract. Whether its flags tell the truth: test_flags.py; whether its terms pull:
test_not_inert.py; sums of methods: test_sum.py; several processes: tests/training/test_runtime.py; its header and
settings: test_options.py.
"""

import copy

import pytest
import torch
from support.factories import COURSE, FAMILIES, KINDS, make_dataset, make_model, noise_by_place, turn_off_dropout

from minbert.data.task_file import choose_tasks
from minbert.errors import InputError
from minbert.optimizer import AdamW, parameter_groups
from minbert.published import is_inserted, plain_name
from minbert.random_state import derive_seed
from minbert.task import Batch
from minbert.training.loop import Objective, backward
from minbert.training.runtime import Runtime
from minbert.training.settings import Settings
from regularizers import OPTIONS, build
from regularizers.base import Method

LR, STEPS, ROWS = 1e-2, 6, 24
SETTINGS = Settings(lr=LR, weight_decay=0.1, clip=1.0)
PLACES = [*((kind, "bert") for kind in KINDS), *(("two classes", family) for family in FAMILIES)]  # kind, family
NEUTRAL = [name for name, option in OPTIONS.items() if option.neutral is not None]


def joined(names: list[str]) -> list[str]:
    """All names, in as few combinations as `build` allows: each name goes into the first one that takes it."""
    combinations: list[str] = []
    for name in names:
        for number, combination in enumerate(combinations):
            try:
                build(f"{combination}+{name}")
            except InputError:
                continue
            combinations[number] = f"{combination}+{name}"
            break
        else:
            combinations.append(name)
    return [combination for combination in combinations if "+" in combination]


def neutral_settings(combination: str) -> list[str]:
    return [f"{name}.{key}={value}" for name in combination.split("+") for key, value in OPTIONS[name].neutral.items()]


class Trainer:
    """The steps of training.fit, one at a time."""

    def __init__(
        self,
        device: torch.device,
        option: str,
        settings=(),
        task=KINDS["two classes"],
        dropout: bool = True,
        family: str = "bert",
    ):
        self.runtime, self.dataset = Runtime(device), make_dataset(task, ROWS)
        self.model, self.method = make_model(task, family=family), build(option, settings)
        self.method.attach(self.model)
        self.objective = Objective(self.model, self.method).to(device)
        if not dropout:
            turn_off_dropout(self.model)
        halves = list(range(12)), list(range(12, 24))
        self.method.prepare(self.model, lambda task: map(self.collate, halves))
        self.objective.train()
        self.optimizer = AdamW(parameter_groups(self.model, 0.1, self.method.undecayed(self.model)), lr=LR)
        self.done = 0

    def collate(self, rows: list[int], **seed) -> Batch:
        return self.dataset.collate(rows, **seed).to(self.runtime.device)

    def steps(self, number: int) -> "Trainer":
        for _ in range(number):
            self.rows = [(self.done * 10 + i) % ROWS for i in range(10)]
            backward(self.objective, self.dataset, self.rows, SETTINGS, self.runtime, self.runtime.scaler(), self.done)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.done += 1
            self.method.after_step(self.model, self.done / STEPS)
        return self


def plain_run(device: torch.device, family: str) -> dict[str, torch.Tensor]:
    """Fine-tuning without any of it: the model, torch's loss, and a loop around AdamW."""
    task = KINDS["two classes"]
    model, dataset = make_model(task, family=family).to(device).train(), make_dataset(task, ROWS)
    optimizer = AdamW(parameter_groups(model, 0.1), lr=LR)
    for step in range(STEPS):
        batch = dataset.collate([(step * 10 + i) % ROWS for i in range(10)]).to(device)
        torch.manual_seed(derive_seed(0, step, 0, 0))
        torch.nn.functional.cross_entropy(model(batch).logits, batch.labels.long()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def different(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that differ in any bit, or that only one of the two has."""
    both = a.keys() & b.keys()
    return sorted((a.keys() ^ b.keys()) | {name for name in both if not torch.equal(a[name], b[name])})


# At neutral settings.


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
@pytest.mark.parametrize("option", [*NEUTRAL, *joined(NEUTRAL)])
def test_at_its_neutral_settings_a_method_equals_plain_fine_tuning_bit_for_bit(option, family, device):
    settings = neutral_settings(option)
    changed = different(
        Trainer(device, option, settings, family=family).steps(STEPS).model.state_dict(), plain_run(device, family)
    )
    assert not changed, (
        f"{option}: {STEPS} steps with {settings} differ from plain fine-tuning in {changed[:3]}. At the settings in "
        "`neutral`, attach must change nothing, loss must return super().loss(...), and penalty must return {}. Set "
        "neutral = None where no settings do that"
    )


@pytest.mark.parametrize("option", [name for name, option in OPTIONS.items() if option is not Method])
def test_at_its_defaults_a_method_differs_from_plain_fine_tuning(option, device):
    assert different(Trainer(device, option).steps(STEPS).model.state_dict(), plain_run(device, "bert")), (
        f"{option}: at its default settings it trains exactly what plain fine-tuning trains. Do the hooks that it "
        "overrides have the names and the arguments of regularizers.base.Method?"
    )


# Saved and loaded.


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
@pytest.mark.parametrize("option", [*OPTIONS, *joined(list(OPTIONS))])
def test_save_rebuild_load_and_go_on_equals_uninterrupted(option, family, device):
    whole, first, second = (Trainer(device, option, family=family).steps(steps) for steps in (STEPS, 3, 0))
    second.objective.load_state_dict(first.objective.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for optimizer, saved in zip(second.method.optimizers(), first.method.optimizers(), strict=True):
        optimizer.load_state_dict(saved.state_dict())
    second.done = 3
    changed = different(second.steps(3).objective.state_dict(), whole.objective.state_dict())
    assert not changed, (
        f"{option}: a run that was saved after 3 steps and loaded ends with another {changed[:3]}. Keep what changes "
        "during training in parameters, in buffers, or in the optimizers that optimizers() returns: a checkpoint saves "
        "these and nothing else. Draw random numbers from torch's default generator only"
    )


# Every kind of task.


@pytest.mark.parametrize("kind, family", PLACES)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_method_trains_every_kind_of_task_and_leaves_frozen_parameters_alone(option, kind, family, device):
    trainer = Trainer(device, option, task=KINDS[kind], family=family)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.steps(3)
    for name, p in trainer.model.named_parameters():
        assert torch.isfinite(p).all(), f"{option}: {name} is not finite after three steps of a task with {kind}"
        assert p.requires_grad or torch.equal(p, before[name]), (
            f"{option}: {name} does not require a gradient, but three steps changed it. Does after_step write to it?"
        )
    assert any(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    # The same batch several times: the networks of `ib` may find no information in a batch that is new to them.
    for _ in range(4):
        _, terms = trainer.objective(trainer.collate(trainer.rows, seed=1))
    for name, term in terms.items():
        assert term.shape == (), (
            f"{option}: the term {name} has the shape {tuple(term.shape)}; return a mean over the batch"
        )
        assert name == "task" or term > 0, (
            f"{option}: the term {name} of a task with {kind} is {term:.3g}. A penalty compares two outputs with "
            "batch.task.divergence, which suits each kind: the softmax of a single logit would be always 1"
        )


@pytest.mark.parametrize("kind, family", PLACES)
@pytest.mark.parametrize("option", OPTIONS)
def test_more_padding_changes_nothing(option, kind, family, monkeypatch, device):
    """Without dropout, and with the same noise on the real tokens, however many tokens it is asked for."""
    for name in ("randn_like", "rand_like"):
        monkeypatch.setattr(torch, name, noise_by_place())
    trainer = Trainer(device, option, task=KINDS[kind], family=family, dropout=False)
    trainer.objective.double()
    start, optimizers = copy.deepcopy(trainer.objective.state_dict()), trainer.method.optimizers()
    results = []
    for extra in (0, 6):
        trainer.objective.load_state_dict(start)  # a penalty may train networks of its own
        for optimizer in optimizers:
            optimizer.state.clear()
        batch = trainer.collate([0, 3, 7, 9, 12, 13, 17, 19, 22])
        for field in ("input_ids", "token_type_ids", "attention_mask"):
            setattr(batch, field, torch.nn.functional.pad(getattr(batch, field), (0, extra)))
        trainer.model.zero_grad()
        loss, terms = trainer.objective(batch)
        loss.backward()
        results.append({"logits": trainer.model(batch).logits.detach(), "gradient": gradient(trainer.model), **terms})
    for name, value in results[0].items():
        error = (value - results[1][name]).norm() / value.norm().clamp(min=1e-12)
        assert error <= 1e-5, (
            f"{option}: six more tokens of padding change {name} by {error:.1g} of itself. Multiply noise by "
            "batch.attention_mask.unsqueeze(-1), leave padding out of sums and means over tokens, and draw with "
            "torch.randn_like or torch.rand_like, which this test makes independent of the length"
        )


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# Gradients.


@pytest.mark.parametrize("kind", ["two classes", "separate regression"])
@pytest.mark.parametrize("option", OPTIONS)
def test_loss_and_penalty_leave_no_gradient_behind(option, kind, device):
    trainer = Trainer(device, option, task=KINDS[kind])
    model, method, batch = trainer.model, trainer.method, trainer.collate(list(range(10)))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    clean = model(batch)
    for hook in (method.loss, method.penalty):
        hook(model, batch, clean)
        left = [name for name, p in trainer.objective.named_parameters() if p.grad is not None]
        assert not left, (
            f"{option}: after {hook.__name__}, {left[0]} has a .grad. It would be added to the gradient of the step, "
            "without the share of the micro-batch and before the ranks average. Never call .backward(): compute "
            "gradients inside a method with torch.autograd.grad, and hand them on with base.carry_gradient"
        )
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}, (
        f"{option}: loss or penalty changes which parameters require a gradient. Only attach may do that"
    )


@pytest.mark.parametrize("kind", ["two classes", "separate regression"])
@pytest.mark.parametrize("option", OPTIONS)
def test_one_batch_equals_two_micro_batches(option, kind, monkeypatch, device):
    """Without dropout, and with noise that depends only on the place of the token. 7 rows become 4 and 3."""
    token_noise = noise_by_place()
    for name in ("randn_like", "rand_like"):
        monkeypatch.setattr(torch, name, lambda x: token_noise(x[:1]).expand_as(x) if x.ndim == 3 else token_noise(x))
    gradients = []
    for pieces in (1, 2):
        trainer = Trainer(device, option, task=KINDS[kind], dropout=False)
        trainer.objective.double()
        settings = Settings(accumulate=pieces)
        rows = [0, 3, 7, 9, 12, 13, 17]
        backward(trainer.objective, trainer.dataset, rows, settings, trainer.runtime, trainer.runtime.scaler(), step=0)
        gradients.append(gradient(trainer.model))
    whole, split = gradients
    assert whole.shape == split.shape and (whole - split).norm() <= 1e-6 * whole.norm(), (
        f"{option}: the gradient of 7 examples differs from that of 4 and 3 of them. Terms must be means over the "
        "examples of the batch, and one example must not change what another one adds. A term that needs larger "
        "batches returns nothing for small ones (MINE does). Draw with torch.randn_like or torch.rand_like"
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_parameters_of_a_task_that_is_not_in_the_batch_get_no_gradient(option, device):
    """None, and not zero. A parameter belongs to another task if it moves that task's logits, and not this one's."""
    tasks = choose_tasks(COURSE)
    datasets = {task.name: make_dataset(task, ROWS) for task in tasks}
    model, method = make_model(*tasks), build(option)
    method.attach(model)
    objective = Objective(model, method).double().to(device)
    halves = list(range(12)), list(range(12, 24))
    method.prepare(model, lambda task: (datasets[task].collate(rows).to(device) for rows in halves))
    batches = {name: dataset.collate(list(range(9))).to(device) for name, dataset in datasets.items()}
    nudge_inserted(model)
    few = {name: dataset.collate([0, 1]).to(device) for name, dataset in datasets.items()}
    moved = {name: moved_tasks(model, few, p) for name, p in model.named_parameters()}
    assert any(tasks_moved == {task.name} for task in tasks for tasks_moved in moved.values())
    for task in tasks:
        model.zero_grad()
        objective.train()(batches[task.name])[0].backward()
        for name, p in model.named_parameters():
            if moved[name] and task.name not in moved[name]:
                assert p.grad is None, (
                    f"{option}: a batch of {task.name} gives {name} a gradient, but its logits do not depend on it. "
                    "AdamW would decay it, even where that gradient is zero. Leave it out of sums over parameters, "
                    "keep the None of torch.autograd.grad(..., allow_unused=True), and hand both to base.carry_gradient"
                )
            if p.requires_grad and task.name in moved[name]:
                assert p.grad is not None, (
                    f"{option}: {name} requires a gradient, but a batch of {task.name} gives none"
                )


@torch.no_grad()
def nudge_inserted(model) -> None:
    """Away from special values: a matrix that begins at zero would hide what lies behind it."""
    generator = torch.Generator().manual_seed(4)
    for name, p in model.named_parameters():
        if is_inserted(name.removeprefix("bert.")):
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device), alpha=0.3)


@torch.no_grad()
def moved_tasks(model, batches, p: torch.Tensor) -> set[str]:
    """The names of the tasks whose logits change with this parameter."""
    model.eval()
    before, old = {name: model(batch).logits for name, batch in batches.items()}, p.clone()
    p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3), dtype=p.dtype).to(p.device))
    # (A key's bias moves the logits by rounding errors alone.)
    moved = {name for name, batch in batches.items() if (model(batch).logits - before[name]).abs().max() > 1e-9}
    p.copy_(old)
    return moved


# Evaluation.


@pytest.mark.parametrize("option", OPTIONS)
def test_evaluation_knows_nothing_of_the_method(option, device):
    """The logits are those of the weights alone, in a plain model; inserted modules, which are weights too, stay."""
    trainer = Trainer(device, option).steps(2)
    plain = make_model(KINDS["two classes"])
    weights = {plain_name(name): tensor for name, tensor in trainer.model.state_dict().items()}
    weights |= {f"heads.{task}.weight": head.weight for task, head in trainer.model.heads.items()}
    if any(is_inserted(name.removeprefix("bert.")) for name in weights if name.startswith("bert.")):
        build(option).attach(plain)
    plain.load_state_dict({name: weights[plain_name(name)] for name in plain.state_dict()})
    trainer.objective.eval()
    batch = trainer.collate([1, 2, 3])
    assert torch.equal(trainer.model(batch).logits, plain.to(device).eval()(batch).logits), (
        f"{option}: in eval mode the model does not give the logits of its weights. What a module does only in "
        "training (noise, masks) must ask `if self.training`"
    )
