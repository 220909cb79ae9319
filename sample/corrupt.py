"""The errors in the sample's CoLA. Each function puts one error into the words of a sentence.

They return None if the sentence has no place for the error.
"""

import random
from collections.abc import Callable

from sample.speaker import IRREGULAR, past, plural
from sample.world import NOUNS, VERBS

NOUN_FORMS = {word: plural(word) for words in NOUNS.words.values() for word in words}
NUMBER = NOUN_FORMS | {many: one for one, many in NOUN_FORMS.items()}  # singular -> plural and plural -> singular
VERB_FORMS = {word: past(word) for words in VERBS.words.values() for word in words}


def wrong_number(words: list[str], rng: random.Random) -> list[str] | None:
    """a cats, two cat"""
    places = [i for i, word in enumerate(words) if NUMBER.get(word, word) != word]
    return replace_one(words, places, lambda word: NUMBER[word], rng)


def wrong_form(words: list[str], rng: random.Random) -> list[str] | None:
    """did not ate, was ate by"""
    bases = {VERB_FORMS[b]: b for b in VERB_FORMS}
    places = [i for i, word in enumerate(words) if i > 1 and words[i - 2 : i] == ["did", "not"]]
    if places:
        return replace_one(words, places, lambda word: VERB_FORMS[word], rng)
    participles = {participle: base for base, (past_, participle) in IRREGULAR.items() if past_ != participle}
    places = [i for i, word in enumerate(words) if word in participles and words[i - 1] in ("was", "were")]
    if places:
        return replace_one(words, places, lambda word: IRREGULAR[participles[word]][0], rng)
    places = [i for i, word in enumerate(words) if bases.get(word, word) != word and words[i - 1] in NUMBER]
    return replace_one(words, places, lambda word: IRREGULAR.get(bases[word], ("", word + "ing"))[1], rng)


def replace_one(
    words: list[str], places: list[int], form: Callable[[str], str], rng: random.Random
) -> list[str] | None:
    """Replace the word at one of the places by another form of it. None if that changes nothing."""
    if not places:
        return None
    place = rng.choice(places)
    changed = [*words[:place], form(words[place]), *words[place + 1 :]]
    return changed if changed != words else None


DETERMINERS = {"a", "an", "one", "every", "each", "all", "no", "two", "three", "four", "several"}


def wrong_order(words: list[str], rng: random.Random) -> list[str] | None:
    """cat a, in kitchen the"""
    places = [i for i in range(len(words) - 1) if words[i] in DETERMINERS | {"the", "did", "by"}]
    if not places:
        return None
    i = rng.choice(places)
    return [*words[:i], words[i + 1], words[i], *words[i + 2 :]]


def missing_word(words: list[str], rng: random.Random) -> list[str] | None:
    """cat ate an apple; an apple was eaten a cat"""
    places = [
        i for i, word in enumerate(words) if word in {"a", "an", "by", "the", "did", "was", "were", "every", "each"}
    ]
    if not places:
        return None
    place = rng.choice(places)
    return words[:place] + words[place + 1 :]


ERRORS = (wrong_number, wrong_form, wrong_order, missing_word)
