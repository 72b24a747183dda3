"""Random masked batches, as ours and as transformers reads them, and what every encoder promises about them."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from corpus.instance_kinds import NO_PAIR, MaskedInstances
from training.batches import TokenBatch
from training.pretraining_batches import MaskedBatch

LENGTHS = [9, 3, 70, 2, 33, 64, 5, 12]
A_HANDFUL = [9, 3, 30, 12, 2]


def random_batch(
    lengths: list[int] = LENGTHS, *, vocab_size: int, seed: int = 0, pairs: bool = True, lowest: int = 0
) -> MaskedBatch:
    """A sixth of the tokens are targets; ids are `lowest` or more; without `pairs` each row is one segment."""
    noise = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    positions = [np.sort(noise.choice(length, max(1, length // 6), replace=False)) for length in lengths]
    found = MaskedInstances(
        tokens=noise.integers(lowest, vocab_size, offsets[-1]),
        offsets=offsets,
        segment_b=np.array([length // 2 if pairs else length for length in lengths]),
        target_positions=np.concatenate(positions),
        target_offsets=np.cumsum([0, *(len(row) for row in positions)]),
        target_tokens=noise.integers(0, vocab_size, sum(len(row) for row in positions)),
        pair_label=noise.integers(0, 2, len(lengths)) if pairs else np.full(len(lengths), NO_PAIR),
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros(len(lengths), np.int64),
    )
    return MaskedBatch.of(found)


def padded(batch: MaskedBatch, *, filler: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs transformers wants, and which of its B,L places are real (in the order of our stream)."""
    tokens = batch.tokens
    real_BL = torch.arange(tokens.max_seq_len) < tokens.cu_seqlens.diff()[:, None]
    labels_T = torch.full_like(tokens.tokens_T, -100).index_copy(
        0, batch.target_index_M, batch.target_tokens_M
    )
    inputs = {"attention_mask": real_BL.long()}
    for name, values, blank in (
        ("input_ids", tokens.tokens_T, filler),
        ("token_type_ids", tokens.segments_T, 0),
        ("labels", labels_T, -100),
    ):
        inputs[name] = torch.full(real_BL.shape, blank).masked_scatter(real_BL, values)
    return inputs, real_BL


def shaken(model: nn.Module) -> nn.Module:
    """No bias zero, no norm one: nothing may be lost unnoticed."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return model.eval()


def parameters_in(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def assert_packed_equals_alone(encoder: nn.Module, batch: MaskedBatch) -> None:
    """In any company and order: the second half first, then each sequence by itself."""
    tokens = batch.tokens
    edges = tokens.cu_seqlens.tolist()
    together = encoder(tokens)
    rows = list(pairwise(edges))
    for company in ([*rows[4:], *rows[:4]], *([row] for row in rows)):
        begins = [int((tokens.segments_T[a:b] == 0).sum()) for a, b in company]
        again = encoder(TokenBatch.from_sequences([tokens.tokens_T[a:b].numpy() for a, b in company], begins))
        expected = torch.cat([together[a:b] for a, b in company])
        torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)


def assert_no_gradient_crosses_a_border(encoder: nn.Module, batch: MaskedBatch) -> None:
    """From a short sequence between a long and a short neighbour back to the embeddings of all."""
    embedded: list[Tensor] = []
    handle = encoder.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output))
    hidden = encoder(batch.tokens)
    handle.remove()
    begin, end = (int(edge) for edge in batch.tokens.cu_seqlens[3:5])
    (grad,) = torch.autograd.grad(hidden[begin:end].square().sum(), embedded[0])
    assert grad[begin:end].abs().sum() > 0
    assert torch.count_nonzero(grad[:begin]) == torch.count_nonzero(grad[end:]) == 0


def assert_filler_changes_nothing(model: nn.Module, batch: MaskedBatch, monkeypatch) -> None:
    """Neither the loss nor a gradient, in float64."""
    model, outcomes = model.double().eval(), []
    for filler in (0, 7):
        monkeypatch.setattr("training.models.layers.shapes.filler_rows", lambda rows, kind, k=filler: k)
        model.zero_grad()
        losses = model(batch)
        losses.total.backward()
        outcomes.append([losses.total.detach(), *(p.grad for p in model.parameters())])
    for without, with_filler in zip(*outcomes, strict=True):
        torch.testing.assert_close(with_filler, without, atol=1e-12, rtol=1e-10)


def assert_autocast_keeps_float32(model: nn.Module, encoder: nn.Module, batch: MaskedBatch) -> None:
    """Hidden states, losses and gradients; and the loss is near the exact one."""
    exact = model(batch).total
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch)
        states = list(encoder.states(batch.tokens))
    assert {value.dtype for value in (losses.total, *losses.parts.values(), *states)} == {torch.float32}
    torch.testing.assert_close(losses.total, exact, atol=0.05, rtol=0.01)
    losses.total.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def assert_predictions_name_the_parts(model: nn.Module, batch: MaskedBatch) -> None:
    losses, counts = model(batch), model.predictions(batch)
    assert list(counts) == list(losses.parts)
    assert all(losses.counts[f"{part}_count"] == count for part, count in counts.items())
    assert all(0 <= losses.counts[f"{part}_correct"] <= count for part, count in counts.items())
    torch.testing.assert_close(losses.total, torch.stack(list(losses.parts.values())).sum())


def learned(model: nn.Module, batch: MaskedBatch, *, steps: int = 60, learning_rate: float = 5e-3):
    """The losses before the first and the last of `steps` steps on one batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    first = None
    for _ in range(steps):
        losses = model(batch)
        first = first or losses
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    return first, losses


def assert_first_weights(build: Callable[[int], nn.Module], *, cut: bool) -> None:
    """A function of the seed alone: deviation .02, `cut` at two of them or not; biases zero, norms one."""
    before = torch.get_rng_state()
    first, again, other = (build(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = {name: tensor for name, tensor in first.items() if tensor.ndim > 1}
    assert all(not torch.equal(tensor, other[name]) for name, tensor in matrices.items())
    sample = torch.cat([tensor.flatten() for tensor in matrices.values()])
    sample = sample[sample != 0]
    deviation = 0.02 * 0.8796 if cut else 0.02  # what remains of a normal cut at two deviations
    assert abs(sample.std() - deviation) < 3e-4
    assert (sample.abs().max() <= 0.04) == cut
    for name, tensor in first.items():
        if tensor.ndim == 1:
            assert (tensor == float("norm" in name and name.endswith("weight"))).all(), name
