"""The inner step of SMART in float32: what the gradient of the batch mean, or of the sum, leaves of the ascent.

    python -m benchmarks.smart_ascent --model $MODEL --data $DATA --task mrpc --epochs 0                # a new head
    python -m benchmarks.smart_ascent --model $MODEL --data $DATA --task mrpc --epochs 1 --lr 5e-5      # after an epoch

One batch of 32, no dropout. The gradient at the random start is compared with the gradient of the same passes in
float64, sentence by sentence: how many sentences have a gradient of exactly 0, how many point the wrong way (negative
cosine), and by how much the guard of the division shrinks the step. The second table is project="normalize": the cosine
of each token's perturbation and its random start, and what embedding the perturbed vectors once more, as the authors'
program does, changes on its own. The model must be a BERT, because the other families embed in another way.
"""

import torch
import torch.nn.functional as F

from benchmarks.laboratory import Laboratory, make_parser
from minbert.classifier import SentenceModel
from minbert.losses import symmetric_kl
from minbert.task import Batch
from regularizers import build
from regularizers.perturbation import draw_noise
from regularizers.smart import Smart


def gradient(model: SentenceModel, batch: Batch, start: torch.Tensor, factor: float) -> torch.Tensor:
    """∇ of factor · (the mean divergence) at the start [B,T,D]."""
    model = model.to(start.dtype)
    clean = model(batch)
    start = start.clone().requires_grad_()
    logits = model.head(model.encode(clean.hidden[0].detach() + start, batch)[-1], batch)
    (g,) = torch.autograd.grad(factor * symmetric_kl(logits, clean.logits.detach()), start)
    return g


def embed_again(model: SentenceModel, batch: Batch, h0: torch.Tensor) -> torch.Tensor:
    """BERT's positions, segments and LayerNorm on embeddings [B,T,D] that have had them."""
    table = model.bert.embeddings
    return table.norm(h0 + table.position.weight[: h0.shape[1]] + table.segment(batch.token_type_ids))


def main() -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args()
    laboratory = Laboratory(args)
    if laboratory.pretrained(seed=0).bert.config.model_type != "bert":
        parser.error(f"--model {args.model} is not a BERT: other families embed in another way")
    batch = laboratory.train.collate(laboratory.train.shuffled(args.batch_size, 0, 1)[0])
    model = laboratory.fine_tune(build("finetune"), seed=0)[0] if args.epochs else laboratory.pretrained(seed=0)
    model.eval()
    size = len(batch)
    print("| ε | gradient of | exactly 0 | wrong way | the guard leaves |\n|---|---|---|---|---|")
    for eps in (1e-5, 1e-4, 1e-3, 1e-2):
        torch.manual_seed(0)
        noise = draw_noise(torch.empty(*batch.input_ids.shape, model.bert.config.hidden_size), batch.attention_mask)
        start = (eps * noise).clamp(-eps, eps)
        truth = gradient(model, batch, start.double(), size)
        for name, factor, guard in (("the mean, guard 1e-12", 1, 1e-12), ("the sum, guard 1e-30", size, 1e-30)):
            g = gradient(model, batch, start, factor).double()
            cosine = F.cosine_similarity(g.flatten(1), truth.flatten(1))
            largest = g.abs().amax((1, 2))
            kept = largest / (largest + guard)
            zero, wrong = int((largest == 0).sum()), int((cosine < 0).sum())
            print(f"| {eps:g} | {name} | {zero} of {size} | {wrong} of {size} | {kept.min():.3f} to {kept.max():.3f} |")
    model = model.float()
    method = Smart(project="normalize", mu=0.0)
    clean = model(batch)
    torch.manual_seed(0)
    delta = method.adversary(model, batch, clean, clean.hidden[0].detach(), clean.logits.detach())
    torch.manual_seed(0)
    start = draw_noise(clean.hidden[0], batch.attention_mask)
    cosine = F.cosine_similarity(delta.double(), start.double(), dim=-1)[batch.attention_mask]
    print(f"normalize: smallest cosine of a token's perturbation and its random start {cosine.min():.7f}")
    with torch.no_grad():
        noisy = model.head(model.encode(clean.hidden[0] + delta, batch)[-1], batch)
        twice = model.head(model.encode(embed_again(model, batch, clean.hidden[0]), batch)[-1], batch)
        both = model.head(model.encode(embed_again(model, batch, clean.hidden[0] + delta), batch)[-1], batch)
    for name, logits in (("normalize", noisy), ("embedded twice", twice), ("both", both)):
        print(f"symmetric KL with the clean answers, {name}: {symmetric_kl(logits, clean.logits):.2e}")


if __name__ == "__main__":
    main()
