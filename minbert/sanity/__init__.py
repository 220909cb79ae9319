"""Where does an implementation of BERT or AdamW first go wrong, and why?

    python -m minbert.sanity                  # this package, against numbers that transformers gave
    python -m minbert.sanity --model MODEL    # the same steps on the weights of a folder or a hub name

Every step is given the right input, so that a mistake does not smear over the steps after it; the whole model comes
last. Exit status 0: all is right; 1: something diverges; 2: bad input. For classes of your own:

    from minbert import sanity
    sanity.check_model(sanity.tiny(MyBert), sanity.tiny_reference())
    sanity.check_optimizer(MyAdamW)

Reading order: plain, mistakes, verdict, references, model_steps, optimizer_steps.
"""

from torch import nn

from minbert import bert, weights
from minbert.bert import BertModel
from minbert.optimizer import AdamW
from minbert.sanity.model_steps import model_steps
from minbert.sanity.optimizer_steps import optimizer_steps
from minbert.sanity.references import FILE, Reference, own_reference, tiny_reference, trajectories
from minbert.sanity.verdict import Divergence, first_divergence

__all__ = ["Divergence", "check_model", "check_optimizer", "tiny", "tiny_reference"]


def tiny(cls=BertModel) -> nn.Module:
    """The committed tiny BERT as a `cls`, in eval mode. Raises InputError if the names of its tensors do not fit."""
    reference = tiny_reference()
    model = cls(reference.config)
    weights.load_into(model, reference.weights, FILE)
    return model.eval()


def check_model(model: nn.Module, reference: Reference | None = None, attendable=None, say=print) -> Divergence | None:
    """Print a line for each step of the model, up to the first that diverges. Returns that one, or None.

    Any module will do that has BertModel's names and signatures, down to `layers[i].attention(h, mask)`. `attendable`
    makes that mask from [B,T], of bool or to be added to the scores (default: that of bert.py). Without a `reference`
    the right numbers are computed from the model's own weights. Raises InputError if BertModel has no such weights.
    """
    steps = model_steps(model, reference or own_reference(model), attendable or bert.expand_attention_mask)
    return first_divergence(steps, any(module.training for module in model.modules()), say)


def check_optimizer(cls=AdamW, say=print) -> Divergence | None:
    """The same for an optimizer, of which `cls(groups, lr=, betas=, eps=, weight_decay=, correct_bias=)` is made."""
    return first_divergence(optimizer_steps(cls, trajectories()), say=say)
