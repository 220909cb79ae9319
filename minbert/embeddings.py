"""Token + position + segment -> h0, the input of the first layer.

Letters of shapes, here and in all other files: B batch, T tokens, D width, L layers, H heads, C classes.
"""

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.dropout import Dropout


class Embeddings(nn.Module):
    """h0 = dropout(LayerNorm(token + position + segment)).  Devlin et al. 2019, Figure 2."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[B,T] ids -> [B,T,D]. `noise` [B,T,D] is added to the token vectors, before everything else.

        Raises ValueError if a sequence is longer than the table of positions.
        """
        length = input_ids.shape[1]
        if length > self.position.num_embeddings:
            raise ValueError(f"the input has {length} tokens, the model has {self.position.num_embeddings} positions")
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        tokens = self.token(input_ids)  # (B,T) -> (B,T,D)
        if noise is not None:
            tokens = tokens + noise
        positions = self.position.weight[:length]  # (T,D), the same for every row
        return self.dropout(self.norm(tokens + positions + self.segment(token_type_ids)))
