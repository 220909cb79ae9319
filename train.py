"""Fine-tune one BERT on one task.

    python train.py --option smart                                        # on the embedded sample
    python train.py --option smart --task rte --model MODEL --data DATA
    python train.py --options

The last lists what --option can be.
"""

import math
import os
import sys

import torch

import sample
from minbert.batches import Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.errors import InputError, Interrupted, TrainingError
from minbert.readers import read_examples, subset
from minbert.runs import Run, describe_scores
from minbert.runtime import Runtime, compile_blocks, setup
from minbert.settings import Settings, parse
from minbert.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training import Objective, evaluate, fit, predict
from minbert.weights import resolve
from regularizers import build, describe
from regularizers.base import Method


def train(settings: Settings, method: Method, runtime: Runtime) -> None:
    run = Run(settings, runtime)
    task = TASKS[settings.task]
    predicted = [split for name in sorted({"dev", settings.predict}) for split in task.splits(name)]
    examples = {split: read_examples(task, settings.data, split) for split in ("train", *predicted)}
    examples["train"] = subset(examples["train"], settings.train_size)

    torch.manual_seed(settings.init_seed)  # of the head, and of whatever else is not pretrained
    folder = resolve(settings.model)
    bert = BertModel.from_pretrained(folder, **settings.config_changes())
    tokenizer = load_tokenizer(folder)
    bert.config.check_input(len(tokenizer) - 1, settings.max_length, len(task.text))
    model = SentenceModel(bert, [task])
    data = {split: Dataset(task, read, tokenizer, settings.max_length) for split, read in examples.items()}
    train_set = data["train"]
    steps = settings.max_steps or settings.epochs * math.ceil(len(train_set) / settings.batch_size)

    plain_size = count(model.parameters())
    method.attach(model)
    sizes = {
        "trainable_parameters": count(p for p in model.parameters() if p.requires_grad),
        "parameters": count(model.parameters()),
        "added_parameters": count(model.parameters()) - plain_size,
    }
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
        run.say("trains {:,} of {:,} parameters; {:,} added".format(*sizes.values()))
        if settings.model == str(sample.MODEL):
            run.say(sample.NOTE)
        run.say(f"not the defaults: {settings.changes() or 'nothing'}")
        totals, history = fit(objective, plan, score, steps, settings, runtime, run, run.checkpoint)
        run.save(model, tokenizer)
        frozen = not any(p.requires_grad for p in model.bert.parameters())
        for split in predicted:
            run.save_predictions(data[split], split, predict(model, data[split], settings.batch_size, runtime), frozen)
        run.finish(task, history[-1]["dev"], totals | sizes | {"history": history})


def with_sample(settings: Settings, method: Method) -> Settings:
    """Resolve the settings; the embedded sample stands in for a model or data that are not named."""
    own = {"lr": method.lr}
    if settings.model is None:
        own = {**sample.RECIPE, **{name: value for name, value in own.items() if value is not None}}
    return settings.resolve(**own, model=str(sample.MODEL), data=str(sample.DATA))


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def main(argv: list[str]) -> int:
    try:
        if "--options" in argv:
            print(describe())
            return 0
        settings = parse(Settings, argv, __doc__)
        method = build(settings.option, settings.set)
        if not settings.resume:
            settings = with_sample(settings, method)
        with setup(settings.device, settings.precision, method.fp32) as runtime:
            train(settings, method, runtime)
        return 0
    except KeyboardInterrupt:
        print("train.py: interrupted", file=sys.stderr)
        return 130
    except Interrupted as stop:
        print(f"train.py: {stop}", file=sys.stderr)
        return stop.status
    except (InputError, TrainingError, OSError, RuntimeError) as error:
        text = explain(error)
        # Of torchrun's processes the first speaks for all, unless the mistake may be another's own.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, InputError | TrainingError):
            print(f"train.py: {text}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2


def explain(error: Exception) -> str:
    """One line; a RuntimeError that says nothing of memory is a bug, and keeps its traceback."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory: lower --batch-size or --max-length, or raise --accumulate"
    if isinstance(error, InputError | TrainingError | OSError):
        return str(error)
    raise error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
