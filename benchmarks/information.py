"""Does `mine` hold the information between layers? Measured on the fine-tuned model with estimators that it never met.

    python -m benchmarks.information --train-size 250 --lr 1e-3 --epochs 20 --set "weight=0.1 ascents=10"
    python -m benchmarks.information --model $MODEL --data $DATA --task stsb --train-size 500 --lr 2e-4 --epochs 10

Fresh estimators are fitted to the pretrained model, and for each seed to a model after plain fine-tuning and to a model
after each setting of `mine` (--set; the default is that of the option). All of these estimators are fitted as the first
stage of `mine` fits its own, but with rate 5e-4: to the states of the same --measured training examples with dropout,
with the same projections. b is the estimate before fine-tuning, I the one after it. Printed are the dev score, I - b of
each pair of neighbouring layers in nats, and the sum of |I - b| over the pairs: for each seed, and as mean ± standard
deviation.
"""

from benchmarks.laboratory import Laboratory, make_parser, spread
from papers.mine.estimates import information_by_mine
from regularizers import build

PLAIN, DEFAULT = "weight=0", ""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--measured", type=int, default=2000, help="number of examples to measure on (default 2000)")
    parser.add_argument("--set", action="append", default=[], help='a row of the table: "weight=0.1 ascents=10"')
    args = parser.parse_args()
    laboratory, rows = Laboratory(args), {}
    measured = laboratory.dataset("train", args.measured)
    batches = [measured.collate(rows) for rows in measured.shuffled(args.batch_size, seed=0, epoch=0)]
    batches = [batch for batch in batches if len(batch) == args.batch_size]  # a smaller one can show less information
    b = information_by_mine(laboratory.pretrained(seed=0), batches)  # one fit for all seeds
    print(f"b {' '.join(f'{value:.2f}' for value in b)}", flush=True)
    for seed in args.seeds:
        for setting in [PLAIN, *(args.set or [DEFAULT])]:
            model, scores = laboratory.fine_tune(build("mine", [f"mine.{text}" for text in setting.split()]), seed)
            moved = information_by_mine(model, batches) - b
            rows.setdefault(setting, []).append((scores["score"], moved.abs().sum().item()))
            pairs = " ".join(f"{value:+.2f}" for value in moved)
            total = rows[setting][-1][1]
            print(
                f"seed {seed}: {setting or 'the defaults'}: dev {scores['score']:.3f}, I - b {pairs}, sum {total:.2f}",
                flush=True,
            )
    print("| setting | dev score | sum of abs(I - b) |\n|---|---|---|")
    for setting, values in rows.items():
        dev_scores, sums = zip(*values)
        print(f"| {setting or 'the defaults'} | {spread(dev_scores)} | {spread(sums)} |")


if __name__ == "__main__":
    main()
