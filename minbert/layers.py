"""One encoder layer: attention and feed-forward, each followed by a residual connection and a LayerNorm.

Attention Is All You Need.  Vaswani et al. 2017, arXiv:1706.03762:
  (§3.1)  LayerNorm(x + Sublayer(x)) around each of the two blocks
  (2)     FFN(x) = W₂ f(W₁ x + b₁) + b₂;   f is ReLU in the paper, GELU in BERT
  (§5.4)  dropout on the output of each block, before the residual connection

Layer Normalization.  Ba et al. 2016, arXiv:1607.06450:
  (3)  LN(x) = (x - μ) / σ,   μ and σ the mean and the standard deviation of the D entries of one token

Gaussian Error Linear Units (GELUs).  Hendrycks & Gimpel 2016, arXiv:1606.08415:
  (§2)  GELU(x) = x Φ(x), with Φ the distribution function of N(0, 1)
"""

from torch import Tensor, nn

from minbert.attention import SelfAttention
from minbert.config import ACTIVATIONS, BertConfig
from minbert.dropout import Dropout


class FeedForward(nn.Module):
    """dropout(W₂ GELU(W₁h)). BERT has the exact GELU x·Φ(x) (erf), ALBERT its approximation by tanh (gelu_new)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]  # (§2)
        self.dropout = Dropout(config.hidden_dropout_prob if config.feed_forward_dropout else 0.0)  # (§5.4)

    def forward(self, h: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]"""
        return self.dropout(self.down(self.activation(self.up(h))))  # (2)


class Layer(nn.Module):
    """a = LN(h + Attention(h)),  h' = LN(a + FeedForward(a)).

    `task` is the name of the batch's task. Plain modules ignore it. A module that a method puts around the attention
    or the feed-forward (an adapter) has the same signature and picks its own part for the task.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # (3)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # (3)

    def share(self, other: "Layer") -> "Layer":
        """Compute with the modules of another layer. (What a method puts around one of them stays in one layer.)"""
        for name, child in other.named_children():
            setattr(self, name, child)
        return self

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]. `mask` [B,1,1,T] is True where a token may be attended to."""
        # The two residual connections are the two sums inside the LayerNorms: BERT is post-norm.
        h = self.attention_norm(h + self.attention(h, mask, task))  # (§3.1)
        return self.feed_forward_norm(h + self.feed_forward(h, task))  # (§3.1)
