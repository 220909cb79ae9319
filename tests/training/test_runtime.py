"""Devices, precisions, seeds, and two processes that train as one."""

from contextlib import nullcontext

import pytest
import torch
from support.factories import make_batch
from support.ranks import TESTS, run_two_ranks

from minbert.errors import InputError, TrainingError
from minbert.random_state import derive_seed
from minbert.training import runtime

CPU = torch.device("cpu")


def test_precision(monkeypatch):
    monkeypatch.setattr(runtime, "computes_bf16", lambda device: True)
    assert runtime.choose_precision("auto", CPU, needs_fp32=False) == "bf16"
    assert runtime.choose_precision("auto", CPU, needs_fp32=True) == "fp32"
    monkeypatch.setattr(runtime, "computes_bf16", lambda device: False)
    assert runtime.choose_precision("auto", CPU, needs_fp32=False) == "fp32"
    with pytest.raises(InputError, match="use fp32"):
        runtime.choose_precision("bf16", CPU, needs_fp32=True)
    with pytest.raises(InputError, match="needs a CUDA device"):
        runtime.choose_precision("fp16", CPU, needs_fp32=False)
    with pytest.raises(InputError, match="does not compute in bfloat16"):
        runtime.choose_precision("bf16", torch.device("cuda"), needs_fp32=False)


@pytest.mark.parametrize("has_units", [True, False])
def test_a_precision_that_the_device_can_compute_in_is_taken_as_it_is(has_units, monkeypatch):
    """A CPU computes in bf16 also without units for it, and a GPU without them still has the other two."""
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(runtime, "computes_bf16", lambda device: has_units)
    possible = [(CPU, "fp32"), (CPU, "bf16"), (gpu, "fp32"), (gpu, "fp16")] + ([(gpu, "bf16")] if has_units else [])
    for device, name in possible:
        assert runtime.choose_precision(name, device, needs_fp32=False) == name


@pytest.mark.parametrize(
    "capability, expected", [((9, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_a_gpu_computes_in_the_half_precision_that_it_has_matrix_units_for(capability, expected, monkeypatch):
    """An H100; a T4, as on Colab; a V100; a GTX 1080, whose float16 is slower than its float32."""
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability >= (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.choose_precision("auto", gpu, needs_fp32=False) == expected
    assert runtime.choose_precision("auto", gpu, needs_fp32=True) == "fp32"


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_only_on_a_gpu_and_without_small_perturbations_are_products_rounded_to_tf32(matmul_precision, monkeypatch):
    gpu, found = torch.device("cuda", 0), []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for device, needs_fp32 in ((gpu, False), (gpu, True), (CPU, False), (CPU, True)):
        runtime.set_backends(device, needs_fp32)
        found.append(runtime.Runtime(device, "fp32").describe())
    assert found == ["cuda:0 in fp32 (TF32)", "cuda:0 in fp32", "cpu in fp32", "cpu in fp32"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))  # a T4
    runtime.set_backends(gpu, needs_fp32=False)
    assert runtime.Runtime(gpu, "fp32").describe() == "cuda:0 in fp32"
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # it plans anew for each length


@pytest.mark.parametrize("needs_fp32", [True, False])
def test_the_set_up_of_a_run_sets_the_backends(needs_fp32, matmul_precision):
    """Also after an earlier run in the same process."""
    torch.set_float32_matmul_precision("high")
    runtime.setup("cpu", "fp32", needs_fp32)
    assert not runtime.multiplies_in_tf32()


def test_a_copy_to_a_gpu_starts_from_pinned_memory_and_does_not_wait(monkeypatch):
    """A stand-in for the GPU: the copies stay on the CPU."""
    pinned, copied = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: copied.append(non_blocking) or self)
    batch = make_batch()
    for device, number in (("cpu", 0), ("mps", 0), (torch.device("cuda", 1), 5), ("cuda", 5)):
        pinned.clear()
        batch.to(device)
        assert len(pinned) == number and copied == [True] * 5
        copied.clear()


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.choose_device("auto").type == "cpu"
    with pytest.raises(InputError, match="--device cuda: this machine has no such device"):
        runtime.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.choose_device("auto").type == "cuda"


def test_autocast_computes_in_its_precision_and_fp32_leaves_things_alone():
    x = torch.ones(2, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with runtime.Runtime(CPU, precision).autocast():
            assert (x @ x).dtype == dtype


def test_seeds_of_neighbours_differ():
    seeds = {derive_seed(seed, step, micro) for seed in range(5) for step in range(50) for micro in range(3)}
    assert len(seeds) == 750 and all(0 <= seed < 2**56 for seed in seeds)


@pytest.mark.parametrize("error, expected", [(None, ["barrier", "destroy"]), (TrainingError("x"), ["destroy"])])
def test_the_end_of_a_run_waits_for_all_ranks_and_leaves_the_group(error, expected, monkeypatch):
    """After an error it does not wait: the other ranks may never come."""
    called = []
    monkeypatch.setattr(runtime.dist, "barrier", lambda: called.append("barrier"))
    monkeypatch.setattr(runtime.dist, "destroy_process_group", lambda: called.append("destroy"))
    with pytest.raises(TrainingError) if error else nullcontext(), runtime.Runtime(CPU, world_size=2):
        if error:
            raise error
    assert called == expected
    called.clear()
    with runtime.Runtime(CPU):
        pass
    assert called == []  # one process has no group


def test_a_rank_that_failed_does_not_keep_the_others_in_the_group(monkeypatch):
    def broken():
        raise RuntimeError("Connection closed by peer")

    called = []
    monkeypatch.setattr(runtime.dist, "barrier", broken)
    monkeypatch.setattr(runtime.dist, "destroy_process_group", lambda: called.append("destroy"))
    with runtime.Runtime(CPU, world_size=2):
        pass
    assert called == ["destroy"]


@pytest.mark.parametrize("what", ["single", "multitask", "resume"])
def test_two_processes_train_as_one(tmp_path, what):
    """All options in one spawned pair: see tests/support/two_processes.py, which prints what differs."""
    outputs = run_two_ranks(str(TESTS / "support" / "two_processes.py"), str(tmp_path), what)
    assert "all equal" in outputs[0]
