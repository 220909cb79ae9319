"""Masked language modelling: what is masked, what is learned, and the way to a file and back."""

import torch
from support.factories import VOCABULARY, make_dataset, make_model

from minbert.data.masking import MASKED, RANDOM, SHARE, MaskedDataset, Masking
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel, masked_cross_entropy
from minbert.weights import read_tensors

MASK = VOCABULARY.index("[MASK]")


def masked(epoch: int = 1, seed: int = 0) -> MaskedDataset:
    dataset = make_dataset(MLM, size=900)
    dataset.labels[:] = float("nan")
    return MaskedDataset(dataset, Masking(len(VOCABULARY), MASK, range(5)), seed, epoch)


def test_the_shares_of_chosen_masked_random_and_kept_tokens_are_those_of_the_paper():
    data = masked()
    assert data.task is MLM and len(data.examples) == 900
    batch, plain = data.collate(list(range(900))), data.dataset.collate(list(range(900)))
    chosen, ordinary = batch.labels != IGNORE, plain.input_ids >= 5
    n = int(ordinary.sum())
    assert abs(int(chosen.sum()) / n - SHARE) < 5 * (SHARE * (1 - SHARE) / n) ** 0.5
    assert not chosen[~ordinary].any() and not chosen[~batch.attention_mask].any()
    assert torch.equal(batch.labels[chosen], plain.input_ids[chosen])
    assert torch.equal(batch.input_ids[~chosen], plain.input_ids[~chosen])
    m = int(chosen.sum())
    as_mask = int((batch.input_ids[chosen] == MASK).sum()) / m
    kept = int((batch.input_ids[chosen] == plain.input_ids[chosen]).sum()) / m
    assert abs(as_mask - MASKED) < 0.05
    assert abs(kept - (1 - MASKED - RANDOM) - RANDOM / (len(VOCABULARY) - 5)) < 0.04


def test_special_ids_anywhere_in_the_vocabulary_are_never_chosen_and_never_drawn():
    special, mask_id = [2, 7, 11], 11
    ids = torch.randint(13, (100, 50), generator=torch.Generator().manual_seed(0))
    new_ids, labels = Masking(13, mask_id, special)(ids, torch.ones_like(ids).bool(), torch.Generator().manual_seed(1))
    chosen = labels != IGNORE
    assert not torch.isin(ids[chosen], torch.tensor(special)).any()
    drawn = new_ids[chosen & (new_ids != ids) & (new_ids != mask_id)]
    assert set(drawn.tolist()) == set(range(13)) - set(special)


def test_masks_follow_from_seed_epoch_and_rows():
    rows = [3, 1, 4]
    ids = [masked(*which).collate(rows).input_ids for which in ((1, 0), (1, 0), (2, 0), (1, 1))]
    assert torch.equal(ids[0], ids[1]) and not torch.equal(ids[0], ids[2]) and not torch.equal(ids[0], ids[3])


def test_every_batch_has_a_loss_the_token_after_its_first_cls_is_always_chosen():
    data = masked()
    for rows in ([row] for row in range(20)):
        assert data.collate(rows).labels[0, 1] == data.dataset.collate(rows).input_ids[0, 1]
    assert (data.collate(list(range(20))).labels[1:, 1] == IGNORE).any()


def test_padding_is_never_chosen_even_if_its_id_is_a_word():
    ids, real = torch.zeros(50, 8, dtype=torch.long), torch.arange(8).expand(50, 8) < 3
    _, labels = Masking(13, 4, [2, 3, 4])(ids, real, torch.Generator().manual_seed(0))
    assert (labels != IGNORE).any() and (labels[:, 3:] == IGNORE).all()


def test_a_first_row_without_ordinary_tokens_gives_the_choice_to_the_next():
    """[CLS] [SEP] alone, from a line that holds only an invisible character."""
    ids = torch.tensor([[2, 3, 0, 0], [2, 7, 8, 3]])
    for seed in range(20):
        _, labels = Masking(13, 4, range(5))(ids, ids != 0, torch.Generator().manual_seed(seed))
        assert (labels[0] == IGNORE).all() and labels[1, 1] == 7


def test_the_label_of_a_row_is_predicted_at_cls():
    data = masked()
    data.dataset.labels[3] = 7.0
    batch = data.collate([2, 3])
    assert batch.labels[:, 0].tolist() == [IGNORE, 7] and batch.input_ids[1, 0] == VOCABULARY.index("[CLS]")


def test_logits_and_loss_equal_a_slow_loop_with_the_tied_decoder():
    model, batch = MaskedLanguageModel(make_model().bert).double().eval(), masked().collate([0, 1, 2])
    logits = model(batch).logits
    rows, columns = torch.nonzero(batch.labels != IGNORE, as_tuple=True)
    h = model.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids).last_hidden_state
    table, total = model.bert.embeddings.token.weight, 0.0
    for i, (row, column) in enumerate(zip(rows, columns)):
        t = model.norm(torch.nn.functional.gelu(model.transform.weight @ h[row, column] + model.transform.bias))
        expected = torch.stack([table[v] @ t + model.bias[v] for v in range(len(table))])
        assert torch.allclose(logits[i], expected, atol=1e-10)
        total -= expected.log_softmax(0)[batch.labels[row, column]] / len(rows)
    assert torch.allclose(masked_cross_entropy(logits, batch.labels), total)


def test_a_saved_model_has_published_names_and_loads_again(tmp_path):
    model = MaskedLanguageModel(make_model().bert).eval()
    model.save(tmp_path)
    names = read_tensors(tmp_path).keys()
    assert "cls.predictions.transform.LayerNorm.weight" in names and not any("pooler" in name for name in names)
    batch = masked().collate([0, 1, 2])
    assert torch.equal(MaskedLanguageModel.from_pretrained(tmp_path)(batch).logits, model(batch).logits)
