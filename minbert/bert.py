"""BertModel: embed -> encode -> pool.  Devlin et al. 2019, arXiv:1810.04805v2."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minbert import weights
from minbert.config import BertConfig
from minbert.embeddings import Embeddings
from minbert.layers import Layer


class Encoded(NamedTuple):
    last_hidden_state: Tensor  # [B,T,D]
    pooler_output: Tensor  # [B,D]
    hidden_states: tuple[Tensor, ...]  # L+1 of [B,T,D]: the embedding output, then each layer's


class BertModel(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.fresh_pooler = False  # True where a checkpoint had none
        self.apply(self.initialize)

    @classmethod
    def from_pretrained(cls, name_or_folder, **changes) -> "BertModel":
        """Published weights from a local folder or a model hub name, in float32 and in eval mode.

        `changes` replace fields of the folder's config.json, e.g. `hidden_dropout_prob=0.0`.
        Raises InputError naming the tensors that are missing, unexpected, of a wrong shape or type, or not finite.
        """
        folder = weights.resolve(name_or_folder)
        config = replace(BertConfig.from_json(folder / "config.json"), **changes)
        tensors = weights.read_tensors(folder)
        weights.check(config, tensors, folder)  # before a model as large as config.json says takes memory
        model = cls(config)
        weights.fill(model, tensors, folder)
        return model.eval()

    def initialize(self, module: nn.Module) -> None:
        """Fresh weights as BERT was initialised: N(0, initializer_range²), biases 0, LayerNorm 1 and 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None):
        """[B,T] ids, mask (1 or True for real tokens) and segments -> Encoded."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask, hidden = attendable(attention_mask), [self.embeddings(input_ids, token_type_ids)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], mask))
        return Encoded(hidden[-1], self.pool(hidden[-1]), tuple(hidden))

    def pool(self, h: Tensor) -> Tensor:
        """The first token ([CLS]) through the pooler: [B,T,D] -> [B,D]"""
        return torch.tanh(self.pooler(h[:, 0]))


def attendable(attention_mask: Tensor) -> Tensor:
    """(B,T) of 0 and 1 -> (B,1,1,T) of False and True: broadcasts over heads and queries."""
    return attention_mask.bool()[:, None, None, :]
