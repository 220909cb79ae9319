"""The text for pretraining: pairs of passages about the sample world, drawn with a seed of their own.

In most pairs the second passage follows from the first, or may be false. In other pairs it repeats the first in other
words, defines words, answers a question, or summarises a review. Some pairs have a link: one word for how the second
passage is related to the first ("so", "perhaps", "good"). The link is not in the text. The model has to predict it at
[CLS], as BERT's [CLS] had to predict whether the second passage comes next. A pair that belongs to a split of a task
(see make_data.owner) is left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sample import lexicon
from sample.make_data import SEED, Author, owner, review
from sample.world import NOUNS, OPPOSITES, SCALES, VERBS, entails

FOLLOWS, OPEN, SAME = "so", "perhaps", "likewise"


class Pair(NamedTuple):
    first: str
    second: str
    link: str | None = None


def pairs(seed: str = "corpus") -> Iterator[Pair]:
    """Pairs without end."""
    author = Author(f"{SEED}-{seed}")
    while True:
        (maker,) = author.rng.choices((consequence, repetition, definition, question, opinion), (14, 2, 0.5, 0.5, 2))
        pair = None
        while pair is None:
            pair = maker(author)
        yield pair


def consequence(author: Author) -> Pair | None:
    """One or two sentences, and a sentence that follows from them or does not. None if this draw found no such pair."""
    rng, say = author.rng, author.speaker.say
    fact = author.inventor.statement()
    then = author.walk(fact, rng.choice([1, 2, 2, 3]), follows=rng.random() < 0.5)
    if then is None:
        return None
    facts = [fact]
    if rng.random() < 0.3:
        facts.append(author.step(fact, lambda new: not entails(new, then)) or fact)
    rng.shuffle(facts)
    first, second = " ".join(f"{say(f)} ." for f in facts), f"{say(then)} ."
    link = FOLLOWS if any(entails(f, then) for f in facts) else OPEN
    return Pair(first, second, link) if owner([first, second]) == "pretraining" else None


def repetition(author: Author) -> Pair | None:
    """The same meaning in two sentences. None if the pair belongs to a task."""
    fact = author.inventor.statement()
    first, second = (f"{author.speaker.say(fact)} ." for _ in range(2))
    return Pair(first, second, SAME) if owner([first, second]) == "pretraining" else None


def definition(author: Author) -> Pair:
    """Two facts about the meaning of words."""
    rng = author.rng
    kind = rng.choice(list(NOUNS.parent))
    noun, wider = rng.choice(NOUNS.words[kind]), rng.choice(NOUNS.words[NOUNS.parent[kind]])
    scale = rng.choice(list(SCALES))
    low, high = (rng.choice(SCALES[scale][1][degree]) for degree in (-1, 1))
    verb, opposite = rng.choice(list(VERBS.parent)), rng.choice(list(OPPOSITES))
    facts = [
        f"every {noun} is a kind of {wider} .",
        f"nothing is both {low} and {high} .",
        f"to {rng.choice(VERBS.words[verb])} is to {rng.choice(VERBS.words[VERBS.parent[verb]])} .",
        f"to {rng.choice(VERBS.words[opposite])} is not to {rng.choice(VERBS.words[OPPOSITES[opposite]])} .",
    ]
    return Pair(*rng.sample(facts, 2))


def question(author: Author) -> Pair:
    """A question and its answer: who ate an apple ? a cat did ."""
    fact = author.inventor.statement()
    return Pair(f"{author.speaker.ask(fact, 'who')} ?", f"{author.speaker.some(fact.agent)} did .")


def opinion(author: Author) -> Pair:
    """A review, and its summary. The link is the plainest word for how good the review is."""
    text, value = review(author)
    words = lexicon.QUALITIES[max(-3, min(3, round(value)))]
    subject = author.rng.choice(lexicon.REVIEW_SUBJECTS)
    return Pair(f"{text} .", f"on the whole , the {subject} was {author.rng.choice(words)} .", words[0])
