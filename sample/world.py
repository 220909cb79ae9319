"""A small English-like language with meaning: what can be said, what follows from it, and how to say it.

A Statement is a quantified event: "every young cat ate an apple in the kitchen" is every(young cat; ate(apple),
in the kitchen). `entails` computes what follows from what, by the rules of monotonicity; the words have no influence.
`Speaker` turns a Statement into one of many sentences.
"""

import re
from dataclasses import dataclass

from sample import lexicon


@dataclass(frozen=True)
class Trait:
    """A place on a scale: ("size", -1) is small, ("size", -2) very small, ("size", -3) tiny; or a colour."""

    scale: str
    degree: int | str


@dataclass(frozen=True)
class Thing:
    kind: str
    traits: frozenset[Trait] = frozenset()
    count: int = 1  # at least this many


@dataclass(frozen=True)
class Event:
    verb: str
    patient: Thing | None = None
    place: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Statement:
    """some: there are such agents for which the event is true. every: it is true for all such agents.

    If `positive` is False, the event is false for them.
    """

    quantifier: str
    agent: Thing
    event: Event
    positive: bool = True


class Tree:
    """Which nodes are special cases of which. A node is named after the first of its words."""

    def __init__(self, lines, separator: str | None = None):
        self.parent, self.children, self.words = {}, {}, {}
        for line in lines:
            above, _, below = line.partition(":")
            above = self.add(above)
            for item in below.split(separator):
                child = self.add(item)
                self.parent[child] = above
                self.children[above].append(child)

    def add(self, item: str) -> str:
        words = [word.strip() for word in item.strip().split("/")]
        self.words.setdefault(words[0], words)
        self.children.setdefault(words[0], [])
        return words[0]

    def with_ancestors(self, node: str) -> list[str]:
        """The node and all nodes above it."""
        return [node, *self.with_ancestors(self.parent[node])] if node in self.parent else [node]

    def is_below(self, low: str | None, high: str | None) -> bool:
        """Whether low is a special case of high. None says nothing, so everything is a special case of None."""
        return high is None or (low is not None and high in self.with_ancestors(low))

    def with_descendants(self, node: str) -> list[str]:
        """The node and all nodes below it."""
        return [node, *(n for child in self.children[node] for n in self.with_descendants(child))]

    def siblings(self, node: str) -> list[str]:
        return [n for n in self.children.get(self.parent.get(node), []) if n != node]

    def similarity(self, a: str | None, b: str | None) -> float:
        """1 for the same node, less if fewer of their ancestors are shared, 0 without a shared ancestor."""
        if a is None or b is None:
            return float(a == b)
        shared = len(set(self.with_ancestors(a)) & set(self.with_ancestors(b)))
        return 2 * shared / (len(self.with_ancestors(a)) + len(self.with_ancestors(b)))


def table(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


NOUNS = Tree(table(lexicon.NOUNS))
PLACES, TIMES = Tree(table(lexicon.PLACES), ","), Tree(table(lexicon.TIMES), ",")
VERBS = Tree(row.split("|")[1] for row in table(lexicon.VERBS))
FRAMES = {}  # verb -> (kind of agent, kind of patient or "-")
for row in table(lexicon.VERBS):
    frame, verbs = row.split("|")
    for words in re.split(r"[: ]+", verbs.strip()):
        if words:
            FRAMES[words.split("/")[0]] = tuple(part.strip() for part in frame.split(">"))
OPPOSITES = {}
for pair in lexicon.OPPOSITES.strip().replace("\n", " ").split(","):
    one, other = (word.split("/")[0] for word in pair.split())
    OPPOSITES |= {one: other, other: one}
SCALES = {}  # scale -> (kind of thing, {degree: words})
for row in table(lexicon.SCALES):
    kind, scale, low, high = (part.strip() for part in re.split(r"\||: | - ", row))
    words = {}
    for sign, end in ((-1, low), (1, high)):
        mild, *strong = end.split()
        words[sign] = mild.split("/")
        if strong:
            words[3 * sign] = strong[0].split("/")
    SCALES[scale] = (kind, words)


# Entailment. X is below Y: X is a special case of Y.


def trait_is_below(low: Trait, high: Trait) -> bool:
    """Tiny is below very small, and very small is below small. A colour is below itself only."""
    if low.scale != high.scale or isinstance(low.degree, str):
        return low == high
    return low.degree * high.degree > 0 and abs(low.degree) >= abs(high.degree)


def thing_is_below(low: Thing | None, high: Thing | None) -> bool:
    """Two tiny sparrows are below a bird."""
    if low is None or high is None:
        return high is None
    traits = all(any(trait_is_below(a, b) for a in low.traits) for b in high.traits)
    return NOUNS.is_below(low.kind, high.kind) and traits and low.count >= high.count


def event_is_below(low: Event, high: Event) -> bool:
    """Devouring two pears in the kitchen is below eating a fruit in the house."""
    return (
        VERBS.is_below(low.verb, high.verb)
        and thing_is_below(low.patient, high.patient)
        and PLACES.is_below(low.place, high.place)
        and TIMES.is_below(low.time, high.time)
    )


def entails(premise: Statement, hypothesis: Statement) -> bool:
    """Whether the hypothesis is true in every world in which the premise is.

    some(A; B) stays true if A or B becomes more general. every(A; B) stays true if A becomes more special, or B more
    general. For a negated event the direction of B is reversed. As in logic, every(A; B) does not say that there is
    an A, so no statement with "some" follows from it.
    """
    if (premise.quantifier, premise.positive) != (hypothesis.quantifier, hypothesis.positive):
        return False
    low, high = (premise, hypothesis) if premise.positive else (hypothesis, premise)
    if not event_is_below(low.event, high.event):
        return False
    if premise.quantifier == "every":
        return thing_is_below(hypothesis.agent, premise.agent)
    return thing_is_below(premise.agent, hypothesis.agent)


def same_meaning(a: Statement, b: Statement) -> bool:
    """Whether each follows from the other."""
    return entails(a, b) and entails(b, a)


def similarity(a: Statement, b: Statement) -> float:
    """From 0 to 1: the weighted share of the meaning that two statements have in common, role by role."""
    roles = [
        (3.0, VERBS.similarity(a.event.verb, b.event.verb)),
        (3.0, thing_similarity(a.agent, b.agent)),
        (1.5, float((a.quantifier, a.positive) == (b.quantifier, b.positive))),
    ]
    if a.event.patient or b.event.patient:
        roles.append((3.0, thing_similarity(a.event.patient, b.event.patient)))
    for tree, one, other in ((PLACES, a.event.place, b.event.place), (TIMES, a.event.time, b.event.time)):
        if one or other:
            roles.append((1.5, tree.similarity(one, other)))
    return sum(weight * value for weight, value in roles) / sum(weight for weight, _ in roles)


def thing_similarity(a: Thing | None, b: Thing | None) -> float:
    if a is None or b is None:
        return 0.0
    shared, both = len(a.traits & b.traits), len(a.traits | b.traits)
    details = (shared / both if both else 1.0) + float(a.count == b.count)
    return 0.7 * NOUNS.similarity(a.kind, b.kind) + 0.15 * details
