"""What `--record gradients` costs: the time of training with it, relative to the time without.

    python -m benchmarks.record_cost --model $MODEL --data $DATA              # half an hour of one core

With and without in turn, in one process, on the same batches; the median of the ratios. The clock is the process's own
processor time, so other programs on the machine matter little. Each part has 25 steps, one of which is recorded.
"""

import statistics
import time

from benchmarks.common import make_parser, no_scores
from benchmarks.method_cost import Bench
from minbert.data.sampling import BatchSampler
from minbert.training.loop import fit
from minbert.training.settings import Settings

ROUNDS, STEPS = 5, 25  # as many steps as --record-every has by default


def processor_seconds(bench: Bench, record: tuple[str, ...]) -> float:
    """The processor time of 25 steps."""
    sampler = BatchSampler(bench.sampler.datasets[0], 16, seed=0, epochs=None, max_steps=STEPS)
    settings = Settings(lr=1e-5, warmup=0.0, record=record).resolve()
    start = time.process_time()
    fit(bench.objective, sampler, no_scores, settings, bench.runtime)
    return time.process_time() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--options", nargs="+", default=["finetune", "l2sp", "lnsr", "smart", "mine"])
    args = parser.parse_args()
    print("| option | time with `--record gradients` | smallest and largest of the five |\n|---|---|---|", flush=True)
    for option in args.options:
        bench = Bench(args, option)
        processor_seconds(bench, ())  # the first steps allocate memory
        ratios = [processor_seconds(bench, ("gradients",)) / processor_seconds(bench, ()) for _ in range(ROUNDS)]
        print(f"| {option} | {statistics.median(ratios):.3f} | {min(ratios):.3f}, {max(ratios):.3f} |", flush=True)


if __name__ == "__main__":
    main()
