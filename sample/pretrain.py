"""Pretrain sample/tiny-bert/: a tiny BERT from scratch, by masked language modelling on sample/corpus.py.

    python -m sample.pretrain                       # a quarter of an hour on two cores
    python -m sample.pretrain --report              # accuracy on held-out text, and that of the most frequent token

A stopped run continues when the same command is given again. The model, batches, optimizer and loop are minbert's own;
the head is minbert/mlm.py.
"""

import argparse
import collections
import itertools
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from minbert.bert import BertModel
from minbert.config import BertConfig
from minbert.data.readers import Example, Examples
from minbert.dropout import Dropout
from minbert.errors import Interrupted
from minbert.mlm import IGNORE, MaskedLanguageModel
from minbert.pretrain import MaskedText, train
from minbert.tokenizer import SPECIAL_TOKENS, Tokenizer, add_bert_pipeline, load_tokenizer
from minbert.training.display import Display
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from sample.corpus import Pair, pairs

FOLDER = Path(__file__).parent / "tiny-bert"
PAIRS, HELD_OUT, EPOCHS, BATCH = 80_000, 2_000, 8, 64
SETTINGS = Settings(lr=1e-3, warmup=0.05, batch_size=BATCH)
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 256,
}


def masked_text(rows: list[Pair], tokenizer: Tokenizer, seed: int, epochs: int = 1) -> MaskedText:
    """Pairs of passages, masked anew in each epoch. The label of a pair is the id of its link, predicted at [CLS]."""
    examples = []
    for i, row in enumerate(rows):
        link = float(tokenizer.backend.token_to_id(row.link)) if row.link else None
        examples.append(Example(str(i), row.first, row.second, link))
    length = SIZES["max_position_embeddings"]
    return MaskedText(Examples(FOLDER, examples, []), tokenizer, length, BATCH, seed, epochs)


def train_tokenizer(rows: list[Pair]) -> Tokenizer:
    """A WordPiece vocabulary of the text: single characters, and the pieces into which the text is cut, sorted.

    The trainer breaks ties at random, so its ids differ from run to run. But it cuts a language as small as this into
    whole words every time, and the sorted pieces are the same.
    """
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=5000, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    texts = [text for row in rows for text in row if text]
    backend.train_from_iterator(texts, trainer)
    used = {token for encoding in backend.encode_batch(texts) for token in encoding.tokens}
    pieces = {token for token in backend.get_vocab() if token in used or len(token.removeprefix("##")) == 1}
    vocabulary = [*SPECIAL_TOKENS, *sorted(pieces - set(SPECIAL_TOKENS))]
    return Tokenizer(
        add_bert_pipeline(Backend(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]")))
    )


@torch.no_grad()
def accuracies(model: MaskedLanguageModel, text: MaskedText) -> dict[str, float]:
    """The share of masked tokens, and of links, that the model predicts, and the share of the most frequent one."""
    model.eval()
    correct, labels = collections.defaultdict(list), collections.defaultdict(collections.Counter)
    for masked, rows in text.epoch(0):
        batch = masked.collate(rows)
        chosen = batch.labels != IGNORE
        predictions = model(batch).logits.argmax(-1)
        at_cls = torch.nonzero(chosen)[:, 1] == 0
        for name, part in (("tokens", ~at_cls), ("links", at_cls)):
            part_labels = batch.labels[chosen][part]
            correct[name] += (predictions[part] == part_labels).tolist()
            labels[name].update(part_labels.tolist())
    result = {}
    for name, values in correct.items():
        result[name] = sum(values) / len(values)
        result[f"{name}, most frequent"] = labels[name].most_common(1)[0][1] / len(values)
    return result


def describe(result: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in result.items())


def held_out_text(tokenizer: Tokenizer) -> MaskedText:
    return masked_text(list(itertools.islice(pairs("held-out"), HELD_OUT)), tokenizer, seed=1)


def pretrain(folder: Path, number_of_pairs: int, epochs: int) -> None:
    """Train a model and save it in `folder`. A stopped call is continued."""
    rows = list(itertools.islice(pairs(), number_of_pairs))
    if not (folder / "tokenizer.json").exists():  # a stopped run has written it
        folder.mkdir(parents=True, exist_ok=True)
        train_tokenizer(rows).save(folder)
    tokenizer = load_tokenizer(folder)
    text, test = masked_text(rows, tokenizer, seed=0, epochs=epochs), held_out_text(tokenizer)
    torch.manual_seed(0)
    # config.json has BERT's dropout of 0.1, for fine-tuning. Pretraining has none: there a model this small underfits.
    model = MaskedLanguageModel(BertModel(BertConfig(vocab_size=len(tokenizer), **SIZES)))
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens, {len(rows)} pairs")

    def evaluate(epoch: int) -> dict:
        result = accuracies(model, test)
        print(f"epoch {epoch}: {describe(result)}", flush=True)
        return result

    with setup("cpu", "fp32") as runtime:  # neither bf16 nor a GPU is faster for a model as small as this
        display = Display(text.steps, False, runtime.is_main, runtime.signals.output_closed)
        train(model, text, evaluate, SETTINGS, runtime, display, folder)
        display.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    if not args.report:
        try:
            pretrain(args.out, args.pairs, args.epochs)
        except Interrupted as error:
            print(f"{error}: the same command continues the training", file=sys.stderr)
            sys.exit(error.status)
    model, text = MaskedLanguageModel.from_pretrained(args.out), held_out_text(load_tokenizer(args.out))
    print(f"held-out text: {describe(accuracies(model, text))}")


if __name__ == "__main__":
    main()
