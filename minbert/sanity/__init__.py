"""Find the first step where an implementation of BERT or AdamW goes wrong, and the likely cause.

    python -m minbert.sanity                  # this package, against numbers computed by transformers
    python -m minbert.sanity --model MODEL    # the same steps with the weights of a folder or a hub name

Every step gets the right input, so a mistake in one step does not change the later steps. The whole model comes last.
Exit status 0: all steps are right. 1: a step differs. 2: bad input. For your own classes:

    from minbert import sanity
    sanity.check_model(sanity.tiny(MyBert), sanity.tiny_reference())
    sanity.check_optimizer(MyAdamW)

Reading order: plain, mistakes, reference, steps, verdict.
"""

from collections.abc import Callable

from torch import Tensor, nn

from minbert import bert, weights
from minbert.optimizer import AdamW
from minbert.sanity.plain import Reference
from minbert.sanity.reference import FILE, own_reference, tiny_reference
from minbert.sanity.steps import model_steps, optimizer_steps
from minbert.sanity.verdict import Divergence, first_divergence

__all__ = ["Divergence", "check_model", "check_optimizer", "tiny", "tiny_reference"]


def tiny(cls: type[nn.Module] = bert.BertModel) -> nn.Module:
    """Build a `cls` with the committed tiny weights, in eval mode. Raises InputError if its tensor names do not fit."""
    reference = tiny_reference()
    model = cls(reference.config)
    weights.load_into(model, reference.weights, FILE)
    return model.eval()


def check_model(
    model: nn.Module,
    reference: Reference | None = None,
    expand_mask: Callable[[Tensor], Tensor] | None = None,
    write: Callable[[str], object] = print,
) -> Divergence | None:
    """Write a line for each step of the model, up to the first step that differs. Returns it, or None if all is right.

    The module needs the names and signatures of BertModel, down to `layers[i].attention(h, mask)`. `expand_mask` makes
    that mask from [B,T]: bool, or floats to add to the scores (default: bert.expand_attention_mask). Without a
    `reference`, plain.py computes the right numbers from the model's own weights. Raises InputError if the model has a
    tensor that BertModel does not have.
    """
    steps = model_steps(model, reference or own_reference(model), expand_mask or bert.expand_attention_mask)
    return first_divergence(steps, any(module.training for module in model.modules()), write)


def check_optimizer(cls: type = AdamW, write: Callable[[str], object] = print) -> Divergence | None:
    """Check an optimizer, built as `cls(groups, lr=, betas=, eps=, weight_decay=, correct_bias=)`, in the same way."""
    return first_divergence(optimizer_steps(cls), write=write)
