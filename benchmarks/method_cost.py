"""What each method costs: time per step and peak memory, relative to plain fine-tuning.

    python -m benchmarks.method_cost --model $MODEL --data $DATA              # ten minutes on an idle machine

Time: plain fine-tuning and the method in turn, five times, in one process; the median of the ratios. Memory: the peak
of a process of its own. Everything is in float32 on the same batches, so that passes are compared with passes. The
second column is the time that the number of passes explains: a forward pass counts 1, its backward pass 2 (1 for the
input, 1 for the parameters), so plain fine-tuning counts 3.
"""

import statistics
import time

import torch

from benchmarks.common import make_parser, no_scores, run_benchmark
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.sampling import BatchSampler
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers import OPTIONS, build

ROUNDS, STEPS = 5, 3
# The passes of a step. A method that trains little computes the gradients of the inputs only.
PASSES = {
    "frozen": 1,  # no backward pass through the encoder
    "smart": 3 + (1 + 1) + (1 + 2) + 1,  # the ascent to the embeddings, the penalty, the teacher
    "r3f": 3 + 3,
    "r4f": 3 + 3,
    "rdrop": 3 + 3,
    "freelb": 1 + 3 * 3,  # the clean pass is not used; three steps of ascent, whose gradients are used
    "lnsr": 3 + 3,
    "adapter": 1 + 1,
    "lora": 1 + 1,
}


class Bench:
    """One method on a model of its own, ready to take steps."""

    def __init__(self, args, option: str):
        self.runtime, task = setup("cpu", "fp32"), TASKS["rte"]
        dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 128)
        self.sampler = BatchSampler(dataset, 16, seed=0, epochs=None, max_steps=STEPS)
        torch.manual_seed(0)
        model, method = SentenceModel(BertModel.from_pretrained(args.model), [task]), build(option)
        method.attach(model)
        method.prepare_with_seed = lambda *_: None  # a first stage is not a step
        self.objective = Objective(model, method)

    def seconds(self) -> float:
        """The time of a few steps."""
        start = time.perf_counter()
        fit(self.objective, self.sampler, no_scores, Settings(lr=1e-5, warmup=0.0), self.runtime)
        return time.perf_counter() - start


def time_ratio(args, option: str) -> float:
    plain, method = Bench(args, "finetune"), Bench(args, option)
    plain.seconds(), method.seconds()  # the first steps allocate memory
    return statistics.median(method.seconds() / plain.seconds() for _ in range(ROUNDS))


def measure_peak(args, option: str) -> int:
    """The peak memory of a process of its own, in bytes."""
    return int(run_benchmark("method_cost", "--model", args.model, "--data", args.data, "--peak", option))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--peak", metavar="OPTION", help="only print the peak memory of this option, in this process")
    parser.add_argument("--options", nargs="+", default=[name for name in OPTIONS if name != "finetune"])
    args = parser.parse_args()
    if args.peak:
        bench = Bench(args, args.peak)
        bench.seconds()
        print(bench.runtime.peak_memory())
        return
    # Memory first: a process inherits the peak of the process that starts it, and this one is still small.
    plain = measure_peak(args, "finetune")
    peaks = {option: measure_peak(args, option) for option in args.options}
    print("| option | time per step | by its passes | peak memory |\n|---|---|---|---|", flush=True)
    for option in args.options:
        passes = PASSES.get(option, 3) / 3
        print(f"| {option} | {time_ratio(args, option):.2f} | {passes:.2f} | {peaks[option] / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
