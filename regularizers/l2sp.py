"""L2-SP: Explicit Inductive Bias for Transfer Learning with Convolutional Networks.  Li et al., ICML 2018,
arXiv:1802.01483.

Idea: weight decay pulls to zero, and so away from what pretraining has learned. Pull the pretrained weights to where
they started (SP) instead, and only the new head to zero.

Objective, numbered by us (w_S pretrained weights, w_S⁰ their start, w_S̄ the new ones):
  (m1)  min_w  L(w) + α/2 ‖w_S - w_S⁰‖² + β/2 ‖w_S̄‖²

Symbols:  paper | code       | default | where
          α     | self.alpha | 0.1     | (m1)
          β     | self.beta  | 0.01    | (m1)
          (the whole penalty is scaled by self.weight, 1)

Cost: no pass; a second copy of the weights, and twice a read of all of them.

Differences:
  D1  Weights only, as in the authors' code: no bias, no LayerNorm. include="all" takes those, too.
  D2  AdamW's own decay, a pull to zero, is off for what the penalty covers.
  D3  α and β are the authors' for ResNet; no BERT value is published. The gradient goes through Adam's moments.
"""

from torch import Tensor, nn

from regularizers.base import Method, check_not_negative


class L2sp(Method):
    neutral = {"weight": 0.0}

    def __init__(self, *, weight: float = 1.0, alpha: float = 0.1, beta: float = 0.01, include: str = "weights"):
        super().__init__()
        self.weight, self.alpha, self.beta, self.include = weight, alpha, beta, include  # D3
        check_not_negative(self, "weight", "alpha", "beta")
        if include not in ("weights", "all"):
            raise ValueError(f"include must be weights or all, not {include}")
        self.starts = nn.ParameterList()

    def attach(self, model) -> None:
        if self.weight:
            # Parameters that never train: so they go to the device with the rest, and stay out of DDP's broadcasts.
            starts = [p.detach().clone() for p in self.covered(model.bert)]
            self.starts.extend(nn.Parameter(start, requires_grad=False) for start in starts)

    def covered(self, module: nn.Module) -> list[Tensor]:
        """The parameters of the module that the penalty is about."""
        if self.include == "all":
            return list(module.parameters())
        parts = [part for part in module.modules() if not isinstance(part, nn.LayerNorm)]
        return [p for part in parts for name, p in part.named_parameters(recurse=False) if name != "bias"]  # D1

    def undecayed(self, model) -> tuple[Tensor, ...]:
        return (*self.covered(model.bert), *self.covered(model.heads)) if self.weight else ()  # D2

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        pairs = zip(self.covered(model.bert), self.starts, strict=True)
        drift = sum((w - start).square().sum() for w, start in pairs)
        size = sum(w.square().sum() for w in self.covered(model.heads))
        return {"distance": self.weight * (self.alpha / 2 * drift + self.beta / 2 * size)}  # (m1)
