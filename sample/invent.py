"""Random statements, and small changes to them. world.entails says whether a change preserves the truth."""

import random
from dataclasses import replace

from sample import lexicon
from sample.world import FRAMES, NOUNS, OPPOSITES, PLACES, SCALES, TIMES, VERBS, Event, Statement, Thing, Trait, Tree

VERB_LIST = list(FRAMES)


class Inventor:
    """Draws random statements and changes, from the generator `rng`."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def statement(self) -> Statement:
        verb = self.rng.choice(VERB_LIST)
        agent_kind, patient_kind = FRAMES[verb]
        quantifier = self.rng.choices(["some", "every"], [0.7, 0.3])[0]
        agent = self.thing(agent_kind, countable=quantifier == "some")
        patient = None if patient_kind == "-" else self.thing(patient_kind)
        place = self.node(PLACES) if self.rng.random() < 0.5 else None
        time = self.node(TIMES) if self.rng.random() < 0.35 else None
        return Statement(quantifier, agent, Event(verb, patient, place, time), self.rng.random() < 0.8)

    def thing(self, kind: str, countable: bool = True) -> Thing:
        chosen = self.rng.choice(NOUNS.with_descendants(kind))
        traits = frozenset(self.trait(chosen) for _ in range(self.rng.choices([0, 1], [0.6, 0.4])[0]))
        count = self.rng.choices([1, 2, 3, 4], [0.7, 0.12, 0.1, 0.08])[0] if countable else 1
        return Thing(chosen, traits, count)

    def trait(self, kind: str) -> Trait:
        """A trait that a thing of that kind can have."""
        kinds = NOUNS.with_ancestors(kind)
        scales = [name for name, (wide, _) in SCALES.items() if wide in kinds]
        colours = [k for k in lexicon.COLOURS if k in kinds]
        if colours and self.rng.random() < 0.3:
            return Trait("colour", self.rng.choice(lexicon.COLOURS[colours[0]].split()))
        scale = self.rng.choice(scales)
        return Trait(scale, self.degree(scale))

    def degree(self, scale: str) -> int:
        return plain_if_no_word(scale, self.rng.choice([-1, 1]) * self.rng.choices([1, 2, 3], [0.6, 0.2, 0.2])[0])

    def node(self, tree: Tree) -> str:
        return self.rng.choice(list(tree.words))

    def change(self, s: Statement) -> Statement:
        """One small change somewhere: another word in one role, more or less detail, another quantifier."""
        roles = {"agent": 4, "patient": 4, "verb": 3, "place": 2, "time": 1.5, "form": 1.5, "swap": 1.5}
        (role,) = self.rng.choices(list(roles), list(roles.values()))
        event = s.event
        if role == "agent":
            return replace(s, agent=self.change_thing(s.agent, countable=s.quantifier == "some"))
        if role == "patient" and event.patient:
            return replace(s, event=replace(event, patient=self.change_thing(event.patient)))
        if role == "verb":
            return replace(s, event=replace(event, verb=self.change_verb(event.verb)))
        if role == "place":
            return replace(s, event=replace(event, place=self.change_node(PLACES, event.place)))
        if role == "time":
            return replace(s, event=replace(event, time=self.change_node(TIMES, event.time)))
        if role == "form":
            return self.change_form(s)
        if role == "swap" and event.patient:
            return replace(s, agent=event.patient, event=replace(event, patient=s.agent))
        return s

    def change_form(self, s: Statement) -> Statement:
        if self.rng.random() < 0.4:
            return replace(s, positive=not s.positive)
        quantifier = "every" if s.quantifier == "some" else "some"
        return replace(s, quantifier=quantifier, agent=replace(s.agent, count=1))

    def change_thing(self, thing: Thing, countable: bool = True) -> Thing:
        what = self.rng.choices(["kind", "trait", "count"], [3, 2, 1])[0]
        if what == "kind":
            return replace(thing, kind=self.change_node(NOUNS, thing.kind))
        if what == "count" and countable:
            return replace(thing, count=self.rng.choice([1, 2, 3, 4]))
        if not thing.traits:
            return replace(thing, traits=frozenset([self.trait(thing.kind)]))
        (trait, *_) = thing.traits
        if self.rng.random() < 0.5:
            return replace(thing, traits=frozenset())
        if isinstance(trait.degree, str):
            return replace(thing, traits=frozenset([self.trait(thing.kind)]))
        degree = self.rng.choice([-trait.degree, self.degree(trait.scale)])
        return replace(thing, traits=frozenset([Trait(trait.scale, plain_if_no_word(trait.scale, degree))]))

    def change_verb(self, verb: str) -> str:
        same_frame = [v for v in VERB_LIST if FRAMES[v] == FRAMES[verb]]
        if verb in OPPOSITES and self.rng.random() < 0.3:
            return OPPOSITES[verb]
        changed = self.change_node(VERBS, verb)
        return changed if self.rng.random() < 0.7 else self.rng.choice(same_frame)

    def change_node(self, tree: Tree, node: str | None) -> str | None:
        """The parent, a child or a sibling of a node. A place or a time may also appear or disappear (None)."""
        if node is None:
            return self.node(tree)
        choices = [*tree.children[node], *tree.siblings(node)]
        choices += [tree.parent[node]] * 2 if node in tree.parent else []
        choices += [None, None] if tree in (PLACES, TIMES) else []
        return self.rng.choice(choices) if choices else node


def plain_if_no_word(scale: str, degree: int) -> int:
    """The degree, or the plain one if the scale has no word for the extreme one."""
    return degree if abs(degree) < 3 or degree in SCALES[scale][1] else degree // 3


def sensible(s: Statement) -> bool:
    """Whether agent and patient are of the kinds that the verb takes, and the traits fit their things."""
    agent, patient = FRAMES[s.event.verb]
    if s.quantifier == "every" and s.agent.count > 1:
        return False
    if not NOUNS.is_below(s.agent.kind, agent) or (patient == "-") != (s.event.patient is None):
        return False
    if s.event.patient and not NOUNS.is_below(s.event.patient.kind, patient):
        return False
    things = [s.agent, *([s.event.patient] if s.event.patient else [])]
    return all(fits(trait, thing.kind) for thing in things for trait in thing.traits)


def fits(trait: Trait, kind: str) -> bool:
    """Whether a thing of that kind can have the trait."""
    kinds = NOUNS.with_ancestors(kind)
    if trait.scale == "colour":
        return any(k in kinds and trait.degree in lexicon.COLOURS[k].split() for k in lexicon.COLOURS)
    return SCALES[trait.scale][0] in kinds
