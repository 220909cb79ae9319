"""Dropout, with masks that are fast to draw on a CPU."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout, with a faster way to draw masks on a CPU: 16 random bits an element.

    On a CPU, Bernoulli draws took a quarter of a training step; these draws take a fifth of that. The probability to
    keep an element is rounded to a multiple of 2⁻¹⁶, and kept elements are divided by the rounded probability, so the
    expected output is exactly the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p in (0, 1) or x.device.type != "cpu":
            return super().forward(x)
        kept = max(1, round((1 - self.p) * 2**16))  # of 2¹⁶ equally likely values, this many keep the element
        # ceil(n/4) random 64-bit words, of which each gives 16 bits to 4 elements. (None: up to the largest integer.)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -2¹⁵ .. 2¹⁵-1
        mask = torch.empty_like(x, requires_grad=False)  # of x's type: x times a bool takes three times as long
        torch.le(bits, kept - 1 - 2**15, out=mask)
        return x * mask * (2**16 / kept)
