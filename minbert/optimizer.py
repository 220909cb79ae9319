"""AdamW written out, with bias correction as a switch.

Adam: A Method for Stochastic Optimization.  Kingma & Ba 2015, arXiv:1412.6980v9. We count the lines of its loop:
  Alg.1 l.1  t ← t + 1
  Alg.1 l.3  m_t = β₁ m_{t-1} + (1-β₁) g
  Alg.1 l.4  v_t = β₂ v_{t-1} + (1-β₂) g²

Decoupled Weight Decay Regularization.  Loshchilov & Hutter 2019, arXiv:1711.05101v3:
  Alg.2 l.12  θ ← θ - α λ θ, apart from the moments
  D1  Weight decay follows the step: it uses the θ just updated, the learning rate α, and no c_t. The paper has θ_{t-1},
      and the schedule's factor η_t in place of α.

On the Stability of Fine-tuning BERT.  Mosbach et al. 2021, arXiv:2006.04884v3. Its subject is the switch:
  (1)  α_t = α c_t,   c_t = √(1-β₂ᵗ) / (1-β₁ᵗ), or 1 without the correction
  (2)  θ_t = θ_{t-1} - α_t m_t / (√v_t + ε)
Without the correction the steps are 1/c_t times as long: √10 = 3.16 times at t = 1, at most 6.57 times at t = 12, still
26 % too long at t = 1000, and less than 10 % too long only from t = 1751 on.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class AdamW(torch.optim.Optimizer):
    """AdamW. ε is added to the uncorrected √v, as in BERT's code.

    torch.optim adds it after the correction, so that in the first steps ε acts 1/√(1-β₂ᵗ) times as strongly here.

    A parameter without a gradient is left alone, and so is its step count. Moments have the dtype of the parameter.
    Raises ValueError for a setting out of range.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, correct_bias=correct_bias)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict) -> None:
        """torch calls this for each group, also for the groups of `params`. The defaults are filled in."""
        super().add_param_group(param_group)
        lr, betas, eps, decay = (self.param_groups[-1][name] for name in ("lr", "betas", "eps", "weight_decay"))
        if not (lr >= 0 and 0 <= betas[0] < 1 and 0 <= betas[1] < 1 and eps >= 0 and decay >= 0):
            raise ValueError(f"AdamW: {lr=} {betas=} {eps=} {decay=}: betas lie in [0, 1), the others are ≥ 0")

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters that have a gradient.

        It takes no closure, unlike torch's optimizers: no line of Adam evaluates the loss again.
        """
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            # A GPU is fast with one launch for all tensors. A CPU is fast with one tensor at a time, which stays in its
            # cache.
            on_gpu = bool(params) and params[0].device.type != "cpu"
            for chunk in [params] if on_gpu else [[p] for p in params]:
                self.update(chunk, **{k: v for k, v in group.items() if k != "params"})

    def update(self, params: list[Tensor], lr, betas, eps, weight_decay, correct_bias, **_) -> None:
        """The equations above, for a list of tensors at once."""
        beta1, beta2 = betas
        grads, states = [p.grad for p in params], [self.advance(p) for p in params]
        m, v = [state["m"] for state in states], [state["v"] for state in states]
        torch._foreach_lerp_(m, grads, 1 - beta1)  # m ← m + (1-β₁)(g - m) = β₁ m + (1-β₁) g  Alg.1 l.3
        torch._foreach_mul_(v, beta2)  # v ← β₂ v
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)  # v ← v + (1-β₂) g²  Alg.1 l.4
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, eps)  # √v + ε
        steps = [-lr * (bias_correction(s["step"], *betas) if correct_bias else 1.0) for s in states]  # (1)
        torch._foreach_addcdiv_(params, m, denominator, scalars=steps)  # θ ← θ - α c_t m / (√v + ε)  (2)
        if weight_decay:
            torch._foreach_mul_(params, 1 - lr * weight_decay)  # θ ← θ - α λ θ  Alg.2 l.12 D1

    def advance(self, p: Tensor) -> dict:
        """Count one more step of a parameter, and return its state. A task's adapters do not train in every step."""
        state = self.state[p]
        if not state:
            state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        state["step"] += 1  # Alg.1 l.1
        return state


def bias_correction(t: int, beta1: float, beta2: float) -> float:
    """c_t"""
    return math.sqrt(1 - beta2**t) / (1 - beta1**t)


def parameter_groups(model: nn.Module, weight_decay: float, undecayed: Iterable[Tensor] = ()) -> list[dict]:
    """Two groups of the parameters that train: with weight decay, and without it.

    Biases, LayerNorms and `undecayed` have no decay. LayerNorms are found by their type: a rule on names breaks when
    a LayerNorm has another name.
    """
    exempt = {id(p) for p in undecayed}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm) or name == "bias":
                exempt.add(id(p))
    trained = [p for p in model.parameters() if p.requires_grad]  # a shared parameter comes once
    return [
        {"params": [p for p in trained if id(p) not in exempt], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in exempt], "weight_decay": 0.0},
    ]
