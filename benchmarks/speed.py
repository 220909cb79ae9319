"""Training speed and peak memory compared with a plain transformers loop, on the same 256 examples of RTE.

    python -m benchmarks.speed --model $MODEL --data $DATA          # needs transformers

Both train one epoch at batch 32 and max-length 256, with dropout. The peer is what a user would write: float32, dynamic
padding, shuffled batches, torch.optim.AdamW. Each run is a process of its own, and the two take turns. The times are
those of the training loop alone. Other flags go to train.py.
"""

import argparse
import json
import platform
import resource
import statistics
import time

from benchmarks.common import make_parser, run_benchmark, train_run

EXAMPLES, BATCH, LENGTH = 256, 32, 256


def measure_minbert(args, flags: list[str]) -> tuple[float, int]:
    """-> (seconds, peak memory in bytes) of a run of train.py."""
    result = train_run(
        "--task", "rte", "--model", args.model, "--data", args.data, "--train-size", EXAMPLES, "--epochs", 1,
        "--batch-size", BATCH, "--max-length", LENGTH, *flags,
    )  # fmt: skip
    return result["seconds"], result["peak_memory_bytes"]


def measure_peer(args) -> tuple[float, int]:
    """The same of a transformers loop, in a process of its own."""
    seconds, peak = json.loads(run_benchmark("speed", "--peer", "--model", args.model, "--data", args.data))
    return seconds, peak


def train_peer(model_folder: str, data: str) -> tuple[float, int]:
    """The transformers loop, in this process."""
    import torch  # imported here, so that the process that starts the others stays small
    import transformers

    from minbert.data.readers import read_examples, subset
    from minbert.data.tasks import TASKS

    transformers.utils.logging.set_verbosity_error()
    rows = subset(read_examples(TASKS["rte"], data, "train"), EXAMPLES).rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    encoded = tokenizer([row.text for row in rows], [row.pair for row in rows], truncation=True, max_length=LENGTH)
    features = [{key: encoded[key][i] for key in encoded} | {"labels": row.label} for i, row in enumerate(rows)]
    collate = transformers.DataCollatorWithPadding(tokenizer)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01)
    loader = torch.utils.data.DataLoader(features, BATCH, shuffle=True, collate_fn=collate)
    start = time.perf_counter()
    for batch in loader:
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args()
    if args.peer:
        print(json.dumps(train_peer(args.model, args.data)))
        return
    ratios, our_peaks, peer_peaks = [], [], []
    for number in range(1, args.rounds + 1):
        our_seconds, our_peak = measure_minbert(args, flags)
        peer_seconds, peer_peak = measure_peer(args)
        ratios.append(peer_seconds / our_seconds)
        our_peaks.append(our_peak)
        peer_peaks.append(peer_peak)
        print(
            f"round {number}: minbert {our_seconds:.2f} s {our_peak / 2**30:.2f} GiB, "
            f"transformers {peer_seconds:.2f} s {peer_peak / 2**30:.2f} GiB, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    memory = statistics.median(our_peaks) / statistics.median(peer_peaks)
    print(f"median ratio of times {statistics.median(ratios):.2f}, of memory {memory:.2f} ({platform.processor()})")


if __name__ == "__main__":
    main()
