"""Seeds are derived from numbers and words; a replayed state gives the same draws and leaves no trace."""

import pytest
import torch

from minbert.random_state import derive_seed, generator_state, replay, set_generator_state

CPU = torch.device("cpu")


def test_derived_seeds_follow_from_all_parts_and_their_order():
    parts = [(0, 1), (1, 0), (0, 1, 0), (0, "1"), ("01",), (0, 2), (), (0, 1, [2, 3]), (0, 1, [3, 2])]
    seeds = [derive_seed(*some) for some in parts]
    assert len(set(seeds)) == len(parts) and seeds == [derive_seed(*some) for some in parts]
    assert all(0 <= seed < 2**56 for seed in seeds)


def test_seeds_of_neighbours_differ_in_about_half_of_their_bits():
    bits = [(derive_seed(7, step) ^ derive_seed(7, step + 1)).bit_count() for step in range(400)]
    assert abs(sum(bits) / 400 - 28) < 5 * (56 / 4 / 400) ** 0.5  # 56 coins each: five standard errors


def test_a_derived_seed_is_the_same_in_every_version():
    """Runs are repeated from it, so a change of this number is a change of every result."""
    assert derive_seed(0, "order", 1) == 7315069673450763


def test_a_replayed_state_gives_the_same_draws_and_restores_the_present_state():
    state = generator_state(CPU)
    first = torch.rand(3)
    after = torch.get_rng_state()
    with replay(state):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), after)
    set_generator_state(state)
    assert torch.equal(torch.rand(3), first)


def test_replay_restores_the_present_state_after_an_error():
    state = generator_state(CPU)
    torch.rand(3)
    after = torch.get_rng_state()
    with pytest.raises(KeyError), replay(state):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), after)


def test_a_replay_within_a_replay_restores_the_outer_one():
    outer = generator_state(CPU)
    first = torch.rand(4)
    inner = generator_state(CPU)
    second = torch.rand(4)
    with replay(outer):
        assert torch.equal(torch.rand(2), first[:2])
        with replay(inner):
            assert torch.equal(torch.rand(4), second)
        assert torch.equal(torch.rand(2), first[2:])


class Accelerator:
    """Stands in for torch.cuda or torch.mps: a generator whose state counts the numbers drawn."""

    def __init__(self):
        self.drawn = torch.tensor([7, 0])

    def get_rng_state(self, *device) -> torch.Tensor:
        return self.drawn.clone()

    def set_rng_state(self, state: torch.Tensor, *device) -> None:
        self.drawn = state.clone()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_replay_sets_and_restores_the_devices_own_generator_too(kind, monkeypatch):
    """Masks on a GPU are drawn from it. Otherwise a second pass would draw other masks there, without an error."""
    generator, device = Accelerator(), torch.device(kind)
    for function in ("get_rng_state", "set_rng_state"):
        monkeypatch.setattr(getattr(torch, kind), function, getattr(generator, function))
    state = generator_state(device)
    generator.drawn[1] = 5
    with replay(state):
        assert generator.drawn.tolist() == [7, 0]
        generator.drawn[1] = 3
    assert generator.drawn.tolist() == [7, 5] and state.accelerator.tolist() == [7, 0]


def test_a_gpu_has_the_state_of_its_own_number(monkeypatch):
    """torch.cuda's functions mean the current device where none is named."""
    named, device = [], torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda number: named.append(number) or torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: named.append(number))
    set_generator_state(generator_state(device))
    assert named == [device, device]


def test_a_state_is_a_copy_that_later_draws_do_not_change():
    state = generator_state(CPU)
    before = state.cpu.clone()
    torch.rand(1000)
    assert torch.equal(state.cpu, before) and state.accelerator is None and state.device == CPU
