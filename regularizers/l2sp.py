"""L2-SP: Explicit Inductive Bias for Transfer Learning with Convolutional Networks.  Li et al., ICML 2018,
arXiv:1802.01483.

Idea: weight decay pulls the weights to zero, away from the values that pretraining has learned. L2-SP pulls the
pretrained weights to their starting point (SP) instead, and only the new head to zero.

Objective, numbered by us (w_S pretrained weights, w_S⁰ their start, w_S̄ the new ones):
  (m1)  min_w  L(w) + α/2 ‖w_S - w_S⁰‖² + β/2 ‖w_S̄‖²

Symbols:  paper | code       | default | where
          α     | self.alpha | 0.1     | (m1)
          β     | self.beta  | 0.01    | (m1)
          (the whole penalty is scaled by self.weight, 1)

Cost: no extra pass; a second copy of the weights, and two reads of all weights in each step.

Differences:
  D1  The penalty covers weights only, as in the authors' code: no bias, no LayerNorm. include="all" covers these, too.
      The L2-SP of the MINE paper (its equation 2) is λ ‖w_S - w_S⁰‖², without ½ and without a term of the head:
      --set l2sp.beta=0 l2sp.include=all l2sp.alpha=2λ.
  D2  AdamW's own decay, a pull to zero, is off for the parameters that the penalty covers.
  D3  α and β are the authors' for ResNet; no BERT value is published. The gradient goes through Adam's moments.
      |∇ penalty| / |∇ L| is .02 after 20 steps from the trained sample model (tests/regularizers/test_not_inert.py),
      and grows with the distance.
Parameters that ALBERT's layers share count once.
"""

from collections.abc import Collection

from torch import Tensor, nn

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import WEIGHTS, Method, check_choice, check_not_negative, pretrained_ids


class L2sp(Method):
    neutral = {"weight": 0.0}
    needs = (WEIGHTS,)

    def __init__(self, *, weight: float = 1.0, alpha: float = 0.1, beta: float = 0.01, include: str = "weights"):
        super().__init__()
        self.weight, self.alpha, self.beta, self.include = weight, alpha, beta, include  # D3
        check_not_negative(self, "weight", "alpha", "beta")
        check_choice(self, "include", ("weights", "all"))
        self.starts = nn.ParameterList()

    def attach(self, model: SentenceModel) -> None:
        if self.weight:
            # Parameters that never train: so they go to the device with the rest, and stay out of DDP's broadcasts.
            old, _ = self.covered(model)
            self.starts.extend(nn.Parameter(w.detach().clone(), requires_grad=False) for w in old)

    def covered(self, model: SentenceModel, without: Collection[str] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that the penalty covers: (pretrained ones, new ones of heads and of inserted modules).

        Parameters of the tasks named in `without` are left out.
        """
        pretrained, old, new = pretrained_ids(model), [], []
        modules = dict(model.named_modules())
        by_task = [path for path, module in modules.items() if isinstance(module, nn.ModuleDict | nn.ParameterDict)]
        left_out = tuple(f"{path}.{task}." for path in by_task for task in without)
        for path, module in modules.items():
            for name, p in module.named_parameters(recurse=False):
                if name in getattr(module, "scale_free", ()):
                    continue
                is_weight = name != "bias" and not isinstance(module, nn.LayerNorm)
                if self.include == "weights" and not is_weight:  # D1
                    continue
                if f"{path}.{name}.".startswith(left_out):
                    continue
                (old if id(p) in pretrained else new).append(p)
        return old, new

    def undecayed(self, model: SentenceModel) -> tuple[Tensor, ...]:
        if not self.weight:
            return ()
        old, new = self.covered(model)
        return (*old, *new)  # D2

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        # Modules of other tasks get no gradient. A gradient of the penalty alone, however small, would make Adam take
        # full steps down to zero.
        other_tasks = {task.name for task in model.tasks} - {batch.task.name}
        old, new = self.covered(model, without=other_tasks)
        drift = sum((w - start).square().sum() for w, start in zip(old, self.starts, strict=True))
        size = sum(w.square().sum() for w in new)
        return {"distance": self.weight * (self.alpha / 2 * drift + self.beta / 2 * size)}  # (m1)
