"""Runs that `minbert.export` wrote, read by transformers and by peft: the largest difference of the probabilities.

    python -m benchmarks.exported                    # on the sample; needs transformers and peft

Each option trains 30 steps, and is exported and loaded. The texts are the first 100 of the dev set, and one that is far
too long, which both sides cut.
"""

import sys
import tempfile
from pathlib import Path

import torch
import transformers
from peft import PeftModel

import minbert
import sample
import train
from minbert import export
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS

# Of train.py; the last two are exported for peft as well.
RUNS = {
    "finetune": ("--task", "rte"),
    "smart, STS-B": ("--task", "stsb", "--option", "smart"),
    "Quora's one logit": ("--task", "quora"),
    "lora": ("--task", "rte", "--option", "lora"),
    "lora, CoLA": ("--task", "cola", "--option", "lora"),
}


def texts_of(task: str) -> list:
    """100 texts of the dev set, and a long one."""
    rows = read_examples(TASKS[task], sample.DATA, "dev").rows[:100]
    texts = [row.text if row.pair is None else (row.text, row.pair) for row in rows]
    long = " ".join([rows[0].text] * 100)
    return [*texts, long if rows[0].pair is None else (long, rows[0].pair)]


@torch.no_grad()
def published_answers(model, folder: Path, texts: list) -> torch.Tensor:
    """Probabilities, or the numbers of a regression, as transformers computes them: [N,C]"""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    firsts, pairs = zip(*((t, None) if isinstance(t, str) else t for t in texts))
    inputs = (list(firsts),) if pairs[0] is None else (list(firsts), list(pairs))
    encoded = tokenizer(*inputs, padding=True, truncation=True, return_tensors="pt")
    logits = model.eval()(**encoded).logits
    return logits.softmax(-1) if logits.shape[1] > 1 else logits


def compare(name: str, flags: tuple[str, ...], folder: Path) -> str:
    """A row of the table."""
    run, task = folder / "run", flags[1]
    assert train.main([*flags, "--max-steps", "30", "--max-length", "64", "--out", str(run)]) == 0
    assert export.main([str(run), "--to", str(folder / "whole")]) == 0
    texts = texts_of(task)
    answers = minbert.load_run(run).predict(texts)
    ours = torch.tensor([list(a.probabilities.values()) or [a.prediction] for a in answers])
    auto = transformers.AutoModelForSequenceClassification
    theirs = published_answers(auto.from_pretrained(folder / "whole"), folder / "whole", texts)
    cells = [name, f"{(ours - theirs).abs().max():.1e}", ""]
    if "lora" in flags:
        assert export.main([str(run), "--to", str(folder / "peft"), "--peft"]) == 0
        base = auto.from_pretrained(sample.MODEL, num_labels=ours.shape[1])
        theirs = published_answers(PeftModel.from_pretrained(base, folder / "peft"), folder / "whole", texts)
        cells[2] = f"{(ours - theirs).abs().max():.1e}"
    return f"| {' | '.join(cells)} |"


def main() -> None:
    transformers.logging.set_verbosity_error()
    rows = []
    for name, flags in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(name, flags, Path(folder)))
    print("| run | transformers | peft |\n|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
