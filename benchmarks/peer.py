"""What the comparisons with transformers share: its model on our batches, and one plain training loop."""

import numpy as np
import torch
import transformers

from minbert.schedules import linear
from minbert.training.runtime import Runtime

transformers.utils.logging.set_verbosity_error()


def peer_model(folder: str, outputs: int, **config) -> torch.nn.Module:
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=outputs, **config)


def peer_optimizer(model, lr: float, eps: float, fused: bool = False) -> torch.optim.Optimizer:
    """torch.optim.AdamW with two groups: biases and LayerNorms do not decay."""
    plain = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    decayed = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm" in n)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, eps=eps, fused=fused)


def peer_logits(model, batch) -> torch.Tensor:
    return model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), token_type_ids=batch.token_type_ids
    ).logits


def peer_train(model, dataset, batches, lr: float, eps: float, precision: str, fused: bool = False) -> list[float]:
    """One step for each batch: linear schedule with warm-up 0.1, clipping at 1. Returns the losses."""
    optimizer, losses, runtime = peer_optimizer(model, lr, eps, fused), [], Runtime(model.device, precision)
    scaler = runtime.scaler()
    model.train()
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * linear(step, len(batches), 0.1)
        batch = dataset.collate(rows).to(model.device)
        with runtime.autocast():
            loss = dataset.task.loss(peer_logits(model, batch), batch.labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())  # reading it here would wait for a GPU in each step
    return torch.stack(losses).tolist()


@torch.no_grad()
def peer_predict(model, dataset, precision: str) -> np.ndarray:
    """Logits [N,C] in the file's order."""
    model.eval()
    logits = torch.zeros(len(dataset), dataset.task.outputs)
    for rows in dataset.by_length(32):
        batch = dataset.collate(rows)
        with Runtime(model.device, precision).autocast():
            logits[batch.index] = peer_logits(model, batch).float()
    return logits.numpy()
