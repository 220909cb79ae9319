"""A whole run: settings and a method in, a complete run folder out. What train.py and multitask.py do."""

import numpy as np
import torch

from minbert import metrics
from minbert.batches import Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.readers import Examples, read_examples, subset
from minbert.runs import Run, describe_scores
from minbert.runtime import Runtime, compile_blocks
from minbert.sampling import Plan
from minbert.tasks import Task
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training import Objective, evaluate, fit, predict
from minbert.weights import resolve


def fine_tune(settings, method, runtime: Runtime, note: str = "") -> None:
    """`settings` is of a class of minbert.settings, resolved; `method` any regularizers.base.Method, not yet attached;
    `note` is printed among the first lines. Raises InputError, TrainingError and Interrupted."""
    run, tasks = Run(settings, runtime), settings.chosen_tasks()
    examples = {task.name: read(task, settings) for task in tasks}
    model, tokenizer = pretrained(tasks, settings)
    data: dict[str, dict[str, Dataset]] = {}  # by task and split
    for task in tasks:
        texts = examples[task.name].items()
        data[task.name] = {split: Dataset(task, found, tokenizer, settings.max_length) for split, found in texts}
    plan = Plan([own["train"] for own in data.values()], settings)
    sizes = attach(method, model)
    objective = Objective(model, method, settings.weights).to(runtime.device)
    if settings.compile:
        compile_blocks(model)

    outputs = Outputs(model, data, settings.batch_size, runtime)

    def score(epoch: int) -> dict[str, dict]:
        outputs.forget()
        scores = {split: score_of(split, outputs, settings) for split in settings.evaluate}
        for split, result in scores.items():
            run.say(f"epoch {epoch}: {split} {describe_scores(result)}")
        return scores

    with run.start(model.bert.config, plan.steps):
        for own in examples.values():
            for found in own.values():
                run.note_left_out(found)
        for line in introduction(settings, plan, runtime, sizes, note):
            run.say(line)
        totals, history = fit(objective, plan, score, plan.steps, settings, runtime, run, run.checkpoint)
        if settings.keep == "best":  # the weights are no longer those of the last scores
            outputs.forget()
        run.save(model, tokenizer)
        frozen = not any(p.requires_grad for p in model.bert.parameters())
        for task in tasks:
            for split in predicted(task, settings):
                run.save_predictions(data[task.name][split], split, outputs.of(task, split), frozen)
        run.finish(history, totals | sizes)


class Outputs:
    """The model's logits for the data of each task and split, computed once for the same weights."""

    def __init__(self, model: SentenceModel, data: dict[str, dict[str, Dataset]], batch_size: int, runtime: Runtime):
        self.model, self.data, self.batch_size, self.runtime = model, data, batch_size, runtime
        self.known: dict[tuple[str, str], np.ndarray] = {}

    def of(self, task: Task, split: str) -> np.ndarray:
        """[N,C], in the file's order."""
        place = task.name, split
        if place not in self.known:
            self.known[place] = predict(self.model, self.data[task.name][split], self.batch_size, self.runtime)
        return self.known[place]

    def forget(self) -> None:
        """The weights have changed."""
        self.known.clear()


def score_of(split: str, outputs: Outputs, settings) -> dict:
    """What metrics.json tells of dev or train: of the one task, or of each task and their average."""
    results, tasks = {}, outputs.model.tasks
    for task in tasks:
        parts = {name: outputs.data[task.name][name] for name in task.splits(split)}
        results[task.name] = evaluate(parts, {name: outputs.of(task, name) for name in parts})
    return metrics.average(tasks, results) if settings.multitask else results[settings.title]


def introduction(settings, plan: Plan, runtime: Runtime, sizes: dict[str, int], note: str) -> list[str]:
    """The first lines of a run."""
    examples = " + ".join(str(len(dataset)) for dataset in plan.datasets)
    lines = [
        f"{settings.option} on {settings.title}: {examples} examples, {plan.steps} steps, {runtime.describe()}",
        "trains {:,} of {:,} parameters; {:,} added".format(*sizes.values()),
        f"sampling {plan.describe()}" if settings.multitask else "",
        note,
        f"not the defaults: {settings.changes() or 'nothing'}",
    ]
    return [line for line in lines if line]


def read(task: Task, settings) -> dict[str, Examples]:
    """By split: all that the run trains on, scores or predicts."""
    examples = {split: read_examples(task, settings.data, split) for split in ("train", *predicted(task, settings))}
    return examples | {"train": subset(examples["train"], settings.train_size)}


def predicted(task: Task, settings) -> list[str]:
    return [split for name in sorted({"dev", settings.predict}) for split in task.splits(name)]


def pretrained(tasks: list[Task], settings) -> tuple[SentenceModel, Tokenizer]:
    torch.manual_seed(settings.init_seed)  # of the heads, and of whatever else is not pretrained
    folder = resolve(settings.model)
    bert = BertModel.from_pretrained(folder, **settings.config_changes())
    tokenizer = load_tokenizer(folder)
    bert.config.check_input(len(tokenizer) - 1, settings.max_length, max(task.segments for task in tasks))
    return SentenceModel(bert, tasks), tokenizer


def attach(method, model: SentenceModel) -> dict[str, int]:
    """Returns the numbers of parameters, for metrics.json."""
    before = count(model.parameters())
    method.attach(model)
    return {
        "trainable_parameters": count(p for p in model.parameters() if p.requires_grad),
        "parameters": count(model.parameters()),
        "added_parameters": count(model.parameters()) - before,
    }


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)
