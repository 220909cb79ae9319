"""MaskedLanguageModel: a BertModel with the head it was pretrained with.

BERT.  Devlin et al. 2019, arXiv:1810.04805v2:
  (§3.1)  the final hidden state of each chosen token -> a softmax over the vocabulary

How tokens are masked is in data/masking.py.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert import losses, weights
from minbert.bert import BertModel
from minbert.classifier import Output
from minbert.config import ACTIVATIONS
from minbert.errors import InputError
from minbert.hub import find_model
from minbert.task import Batch, Task

IGNORE = -100  # the label of a token that is not to be predicted


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """logits [M,V] of the M chosen tokens; labels [B,T], IGNORE where not chosen."""
    return losses.cross_entropy(logits, labels[labels != IGNORE])


MLM = Task("mlm", "", ("first", "second"), "", (), (), (), loss=masked_cross_entropy)


class MaskedLanguageModel(nn.Module):
    """logits = E LayerNorm(GELU(W h + b)) + bias for each chosen token, with E the token embeddings (tied).

    The published names of its parameters are in families.py.
    """

    def __init__(self, bert: BertModel):
        super().__init__()
        config = bert.config
        self.bert, self.tasks = bert, (MLM,)
        self.transform = nn.Linear(config.hidden_size, config.embedding_width)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.embedding_width, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.transform.apply(bert.initialize)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> "MaskedLanguageModel":
        """Load a checkpoint that has its MLM head. Raises InputError that names a missing tensor."""
        folder = find_model(name_or_folder)
        model = cls(BertModel.from_pretrained(folder))
        tensors = weights.read_tensors(folder)
        names = model.bert.config.family.mlm
        for name in names.values():
            if name not in tensors:
                raise InputError(f"{name_or_folder} has no head for masked language modelling: {name} is missing")
        weights.load_head({ours: model.get_parameter(ours) for ours in names}, names, tensors, Path(name_or_folder))
        return model.eval()

    def forward(self, batch: Batch) -> Output:
        """-> Output with the logits [M,V] of the M tokens whose label [B,T] is not IGNORE."""
        encoded = self.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        h = encoded.last_hidden_state[batch.labels != IGNORE]  # (B,T,D) -> (M,D)
        h = self.norm(self.activation(self.transform(h)))
        return Output(F.linear(h, self.bert.embeddings.token.weight, self.bias), encoded.hidden_states, ())  # (§3.1)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, as transformers' classes ForMaskedLM read them.

        The pooler is left out: masked language modelling never trains it.
        """
        parameters = self.state_dict()
        family = self.bert.config.family
        head = {name: parameters[ours] for ours, name in family.mlm.items()}
        weights.save_bert(
            self.bert, folder, head, {"architectures": [f"{family.architectures}ForMaskedLM"]}, pooler=None
        )
