"""RoBERTa, ALBERT and DistilBERT compared with transformers: models that minbert saved, and the speed of training.

    python -m benchmarks.families                  # needs transformers, but no model and no data

Models have random weights. First a small sequence classifier and a small masked language model of each family are
saved by minbert and loaded by transformers, and their logits compared in float64. Then models with 6 layers of width
384 train on the same batches of 16 texts with 64 tokens, in float32 with dropout: minbert and transformers in turn.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from benchmarks.peer import peer_optimizer
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.families import FAMILIES
from minbert.mlm import MLM, MaskedLanguageModel
from minbert.optimizer import AdamW, parameter_groups
from minbert.task import Batch
from minbert.weights import save_model

SMALL = BertConfig(vocab_size=41, hidden_size=15, num_hidden_layers=3, num_attention_heads=5, intermediate_size=22,
                   max_position_embeddings=40, initializer_range=0.3)  # fmt: skip
TIMED = BertConfig(vocab_size=30_000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                   intermediate_size=1536)  # fmt: skip
SPECIFIC = {  # fields that config.json gives
    "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "albert": {"embedding_size": 7, "hidden_act": "gelu_new"},
}


def config_of(family: str, sizes: BertConfig) -> BertConfig:
    return replace(sizes, model_type=family, **FAMILIES[family].constants | SPECIFIC.get(family, {}))


def make_batch(config: BertConfig, rows: int, tokens: int) -> Batch:
    """Random ids, padded at the right."""
    real = torch.arange(tokens) < torch.randint(tokens // 2, tokens + 1, (rows,))[:, None]
    ids = torch.where(real, torch.randint(5, config.vocab_size, (rows, tokens)), config.pad_token_id)
    task = TASKS["rte"]
    return Batch(ids, torch.zeros_like(ids), real, torch.arange(rows) % 2, torch.arange(rows), task)


@torch.no_grad()
def compare_saved(family: str) -> tuple[float, float]:
    """The largest difference of logits: of a sequence classifier, and of a masked language model."""
    config = config_of(family, SMALL)
    batch = make_batch(config, 4, 17)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
    with tempfile.TemporaryDirectory() as folder:
        model = SentenceModel(BertModel(config), [TASKS["rte"]]).eval()
        save_model(model, Path(folder))
        peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
        labels = peer.config.id2label
        assert tuple(labels[i] for i in range(2)) == TASKS["rte"].labels
        classifier = (peer(**inputs).logits - model.double()(batch).logits).abs().max().item()
    with tempfile.TemporaryDirectory() as folder:
        model = MaskedLanguageModel(BertModel(config)).eval()
        model.save(Path(folder))
        peer = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64).eval()
        logits = model.double()(replace(batch, labels=torch.zeros_like(batch.input_ids), task=MLM)).logits
        return classifier, (peer(**inputs).logits.flatten(0, 1) - logits).abs().max().item()


def seconds(step, batches: list[Batch]) -> float:
    start = time.perf_counter()
    for batch in batches:
        step(batch)
    return time.perf_counter() - start


def speed_ratio(family: str, rounds: int) -> float:
    """The time of transformers / the time of minbert: the median over the rounds."""
    config = config_of(family, TIMED)
    if config.embedding_size:
        config = replace(config, embedding_size=128)
    batches = [make_batch(config, 16, 64) for _ in range(3)]
    model = SentenceModel(BertModel(config), [TASKS["rte"]]).train()
    optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder))
        peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder).train()
    peer_step = peer_optimizer(peer, 1e-5, 1e-6)

    def ours(batch: Batch) -> None:
        batch.task.loss(model(batch).logits, batch.labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def theirs(batch: Batch) -> None:
        peer(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), labels=batch.labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        peer_step.step()
        peer_step.zero_grad()

    ratios = []
    for _ in range(rounds + 1):  # the first one warms up
        ratios.append(seconds(theirs, batches) / seconds(ours, batches))
    return statistics.median(ratios[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    print("| family | classifier | masked language model | time of transformers / of minbert |\n|---|---|---|---|")
    for family in FAMILIES:
        differences = " | ".join(f"{value:.1e}" for value in compare_saved(family))
        print(f"| {family} | {differences} | {speed_ratio(family, args.rounds):.2f} |", flush=True)


if __name__ == "__main__":
    main()
