"""R-Drop: its equation in a slow loop, its two draws of the dropout masks, and what it refuses."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from support.factories import KINDS, make_batch, make_model, turn_off_dropout

from minbert.errors import InputError
from minbert.random_state import replay
from regularizers import build, rdrop
from regularizers.rdrop import RDrop

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-method.md"


def ready(kind: str):
    """A model in train mode, in float64, a batch, and the clean pass."""
    model, batch = make_model(KINDS[kind]).double().train(), make_batch(KINDS[kind])
    torch.manual_seed(1)
    return model, batch, model(batch)


def consistency(model, batch, clean, weight: float = 0.5, seed: int = 2) -> torch.Tensor:
    torch.manual_seed(seed)
    return RDrop(weight=weight).penalty(model, batch, clean)["consistency"]


def second_logits(model, batch, seed: int = 2) -> list[list[float]]:
    torch.manual_seed(seed)
    return model(batch).logits.tolist()


def softmax(z: list[float]) -> list[float]:
    return [math.exp(v) / sum(map(math.exp, z)) for v in z]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q))


@pytest.mark.parametrize("kind", ["two classes", "three classes", "separate classes"])
def test_for_classes_it_is_half_the_two_divergences_between_two_passes(kind):
    model, batch, clean = ready(kind)
    pairs = zip(clean.logits.tolist(), second_logits(model, batch), strict=True)
    slow = [(kl(softmax(a), softmax(b)) + kl(softmax(b), softmax(a))) / 2 for a, b in pairs]
    assert consistency(model, batch, clean, weight=0.7).item() == pytest.approx(0.7 * sum(slow) / len(slow), rel=1e-9)
    assert min(slow) > 0


@pytest.mark.parametrize("kind", ["regression", "separate regression"])
def test_for_a_regression_it_is_half_the_squared_difference(kind):
    model, batch, clean = ready(kind)
    pairs = zip(clean.logits.tolist(), second_logits(model, batch), strict=True)
    slow = [(a - b) ** 2 / 2 for (a,), (b,) in pairs]
    assert consistency(model, batch, clean, weight=0.7).item() == pytest.approx(0.7 * sum(slow) / len(slow), rel=1e-9)


def test_its_gradient_flows_through_both_passes():
    model, batch, clean = ready("two classes")
    parameters = [model.bert.layers[0].feed_forward.up.weight]
    (whole,) = torch.autograd.grad(consistency(model, batch, clean), parameters, retain_graph=True)
    torch.manual_seed(2)
    second, half = model(batch).logits, 0.5 / 2
    (first_part,) = torch.autograd.grad(half * batch.task.divergence(clean.logits, second.detach()), parameters)
    (second_part,) = torch.autograd.grad(half * batch.task.divergence(clean.logits.detach(), second), parameters)
    assert torch.allclose(whole, first_part + second_part, rtol=1e-9)
    assert min(first_part.norm(), second_part.norm()) > 0.1 * whole.norm()


def test_the_masks_of_its_second_pass_are_not_those_of_the_clean_pass():
    model, batch, clean = ready("two classes")
    assert consistency(model, batch, clean) > 1e-3
    with replay(clean.entry):  # the same masks
        assert RDrop().penalty(model, batch, clean)["consistency"] == 0
    turn_off_dropout(model)
    assert consistency(model, batch, model(batch)) == 0


def test_a_model_without_dropout_is_refused():
    """With dropout in the head alone it works: that is one of the masks."""
    model = make_model()
    turn_off_dropout(model)
    with pytest.raises(InputError, match=r"--option rdrop: the model has no dropout, .*: set --dropout 0.1"):
        build("rdrop").attach(model)
    build("rdrop", ["rdrop.weight=0"]).attach(model)
    model.dropout.p = 0.1
    build("rdrop").attach(model)


def test_the_page_on_adding_a_method_shows_the_code_as_it_is():
    code = inspect.getsource(rdrop).removeprefix(f'"""{rdrop.__doc__}"""').strip()
    assert f"```python\n{code}\n```" in PAGE.read_text(encoding="utf-8")
