"""Saying a text token by token with an encoder-decoder: what was said is kept as in a decoder alone, and the keys and
values of the memory are projected once a source, for all its rows (training/generation/cache.py).

Letters: `B` rows, `P` sources, `D` hidden size, `N` heads, `H` size per head.
"""

from torch import Tensor

from training.batches import TokenBatch
from training.generation.cache import KeyValueCache, PromptMemory
from training.models.layers.attention import attend, find_spans
from training.models.layers.cross_attention import LookThere
from training.models.layers.seq2seq import DecoderLayer, Memory, Seq2SeqTransformer


class Seq2SeqCache:
    """What the decoder keeps between two tokens: its own past and the memory's keys and values."""

    def __init__(self, own: KeyValueCache, there: PromptMemory) -> None:
        self.own = own
        self.there = there
        self._rows = 1  # of each source

    def widen(self, count: int) -> None:
        self._rows = count
        self.own.widen(count)

    def select(self, rows_B: Tensor) -> None:
        self.own.select(rows_B)
        sources_P = rows_B[:: self._rows] // self._rows
        if len(sources_P) != len(self.there.lengths_P) or bool((sources_P.diff() != 1).any()):
            self.there.select(sources_P)

    def look_there(self, layer: int) -> LookThere:
        """Attention of every row to its source; dropout is not known here."""
        return lambda q_BNH, _: self.there.attend(layer, q_BNH)


def begin_saying(
    model: Seq2SeqTransformer, memory: Memory, start: TokenBatch, *, new_tokens: int
) -> tuple[Tensor, Seq2SeqCache]:
    """Read `start`, one token a row; the last layer's output there, `B,D`, and the cache.

    Raises ValueError if `new_tokens` are more than the decoder can say; the last one is never read.
    """
    if new_tokens > model.max_seq_len:
        raise ValueError(
            f"{new_tokens} new tokens: this model says at most {model.max_seq_len}; ask for fewer or use a model "
            "with a larger max_seq_len"
        )
    layers = _decoder_layers(model)
    own = KeyValueCache(PromptMemory(start.cu_seqlens, 1, len(layers)), new_tokens=new_tokens)
    cache = Seq2SeqCache(own, PromptMemory(memory.cu_seqlens, memory.max_seq_len, len(layers)))
    spans = find_spans(start.cu_seqlens, 1, causal=True)
    look = own.reading(lambda qkv_T3NH, dropout: attend(qkv_T3NH, spans, dropout))
    x_BD = model.decoder.embeddings(model.token(start.tokens_T), start.positions_T)
    for number, layer in enumerate(layers):
        cache.there.keep(*layer.cross_attention.keys_values(memory.x_SD).unbind(1))
        x_BD = layer.through(x_BD, look, cache.look_there(number))
    return x_BD, cache


def say(model: Seq2SeqTransformer, tokens_B: Tensor, cache: Seq2SeqCache) -> Tensor:
    """Read one more token of each row; the last layer's output there, `B,D`."""
    x_BD = model.decoder.embeddings(model.token(tokens_B), cache.own.lengths_B)
    for number, layer in enumerate(_decoder_layers(model)):
        x_BD = layer.through(x_BD, cache.own.looking(number), cache.look_there(number))
    cache.own.advance()
    return x_BD


def _decoder_layers(model: Seq2SeqTransformer) -> list[DecoderLayer]:
    return [layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer)]
