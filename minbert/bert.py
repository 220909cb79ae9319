"""BertModel: embeddings, layers, pooler.  Devlin et al. 2019, arXiv:1810.04805v2:
  (§4.1)  the final hidden state of the first token, [CLS], stands for the whole text

The same class also computes RoBERTa, ALBERT and DistilBERT, which differ from BERT in fields of the config: see
families.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minbert import weights
from minbert.config import POOLER_ACTIVATIONS, BertConfig
from minbert.dropout import Dropout
from minbert.embeddings import Embeddings
from minbert.hub import find_model
from minbert.layers import Layer


class Encoded(NamedTuple):
    """What BertModel returns."""

    last_hidden_state: Tensor  # [B,T,D]
    pooler_output: Tensor  # [B,D]
    hidden_states: tuple[Tensor, ...]  # L+1 of [B,T,D]: the embedding output, then the output of each layer


class BertModel(nn.Module):
    """The encoder: token ids -> a hidden state for each token, and one pooled vector for the whole text."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        if config.share_layers:
            for layer in self.layers[1:]:
                layer.share(self.layers[0])
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.pooler_activation = POOLER_ACTIVATIONS[config.pooler_activation]
        self.pooler_dropout = Dropout(config.head_dropout) if config.dropout_before_pooler else nn.Identity()
        self.fresh_pooler = False  # True where the checkpoint had no pooler
        self.apply(self.initialize)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **changes) -> "BertModel":
        """Load published weights from a local folder or a model hub name, in float32 and in eval mode.

        `changes` replace fields of the folder's config.json, e.g. `hidden_dropout_prob=0.0`.
        Raises InputError that names the tensors that are missing, unexpected, of a wrong shape or type, or not finite.
        """
        folder = find_model(name_or_folder)
        config = replace(BertConfig.from_json(folder / "config.json"), **changes)
        tensors = weights.read_tensors(folder)
        weights.check_shapes(config, tensors, folder)  # first: a wrong number in config.json could take all memory
        model = cls(config)
        weights.load_into(model, tensors, folder)
        return model.eval()

    def initialize(self, module: nn.Module) -> None:
        """Draw fresh weights as BERT did: N(0, initializer_range²). Biases are 0; LayerNorms keep 1 and 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Encoded:
        """[B,T] ids, mask (1 or True for real tokens) and segments -> Encoded."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = expand_attention_mask(attention_mask)
        hidden = [self.embeddings(input_ids, token_type_ids)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], mask))
        return Encoded(hidden[-1], self.pool(hidden[-1]), tuple(hidden))

    def pool(self, h: Tensor) -> Tensor:
        """The first token ([CLS]) through the pooler: [B,T,D] -> [B,D]"""
        return self.pooler_activation(self.pooler(self.pooler_dropout(h[:, 0])))  # (§4.1)


def expand_attention_mask(attention_mask: Tensor) -> Tensor:
    """(B,T) of 0 and 1 -> (B,1,1,T) of False and True, which broadcasts over heads and queries."""
    return attention_mask.bool()[:, None, None, :]
