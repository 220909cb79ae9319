"""What each method costs: time per step and peak memory, relative to plain fine-tuning.

    python -m benchmarks.method_cost --model $MODEL --data $DATA              # ten minutes on an idle machine

Time: plain fine-tuning and the method in turn, five times, in one process; median of the ratios. Memory: the peak of
a process of its own. All in float32 on the same batches, so that passes are compared with passes. Beside the time
what the count of passes explains: a forward pass is 1, its backward 2 (1 to the input, 1 to the parameters), plain
fine-tuning 3.
"""

import statistics
import subprocess
import sys
import time

import torch

from benchmarks.common import Silent, parser
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import fit
from minbert.training.objective import Objective
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers import OPTIONS, build

ROUNDS, STEPS = 5, 3
# Passes in all; where a method trains little, the backward pass goes to the inputs only.
PASSES = {
    "frozen": 1,  # nothing goes back through the encoder
    "smart": 3 + (1 + 1) + (1 + 2) + 1,  # the ascent to the embeddings, the penalty, the teacher
    "r3f": 3 + 3,
    "r4f": 3 + 3,
    "lnsr": 3 + 3,
    "adapter": 1 + 1,
}


class Bench:
    """One method on a model of its own, ready to take steps."""

    def __init__(self, args, option: str):
        self.runtime, task = setup("cpu", "fp32"), TASKS["rte"]
        self.data = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 128)
        torch.manual_seed(0)
        model, method = SentenceModel(BertModel.from_pretrained(args.model), [task]), build(option)
        method.attach(model)
        method.warmup = lambda *_: None  # a first stage is not a step
        self.objective, self.batches = Objective(model, method), self.data.shuffled(16, 0, 1)[:STEPS]

    def seconds(self) -> float:
        """Of a few steps."""
        start = time.perf_counter()
        fit(self.objective, lambda _: [(self.data, rows) for rows in self.batches], lambda _: {}, STEPS,
            Settings(lr=1e-5, warmup=0.0), self.runtime, Silent())  # fmt: skip
        return time.perf_counter() - start


def time_ratio(args, option: str) -> float:
    plain, method = Bench(args, "finetune"), Bench(args, option)
    plain.seconds(), method.seconds()  # the first steps allocate
    return statistics.median(method.seconds() / plain.seconds() for _ in range(ROUNDS))


def peak(args, option: str) -> int:
    """Bytes, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.method_cost", "--model", args.model, "--data", args.data]
    done = subprocess.run([*command, "--peak", option], check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--peak", metavar="OPTION", help="only print the peak memory of this option, in this process")
    flags.add_argument("--options", nargs="+", default=[name for name in OPTIONS if name != "finetune"])
    args = flags.parse_args()
    if args.peak:
        bench = Bench(args, args.peak)
        bench.seconds()
        print(bench.runtime.peak_memory())
        return
    # Memory first: a process begins with the peak of the one that starts it, which is small as yet.
    plain, peaks = peak(args, "finetune"), {option: peak(args, option) for option in args.options}
    print("| option | time per step | by its passes | peak memory |\n|---|---|---|---|", flush=True)
    for option in args.options:
        passes = PASSES.get(option, 3) / 3
        print(f"| {option} | {time_ratio(args, option):.2f} | {passes:.2f} | {peaks[option] / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
