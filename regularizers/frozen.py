"""Frozen encoder, what the CS224N minBERT project calls `--option pretrain`.  After section 5.3 of BERT: Pre-training
of Deep Bidirectional Transformers for Language Understanding.  Devlin et al., NAACL 2019, arXiv:1810.04805v2.

Idea: the pretrained encoder does not change. A linear layer on the pooled [CLS] learns the task, and so does the pooler
if it has fresh weights, because the checkpoint has none (the sample, RoBERTa, DistilBERT). Dropout stays on in
training, as in the course's code.

Objective: the task loss alone, minimised over what is not pretrained: the head's W and b, and a fresh pooler.

Symbols: none; the default learning rate is the course's, 1e-3.

Cost: no extra pass; the backward pass ends at the head, or at a fresh pooler.

Differences:
  D1  The paper feeds the hidden states of several layers to a BiLSTM; the course and this file train one linear
      layer on the pooler's output.
"""

from minbert.classifier import SentenceModel
from regularizers.base import HIDDEN_STATES, WEIGHTS, Method, freeze


class Frozen(Method):
    inserts = True
    neutral = None
    lr = 1e-3
    freezes = (WEIGHTS, HIDDEN_STATES)

    def attach(self, model: SentenceModel) -> None:
        freeze(model)  # D1
