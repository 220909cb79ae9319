"""Further masked-language-model training on a text, before fine-tuning.  Gururangan et al. 2020, arXiv:2004.10964.

    python -m minbert.pretrain --model bert-base-uncased --text notes.txt --out adapted
    python train.py --model adapted ...

Each line of the files is one text; empty lines are left out. A twentieth of the lines is held out, and the loss and the
accuracy on their masked tokens are printed after each epoch. --out becomes a model folder with the head. The same
command continues a stopped run.
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from minbert.classifier import Output
from minbert.command_line import Parser, run_program
from minbert.data.dataset import Dataset
from minbert.data.masking import MaskedDataset, Masking
from minbert.data.readers import Example, Examples
from minbert.errors import InputError, Interrupted, TrainingError
from minbert.files import read_json_object, read_lines, write_json
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.task import Batch
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training.checkpoint import Checkpoints
from minbert.training.display import Display
from minbert.training.lock import FolderLock
from minbert.training.loop import Objective, fit
from minbert.training.runtime import Runtime, is_out_of_memory, setup
from minbert.training.settings import CommonSettings, Settings

HELD_OUT = 20  # one line in 20 is held out
SETTINGS = "pretrain.json"  # in the folder of a run that is not complete


class NoMethod(nn.Module):
    """What the training loop asks of a fine-tuning method (regularizers/base.py), for training without one."""

    def undecayed(self, model: nn.Module) -> tuple[Tensor, ...]:
        return ()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return ()

    def prepare_with_seed(self, model: nn.Module, batches: Callable, seed: int) -> None:
        pass

    def loss(self, model: nn.Module, batch: Batch, clean: Output) -> Tensor:
        return batch.task.loss(clean.logits, batch.labels)

    def penalty(self, model: nn.Module, batch: Batch, clean: Output) -> dict[str, Tensor]:
        return {}

    def after_step(self, model: nn.Module, progress: float) -> None:
        pass


class MaskedText:
    """A sampler for `fit`: texts that are tokenized once, and masked anew in each epoch."""

    def __init__(self, examples: Examples, tokenizer: Tokenizer, max_length: int, batch_size: int, seed: int, epochs=1):
        task = MLM if examples.rows[0].pair is not None else replace(MLM, text=("text",))
        dataset = Dataset(task, examples, tokenizer, max_length)
        self.datasets, self.batch_size, self.seed = [dataset], batch_size, seed
        self.masking = Masking(len(tokenizer), tokenizer.mask_id, tokenizer.special_ids)
        self.steps = epochs * math.ceil(len(dataset) / batch_size)

    def epoch(self, number: int) -> list[tuple[MaskedDataset, list[int]]]:
        """The steps of an epoch. They follow from the seed and the number alone."""
        (dataset,) = self.datasets
        masked = MaskedDataset(dataset, self.masking, self.seed, number)
        return [(masked, rows) for rows in dataset.shuffled(self.batch_size, self.seed, number)]


def train(
    model: MaskedLanguageModel,
    text: MaskedText,
    evaluate: Callable[[int], dict],
    settings: CommonSettings,
    runtime: Runtime,
    display: Display,
    folder: Path,
) -> None:
    """Train the model and save it in `folder`. A stopped call is continued from the checkpoint in FOLDER-checkpoint."""
    checkpoints = Checkpoints(checkpoint_folder(folder), minutes=settings.checkpoint_minutes, active=runtime.is_main)
    model.bert.pooler.requires_grad_(False)  # masked language modelling does not train it, and DDP awaits each gradient
    objective = Objective(model, NoMethod()).to(runtime.device)
    fit(objective, text, evaluate, settings, runtime, display.show_row, checkpoints, show_step=display.show_step)
    if runtime.is_main:
        model.save(folder)
        # Before the checkpoints are deleted: after a kill between the two, the same command must not train once more.
        (folder / SETTINGS).unlink(missing_ok=True)
    checkpoints.remove()


def checkpoint_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-checkpoint")


@torch.no_grad()
def score(model: MaskedLanguageModel, text: MaskedText, runtime: Runtime) -> tuple[float, float]:
    """(mean loss, accuracy) over the masked tokens of a text, always the same ones. Raises InputError for none."""
    model.eval()
    count, loss, correct = 0, 0.0, 0
    for masked, rows in text.epoch(0):
        batch = masked.collate(rows).to(runtime.device)
        with runtime.autocast():
            logits = model(batch).logits.float()
        labels = batch.labels[batch.labels != IGNORE]
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(-1) == labels).sum())
        count += len(labels)
    if not count:
        raise InputError("the held-out lines have no token that can be masked: is this text?")
    return loss / count, correct / count


def read_texts(paths: list[Path]) -> Examples:
    """The lines of text files. Raises InputError for a file that is missing or not UTF-8, or if there are few lines."""
    names = ", ".join(map(str, paths))
    lines = [(number, line.strip()) for path in paths for number, line in read_lines(path)]
    rows = [Example(str(i), line, None, None, line=number) for i, (number, line) in enumerate(lines) if line]
    if len(rows) < HELD_OUT:
        raise InputError(f"{names}: {len(rows)} lines of text are too few, {HELD_OUT} are needed")
    return Examples(Path(names), rows, [])


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    choices = {f.name: f.metadata["choices"] for f in fields(Settings)}
    parser = Parser("python -m minbert.pretrain", description=__doc__)
    parser.add_argument("--model", required=True, help="folder or hub name of a pretrained model with its head")
    parser.add_argument("--text", required=True, nargs="+", type=Path, metavar="FILE", help="UTF-8 text, a text a line")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the model")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--warmup", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_device_flag()
    parser.add_argument("--precision", default="auto", choices=choices["precision"])
    return parser.parse_args(argv)


def check_out(folder: Path) -> None:
    """Raise InputError for a folder that holds anything but a stopped run, or that cannot be a folder."""
    if not folder.name or any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
        raise InputError(f"--out {folder} is not a folder and cannot become one")
    visible = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if visible and not (folder / SETTINGS).exists():
        raise InputError(f"--out {folder} holds other files: name a new folder")


def text_digest(examples: Examples) -> str:
    """A checksum of the lines."""
    return hashlib.sha256("\n".join(row.text for row in examples.rows).encode()).hexdigest()


def remember(folder: Path, settings: dict[str, str]) -> None:
    """Write the settings of a run into its folder. Raises InputError if a stopped run there has others.

    A new run deletes the checkpoints of an earlier run, whose folder the user has deleted.
    """
    path = folder / SETTINGS
    if not path.exists():
        for checkpoint in Checkpoints(checkpoint_folder(folder)).files():
            checkpoint.unlink()
    elif (saved := read_json_object(path)) != settings:
        names = ", ".join(name for name in settings if saved.get(name) != settings[name])
        raise InputError(f"--out {folder}: a stopped run there has other settings ({names}); delete it or take another")
    write_json(path, settings)


def pretrain(args: argparse.Namespace) -> None:
    """Raises InputError, TrainingError and Interrupted."""
    settings = Settings(
        lr=args.lr, warmup=args.warmup, epochs=args.epochs, batch_size=args.batch_size, max_length=args.max_length,
        seed=args.seed, device=args.device, precision=args.precision,
    ).check()  # fmt: skip
    check_out(args.out)
    examples, tokenizer = read_texts(args.text), load_tokenizer(args.model)
    if tokenizer.mask_id is None:
        raise InputError(f"{args.model}: the tokenizer has no {tokenizer.kind.mask}")
    model = MaskedLanguageModel.from_pretrained(args.model)
    model.bert.config.check_input(len(tokenizer) - 1, args.max_length, texts=1)
    held_out = Examples(examples.path, examples.rows[::HELD_OUT], [])
    rows = [row for number, row in enumerate(examples.rows) if number % HELD_OUT]
    shape = {"max_length": args.max_length, "batch_size": args.batch_size}
    text = MaskedText(Examples(examples.path, rows, []), tokenizer, **shape, seed=args.seed, epochs=args.epochs)
    test = MaskedText(held_out, tokenizer, **shape, seed=args.seed)
    with setup(settings.device, settings.precision) as runtime, ExitStack() as at_the_end:
        display = Display(text.steps, False, runtime.is_main, runtime.signals.output_closed)

        def evaluate(epoch: int) -> dict:
            loss, accuracy = score(model, test, runtime)
            display.print(f"epoch {epoch}: held-out text: loss {loss:.4f}, accuracy {accuracy:.4f}")
            return {"dev": {"score": accuracy}}

        before = score(model.to(runtime.device), test, runtime)
        display.print(f"{len(rows)} texts, {text.steps} steps, {runtime.describe()}")
        display.print(f"before: held-out text: loss {before[0]:.4f}, accuracy {before[1]:.4f}")
        if runtime.is_main:
            args.out.mkdir(parents=True, exist_ok=True)
            at_the_end.callback(FolderLock(args.out).release)
            remember(
                args.out, {name: str(value) for name, value in vars(args).items()} | {"text": text_digest(examples)}
            )
            tokenizer.save(args.out)
        train(model, text, evaluate, settings, runtime, display, args.out)
        display.close()
    if runtime.is_main:
        print(f"saved in {args.out}")


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    return run_program("minbert.pretrain", lambda: run(argv))


def run(argv: list[str]) -> int:
    """Returns the exit status of training that ended early. Raises InputError."""
    try:
        pretrain(parse_arguments(argv))
    except Interrupted as error:
        print(f"minbert.pretrain: {error}: the same command continues the training", file=sys.stderr)
        return error.status
    except TrainingError as error:
        print(f"minbert.pretrain: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise InputError("out of memory: lower --batch-size or --max-length") from None
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
