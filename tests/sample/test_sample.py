"""The sample language: its logic compared with random worlds, its files with their generator; its tiny BERT."""

import collections
import itertools
import random
import signal
from dataclasses import replace

import pytest

import sample
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.errors import Interrupted
from minbert.mlm import MaskedLanguageModel
from minbert.tokenizer import load_tokenizer
from sample import baselines, make_data, pretrain
from sample.corpus import FOLLOWS, OPEN, SAME, pairs
from sample.invent import Inventor, sensible
from sample.speaker import Speaker, participle, past, plural
from sample.world import NOUNS, PLACES, TIMES, VERBS, Event, Statement, Thing, Trait, entails, similarity

DATA = make_data.FOLDER


# A world is a list of individuals and a list of events among them. Brute force finds whether a statement is true in it.


def is_a(individual: Thing, wanted: Thing) -> bool:
    kind = wanted.kind in NOUNS.with_ancestors(individual.kind)
    return kind and all(any(has(own, trait) for own in individual.traits) for trait in wanted.traits)


def has(own: Trait, wanted: Trait) -> bool:
    if own.scale != wanted.scale or isinstance(wanted.degree, str) or isinstance(own.degree, str):
        return own == wanted
    return own.degree >= wanted.degree > 0 or own.degree <= wanted.degree < 0


def does(world, who: int, event: Event) -> bool:
    """Whether individual `who` is the agent of enough such events."""
    individuals, events = world
    patients = set()
    for agent, verb, patient, place, time in events:
        fits = agent == who and event.verb in VERBS.with_ancestors(verb)
        fits = fits and (event.place is None or (place is not None and event.place in PLACES.with_ancestors(place)))
        fits = fits and (event.time is None or (time is not None and event.time in TIMES.with_ancestors(time)))
        if fits and (event.patient is None or is_a(individuals[patient], event.patient)):
            patients.add(patient)
    return len(patients) >= (event.patient.count if event.patient else 1)


def true_in(world, s: Statement) -> bool:
    """some: true for at least `count` such agents; every: true for all such agents."""
    agents = [i for i, thing in enumerate(world[0]) if is_a(thing, s.agent)]
    holds = [does(world, i, s.event) == s.positive for i in agents]
    return all(holds) if s.quantifier == "every" else sum(holds) >= s.agent.count


def world_around(s: Statement, rng: random.Random):
    """A few individuals and events: most are special cases of those in the statement, some are others."""
    individuals, events = [], []

    def add(thing: Thing) -> int:
        kind = rng.choice(NOUNS.with_descendants(thing.kind)) if rng.random() < 0.7 else rng.choice(list(NOUNS.words))
        individuals.append(Thing(kind, thing.traits if rng.random() < 0.8 else frozenset()))
        return len(individuals) - 1

    for _ in range(rng.randint(1, s.agent.count + 2)):
        agent = add(s.agent)
        for _ in range(rng.randint(0, (s.event.patient.count if s.event.patient else 1) + 1)):
            patient = add(s.event.patient) if s.event.patient else None
            verb = rng.choice(VERBS.with_descendants(s.event.verb) if rng.random() < 0.8 else list(VERBS.words))
            place = rng.choice(PLACES.with_descendants(s.event.place)) if s.event.place and rng.random() < 0.9 else None
            time = rng.choice(TIMES.with_descendants(s.event.time)) if s.event.time and rng.random() < 0.9 else None
            events.append((agent, verb, patient, place, time))
    return individuals, events


def test_an_entailed_statement_is_true_in_every_world_where_the_premise_is_true():
    """Soundness on random worlds, for both quantifiers, positive and negative."""
    author, rng, checked = make_data.Author("soundness"), random.Random(0), collections.Counter()
    while min(checked[q, p] for q in ("some", "every") for p in (True, False)) < 60:
        premise = author.inventor.statement()
        hypothesis = author.walk(premise, rng.choice([1, 2, 3]), follows=True)
        if hypothesis is None:
            continue
        for _ in range(20):
            world = world_around(premise if rng.random() < 0.5 else hypothesis, rng)
            if true_in(world, premise):
                checked[premise.quantifier, premise.positive] += 1
                assert true_in(world, hypothesis), (premise, hypothesis, world)


def test_most_statements_that_are_not_entailed_have_a_counterexample():
    """Completeness: among a few hundred random worlds there is one where only the premise is true."""
    author, rng = make_data.Author("completeness"), random.Random(0)
    refuted, total = 0, 0
    while total < 60:
        premise = author.inventor.statement()
        hypothesis = author.walk(premise, rng.choice([1, 2]), follows=False)
        if hypothesis is None:
            continue
        worlds = (world_around(rng.choice([premise, hypothesis]), rng) for _ in range(400))
        refuted += any(true_in(world, premise) and not true_in(world, hypothesis) for world in worlds)
        total += 1
    assert refuted > 0.8 * total


def test_entailment_is_reflexive_and_transitive_along_random_walks():
    author = make_data.Author("order")
    for _ in range(300):
        start = author.inventor.statement()
        assert entails(start, start)
        end = author.walk(start, 3, follows=True)
        assert end is None or entails(start, end)


def some(kind, verb="eat", patient=None, **more):
    return Statement("some", Thing(kind), Event(verb, Thing(patient) if patient else None, **more))


def test_entailment_of_hand_made_statements():
    sparrow, bird = some("sparrow", "devour", "apple", place="in the kitchen"), some("bird", "eat", "fruit")
    assert entails(sparrow, bird) and not entails(bird, sparrow)
    no_bird, no_sparrow = (replace(s, quantifier="every", positive=False) for s in (bird, sparrow))
    assert entails(no_bird, no_sparrow) and not entails(no_sparrow, no_bird)
    assert not entails(sparrow, replace(bird, positive=False))
    every, two = replace(bird, quantifier="every"), replace(bird, agent=Thing("bird", count=2))
    assert not entails(every, bird) and not entails(bird, every) and entails(two, bird) and not entails(bird, two)
    tiny, small = (replace(bird, agent=Thing("bird", frozenset([Trait("size", d)]))) for d in (-3, -1))
    assert entails(tiny, small) and not entails(small, tiny) and entails(small, bird)
    assert similarity(bird, bird) == 1.0 > similarity(bird, sparrow) > similarity(bird, some("doctor", "drive", "car"))


def test_past_tense_participle_and_plural():
    assert [past(v) for v in ("eat", "chase", "carry", "scrub")] == ["ate", "chased", "carried", "scrubbed"]
    assert [participle(v) for v in ("eat", "see", "fix")] == ["eaten", "seen", "fixed"]
    assert [plural(n) for n in ("berry", "mouse", "bus", "boy")] == ["berries", "mice", "buses", "boys"]


def test_every_random_statement_is_sensible_and_has_a_sentence():
    rng = random.Random(0)
    inventor, speaker = Inventor(rng), Speaker(rng)
    words = collections.Counter()
    for _ in range(3000):
        statement = inventor.statement()
        assert sensible(statement)
        words.update(speaker.say(statement).split())
    assert 400 < len(words) < 2000


@pytest.mark.parametrize("split", make_data.SPLITS)
@pytest.mark.parametrize("task", make_data.SIZES)
def test_the_committed_files_are_those_of_the_generator(task, split):
    name, first_rows = make_data.file_of(task, split, 30)
    committed = (DATA / name).read_text(encoding="utf-8")
    assert committed.startswith(first_rows)
    assert len(read_examples(TASKS[task], DATA, split).rows) == make_data.SIZES[task][make_data.SPLITS.index(split)]


@pytest.mark.parametrize("task", make_data.SIZES)
def test_labels_are_balanced_and_no_two_splits_share_a_text(task):
    read = {split: read_examples(TASKS[task], DATA, split).rows for split in make_data.SPLITS}
    texts = {split: {frozenset(filter(None, (r.text, r.pair))) for r in rows} for split, rows in read.items()}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other
    assert all(len(texts[split]) == len(rows) for split, rows in read.items())
    for split in ("train", "dev"):
        labels = [row.label for row in read[split]]
        if TASKS[task].labels:
            shares = [count / len(labels) for count in collections.Counter(labels).values()]
            assert len(shares) == len(TASKS[task].labels) and min(shares) > 0.6 / len(shares)
        else:
            assert min(labels) < 1 and max(labels) > 4.9


def test_the_text_for_pretraining_has_no_pair_of_a_task():
    tasks = set()
    for task in ("rte", "mrpc"):
        for split in make_data.SPLITS:
            tasks |= {frozenset((r.text, r.pair)) for r in read_examples(TASKS[task], DATA, split).rows}
    for pair in itertools.islice(pairs(), 3000):
        assert frozenset((pair.first, pair.second)) not in tasks
        if pair.link in (FOLLOWS, OPEN, SAME):  # a pair of statements, as those of the tasks
            assert make_data.owner([pair.first, pair.second]) == "pretraining"
    assert sum(path.stat().st_size for path in DATA.rglob("*.*")) < 3_000_000


def test_the_tiny_bert_predicts_masked_tokens_and_links_of_held_out_text(monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 100)
    model = MaskedLanguageModel.from_pretrained(sample.MODEL)
    result = pretrain.accuracies(model, pretrain.held_out_text(load_tokenizer(sample.MODEL)))
    assert result["tokens"] > 0.7 > 0.2 > result["tokens, most frequent"]
    links = collections.Counter(pair.link for pair in itertools.islice(pairs("held-out"), 100) if pair.link)
    assert result["links"] > 0.6 > result["links, most frequent"] == max(links.values()) / links.total()


def test_a_stopped_pretraining_ends_with_the_weights_of_an_undisturbed_one(tmp_path, monkeypatch, capsys):
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    monkeypatch.setattr(pretrain, "SIZES", pretrain.SIZES | sizes)
    monkeypatch.setattr(pretrain, "HELD_OUT", 5)
    pretrain.pretrain(tmp_path / "undisturbed", 70, epochs=3)
    evaluate, calls = pretrain.accuracies, []

    def stop_at_second_epoch(model, text):
        calls.append(text)
        if len(calls) == 2:
            raise Interrupted(signal.SIGTERM)
        return evaluate(model, text)

    monkeypatch.setattr(pretrain, "accuracies", stop_at_second_epoch)
    with pytest.raises(Interrupted):
        pretrain.pretrain(tmp_path / "stopped", 70, epochs=3)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    pretrain.pretrain(tmp_path / "stopped", 70, epochs=3)
    assert len(calls) == 4  # epochs 1 and 2; then 2 and 3
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("undisturbed", "stopped")]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "undisturbed"]  # no checkpoints remain


def test_bags_of_words_are_a_baseline_above_the_majority_class():
    majority, bag_of_words = baselines.baseline_scores(TASKS["cfimdb"])
    assert majority == pytest.approx(0.5417, abs=1e-4) and bag_of_words > majority + 0.05


def test_a_run_says_whether_its_model_or_its_data_are_the_samples():
    model, data = str(sample.MODEL), str(sample.DATA)
    assert sample.note(model, data).startswith("This is the embedded sample")
    assert "the sample's tiny BERT" in sample.note(model, "data") and "No --model" in sample.note(model, "data")
    assert "No --data: your model" in sample.note("bert-base-uncased", data)
    assert sample.note("bert-base-uncased", "data") == ""
