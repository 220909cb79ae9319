"""Frozen encoder: only the head is trained.

The feature-based use of BERT (Devlin et al. 2019, arXiv:1810.04805v2, section 5.3), and what the CS224N
minBERT project calls `--option pretrain`.

Idea: the pretrained encoder, pooler included, stays as it is; the task has to make do with a linear layer on
the pooled [CLS]. Dropout stays on in training, as in the course's code.
Objective: the task loss alone, minimised over the head's W and b.
Symbols: none; the default learning rate is 1e-3, the course's.
Cost: no extra pass; the backward pass ends at the head.
Differences: none.
"""

from regularizers.base import Method


class Frozen(Method):
    inserts = True
    neutral = None
    lr = 1e-3

    def attach(self, model) -> None:
        model.bert.requires_grad_(False)
