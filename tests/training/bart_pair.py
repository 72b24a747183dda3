"""A tiny BART, ours and transformers', with the same random weights, and what both of them read."""

import numpy as np
import torch
import transformers

from corpus.instance_kinds import Seq2SeqInstances
from training.exchange import bart as exchange
from training.models.bart import BartConfig, BartForPretraining
from training.pretraining_batches import Seq2SeqBatch

CONFIG = BartConfig(
    vocab_size=97,
    hidden_size=48,
    num_layers=3,
    num_decoder_layers=2,
    num_heads=4,
    feed_forward_size=80,
    max_seq_len=80,
)
Pair = tuple[BartForPretraining, transformers.BartForConditionalGeneration]


def theirs_like(config: BartConfig) -> transformers.BartConfig:
    return transformers.BartConfig(**exchange.their_config(config))


def make_pair(config: BartConfig = CONFIG, *, talkative: bool = False) -> Pair:
    """In eval mode; biases and norms are random too. A talkative pair says more than one token again and again, and ends."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = transformers.BartForConditionalGeneration(theirs_like(config)).eval()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*theirs.parameters(), theirs.final_logits_bias):
            tensor.add_(torch.randn(tensor.shape, generator=noise) * 0.1)
        if talkative:
            theirs.model.decoder.embed_positions.weight.normal_(std=1.0, generator=noise)
            theirs.final_logits_bias[0, theirs.config.eos_token_id] += 0.7
    ours = config.network(seed=None)
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict(exchange.from_theirs(tensors, config), assign=True)
    return ours.eval(), theirs


def random_batch(
    lengths: list[int], decoder_lengths: list[int], *, vocab_size: int = CONFIG.vocab_size
) -> Seq2SeqBatch:
    noise = np.random.default_rng(0)
    found = Seq2SeqInstances(
        source_tokens=noise.integers(0, vocab_size, sum(lengths)),
        source_offsets=np.cumsum([0, *lengths]),
        decoder_tokens=noise.integers(0, vocab_size, sum(decoder_lengths)),
        decoder_positions=np.concatenate([np.arange(length) for length in decoder_lengths]),
        target_tokens=noise.integers(0, vocab_size, sum(decoder_lengths)),
        decoder_offsets=np.cumsum([0, *decoder_lengths]),
        instance_id=np.zeros(len(lengths), np.uint64),
        document=np.zeros(len(lengths), np.int64),
    )
    return Seq2SeqBatch.of(found)
