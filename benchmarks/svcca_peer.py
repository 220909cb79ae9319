"""SVCCA of papers/dynamics against an independent route, and against the code of its authors (google/svcca).

    python -m benchmarks.svcca_peer
    python -m benchmarks.svcca_peer --peer cca_core.py       # a copy of github.com/google/svcca's file

The route without an SVD of the states has eigenvectors of the covariance and two QR decompositions. The published file
computes CCA from inverse square roots of the covariances; its arrays are neurons x datapoints, and it has no SVD step:
the first directions are chosen here, for it and for the QR route, by the covariance's eigenvalues.

The matrices are random ones, and states of the sample's tiny BERT on RTE: each layer against the layer above it, and
against itself with the weights moved a little.
"""

import argparse
import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

import sample
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from papers.dynamics.inside import TokenSample, hidden_states
from papers.dynamics.svcca import VARIANCE, svcca
from papers.finished_run import no_warnings

Case = tuple[str, Tensor, Tensor]  # its name, X [n,D], Y [n,E]


def random_cases() -> Iterator[Case]:
    """Linear mixtures of a few common variables, with noise, unequal scales and means."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    for n, width, other, noise in ((500, 7, 11, 0.3), (2000, 64, 64, 1.0), (5000, 100, 30, 0.05), (3000, 80, 80, 9.0)):
        common = draw(n, 20)
        x = (common @ draw(20, width) + noise * draw(n, width)) * torch.logspace(0, -2, width) + 3
        y = (common @ draw(20, other) + noise * draw(n, other)) * torch.logspace(-1, 0, other) - 1
        yield f"random, {n} x {width} and {n} x {other}, noise {noise}", x, y


def sample_cases() -> Iterator[Case]:
    """States of the sample's model on the tokens of RTE's dev set."""
    task = TASKS["rte"]
    dataset = Dataset(task, read_examples(task, str(sample.DATA), "dev"), load_tokenizer(sample.MODEL), 128)
    tokens = TokenSample([dataset], 4000)
    with no_warnings():  # the sample has no pooler, and needs none here
        model = SentenceModel(BertModel.from_pretrained(sample.MODEL), [task]).eval()
    collect = partial(tokens.collect, batch_size=32, device=torch.device("cpu"), text="states")
    states = collect(partial(hidden_states, model))
    torch.manual_seed(0)
    for p in model.bert.layers.parameters():
        p.data += 0.01 * torch.randn_like(p)
    moved = collect(partial(hidden_states, model))
    for number in range(len(states) - 1):
        yield f"tiny BERT, output {number} against {number + 1}", states[number], states[number + 1]
    for number in range(1, len(states)):
        yield f"tiny BERT, output {number} against that of moved weights", states[number], moved[number]


def project(x: Tensor, k: int) -> np.ndarray:
    """The centred states in the first k eigenvectors of their covariance, [n,k]."""
    x = x.double().numpy()
    x = x - x.mean(0)
    _, vectors = np.linalg.eigh(x.T @ x)  # ascending
    return x @ vectors[:, -k:]


def qr_distance(x: np.ndarray, y: np.ndarray) -> float:
    """1 - the mean canonical correlation of two centred matrices [n,k1] and [n,k2]."""
    q1, q2 = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    return 1 - float(np.linalg.svd(q1.T @ q2, compute_uv=False).mean())


def peer_distance(peer: ModuleType, x: np.ndarray, y: np.ndarray) -> float:
    """The same by the published code. Its own `mean` is not used: it leaves out the last correlations."""
    result = peer.get_cca_similarity(x.T, y.T, verbose=False)
    return 1 - float(np.mean(result["cca_coef1"][: min(x.shape[1], y.shape[1])]))


def load_peer(path: Path) -> ModuleType:
    """Run a Python file as a module."""
    spec = importlib.util.spec_from_file_location("cca_core", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="a copy of cca_core.py")
    args = parser.parse_args()
    peer = load_peer(args.peer) if args.peer else None
    print("| matrices | variance kept | k1, k2 | ours | QR route - ours | published code - ours |")
    print("|---|---|---|---|---|---|")
    # All directions of the random matrices only. In a model's states LayerNorm leaves one direction without variance,
    # which holds nothing but rounding, so its correlation has no meaning.
    cases = [(1.0, *case) for case in random_cases()]
    cases += [(VARIANCE, *case) for case in (*random_cases(), *sample_cases())]
    for variance, name, x, y in cases:
        ours = svcca(x, y, variance)
        projections = project(x, ours.k1), project(y, ours.k2)
        by_qr = f"{qr_distance(*projections) - ours.distance:.1e}"
        by_peer = f"{peer_distance(peer, *projections) - ours.distance:.1e}" if peer else "not compared"
        row = (name, f"{variance:.0%}", f"{ours.k1}, {ours.k2}", f"{ours.distance:.6f}", by_qr, by_peer)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
