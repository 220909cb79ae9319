"""The example on one screen trains as the program does."""

import torch

import train
from examples.finetune_by_hand import finetune
from minbert import weights


def test_the_loop_by_hand_ends_with_the_weights_of_train_py_bit_for_bit(tmp_path):
    """On the CPU in float32. A difference would mean that the program passes something through a hidden channel."""
    out = tmp_path / "run"
    assert train.main(["--option", "smart", "--epochs", "1", "--device", "cpu", "--out", str(out)]) == 0
    by_hand = finetune()
    weights.save_model(by_hand, tmp_path / "by-hand")
    ours, theirs = (weights.read_tensors(folder) for folder in (tmp_path / "by-hand", out / "model"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
