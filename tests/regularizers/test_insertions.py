"""What holds for every method that inserts or freezes: one arrangement for any order, and compiled layers.

Iterates over the table of options, so a new method is tested too.
"""

from itertools import combinations

import pytest
import torch
from support.factories import inserted, make_batch, make_model
from support.method_inputs import logits, randomised

from minbert.classifier import SentenceModel
from minbert.errors import InputError
from minbert.published import plain_name
from minbert.random_state import derive_seed
from minbert.training.runtime import compile_layers
from regularizers import OPTIONS, build
from regularizers.base import Wrapper

INSERTING = [name for name, option in OPTIONS.items() if option.inserts]


def can_be_joined(*names: str) -> bool:
    try:
        build("+".join(names))
    except InputError:
        return False
    return True


PAIRS = [pair for pair in combinations(INSERTING, 2) if can_be_joined(*pair)]
# With place=after an adapter is around a whole layer, as the branches of PALs and the factors of LHUC are.
CASES = [(pair, ()) for pair in PAIRS] + [(pair, ("adapter.place=after",)) for pair in PAIRS if "adapter" in pair]
NAMES = [" ".join(("+".join(pair), *settings)) for pair, settings in CASES]


def attach_in_order(names: tuple[str, ...], settings: tuple[str, ...] = ()) -> SentenceModel:
    """A model with these methods attached one after the other, without a Sum. Each inserted weight follows from its
    name alone."""
    model = make_model().double().eval()
    for name in names:
        build(name, [text for text in settings if text.startswith(f"{name}.")]).attach(model)
    model.double()
    for path, p in inserted(model).items():
        generator = torch.Generator().manual_seed(derive_seed(plain_name(path)))
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=generator) / 2
    return model


def test_some_inserting_methods_can_be_joined():
    assert len(PAIRS) >= 10


@pytest.mark.parametrize("pair, settings", CASES, ids=NAMES)
def test_the_order_in_which_methods_attach_does_not_change_the_model(pair, settings):
    one, other = attach_in_order(pair, settings), attach_in_order(pair[::-1], settings)
    modules, other_modules = ({name: type(m) for name, m in model.named_modules()} for model in (one, other))
    assert modules == other_modules, f"{pair}: give one of the wrappers a higher nesting_order"
    batch = make_batch()
    assert (logits(one, batch) - logits(other, batch)).abs().max() < 1e-12


@pytest.mark.parametrize("pair, settings", CASES, ids=NAMES)
def test_a_wrapper_with_a_higher_nesting_order_is_further_outside(pair, settings):
    for module in attach_in_order(pair, settings).modules():
        if isinstance(module, Wrapper) and isinstance(module.base, Wrapper):
            assert module.nesting_order > module.base.nesting_order


@pytest.mark.parametrize("option", INSERTING)
def test_compiled_layers_compute_the_same_logits(option):
    eager, compiled, batch = randomised(option), randomised(option), make_batch()
    compile_layers(compiled, backend="eager")
    assert (logits(eager, batch) - logits(compiled, batch)).abs().max() < 1e-12
