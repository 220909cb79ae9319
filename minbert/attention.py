"""Multi-head self-attention.

Attention Is All You Need.  Vaswani et al. 2017, arXiv:1706.03762:
  (1)       Attention(Q, K, V) = softmax(QKᵀ/√d) V
  (§3.2.2)  H heads of width d = D/H; their outputs side by side pass through one more projection
  (§5.4)    dropout on the output of each block, before the residual connection
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.dropout import Dropout


class SelfAttention(nn.Module):
    """softmax(QKᵀ/√d)V for each of H heads of width d = D/H, then one output projection and dropout."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.attention_dropout = Dropout(config.attention_probs_dropout_prob)
        self.dropout = Dropout(config.hidden_dropout_prob if config.attention_output_dropout else 0.0)  # (§5.4)

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]. `mask` [B,1,1,T] is True where a token may be attended to."""
        return self.attend(self.query(h), self.key(h), self.value(h), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Queries, keys and values [B,T,D] -> [B,T,D]: the fast path.

        The fused kernel never holds the probabilities. On a CPU it has no dropout, so training there is explicit.
        """
        p = self.attention_dropout.p if self.training else 0.0
        if p and q.device.type == "cpu":
            return self.attend_explicitly(q, k, v, mask)[0]
        q, k, v = self.split(q), self.split(k), self.split(v)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)  # (B,H,T,d)  (1)
        return self.dropout(self.output(self.merge(x)))  # (§3.2.2)

    def attend_explicitly(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The same step by step -> (output [B,T,D], probabilities [B,H,T,T] before dropout)."""
        q, k, v = self.split(q), self.split(k), self.split(v)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B,H,T,d) x (B,H,d,T) -> (B,H,T,T)  (1)
        probabilities = scores.masked_fill_(~mask, float("-inf")).softmax(dim=-1)
        x = self.attention_dropout(probabilities) @ v  # (B,H,T,T) x (B,H,T,d) -> (B,H,T,d)
        return self.dropout(self.output(self.merge(x))), probabilities  # (§3.2.2)

    def explicit(self, h: Tensor, mask: Tensor, task: str | None = None) -> tuple[Tensor, Tensor]:
        """forward, for analyses: [B,T,D] -> (output [B,T,D], probabilities [B,H,T,T] before dropout)."""
        return self.attend_explicitly(self.query(h), self.key(h), self.value(h), mask)

    def split(self, x: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,H,d) -> (B,H,T,d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """(B,H,T,d) -> (B,T,H,d) -> (B,T,D)"""
        return x.transpose(1, 2).flatten(2)
