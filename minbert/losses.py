"""Task losses, and divergences between two outputs of one model. All of them are means over the batch.

They compute in float32, also if the passes ran in half precision. float64 stays float64.
Shapes: logits z [B,C]; labels [B], class indices or, for one output, real values.

BERT.  Devlin et al. 2019, arXiv:1810.04805v2:
  (§4.1)  -log softmax(z)[label]

SMART.  Jiang et al. 2020, arXiv:1911.03437v5:
  (§3.1)  ℓ_s = KL(P‖Q) + KL(Q‖P) for classes, (p - q)² for regression
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(z)[label]"""
    return F.cross_entropy(to_float32(logits), labels)  # (§4.1)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One logit, labels 0 and 1: -log σ(z) or -log(1-σ(z))"""
    z = to_float32(logits).squeeze(-1)
    return F.binary_cross_entropy_with_logits(z, labels.to(z.dtype))


def mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """(z - label)²"""
    z = to_float32(logits).squeeze(-1)  # (B,1) -> (B): (B,1) - (B) would broadcast to (B,B)
    return F.mse_loss(z, labels.to(z.dtype))


def symmetric_kl(z1: Tensor, z2: Tensor) -> Tensor:
    """KL(P₁‖P₂) + KL(P₂‖P₁) = Σ (p₁-p₂)(log p₁ - log p₂) for P = softmax(z).

    This form is never negative, and it stays accurate near equality, where each KL is a small difference of large
    terms. The gradient flows into both arguments.
    """
    log_p1, log_p2 = F.log_softmax(to_float32(z1), dim=-1), F.log_softmax(to_float32(z2), dim=-1)
    return ((log_p1.exp() - log_p2.exp()) * (log_p1 - log_p2)).sum(-1).mean()  # (§3.1)


def bernoulli_kl(z1: Tensor, z2: Tensor) -> Tensor:
    """Symmetric KL of two Bernoulli variables with one logit each: (σ(z₁)-σ(z₂))(z₁-z₂).

    (The softmax of a single logit is always 1, so symmetric_kl would be 0, and its gradient too.)
    """
    z1, z2 = to_float32(z1), to_float32(z2)
    return ((z1.sigmoid() - z2.sigmoid()) * (z1 - z2)).sum(-1).mean()


def squared_error(z1: Tensor, z2: Tensor) -> Tensor:
    """(z₁ - z₂)², for regression"""
    return (to_float32(z1) - to_float32(z2)).square().sum(-1).mean()  # (§3.1)


def to_float32(x: Tensor) -> Tensor:
    """Half precision -> float32. float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
