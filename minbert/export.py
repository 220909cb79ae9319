"""Write the model of a run for other libraries.

    python -m minbert.export RUN --to DIR            # a folder that transformers loads as a sequence classifier
    python -m minbert.export RUN --to DIR --peft     # the low-rank updates of LoRA alone, as an adapter for peft

With transformers: pipeline("text-classification", model=DIR, truncation=True). LoRA's updates are added to the weights.
What transformers cannot represent is refused: several tasks, sentences that are encoded separately, adapters and other
inserted modules. An adapter for peft is loaded on top of the run's own pretrained model:

    base = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
    model = PeftModel.from_pretrained(base, DIR)
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from minbert import weights
from minbert.classifier import SentenceModel
from minbert.command_line import Parser, is_utf8, run_program
from minbert.errors import InputError, reason
from minbert.files import rename, write_json
from minbert.published import published_name
from minbert.task import Task
from minbert.training.text_model import TextModel, load_run, read_run_settings


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    parser = Parser("python -m minbert.export", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="a new folder for the model")
    parser.add_argument("--peft", action="store_true", help="write LoRA's updates as an adapter for peft")
    return run_program("minbert.export", lambda: export(parser.parse_args(argv)))


def export(args: argparse.Namespace) -> None:
    """Write the new folder, whole or not at all. Raises InputError."""
    if args.to.exists():
        raise InputError(f"--to {args.to} exists: name a new folder")
    if not is_utf8(str(args.to)):
        raise InputError("--to is not UTF-8")
    settings, model = read_run_settings(args.run), load_run(args.run)
    task = check_exportable(model)
    temporary = args.to.with_name(f".{args.to.name}.new")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        if args.peft:
            write_adapter(model.model, settings.model, temporary)
        else:
            write_classifier(model, task, temporary)
        rename(temporary, args.to)
    except (OSError, SafetensorError) as error:
        raise InputError(f"--to {args.to} cannot be written: {reason(error)}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{args.run} -> {args.to}")


def check_exportable(model: TextModel) -> Task:
    """The only task of the model. Raises InputError for what transformers has no class for."""
    if len(model.tasks) > 1:
        raise InputError(
            f"the model has the tasks {', '.join(model.tasks)}: transformers has no model with several heads"
        )
    (task,) = model.tasks.values()
    if task.separate:
        raise InputError("the model encodes the sentences of a pair separately: transformers has no head for that")
    return task


def write_classifier(model: TextModel, task: Task, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer. Raises InputError for modules that cannot be merged."""
    merged = weights.merge(model.model)
    if task.one_logit:
        merged.heads[task.name] = two_outputs(merged.heads[task.name])
        merged.tasks = (replace(task, one_logit=False),)
    weights.save_model(merged, folder)
    model.tokenizer.save(folder, max_length=model.max_length)


def two_outputs(head: nn.Module) -> nn.Linear:
    """A head with the logits (0, z) in place of the one logit z: its softmax is z's sigmoid. transformers needs it."""
    two = nn.Linear(head.weight.shape[1], 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([torch.zeros_like(head.weight), head.weight]))
        two.bias.copy_(torch.cat([torch.zeros_like(head.bias), head.bias]))
    return two


def write_adapter(model: SentenceModel, base: str, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, as peft reads them. `base` names the pretrained model.

    They hold LoRA's updates, the head, and the pooler, which trains if the pretrained model has none.
    Raises InputError if the model has no updates, or other inserted modules as well.
    """
    updates = low_rank_updates(model)
    if not updates:
        raise InputError("the run has no low-rank updates: --peft is for runs with --option lora")
    weights.merge(model)  # raises InputError for other inserted modules
    family, tensors = model.bert.config.family, {}
    for name, update in updates.items():
        tensors |= {f"{family.prefix}{name}.lora_A.weight": update.a, f"{family.prefix}{name}.lora_B.weight": update.b}
    (task,) = model.tasks
    head = two_outputs(model.heads[task.name]) if task.one_logit else model.heads[task.name]
    for name, module in ((family.classifier, head), (family.classifier_pooler, model.bert.pooler)):
        tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    tensors = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    weights.write_safetensors(tensors, folder / "adapter_model.safetensors")
    some = next(iter(updates.values()))
    rank = len(some.a)
    values = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": some.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in updates}),
        # In RoBERTa "classifier" is a module that holds both.
        "modules_to_save": sorted(
            {
                name.partition(".")[0] if name.startswith("classifier.") else name
                for name in (family.classifier, family.classifier_pooler)
            }
        ),
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", values)


def low_rank_updates(model: SentenceModel) -> dict[str, nn.Module]:
    """The published name of each projection that has a low-rank update -> the update, with a [r,D] and b [D,r].

    Raises InputError if layers share parameters: peft has one update for all of them.
    """
    config, (task,) = model.bert.config, model.tasks
    updates = {
        published_name(f"{path}.{name}.weight", config.family).removesuffix(".weight"): update
        for path, module in model.bert.named_modules()
        if hasattr(module, "low_rank_updates")
        for name, update in module.low_rank_updates(task.name).items()
    }
    if updates and config.share_layers:
        raise InputError("an adapter of peft has one update for shared layers, and this model has one for each depth")
    return updates


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
