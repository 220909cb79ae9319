"""The table of tasks: where their files are, what the columns mean, how each task is learned and scored.

The suffix of a file decides how it is read: readers.READERS.
"""

from minbert import losses
from minbert.task import Task

PAIR = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")
MNLI_FILES = (
    ("train", "train.tsv"),
    ("dev", "dev_matched.tsv"),
    ("dev-mismatched", "dev_mismatched.tsv"),
    ("test", "test_matched.tsv"),
    ("test-mismatched", "test_mismatched.tsv"),
)


def classes(name, folder, text, label, labels, score=("accuracy",), metrics=("accuracy",), **more) -> Task:
    return Task(name, folder, text, label, labels, metrics, score, **more)


def regression(name, folder, text, label, score=("pearson", "spearman"), **more) -> Task:
    metrics = ("pearson", "spearman")
    more = {"loss": losses.mean_squared_error, "divergence": losses.squared_error} | more
    return Task(name, folder, text, label, (), metrics, score, **more)


# GLUE: Wang et al. 2019, arXiv:1804.07461v3. Class order as in the published GLUE models.
GLUE = (
    classes(
        "cola", "CoLA", ("sentence",), "label", ("0", "1"), ("mcc",), ("mcc", "accuracy"),
        header=("source", "label", "mark", "sentence"),
    ),
    classes("sst2", "SST-2", ("sentence",), "label", ("0", "1")),
    classes(
        "mrpc", "MRPC", ("#1 String", "#2 String"), "Quality", ("0", "1"), ("accuracy", "f1"), ("accuracy", "f1")
    ),
    regression("stsb", "STS-B", PAIR, "score"),
    classes(
        "qqp", "QQP", ("question1", "question2"), "is_duplicate", ("0", "1"), ("accuracy", "f1"), ("accuracy", "f1"),
        skip_short=True,
    ),
    classes("mnli", "MNLI", PAIR, "gold_label", ("entailment", "neutral", "contradiction"), files=MNLI_FILES),
    classes("qnli", "QNLI", ("question", "sentence"), "label", ENTAILMENT),
    classes("rte", "RTE", PAIR, "label", ENTAILMENT),
    classes("wnli", "WNLI", PAIR, "label", ("0", "1")),
)  # fmt: skip


def student_files(stem: str) -> tuple[tuple[str, str], ...]:
    return (("train", f"{stem}-train.csv"), ("dev", f"{stem}-dev.csv"), ("test", f"{stem}-test-student.csv"))


def carnegie(stem: str) -> tuple[tuple[str, str], ...]:
    return (("train", f"{stem}-train.txt"), ("dev", f"{stem}-dev.txt"), ("test", f"{stem}-test.txt"))


# The minBERT projects of three courses, with all files in one folder. Stanford's CS224N has four tasks (Quora with one
# logit). CMU's ANLP has two of them, with the same examples. Göttingen's M.Inf.2202 has three, split in another way.
COURSE = (
    classes(
        "sst5", "", ("sentence",), "sentiment", tuple("01234"), files=student_files("ids-sst"),
        other_files=(student_files("sst-sentiment"), carnegie("sst")),
    ),
    classes(
        "cfimdb", "", ("sentence",), "sentiment", tuple("01"), files=student_files("ids-cfimdb"),
        other_files=(carnegie("cfimdb"),),
    ),
    classes(
        "quora", "", PAIR, "is_duplicate", ("0.0", "1.0"), files=student_files("quora"),
        other_files=(student_files("quora-paraphrase"),), skip_short=True, one_logit=True,
        loss=losses.binary_cross_entropy, divergence=losses.bernoulli_kl,
    ),
    regression("sts", "", PAIR, "similarity", ("pearson",), files=student_files("sts"),
        other_files=(student_files("sts-similarity"),),
    ),
)  # fmt: skip

TASKS = {task.name: task for task in (*GLUE, *COURSE)}
PAIRS = ("together", "separate")  # how a pair is encoded: as one input, or each sentence alone


# The number of records in the published files, those without a label included. (Of Quora's three files only dev is
# public.) The last row is GLUE's diagnostic set: it has no training files, but the leaderboard wants its predictions.
ROWS = {
    "cola": {"train": 8551, "dev": 1043, "test": 1063},
    "sst2": {"train": 67349, "dev": 872, "test": 1821},
    "mrpc": {"train": 3668, "dev": 408, "test": 1725},
    "stsb": {"train": 5749, "dev": 1500, "test": 1379},
    "qqp": {"train": 363846, "dev": 40430, "test": 390965},
    "mnli": {"train": 392702, "dev": 9815, "dev-mismatched": 9832, "test": 9796, "test-mismatched": 9847},
    "qnli": {"train": 104743, "dev": 5463, "test": 5463},
    "rte": {"train": 2490, "dev": 277, "test": 3000},
    "wnli": {"train": 635, "dev": 71, "test": 146},
    "sst5": {"train": 8544, "dev": 1101, "test": 2210},
    "cfimdb": {"train": 1707, "dev": 245, "test": 488},
    "quora": {"dev": 20214},
    "sts": {"train": 6040, "dev": 863, "test": 1725},
    "ax": {"test": 1104},
}
ROWS_GOETTINGEN = {
    "sst5": {"train": 7111, "dev": 2365, "test": 2371},
    "quora": {},
    "sts": {"train": 5149, "dev": 1709, "test": 1721},
}
UNLABELLED = {"quora": {"dev": 2}}  # how many of these records lack their label
