"""A second pass from a perturbed place: the noise, the pass, and its dropout. For SMART, R3F, LNSR and similar methods.

Dropout decides what a penalty on the difference of two passes measures. With independent masks the two passes differ
even where the perturbation is 0, so the penalty is mostly dropout noise, as in R-Drop. With shared masks the two passes
differ by the perturbation alone.

    plain = reference(model, batch, clean, dropout)                  the pass to perturb, and to compare with
    noise = draw_noise(plain.hidden[0], batch.attention_mask)
    logits = second_pass(model, batch, plain.hidden[0] + eps * noise, clean, dropout)

B batch, T tokens, D width, C outputs, L layers.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.random_state import GeneratorState, replay
from minbert.task import Batch

# The dropout masks of a second pass. "shared" repeats the masks of the clean pass. "independent" draws new masks, but
# only from the perturbed place on: what comes before it is not computed again. "off" runs without dropout, and compares
# with a pass without dropout too.
DROPOUT_MODES = ("shared", "independent", "off")
NOISE = ("uniform", "normal")  # U(-1, 1), N(0, 1)
SIZES = ("absolute", "relative")  # see scaled_noise


def draw_noise(like: Tensor, real: Tensor, kind: str = "normal") -> Tensor:
    """Draw noise [B,T,D] of size 1, in the shape of `like` [B,T,D]. Padding, where `real` [B,T] is 0, gets none."""
    noise = torch.randn_like(like) if kind == "normal" else 2 * torch.rand_like(like) - 1
    return noise * real.unsqueeze(-1)  # (B,T,D) * (B,T,1)


def like_words(model: SentenceModel, h0: Tensor) -> Tensor:
    """An empty tensor of the shape of the token vectors, [B,T,E], for an embedding output h0 [B,T,D]."""
    return h0.new_empty(*h0.shape[:2], model.bert.config.embedding_width)


def scaled_noise(x: Tensor, real: Tensor, size: str, sigma: float, relative: float) -> Tensor:
    """Draw normal noise [B,T,D] for x [B,T,D]: none on padding, and no gradient through its size.

    size="absolute": the entries have the standard deviation `sigma`. size="relative": the noise of each token is
    `relative` times as long as the token's own vector.
    """
    noise = draw_noise(x, real)
    if size == "absolute":
        return sigma * noise
    # Padding has noise of length 0: clamp keeps 0 / 0 away.
    lengths = x.detach().norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # (B,T,1)
    return relative * lengths * noise


def check_size_is_used(size: str, sigma: float | None, relative: float | None) -> None:
    """Raise ValueError for a number that noise of this size does not read. None: the user has not set it."""
    if size == "relative" and sigma is not None:
        raise ValueError("sigma is the size of absolute noise: set noise=absolute, too")
    if size == "absolute" and relative is not None:
        raise ValueError("relative is the size of relative noise: set noise=relative, too")


def reference(model: SentenceModel, batch: Batch, clean: Output, dropout: str) -> Output:
    """The pass to perturb and to compare with: the clean pass, or one more pass without dropout."""
    if dropout != "off":
        return clean
    with without_dropout(model):
        return model(batch)


def second_pass(model: SentenceModel, batch: Batch, h0: Tensor, clean: Output, dropout: str) -> Tensor:
    """Logits [B,C] from a perturbed embedding output h0 [B,T,D]."""
    with masks(model, clean.rng[0], dropout):
        return model.head(model.encode(h0, batch)[-1], batch)


def second_pass_from_words(model: SentenceModel, batch: Batch, noise: Tensor, clean: Output, dropout: str) -> Tensor:
    """Logits [B,C] with noise [B,T,E] on the token vectors: before positions, segments and LayerNorm are applied."""
    with masks(model, clean.entry, dropout):
        return model.head(model.encode(model.embed(batch, noise), batch)[-1], batch)


def second_pass_from_layer(
    model: SentenceModel, batch: Batch, h: Tensor, start: int, clean: Output, dropout: str
) -> tuple[Tensor, ...]:
    """The outputs of the layers start+1 to L, each [B,T,D], from a perturbed h = hidden[start] [B,T,D]."""
    with masks(model, clean.rng[start], dropout):
        return model.encode(h, batch, start)


def masks(model: SentenceModel, state: GeneratorState, dropout: str) -> AbstractContextManager:
    """Run the body with the masks that `dropout` names. `state` is the generator's state in the clean pass."""
    if dropout == "shared":
        return replay(state)
    return without_dropout(model) if dropout == "off" else nullcontext()


@contextmanager
def without_dropout(model: SentenceModel) -> Iterator[None]:
    """Run the body in eval mode. Afterwards each module is back in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
