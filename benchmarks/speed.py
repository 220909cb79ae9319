"""Training speed and peak memory beside a plain transformers loop, on the same 256 RTE examples.

    python -m benchmarks.speed --model $MODEL --data $DATA          # needs: pip install transformers

Both train one epoch at batch 32, max-length 256, dropout on. The peer is what a user gets: float32, dynamic
padding, shuffled batches, torch.optim.AdamW. Each run is a process of its own, the two take turns; the times
are those of the training loop alone.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import parser

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, BATCH, LENGTH = 256, 32, 256


def peer(model_folder: str, data: str) -> dict:
    import torch
    import transformers

    from minbert.data.readers import read_examples, subset
    from minbert.data.tasks import TASKS

    transformers.utils.logging.set_verbosity_error()
    rows = subset(read_examples(TASKS["rte"], data, "train"), EXAMPLES).rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    encoded = tokenizer([r.text for r in rows], [r.pair for r in rows], truncation=True, max_length=LENGTH)
    features = [{k: encoded[k][i] for k in encoded} | {"labels": row.label} for i, row in enumerate(rows)]
    collate = transformers.DataCollatorWithPadding(tokenizer)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01)
    loader = torch.utils.data.DataLoader(features, BATCH, shuffle=True, collate_fn=collate)
    begun = time.perf_counter()
    for batch in loader:
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def ours(model_folder: str, data: str, more: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, ROOT / "train.py", "--task", "rte", "--model", model_folder, "--data", data]
        command += ["--train-size", EXAMPLES, "--epochs", 1, "--batch-size", BATCH, "--max-length", LENGTH]
        subprocess.run(
            [*map(str, command), "--save", "none", "--out", str(out), *more], check=True, capture_output=True
        )
        metrics = json.loads((out / "metrics.json").read_text())
    return {"seconds": metrics["seconds"], "peak": metrics["peak_memory_bytes"]}


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args, more = flags.parse_known_args()
    if args.peer:
        print(json.dumps(peer(args.model, args.data)))
        return
    ratios, rows = [], []
    for round_ in range(args.rounds):
        a = ours(args.model, args.data, more)
        command = [sys.executable, "-m", "benchmarks.speed", "--peer", "--model", args.model, "--data", args.data]
        b = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1]
        )
        rows.append((a, b))
        ratios.append(b["seconds"] / a["seconds"])
        print(
            f"round {round_ + 1}: minbert {a['seconds']:.2f} s {a['peak'] / 2**30:.2f} GiB, "
            f"transformers {b['seconds']:.2f} s {b['peak'] / 2**30:.2f} GiB, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    memory = statistics.median(a["peak"] for a, _ in rows) / statistics.median(b["peak"] for _, b in rows)
    print(
        f"median ratio of times {statistics.median(ratios):.2f}, of peak memory {memory:.2f} ({platform.processor()})"
    )


if __name__ == "__main__":
    main()
