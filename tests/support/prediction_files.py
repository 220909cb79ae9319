"""Prediction files as graders want them, written without the project's table of forms."""

from pathlib import Path

# The rows of the leaderboard's files, from its own list of line counts, and one answer that each file takes.
LEADERBOARD = {
    "AX": (1104, "neutral"), "CoLA": (1063, "1"), "MNLI-m": (9796, "contradiction"), "MNLI-mm": (9847, "entailment"),
    "MRPC": (1725, "0"), "QNLI": (5463, "not_entailment"), "QQP": (390965, "1"), "RTE": (3000, "entailment"),
    "SST-2": (1821, "0"), "STS-B": (1379, "4.25"), "WNLI": (146, "1"),
}  # fmt: skip

# Files for the three rows of each task in tests/submission/conftest.py. The CSV file is not in the order of the data.
GOOD = {
    "RTE.tsv": "index\tprediction\n0\tentailment\n1\tnot_entailment\n2\tentailment\n",
    "STS-B.tsv": "index\tprediction\n0\t0.0\n1\t5\n2\t2.75\n",
    "sts-test-output.csv": "id \t Predicted_Similiary \n"
    "0000000000000000000000002 , 1.5 \n0000000000000000000000000 , 2 \n0000000000000000000000001 , -9 \n",
    "sst-dev-output.txt": "0 ||| one\n4 ||| two\n2 ||| three\n",
}


def write_leaderboard(folder: Path, *names: str) -> Path:
    """Write the leaderboard's files with these names, or all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or LEADERBOARD:
        size, answer = LEADERBOARD[name]
        rows = "".join(f"{i}\t{answer}\n" for i in range(size))
        (folder / f"{name}.tsv").write_text("index\tprediction\n" + rows)
    return folder


def write_cs224n(folder: Path, name: str, column: str, answers: list[str]) -> Path:
    """Write a file of CS224N's with one row for each answer."""
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{i:025x} , {answer} \n" for i, answer in enumerate(answers))
    (folder / name).write_text(f"id \t {column} \n" + rows)
    return folder
