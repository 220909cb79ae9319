"""What a masked language model puts in place of [MASK]: what one tries first with a BERT.

    python -m minbert.predict bert-base-uncased --mask "the cat [MASK] on the mat ."

MODEL is a folder or a hub name of a BERT, RoBERTa, ALBERT or DistilBERT with its pretrained head. The five most
probable tokens are printed for each [MASK], with their probabilities. (RoBERTa's <mask> may be written [MASK], too.)
"""

import sys

import torch

from minbert.command_line import Parser, is_utf8
from minbert.errors import InputError
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.task import Batch
from minbert.tokenizer import Tokenizer, load_tokenizer

MASK = "[MASK]"  # in the text of the user, for each family


@torch.no_grad()
def fill_masks(
    model: MaskedLanguageModel, tokenizer: Tokenizer, text: str, number: int = 5
) -> list[list[tuple[str, float]]]:
    """The most probable tokens of each mask in the text, with their probabilities, the best first.

    Raises InputError for a text without a mask, or with more tokens than the model has positions.
    """
    if tokenizer.mask_id is None:
        raise InputError(f"the tokenizer has no {tokenizer.kind.mask}: its model is not a masked language model")
    if not is_utf8(text):
        raise InputError("the text is not UTF-8")
    longest = model.bert.config.positions
    (encoding,) = tokenizer([text.replace(MASK, tokenizer.kind.mask)], max_length=longest + 1)
    if len(encoding.input_ids) > longest:
        raise InputError(f"the text has more than {longest} tokens, the most that the model can read")
    ids = torch.tensor([encoding.input_ids])
    masks = ids == tokenizer.mask_id
    if not masks.any():
        raise InputError(f"the text has no {MASK}")
    labels = torch.where(masks, 0, IGNORE)  # the model computes logits where there is a label
    batch = Batch(ids, torch.tensor([encoding.token_type_ids]), torch.ones_like(masks), labels, torch.arange(1), MLM)
    probabilities, best = model(batch).logits.softmax(-1).topk(number)  # (M,number)
    return [
        [(tokenizer.backend.decode([token]).strip(), p) for token, p in zip(row.tolist(), values.tolist())]
        for row, values in zip(best, probabilities)
    ]


def main(argv: list[str]) -> int:
    parser = Parser("python -m minbert.predict", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="folder or hub name of a pretrained model")
    parser.add_argument("--mask", metavar="TEXT", required=True, help="a text with one [MASK] or more")
    try:
        args = parser.parse_args(argv)
        tokenizer, model = load_tokenizer(args.model), MaskedLanguageModel.from_pretrained(args.model)
        model.bert.config.check_input(len(tokenizer) - 1, max_length=1, texts=1)
        for words in fill_masks(model, tokenizer, args.mask):
            print("  ".join(f"{word} {probability:.3f}" for word, probability in words))
    except InputError as error:
        print(f"minbert.predict: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
