"""Token + position + segment -> h0, the input of the first layer.  Devlin et al. 2019, Figure 2.

Letters of shapes, here and in all other files: B batch, T tokens, D width, E width of the embedding tables (that is D,
except in ALBERT), L layers, H heads, C classes.
"""

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.dropout import Dropout


class Embeddings(nn.Module):
    """h0 = dropout(LayerNorm(token + position + segment)).

    ALBERT's tables are narrow, and h0 is projected from E to D.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.embedding_width
        self.token = nn.Embedding(config.vocab_size, width)
        self.position = nn.Embedding(config.max_position_embeddings, width)
        self.segment = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.project = nn.Identity() if config.embedding_size is None else nn.Linear(width, config.hidden_size)
        self.longest = config.positions
        self.padding = config.pad_token_id if config.positions_after_padding else None

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """[B,T] ids -> [B,T,D]. `noise` [B,T,E] is added to the token vectors, before everything else.

        Raises ValueError if a sequence is longer than the table of positions.
        """
        if input_ids.shape[1] > self.longest:
            raise ValueError(f"the input has {input_ids.shape[1]} tokens, the model has {self.longest} positions")
        vectors = self.token(input_ids)  # (B,T) -> (B,T,E)
        if noise is not None:
            vectors = vectors + noise
        vectors = vectors + self.positions(input_ids)
        if self.segment is not None:
            if token_type_ids is None or self.segment.num_embeddings == 1:
                token_type_ids = torch.zeros_like(input_ids)
            vectors = vectors + self.segment(token_type_ids)
        return self.project(self.dropout(self.norm(vectors)))  # (B,T,E) -> (B,T,D)

    def positions(self, input_ids: Tensor) -> Tensor:
        """The vectors of the positions: [T,E], the same for every row; RoBERTa's [B,T,E] depend on the padding."""
        if self.padding is None:
            return self.position.weight[: input_ids.shape[1]]
        real = (input_ids != self.padding).long()
        return self.position(self.padding + real.cumsum(1) * real)
