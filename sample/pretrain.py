"""Pretrains sample/tiny-bert/: a tiny BERT from scratch, by masked language modelling on sample/corpus.py.

    python -m sample.pretrain                       # a quarter of an hour on two cores; stopped, it goes on
    python -m sample.pretrain --report              # MLM accuracy on held-out text, beside the unigram baseline

The model, batches, optimizer and loop are minbert's own; the head is minbert/mlm.py.
"""

import argparse
import collections
import itertools
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from minbert.bert import BertModel
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.masking import MaskedDataset, Masking
from minbert.data.readers import Example, Examples
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.tokenizer import SPECIAL_TOKENS, Tokenizer, add_bert_pipeline, load_tokenizer
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import fit
from minbert.training.objective import Objective
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers import build
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


class Text:
    """Pairs of passages, tokenized once, and masked anew in each epoch."""

    def __init__(self, rows: list[Pair], tokenizer: Tokenizer, seed: int):
        link = tokenizer.backend.token_to_id
        examples = [
            Example(str(i), row.first, row.second, float(link(row.link)) if row.link else None)
            for i, row in enumerate(rows)
        ]
        self.dataset = Dataset(MLM, Examples(FOLDER, examples, []), tokenizer, SIZES["max_position_embeddings"])
        self.masking, self.seed = Masking(len(tokenizer), SPECIAL_TOKENS.index("[MASK]"), len(SPECIAL_TOKENS)), seed

    def plan(self, epoch: int) -> list[tuple[MaskedDataset, list[int]]]:
        masked = MaskedDataset(self.dataset, self.masking, self.seed, epoch)
        return [(masked, rows) for rows in self.dataset.shuffled(BATCH, self.seed, epoch)]


def train_tokenizer(rows: list[Pair]) -> Tokenizer:
    """A WordPiece vocabulary of the text: single characters, and the pieces that the text is cut into, sorted.

    (The trainer breaks ties at random, and so do its ids; what it cuts so small a language into is every time
    the same: whole words.)
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


class Console:
    """Prints the log; a run folder would be too much."""

    def log(self, row: dict) -> None:
        if row["step"] % 100 < 10:
            print(
                f"step {row['step']}/{row['steps']}  loss {row['loss']:.3f}  {row['seconds_left']:.0f} s left",
                flush=True,
            )


@torch.no_grad()
def accuracies(model: MaskedLanguageModel, text: Text) -> dict[str, float]:
    """On held-out text: the share of masked tokens, and of links, that the model guesses, and that the most
    frequent one is (the unigram baseline)."""
    model.eval()
    right, guesses = collections.defaultdict(list), collections.defaultdict(collections.Counter)
    for masked, rows in text.plan(epoch=0):
        batch = masked.collate(rows)
        chosen = batch.labels != IGNORE
        correct = model(batch).logits.argmax(-1) == batch.labels[chosen]
        at_cls = torch.nonzero(chosen)[:, 1] == 0
        for name, part in (("tokens", ~at_cls), ("links", at_cls)):
            right[name] += correct[part].tolist()
            guesses[name].update(batch.labels[chosen][part].tolist())
    result = {}
    for name, values in right.items():
        result[name] = sum(values) / len(values)
        result[f"{name}, most frequent"] = guesses[name].most_common(1)[0][1] / len(values)
    return result


def show(result: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in result.items())


def held_out(tokenizer: Tokenizer) -> Text:
    return Text(list(itertools.islice(pairs("held-out"), HELD_OUT)), tokenizer, seed=1)


def pretrain(folder: Path, pairs_: int, epochs: int) -> None:
    rows = list(itertools.islice(pairs(), pairs_))
    if not (folder / "tokenizer.json").exists():  # which is there when a stopped run goes on
        folder.mkdir(parents=True, exist_ok=True)
        train_tokenizer(rows).save(folder)
    tokenizer = load_tokenizer(folder)
    text, test = Text(rows, tokenizer, seed=0), held_out(tokenizer)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
    model = MaskedLanguageModel(BertModel(config))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens, {len(rows)} pairs")

    def score(epoch: int) -> dict:
        result = accuracies(model, test)
        print(f"epoch {epoch}: {show(result)}", flush=True)
        return result

    steps = epochs * len(text.plan(1))
    checkpoint = Checkpoints(folder.with_name(f"{folder.name}-checkpoint"))
    with setup(precision="fp32") as runtime:  # so small a model gains nothing from bf16
        objective = Objective(model, build("finetune")).to(runtime.device)
        fit(objective, text.plan, score, steps, SETTINGS, runtime, Console(), checkpoint)
    model.save(folder)
    checkpoint.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    if not args.report:
        pretrain(args.out, args.pairs, args.epochs)
    tokenizer = load_tokenizer(args.out)
    print(f"held-out text: {show(accuracies(MaskedLanguageModel.from_pretrained(args.out), held_out(tokenizer)))}")


if __name__ == "__main__":
    main()
