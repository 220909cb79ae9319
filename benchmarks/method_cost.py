"""What each method costs: time per step and peak memory, relative to plain fine-tuning.

    python -m benchmarks.method_cost --model $MODEL --data $DATA

Each figure is a process of its own, plain fine-tuning before each method, in turn; median of the ratios. All in
float32, with the same batches of RTE, so that passes are compared with passes. Beside them what the count of passes
explains: a forward pass is 1, its backward 2 (1 to the input, 1 to the parameters), plain fine-tuning 3.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.common import Silent, parser
from minbert.batches import Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.readers import read_examples
from minbert.runtime import setup
from minbert.settings import Settings
from minbert.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training import Objective, fit
from regularizers import OPTIONS, build

ROUNDS, STEPS = 5, 6
# Passes in all; where a method trains little, the backward pass goes to the inputs only.
PASSES = {
    "frozen": 1,  # nothing goes back through the encoder
    "smart": 3 + (1 + 1) + (1 + 2) + 1,  # the ascent to the embeddings, the penalty, the teacher
    "r3f": 3 + 3,
    "r4f": 3 + 3,
    "lnsr": 3 + 3,
    "adapter": 1 + 1,
}


def measure(args) -> None:
    """One process: seconds per step and peak bytes, as JSON."""
    runtime, task = setup("cpu", "fp32"), TASKS["rte"]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 128)
    torch.manual_seed(0)
    model, method = SentenceModel(BertModel.from_pretrained(args.model), [task]), build(args.one)
    method.attach(model)
    method.warmup = lambda *_: None  # a first stage is not a step
    batches, seconds = dataset.shuffled(32, 0, 1)[: STEPS + 1], []

    class Clock(Silent):
        def log(self, row: dict) -> None:
            seconds.append(time.perf_counter() - self.start)

    clock, settings = Clock(), Settings(lr=1e-5, warmup=0.0)
    for steps in ([batches[0]], batches[1:]):  # the first allocates
        clock.start = time.perf_counter()
        fit(Objective(model, method), lambda _, s=steps: [(dataset, rows) for rows in s], lambda _: {}, len(steps),
            settings, runtime, clock)  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds[-1] / STEPS, "peak": peak}))


def run(args, option: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.method_cost", "--model", args.model, "--data", args.data]
    done = subprocess.run([*command, "--one", option], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--one", help="only measure this option, in this process")
    flags.add_argument("--options", nargs="+", default=[name for name in OPTIONS if name != "finetune"])
    args = flags.parse_args()
    if args.one:
        return measure(args)
    print("| option | time per step | by its passes | peak memory |\n|---|---|---|---|", flush=True)
    for option in args.options:
        pairs = [(run(args, "finetune"), run(args, option)) for _ in range(ROUNDS)]
        time_, memory = (statistics.median(b[key] / a[key] for a, b in pairs) for key in ("seconds", "peak"))
        passes = PASSES.get(option, 3) / 3
        print(f"| {option} | {time_:.2f} | {passes:.2f} | {memory:.2f} |", flush=True)
    return None


if __name__ == "__main__":
    main()
