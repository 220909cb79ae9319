"""Fine-tune a BERT with SMART, by hand: the whole idea on one screen.

    python examples/finetune_by_hand.py

It trains the tiny BERT of the embedded sample on RTE for one epoch, and ends with the same weights, bit for bit, as
`python train.py --option smart --epochs 1` does on the same CPU.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import sample
from minbert import AdamW, BertModel, SentenceModel, load_tokenizer
from minbert.data import TASKS, Dataset, read_examples
from minbert.optimizer import parameter_groups
from minbert.random_state import derive_seed
from minbert.schedules import linear
from regularizers import build


def finetune(seed: int = 0, batch_size: int = 32, peak_lr: float = 3e-4) -> SentenceModel:
    """One epoch. Returns the trained model in eval mode."""
    task, tokenizer = TASKS["rte"], load_tokenizer(sample.MODEL)
    train, dev = (
        Dataset(task, read_examples(task, sample.DATA, s), tokenizer, max_length=256) for s in ("train", "dev")
    )

    torch.manual_seed(seed)  # for the head and the pooler, which the sample's checkpoint lacks
    model = SentenceModel(BertModel.from_pretrained(sample.MODEL), [task])
    smart = build("smart")  # a Sum with one part: regularizers/smart.py
    smart.attach_with_seed(model, seed)  # SMART's teacher starts as a copy of the model
    model.train()

    optimizer = AdamW(parameter_groups(model, weight_decay=0.01, undecayed=smart.undecayed(model)))
    batches = train.shuffled(batch_size, seed, epoch=1)
    for step, rows in enumerate(batches):
        batch = train.collate(rows, seed=derive_seed(seed, step, 0, 0))  # micro-batch 0 of rank 0
        torch.manual_seed(batch.seed)  # dropout and noise of a step follow from its seed
        clean = model(batch)
        loss = smart.loss(model, batch, clean)
        penalty = sum(smart.penalty(model, batch, clean).values())
        optimizer.zero_grad()
        (loss + penalty).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * linear(step, len(batches), warmup=0.1)
        optimizer.step()
        smart.after_step(model, progress=(step + 1) / len(batches))  # the teacher follows
        print(f"step {step + 1}/{len(batches)}  loss {loss.item():.4f}  penalty {penalty.item():.4f}")

    model.eval()
    with torch.no_grad():
        batch = dev.collate(list(range(len(dev))))
        print(f"dev accuracy {(model(batch).logits.argmax(-1) == batch.labels).float().mean():.4f}")
    return model


if __name__ == "__main__":
    finetune()
