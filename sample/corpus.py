"""Text of the sample world to pretrain on: pairs of passages, drawn with a seed of their own.

Most say something and go on with what follows from it ("so ...") and what does not ("perhaps ..."), or with the same
in other words; the others are definitions, questions and reviews. A pair that belongs to a split of a task (see
make_data.owner) is left out.
"""

from collections.abc import Iterator

from sample import lexicon
from sample.make_data import SEED, Author, owner, review
from sample.world import NOUNS, OPPOSITES, SCALES, VERBS, entails

FOLLOWS = ("so", "therefore", "thus")
OPEN = ("perhaps", "maybe", "possibly")
SAME = ("in other words", "that is")


def pairs(seed: str = "corpus") -> Iterator[tuple[str, str]]:
    """Endlessly many (first, second)."""
    author = Author(f"{SEED}-{seed}")
    while True:
        (maker,) = author.rng.choices((consequence, same_again, definition, question, opinion), (10, 3, 1, 1, 3))
        found = None
        while found is None:
            found = maker(author)
        yield found


def consequence(author: Author) -> tuple[str, str] | None:
    """One or two sentences, and three that follow from them or do not."""
    rng, say = author.rng, author.speaker.say
    facts = [author.inventor.statement()]
    if rng.random() < 0.3:
        facts.append(author.step(facts[0], lambda new: True) or facts[0])
    first, thens = " ".join(f"{say(f)} ." for f in facts), []
    for _ in range(16):  # three of four belong to the tasks
        then = author.walk(rng.choice(facts), rng.choice([1, 2, 2, 3]), follows=rng.random() < 0.5)
        text = then and f"{say(then)} ."
        if text and owner([first, text]) == "pretraining":
            thens.append(f"{rng.choice(FOLLOWS if any(entails(f, then) for f in facts) else OPEN)} {text}")
        if len(thens) == 3:
            return first, " ".join(thens)
    return None


def same_again(author: Author) -> tuple[str, str] | None:
    fact = author.inventor.statement()
    first, second = (f"{author.speaker.say(fact)} ." for _ in range(2))
    return (first, f"{author.rng.choice(SAME)} , {second}") if owner([first, second]) == "pretraining" else None


def definition(author: Author) -> tuple[str, str]:
    """What a word means."""
    rng = author.rng
    kind = rng.choice(list(NOUNS.parent))
    noun, wider = rng.choice(NOUNS.words[kind]), rng.choice(NOUNS.words[NOUNS.parent[kind]])
    scale = rng.choice(list(SCALES))
    low, high = (rng.choice(SCALES[scale][1][degree]) for degree in (-1, 1))
    verb = rng.choice(list(VERBS.parent))
    opposite = rng.choice(list(OPPOSITES))
    facts = [
        f"every {noun} is a kind of {wider} .",
        f"nothing is both {low} and {high} .",
        f"to {rng.choice(VERBS.words[verb])} is to {rng.choice(VERBS.words[VERBS.parent[verb]])} .",
        f"to {rng.choice(VERBS.words[opposite])} is not to {rng.choice(VERBS.words[OPPOSITES[opposite]])} .",
    ]
    first, second = rng.sample(facts, 2)
    return first, second


def question(author: Author) -> tuple[str, str]:
    """A question, and whether it was answered: who ... ? a cat did ."""
    fact = author.inventor.statement()
    return f"{author.speaker.ask(fact, 'who')} ?", f"{author.speaker.some(fact.agent)} did ."


def opinion(author: Author) -> tuple[str, str]:
    """A review, and what it comes to: "on the whole , it was good ." """
    text, value = review(author)
    level = max(-3, min(3, round(value)))
    verdict = author.rng.choice(lexicon.QUALITIES[level])
    return f"{text} .", f"on the whole , the {author.rng.choice(lexicon.REVIEW_SUBJECTS)} was {verdict} ."
