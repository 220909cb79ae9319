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
      |∇ penalty| / |∇ L| after 20 steps from the trained sample model: .03 (tests/test_not_inert.py); it grows with
      the distance.
"""

from torch import Tensor, nn

from regularizers.base import WEIGHTS, Method, check_not_negative, pretrained_ids


class L2sp(Method):
    neutral = {"weight": 0.0}
    needs = (WEIGHTS,)

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
            old, _ = self.covered(model)
            self.starts.extend(nn.Parameter(w.detach().clone(), requires_grad=False) for w in old)

    def covered(self, model, idle: set[str] = frozenset()) -> tuple[list[Tensor], list[Tensor]]:
        """What the penalty is about: pretrained parameters, and new ones (of heads, and of inserted modules), without
        those that belong to the tasks `idle`."""
        ours = pretrained_ids(model)
        chosen = [
            p
            for path, module in model.named_modules()
            for name, p in module.named_parameters(recurse=False)
            if self.include == "all" or not (name == "bias" or isinstance(module, nn.LayerNorm))  # D1
            if not idle & {*path.split("."), name}
        ]
        return [p for p in chosen if id(p) in ours], [p for p in chosen if id(p) not in ours]

    def undecayed(self, model) -> tuple[Tensor, ...]:
        return sum(map(tuple, self.covered(model)), ()) if self.weight else ()  # D2

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        idle = {task.name for task in model.tasks} - {batch.task.name}  # Adam would take full steps down to zero
        old, new = self.covered(model, idle)
        drift = sum((w - start).square().sum() for w, start in zip(old, self.starts, strict=True))
        size = sum(w.square().sum() for w in new)
        return {"distance": self.weight * (self.alpha / 2 * drift + self.beta / 2 * size)}  # (m1)
