"""A second pass from a perturbed place, and what its dropout does. For SMART, R3F, LNSR and their kin.

Dropout decides what such a penalty measures. With fresh masks the two passes disagree even where the
perturbation is 0, and the penalty is mostly dropout noise, as in R-Drop; with shared masks they differ by
the perturbation alone.
"""

from contextlib import contextmanager, nullcontext

from torch import Tensor

from minbert.random_state import replay

DROPOUT = ("shared", "independent", "off")


def masks(model, state: tuple, dropout: str):
    """Around a second pass: "shared" repeats the masks that the clean pass drew from the generator state `state`,
    "independent" draws fresh ones, "off" has none (compare then with `reference`, which has none either)."""
    if dropout == "shared":
        return replay(state)
    return without_dropout(model) if dropout == "off" else nullcontext()


def second_pass(model, batch, h0: Tensor, clean, dropout: str) -> Tensor:
    """Logits [B,C] from perturbed embeddings h0 [B,T,D]."""
    with masks(model, clean.rng[0], dropout):
        return model.head(model.encode(h0, batch)[-1], batch)


def reference(model, batch, clean, dropout: str):
    """The Output to perturb and to compare with: of the clean pass, or of a pass without dropout."""
    if dropout != "off":
        return clean
    with without_dropout(model):
        return model(batch)


@contextmanager
def without_dropout(model):
    """All modules in eval mode, and each back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_dropout(dropout: str) -> None:
    if dropout not in DROPOUT:
        raise ValueError(f"dropout must be one of {', '.join(DROPOUT)}, not {dropout}")
