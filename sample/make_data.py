"""Write sample/data/: tasks in the official layouts, from one seed.

    python -m sample.make_data                      # the same bytes each time
    python -m sample.make_data --out DIR            # elsewhere

Each row is drawn together with its meaning, and the label follows from the meaning: entailment for RTE, equal
meaning for MRPC and Quora, shared meaning for STS, polarity for the reviews. Then a share of the labels (NOISE) is made
wrong on purpose, as in data that people labelled. A hash of its text assigns each pair to one split or to the text for
pretraining, so no two of these share a pair.
"""

import argparse
import csv
import io
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from minbert.files import write_text
from sample import lexicon
from sample.corrupt import ERRORS
from sample.invent import Inventor, sensible
from sample.speaker import Speaker
from sample.world import Statement, entails, same_meaning, similarity

SEED = 2026
FOLDER = Path(__file__).parent / "data"
NOISE = 0.03  # share of wrong labels, in every split
SPLITS = ("train", "dev", "test")
SIZES = {  # rows of train, dev, test
    "rte": (2490, 277, 3000),
    "mrpc": (1500, 300, 300),
    "cola": (2000, 400, 400),
    "stsb": (1500, 300, 300),
    "sst5": (2500, 500, 500),
    "cfimdb": (400, 120, 120),
    "quora": (2000, 400, 400),
    "sts": (1500, 300, 300),
}


class Author:
    """Draws rows: an Inventor chooses what is said and a Speaker how, both with one generator."""

    def __init__(self, seed: str):
        self.rng = random.Random(seed)
        self.inventor, self.speaker = Inventor(self.rng), Speaker(self.rng)

    def step(self, s: Statement, good: Callable[[Statement], bool], tries: int = 60) -> Statement | None:
        """One sensible change for which `good` is true, or None after `tries` tries."""
        for _ in range(tries):
            changed = self.inventor.change(s)
            if changed != s and sensible(changed) and good(changed):
                return changed
        return None

    def walk(self, start: Statement, steps: int, follows: bool) -> Statement | None:
        """A statement after `steps` changes, or None. Every statement on the way follows from the one before, except
        that without `follows` the last one does not follow from the start. So both kinds of pair share equally many
        words.
        """
        current = start
        for number in range(steps):
            if follows or number < steps - 1:
                changed = self.step(current, lambda new, old=current: entails(old, new))
            else:
                changed = self.step(current, lambda new: not entails(start, new))
            if changed is None:
                return None
            current = changed
        return current

    def mislabels(self) -> bool:
        """Whether the next label is wrong on purpose."""
        return self.rng.random() < NOISE


def rte(author: Author) -> tuple:
    """-> (premise of one or two sentences, hypothesis, label)"""
    rng, say = author.rng, author.speaker.say
    follows = rng.random() < 0.5
    hypothesis = None
    while hypothesis is None:
        fact = author.inventor.statement()
        hypothesis = author.walk(fact, rng.choice([1, 2, 2, 3]), follows)
    facts = [fact]
    if rng.random() < 0.4:  # a second sentence that shares words with the first
        facts.append(author.step(fact, lambda new: not entails(new, hypothesis)) or fact)
    rng.shuffle(facts)
    label = any(entails(f, hypothesis) for f in facts) != author.mislabels()
    premise = " ".join(f"{say(f)} ." for f in facts)
    return premise, f"{say(hypothesis)} .", "entailment" if label else "not_entailment"


def statement_pair(author: Author, share: float) -> tuple[Statement, Statement, bool]:
    """Two statements, and whether they mean the same.

    In a `share` of the draws they are the same statement, in the others they are one or two changes apart.
    """
    first = author.inventor.statement()
    if author.rng.random() < share:
        return first, first, True
    second = author.step(first, lambda new: True) or author.inventor.statement()
    if author.rng.random() < 0.3:
        second = author.step(second, lambda new: new != first) or second
    return first, second, same_meaning(first, second)


def mrpc(author: Author) -> tuple:
    """-> ("1" if both sentences mean the same, else "0"; first sentence, second sentence)"""
    first, second, same = statement_pair(author, 0.6)
    say = author.speaker.say
    return str(int(same != author.mislabels())), f"{say(first)} .", f"{say(second)} ."


def quora(author: Author) -> tuple:
    """-> (first question, second question, "1.0" if they ask the same, else "0.0")"""
    first, second, same = statement_pair(author, 0.45)
    about = [author.rng.choice(["whether", "who"])] * 2
    if author.rng.random() < 0.1:
        about[1] = {"whether": "who", "who": "whether"}[about[0]]
    if about[0] == about[1] == "who":  # they ask for the agent, so the agent has no influence on the label
        first, second = (replace(s, quantifier="some", positive=True, agent=first.agent) for s in (first, second))
        same = same_meaning(first, second)
    same = same and about[0] == about[1]
    texts = [author.speaker.ask(s, a) + " ?" for s, a in zip((first, second), about)]
    return *texts, f"{float(same != author.mislabels())}"


def sts(author: Author) -> tuple:
    """-> (first sentence, second sentence, similarity from 0 to 5).

    The similarity is five times the shared meaning, with noise of standard deviation 0.2, as if judges disagreed.
    """
    first = second = author.inventor.statement()
    for _ in range(author.rng.randint(0, 6)):
        second = author.step(second, lambda new: True) or second
    if author.rng.random() < 0.15:
        second = author.inventor.statement()
    value = 5 * similarity(first, second) + author.rng.gauss(0, 0.2)
    return f"{author.speaker.say(first)} .", f"{author.speaker.say(second)} .", f"{min(5.0, max(0.0, value)):.3f}"


def cola(author: Author) -> tuple:
    """-> ("1", a sentence) or ("0", a sentence with one error)"""
    words = author.speaker.say(author.inventor.statement()).split()
    good = author.rng.random() < 0.6
    if not good:
        errors = [*ERRORS]
        author.rng.shuffle(errors)
        corrupted = next(filter(None, (error(words, author.rng) for error in errors)), None)
        good, words = corrupted is None, corrupted or words
    return str(int(good != author.mislabels())), " ".join(words) + " ."


def opinion(author: Author, subject: str) -> tuple[str, float]:
    """-> (a clause, its value from -3, very bad, to 3, very good)"""
    rng = author.rng
    value = rng.choice(list(lexicon.QUALITIES))
    word = rng.choice(lexicon.QUALITIES[value])
    sign = (value > 0) - (value < 0)
    form = rng.choices(["plain", "very", "slightly", "not", "never"], [5, 2, 2, 2, 1])[0]
    if form == "very":
        word, value = f"{rng.choice(['very', 'really', 'truly'])} {word}", value + 0.5 * sign
    elif form == "slightly":
        word, value = f"{rng.choice(['slightly', 'somewhat', 'a little'])} {word}", 0.5 * value
    elif form == "not":  # "not good" is rather bad, "not superb" may still be good
        word, value = f"not {word}", -0.5 * value if abs(value) < 3 else -0.1 * value
    text = f"the {subject} was {word}"
    if form == "never":  # negates the whole clause
        text, value = f"nobody would say that {text}", -0.6 * value
    return text, max(-3.0, min(3.0, value))


def review(author: Author) -> tuple[str, float]:
    """-> (one or two opinions, their mean value). The opinion after `but` counts double."""
    rng = author.rng
    subjects = rng.sample([*lexicon.ASPECTS, *lexicon.REVIEW_SUBJECTS], 2)
    first, a = opinion(author, subjects[0])
    if rng.random() < 0.3:
        return first, a
    second, b = opinion(author, subjects[1])
    link = rng.choice(["and", "but", "although", "though"])
    if link == "and":
        return f"{first} and {second}", (a + b) / 2
    if link == "but":
        return f"{first} but {second}", (a + 2 * b) / 3
    return f"{link} {first} , {second}", (a + 2 * b) / 3


def sst5(author: Author) -> tuple:
    """-> (sentence, "0" to "4")"""
    text, value = review(author)
    label = sum(value > edge for edge in (-1.5, -0.5, 0.5, 1.5))
    if author.mislabels():
        label = min(4, max(0, label + author.rng.choice([-1, 1])))
    return f"{text} .", str(label)


def cfimdb(author: Author) -> tuple:
    """-> (a review of several sentences, some of which tell the story; "1" if it is good on the whole, else "0")"""
    total, sentences = 0.0, []
    for _ in range(author.rng.randint(3, 6)):
        text, value = review(author)
        total += value
        sentences.append(f"{text} .")
        if author.rng.random() < 0.5:
            sentences.append(f"in the story , {author.speaker.say(author.inventor.statement())} .")
    return " ".join(sentences), str(int((total > 0) != author.mislabels()))


MAKERS = {
    "rte": rte,
    "mrpc": mrpc,
    "cola": cola,
    "stsb": sts,
    "sst5": sst5,
    "cfimdb": cfimdb,
    "quora": quora,
    "sts": sts,
}


def owner(texts: list[str]) -> str:
    """The split, or "pretraining", that a pair of texts in either order belongs to."""
    return (*SPLITS, "pretraining")[zlib.crc32("\t".join(sorted(texts)).encode()) % 4]


def rows(task: str, split: str) -> Iterator[tuple]:
    """Rows of a split without end, each text once."""
    author, seen = Author(f"{SEED}-{task}-{split}"), set()
    while True:
        row = MAKERS[task](author)
        texts = sorted(part for part in row if " " in part)
        if owner(texts) == split and tuple(texts) not in seen:
            seen.add(tuple(texts))
            yield row


# The official layouts: (folder, header, (number of the row, row) -> fields, column of the label).

GLUE = {
    "rte": ("RTE", ["index", "sentence1", "sentence2", "label"], lambda i, r: [i, *r], 3),
    "mrpc": (
        "MRPC",
        ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        lambda i, r: [r[0], 2 * i, 2 * i + 1, r[1], r[2]],
        0,
    ),
    "cola": ("CoLA", None, lambda i, r: ["mb26", r[0], "" if r[0] == "1" else "*", r[1]], None),
    "stsb": (
        "STS-B",
        "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
        lambda i, r: [i, "sample", "world", "2026", f"{i:04}", "none", "none", *r],
        9,
    ),
}
COURSE = {
    "sst5": ("ids-sst", ["sentence", "sentiment"]),
    "cfimdb": ("ids-cfimdb", ["sentence", "sentiment"]),
    "quora": ("quora", ["sentence1", "sentence2", "is_duplicate"]),
    "sts": ("sts", ["sentence1", "sentence2", "similarity"]),
}


def file_of(task: str, split: str, size: int | None = None) -> tuple[str, str]:
    """-> (path below the data folder, text) of the first `size` rows of a split."""
    source = rows(task, split)
    chosen = [next(source) for _ in range(size or SIZES[task][SPLITS.index(split)])]
    return glue_file(task, split, chosen) if task in GLUE else course_file(task, split, chosen)


def glue_file(task: str, split: str, chosen: list[tuple]) -> tuple[str, str]:
    folder, header, fields, label = GLUE[task]
    lines = [fields(i, row) for i, row in enumerate(chosen)]
    if split == "test":
        if task == "cola":
            header, lines = ["index", "sentence"], [[i, row[1]] for i, row in enumerate(chosen)]
        elif label == 0:
            header, lines = ["index", *header[1:]], [[i, *line[1:]] for i, line in enumerate(lines)]
        else:
            header, lines = header[:-1], [line[:-1] for line in lines]
    text = "".join("\t".join(map(str, line)) + "\n" for line in ([header] if header else []) + lines)
    return f"{folder}/{split}.tsv", text


def course_file(task: str, split: str, chosen: list[tuple]) -> tuple[str, str]:
    stem, columns = COURSE[task]
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    shown = columns[:-1] if split == "test" else columns
    writer.writerow(["", "id", *shown])
    for i, row in enumerate(chosen):
        writer.writerow([i, f"{zlib.crc32(f'{task}-{split}-{i}'.encode()):025x}", *row[: len(shown)]])
    return f"{stem}-{'test-student' if split == 'test' else split}.csv", out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    for task in SIZES:
        for split in SPLITS:
            name, text = file_of(task, split)
            (args.out / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(args.out / name, text)
            print(f"{task} {split}: {args.out / name}")


if __name__ == "__main__":
    main()
