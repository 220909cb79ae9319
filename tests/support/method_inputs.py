"""What the tests of single methods share: a clean pass, the input of a layer, random inserted weights, slow loops."""

import math

import torch
from torch import Tensor, nn

from minbert.bert import BertModel, expand_attention_mask
from minbert.classifier import Output, SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.task import Batch
from minbert.weights import trained_parameters
from regularizers import build
from regularizers.base import Method
from support.factories import KINDS, attached, inserted, make_batch, make_model


def clean_pass(dropout: float = 0.1, kind: str = "two classes") -> tuple[SentenceModel, Batch, Output]:
    """A model in float64 and train mode, a batch, and the clean pass."""
    changes = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model, batch = make_model(KINDS[kind], **changes).double().train(), make_batch(KINDS[kind])
    torch.manual_seed(1)
    return model, batch, model(batch)


def penalty_value(method: Method, model: SentenceModel, batch: Batch, clean: Output, seed: int = 2) -> Tensor:
    """The only term of a method's penalty."""
    torch.manual_seed(seed)
    (term,) = method.penalty(model, batch, clean).values()
    return term


def layer_input() -> tuple[Tensor, Tensor, Tensor]:
    """(h [2,4,12], mask [2,1,1,4], real tokens [2,4]) in float64; one row has padding."""
    real = make_batch(rows=2, tokens=4).attention_mask
    h = torch.randn(2, 4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return h, expand_attention_mask(real), real


def randomised(option: str, settings=(), *tasks, **config) -> SentenceModel:
    """A model in float64 whose inserted weights are far from any special value."""
    model = attached(option, settings, *tasks, **config).double().eval()
    generator = torch.Generator().manual_seed(7)
    for p in inserted(model).values():
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=generator) / 2
    return model


def logits(model: SentenceModel, batch: Batch, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    return model(batch).logits


def trained_names(model: SentenceModel) -> set[str]:
    return set(trained_parameters(model))


def both(path: str) -> set[str]:
    """The names of the weight and the bias of a linear layer."""
    return {f"{path}.weight", f"{path}.bias"}


NORMS = {name for name, _ in make_model().named_parameters() if "norm" in name}
HEAD = both("heads.rte")

BASE = 109_482_240  # the parameters of BERT-base


def count_bert_base(option: str, settings: list[str], tasks: int) -> tuple[int, int]:
    """(the parameters that an option inserts into BERT-base, those of BERT and of the option that train)."""
    with torch.device("meta"):
        model = SentenceModel(BertModel(BertConfig()), [TASKS["rte"], TASKS["stsb"]][:tasks])
        build(option, settings).attach(model)
    sizes = [(p.numel(), p.requires_grad) for p in model.bert.parameters()]
    return sum(size for size, _ in sizes) - BASE, sum(size for size, trains in sizes if trains)


# Slow loops over single numbers.


def slow_linear(linear: nn.Linear, x: list[float]) -> list[float]:
    """W x + b of one token."""
    return [slow_dot(row, x) + b for row, b in zip(linear.weight.tolist(), linear.bias.tolist())]


def slow_dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def slow_gelu(x: list[float]) -> list[float]:
    return [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]


def token_by_token(function, h: Tensor) -> Tensor:
    """function(one token [D]) -> [D] at each token of h [B,T,D]"""
    return torch.tensor([function(x) for x in h.flatten(0, 1).tolist()], dtype=h.dtype).view_as(h)
