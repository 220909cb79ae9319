"""A small English-like language with meaning: what can be said, what follows from it, and how to say it.

A Statement is a quantified event: "every young cat ate an apple in the kitchen" is every(young cat; ate(apple),
in the kitchen). What follows from what is computed by the rules of monotonicity (`entails`), never guessed from
words. `Speaker` turns a Statement into one of many sentences.
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
    count: int = 1  # at least so many


@dataclass(frozen=True)
class Event:
    verb: str
    patient: Thing | None = None
    place: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Statement:
    """some: there are agents of which the event is true (or, if not positive, false); every: of all there are."""

    quantifier: str
    agent: Thing
    event: Event
    positive: bool = True


class Tree:
    """What is a special case of what. Nodes are named by the first of their words."""

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

    def line(self, node: str) -> list[str]:
        """The node and all above it."""
        return [node, *self.line(self.parent[node])] if node in self.parent else [node]

    def below(self, low: str | None, high: str | None) -> bool:
        """low is a case of high. None says nothing, so all is a case of it."""
        return high is None or (low is not None and high in self.line(low))

    def under(self, node: str) -> list[str]:
        """The node and all below it."""
        return [node, *(n for child in self.children[node] for n in self.under(child))]

    def siblings(self, node: str) -> list[str]:
        return [n for n in self.children.get(self.parent.get(node), []) if n != node]

    def likeness(self, a: str | None, b: str | None) -> float:
        """1 for the same node, less the earlier their lines part, 0 for different trees."""
        if a is None or b is None:
            return float(a == b)
        shared = len(set(self.line(a)) & set(self.line(b)))
        return 2 * shared / (len(self.line(a)) + len(self.line(b)))


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


# What follows from what.


def trait_below(low: Trait, high: Trait) -> bool:
    """Tiny is very small is small; a colour is only itself."""
    if low.scale != high.scale or isinstance(low.degree, str):
        return low == high
    return low.degree * high.degree > 0 and abs(low.degree) >= abs(high.degree)


def thing_below(low: Thing | None, high: Thing | None) -> bool:
    """Two tiny sparrows are a case of a bird."""
    if low is None or high is None:
        return high is None
    traits = all(any(trait_below(mine, wanted) for mine in low.traits) for wanted in high.traits)
    return NOUNS.below(low.kind, high.kind) and traits and low.count >= high.count


def event_below(low: Event, high: Event) -> bool:
    """Devouring two pears in the kitchen is a case of eating a fruit in the house."""
    return (
        VERBS.below(low.verb, high.verb)
        and thing_below(low.patient, high.patient)
        and PLACES.below(low.place, high.place)
        and TIMES.below(low.time, high.time)
    )


def entails(premise: Statement, hypothesis: Statement) -> bool:
    """Whether the hypothesis is true in every world in which the premise is.

    some(A; B) rises in A and B; every(A; B) falls in A and rises in B; a negated event rises where the event
    falls. As in logic, every(A; B) does not say that there are such A, so nothing with some follows from it.
    """
    if (premise.quantifier, premise.positive) != (hypothesis.quantifier, hypothesis.positive):
        return False
    low, high = (premise, hypothesis) if premise.positive else (hypothesis, premise)
    if not event_below(low.event, high.event):
        return False
    if premise.quantifier == "every":
        return thing_below(hypothesis.agent, premise.agent)
    return thing_below(premise.agent, hypothesis.agent)


def same_meaning(a: Statement, b: Statement) -> bool:
    """Each follows from the other."""
    return entails(a, b) and entails(b, a)


def similarity(a: Statement, b: Statement) -> float:
    """From 0 to 1: the weighted share of the meaning that two statements have in common, role by role."""
    roles = [
        (3.0, VERBS.likeness(a.event.verb, b.event.verb)),
        (3.0, thing_likeness(a.agent, b.agent)),
        (1.5, float((a.quantifier, a.positive) == (b.quantifier, b.positive))),
    ]
    if a.event.patient or b.event.patient:
        roles.append((3.0, thing_likeness(a.event.patient, b.event.patient)))
    for tree, one, other in ((PLACES, a.event.place, b.event.place), (TIMES, a.event.time, b.event.time)):
        if one or other:
            roles.append((1.5, tree.likeness(one, other)))
    return sum(weight * value for weight, value in roles) / sum(weight for weight, _ in roles)


def thing_likeness(a: Thing | None, b: Thing | None) -> float:
    if a is None or b is None:
        return 0.0
    shared, both = len(a.traits & b.traits), len(a.traits | b.traits)
    details = (shared / both if both else 1.0) + float(a.count == b.count)
    return 0.7 * NOUNS.likeness(a.kind, b.kind) + 0.15 * details
