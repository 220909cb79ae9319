"""A second pass from perturbed embeddings, and what its dropout does. For SMART and its kin.

Dropout decides what such a penalty measures. With fresh masks the two passes disagree even where the
perturbation is 0, and the penalty is mostly dropout noise, as in R-Drop; with shared masks they differ by
the perturbation alone.
"""

from contextlib import contextmanager, nullcontext

from torch import Tensor

from minbert.runtime import replay

DROPOUT = ("shared", "independent", "off")


def second_pass(model, batch, h0: Tensor, clean, dropout: str) -> Tensor:
    """Logits [B,C] from perturbed embeddings h0 [B,T,D].

    dropout: "shared" repeats the masks of the clean pass, "independent" draws fresh ones, "off" has none
    (compare then with `reference`, which has none either).
    """
    if dropout == "shared":
        mode = replay(clean.rng[0])
    else:
        mode = without_dropout(model) if dropout == "off" else nullcontext()
    with mode:
        return model.head(model.encode(h0, batch)[-1], batch)


def reference(model, batch, clean, dropout: str) -> tuple[Tensor, Tensor]:
    """(h0, logits) to perturb and to compare with: the clean pass's own, or a pass without dropout."""
    if dropout != "off":
        return clean.hidden[0], clean.logits
    with without_dropout(model):
        plain = model(batch)
    return plain.hidden[0], plain.logits


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
