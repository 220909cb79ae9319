from pathlib import Path

import pytest
from support.factories import write_rows


@pytest.fixture
def data(tmp_path) -> Path:
    """Three rows for each of five tasks. GOOD in support/prediction_files.py has predictions for four of them."""
    folder = tmp_path / "data"
    pairs = [[str(i), f"s{i}", f"t{i}"] for i in range(3)]
    write_rows(folder / "RTE" / "test.tsv", [["index", "sentence1", "sentence2"], *pairs])
    write_rows(folder / "STS-B" / "test.tsv", [["index", "sentence1", "sentence2"], *pairs])
    write_rows(folder / "QQP" / "test.tsv", [["id", "question1", "question2"], *pairs])
    ids = [[str(i), f"{i:025x}", f"s{i}", f"t{i}"] for i in range(3)]
    write_rows(folder / "sts-test-student.csv", [["", "id", "sentence1", "sentence2"], *ids])
    write_rows(folder / "sst-dev.txt", [["3 ||| One "], ["1 ||| two"], ["0 ||| Three"]])
    return folder
