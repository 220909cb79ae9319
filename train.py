"""Fine-tune one BERT on one task.

    python train.py --option smart --task rte --model MODEL --data DATA
    python train.py --options

The second lists what --option can be.
"""

import math
import os
import sys

import torch

from minbert.batches import Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.errors import InputError, TrainingError
from minbert.readers import read_examples, subset
from minbert.runs import Run, describe_scores
from minbert.runtime import Runtime, compile_blocks, setup
from minbert.settings import Settings, parse
from minbert.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training import Objective, evaluate, fit
from minbert.weights import resolve
from regularizers import build, describe
from regularizers.base import Method


def train(settings: Settings, method: Method, runtime: Runtime) -> None:
    run = Run(settings, runtime)
    task, folder = TASKS[settings.task], resolve(settings.model)
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(settings.init_seed)  # of the head, and of whatever else is not pretrained
    bert = BertModel.from_pretrained(folder, **settings.config_changes())
    bert.config.check_input(len(tokenizer) - 1, settings.max_length, len(task.text))
    model = SentenceModel(bert, [task])

    examples = {split: read_examples(task, settings.data, split) for split in ("train", *task.splits("dev"))}
    examples["train"] = subset(examples["train"], settings.train_size)
    data = {split: Dataset(task, read, tokenizer, settings.max_length) for split, read in examples.items()}
    train_set = data["train"]
    steps = settings.max_steps or settings.epochs * math.ceil(len(train_set) / settings.batch_size)

    plain_size = count(model.parameters())
    method.attach(model)
    objective = Objective(model, method).to(runtime.device)
    if settings.compile:
        compile_blocks(model)

    def plan(epoch: int) -> list[tuple[Dataset, list[int]]]:
        return [(train_set, rows) for rows in train_set.shuffled(settings.batch_size, settings.data_seed, epoch)]

    def score(epoch: int) -> dict[str, dict]:
        scores = {}
        for split in settings.evaluate:
            parts = {name: data[name] for name in task.splits(split)}
            scores[split] = evaluate(model, parts, settings.batch_size, runtime)
            run.say(f"epoch {epoch}: {split} {describe_scores(task, scores[split])}")
        return scores

    with run.start(bert.config, steps):
        for read in examples.values():
            run.note_left_out(read)
        run.say(f"{settings.option} on {task.name}: {len(train_set)} examples, {steps} steps, {runtime.describe()}")
        run.say(f"not the defaults: {settings.changes() or 'nothing'}")
        totals, history = fit(objective, plan, score, steps, settings, runtime, run)
        sizes = {
            "parameters": count(model.parameters()),
            "trainable_parameters": count(p for p in model.parameters() if p.requires_grad),
            "added_parameters": count(model.parameters()) - plain_size,
        }
        run.save(model, tokenizer)
        run.finish(task, history[-1]["dev"], totals | sizes | {"history": history})


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def main(argv: list[str]) -> int:
    try:
        if "--options" in argv:
            print(describe())
            return 0
        settings = parse(Settings, argv, __doc__)
        method = build(settings.option, settings.set)
        settings = settings.resolve(lr=method.lr)
        with setup(settings.device, settings.precision, method.fp32) as runtime:
            train(settings, method, runtime)
        return 0
    except (InputError, TrainingError, OSError, torch.OutOfMemoryError) as error:
        if os.environ.get("RANK", "0") == "0":  # one of torchrun's processes speaks for all
            print(f"train.py: {explain(error)}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2


def explain(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the device's memory is full: lower --batch-size or --max-length, or raise --accumulate"
    return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
