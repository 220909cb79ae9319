"""Statements -> sentences. Each meaning has many sentences: synonyms, active or passive, order of places and times."""

import random

from sample import lexicon
from sample.world import NOUNS, PLACES, SCALES, TIMES, VERBS, Event, Statement, Thing, Trait

PLURALS = dict(pair.split() for pair in lexicon.PLURALS.split(","))
IRREGULAR = {}  # base form -> (past, participle)
for entry in lexicon.IRREGULAR.replace("\n", " ").split(","):
    base, past, participle = entry.split()
    IRREGULAR[base] = (past, participle)
COUNTS = {2: ["two", "a couple of"], 3: ["three"], 4: ["four", "several"]}


def past(verb: str) -> str:
    return IRREGULAR[verb][0] if verb in IRREGULAR else regular_past(verb)


def participle(verb: str) -> str:
    return IRREGULAR[verb][1] if verb in IRREGULAR else regular_past(verb)


DOUBLING = {"nap", "scrub", "grab", "sob", "hug", "drop"}


def regular_past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + verb[-1] + "ed" if verb in DOUBLING else verb + "ed"


def plural(noun: str) -> str:
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


class Speaker:
    """Makes sentences. The generator `rng` draws every choice of words."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def say(self, statement: Statement) -> str:
        """A sentence without its full stop."""
        quantifier, agent, event = statement.quantifier, statement.agent, statement.event
        passive = event.patient is not None and quantifier == "some" and statement.positive and self.rng.random() < 0.3
        verb = self.rng.choice(VERBS.words[event.verb])
        if passive:
            be = "were" if event.patient.count > 1 else "was"
            words = [self.some(event.patient), be, participle(verb), "by", self.some(agent)]
        else:
            subject = self.some(agent) if quantifier == "some" else self.universal(agent, statement.positive)
            if quantifier == "some" and not statement.positive:
                words = [subject, "did not", verb]
            else:
                words = [subject, past(verb)]
            words += [self.some(event.patient)] if event.patient else []
        return self.with_circumstances(" ".join(words), event)

    def ask(self, statement: Statement, about: str) -> str:
        """A question without its question mark: "whether" the statement is true, or "who" did it."""
        event = statement.event
        if about == "whether":
            opening = self.rng.choice(["is it true that", "can it be that", "do you know whether"])
            return f"{opening} {self.say(statement)}"
        verb = self.rng.choice(VERBS.words[event.verb])
        if event.patient and self.rng.random() < 0.4:
            be = "were" if event.patient.count > 1 else "was"
            return self.with_circumstances(f"by whom {be} {self.some(event.patient)} {participle(verb)}", event)
        patient = f" {self.some(event.patient)}" if event.patient else ""
        return self.with_circumstances(f"who {past(verb)}{patient}", event)

    def with_circumstances(self, sentence: str, event: Event) -> str:
        place = self.rng.choice(PLACES.words[event.place]) if event.place else None
        time = self.rng.choice(TIMES.words[event.time]) if event.time else None
        if time and self.rng.random() < 0.3:
            sentence, time = f"{time} , {sentence}", None
        elif place and self.rng.random() < 0.2:
            sentence, place = f"{place} , {sentence}", None
        return " ".join(part for part in (sentence, place, time) if part)

    def some(self, thing: Thing) -> str:
        """a small cat; two cats that were small"""
        noun = self.noun(thing, thing.count > 1)
        if thing.count == 1:
            return f"{article(noun)} {noun}" if self.rng.random() < 0.9 else f"one {noun}"
        return f"{self.rng.choice(COUNTS[thing.count])} {noun}"

    def universal(self, thing: Thing, positive: bool) -> str:
        if not positive:
            return f"{self.rng.choice(['no', 'no', 'not a single'])} {self.noun(thing, False)}"
        word = self.rng.choice(["every", "each", "all"])
        return f"{word} {self.noun(thing, word == 'all')}"

    def noun(self, thing: Thing, many: bool) -> str:
        """A noun with its traits before it, or one of them after it: small cat, cat that was very small."""
        word = self.rng.choice(NOUNS.words[thing.kind])
        word = plural(word) if many else word
        traits = [self.trait(trait) for trait in sorted(thing.traits, key=str)]
        after = ""
        if traits and self.rng.random() < 0.2:
            after = f" that {'were' if many else 'was'} {traits.pop()}"
        return " ".join([*traits, word]) + after

    def trait(self, trait: Trait) -> str:
        if isinstance(trait.degree, str):
            return self.rng.choice(trait.degree.split("/"))
        words = SCALES[trait.scale][1]
        if abs(trait.degree) == 2:
            return f"{self.rng.choice(['very', 'really'])} {self.rng.choice(words[trait.degree // 2])}"
        return self.rng.choice(words[trait.degree])
