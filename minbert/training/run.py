"""fine_tune: a whole run, from settings and a method to a complete run folder. train.py and multitask.py call it."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial

import torch

from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import Examples
from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.training.display import Display, describe_kept_epoch, describe_scores
from minbert.training.evaluation import Evaluator
from minbert.training.fingerprint import take_fingerprint
from minbert.training.gradients import check_recording
from minbert.training.inputs import Inputs, without_test_file
from minbert.training.loop import Objective, fit
from minbert.training.run_folder import RunFolder, check_out_folder
from minbert.training.runtime import Runtime, compile_layers
from minbert.training.settings import CommonSettings
from minbert.training.signals import silence
from minbert.training.state import best_epoch


def fine_tune(
    settings: CommonSettings,
    method: torch.nn.Module,
    runtime: Runtime,
    note: str = "",
    inputs: Inputs | None = None,
) -> None:
    """Run one fine-tuning from the first file to metrics.json.

    The settings are resolved. The method (regularizers.base.Method) is not attached yet. The note is printed first.
    A process that makes many runs gives all of them the same `inputs`, which read each file once.
    Raises InputError, TrainingError and Interrupted.
    """
    if runtime.is_main:
        check_out_folder(settings)
    check_recording(settings, runtime)
    tasks, inputs = settings.chosen_tasks, inputs or Inputs()
    missing = without_test_file(tasks, settings)
    examples = {task.name: inputs.examples(task, settings) for task in tasks}
    tokenizer = inputs.tokenizer(settings)
    fingerprint = take_fingerprint(settings, runtime.precision, examples, tokenizer, inputs)
    model = inputs.model(tasks, settings)
    data = {task.name: inputs.datasets(task, settings) for task in tasks}  # by task and split
    sampler = make_sampler([splits["train"] for splits in data.values()], settings)

    # The order matters: methods insert their modules on the CPU, so that their random weights do not depend on the
    # device, and blocks are compiled with all that is inserted.
    sizes = attach(method, model, settings.init_seed)
    objective = Objective(model, method, settings.loss_weights).to(runtime.device)
    if settings.compile:
        compile_layers(model)

    with (
        RunFolder(settings, runtime, model.bert.config, fingerprint) as folder,
        closing(Display(sampler.steps, settings.multitask, runtime.is_main, runtime.signals.output_closed)) as display,
    ):
        evaluator = Evaluator(model, data, settings.batch_size, runtime, settings.multitask, display.show_scoring)
        for line in introduction(settings, method, sampler, runtime, sizes, examples, folder, note):
            display.print(line)
        for name in missing:
            display.print(f"{name} has no test file: only its dev set is predicted")

        def evaluate(epoch: int) -> dict[str, dict]:
            evaluator.clear()
            scores = {split: evaluator.scores(split) for split in settings.evaluate}
            for split, result in scores.items():
                display.print(f"epoch {epoch}: {split} {describe_scores(result)}")
            return scores

        def write_row(row: dict) -> None:
            folder.append_log(row)
            display.show_row(row)

        totals, history = fit(
            objective,
            sampler,
            evaluate,
            settings,
            runtime,
            write_row,
            folder.checkpoints,
            folder.append_gradients,
            display.show_step,
        )
        if settings.keep == "best":  # the weights differ from those that were scored last
            evaluator.clear()
        folder.save_model(model, tokenizer)
        frozen = is_frozen(model)
        for task in tasks:
            for split in [name for name in data[task.name] if name != "train"]:
                logits = evaluator.logits(task.name, split)
                folder.save_predictions(data[task.name][split], split, logits, frozen)
        totals |= sizes | {"peak_memory_bytes": runtime.peak_memory(), "method": method.report()}
        finish(folder, display, settings, history, totals)


def make_sampler(datasets: list[Dataset], settings: CommonSettings) -> BatchSampler | TaskBatchSampler:
    """train.py's batches come from one task, multitask.py's from several in turn."""
    length = {"epochs": settings.epochs, "max_steps": settings.max_steps}
    if not settings.multitask:
        return BatchSampler(datasets[0], settings.batch_size, settings.data_seed, **length)
    return TaskBatchSampler(datasets, settings.sampling, settings.batch_size, settings.data_seed, **length)


def attach(method: torch.nn.Module, model: SentenceModel, seed: int) -> dict[str, int]:
    """Attach the method. Returns the numbers of parameters, for metrics.json."""
    before = count(model.parameters())
    method.attach_with_seed(model, seed)
    return {
        "trainable_parameters": count(p for p in model.parameters() if p.requires_grad),
        "parameters": count(model.parameters()),
        "added_parameters": count(model.parameters()) - before,
    }


def is_frozen(model: SentenceModel) -> bool:
    """Whether the encoder stays as it is. (A pooler with fresh weights may train: it belongs to the head then.)"""
    return not any(p.requires_grad for part in (model.bert.embeddings, model.bert.layers) for p in part.parameters())


def count(parameters: Iterable[torch.Tensor]) -> int:
    return sum(p.numel() for p in parameters)


def introduction(
    settings: CommonSettings,
    method: torch.nn.Module,
    sampler: BatchSampler | TaskBatchSampler,
    runtime: Runtime,
    sizes: dict[str, int],
    examples: dict[str, dict[str, Examples]],
    folder: RunFolder,
    note: str,
) -> Iterator[str]:
    """The first lines of a run."""
    if folder.changes:
        yield f"this machine differs from the one before, so the last bits may differ: {folder.changes}"
    if runtime.is_main and settings.resume and not (folder.checkpoints and folder.checkpoints.files()):
        yield "the stopped run has no checkpoint: this run starts from the beginning"
    for splits in examples.values():
        yield from (f"{rows.path}: {len(rows.rows)} rows, {rows.form}" for rows in splits.values() if rows.form)
        yield from (describe_skipped_rows(rows) for rows in splits.values() if rows.left_out)
    sizes_of_data = " + ".join(str(len(dataset)) for dataset in sampler.datasets)
    length = f"{sizes_of_data} examples, {sampler.steps} steps"
    yield f"{settings.option} on {settings.title}: {length}, {runtime.describe()}"
    trained, all_of_them, added = sizes["trainable_parameters"], sizes["parameters"], sizes["added_parameters"]
    yield f"trains {trained:,} of {all_of_them:,} parameters; {added:,} added"
    if isinstance(sampler, TaskBatchSampler):
        yield f"sampling {sampler.describe()}"
    graded = [examples[task.name] for task in settings.chosen_tasks if not task.own]
    if any(rows.is_cut for splits in graded for split, rows in splits.items() if split.startswith("dev")):
        yield "--dev-size: the files with dev predictions are incomplete, and no grader takes them"
    if settings.record and settings.record_every > sampler.steps:
        yield f"--record: no step is recorded, because --record-every is {settings.record_every}"
    if note:
        yield note
    yield f"not the defaults: {settings.describe_changes(method.lr) or 'nothing'}"


def describe_skipped_rows(examples: Examples) -> str:
    """Which rows the reader left out because they have no label."""
    lines = ", ".join(map(str, examples.left_out[:10])) + (", ..." if len(examples.left_out) > 10 else "")
    rows = "row without a label" if len(examples.left_out) == 1 else "rows without a label"
    return f"{examples.path}: left out {len(examples.left_out)} {rows}, line {lines}"


def finish(folder: RunFolder, display: Display, settings: CommonSettings, history: list[dict], totals: dict) -> None:
    """Write metrics.json, which makes the run complete, and print the last lines, with the score.

    The scores are those of the epoch whose weights are kept.
    """
    best, last = best_epoch(history), history[-1]
    kept = best if settings.keep == "best" else last
    scores = kept["dev"]
    values = totals | scores | {"kept_epoch": kept["epoch"], "best_epoch": best["epoch"], "history": history}
    if settings.multitask:
        values["tasks"] = {task: scores["tasks"][task] | totals["tasks"][task] for task in settings.task_names}
    else:
        del values["tasks"]
    folder.write_metrics(values)
    display.output_closed = partial(silence, sys.stdout)  # the run is complete, whether or not anybody reads the rest
    if settings.multitask:
        display.print("steps: " + ", ".join(f"{task} {of['steps']}" for task, of in values["tasks"].items()))
    for name, value in totals["method"].items():
        display.print(f"{name} {value:.4f}")
    display.print(describe_kept_epoch(kept, best, last))
    if scores["failed"]:
        display.print(f"FAILED RUN: {scores['failure']}")
    display.print(f"{settings.title} dev {describe_scores(scores)}  {folder.path}")
