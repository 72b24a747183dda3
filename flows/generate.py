"""`cloze generate RUN PROMPT`: what a pretrained GPT says next, or what a pretrained BART makes of a corrupted text."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus.vocabulary.columns import Encoder
    from infra.artifacts import Artifact
    from training.batches import TokenBatch


def generate(args: Namespace) -> int:
    """Greedy by default; `--beams` searches, `--temperature`, `--top-k` and `--top-p` draw."""
    from corpus.vocabulary.open import encoder_of
    from corpus.vocabulary.pieces import pieces_of, text_of
    from flows import run as runs
    from flows.settings import Settings
    from flows.show import locate
    from training.generation.beam import Beam, beam_search
    from training.generation.search import stream
    from training.generation.stopping import Stop, StopWords

    artifact = locate(runs.open_store(Settings(store=args.store)), args.run)
    network = _network(artifact)
    encoder = encoder_of(artifact.inputs["vocabulary"])
    pieces = pieces_of(encoder)
    words = StopWords(words=tuple(args.stop), pieces=pieces) if args.stop else None
    stop = Stop(new_tokens=args.new_tokens, end_ids=(encoder.sep_id,), words=words)
    prompt = _prompt(args.prompt, encoder, network)
    if args.beams:
        for found in beam_search(network, prompt, Beam(beams=args.beams, best=args.samples), stop)[0]:
            print(f"{found.score:8.3f} {text_of(pieces, found.tokens)}")
        return 0
    choice = _choice(args)
    for number in range(args.samples):
        said: list[int] = []
        shown = ""
        for [one] in stream(network, prompt, choice, stop, requests=[number]):
            said.append(one.token)
            text = text_of(pieces, said).rstrip("\ufffd")  # a character may come byte by byte
            print(text[len(shown) :], end="", flush=True)
            shown = text
        print()
    return 0


def _network(artifact: Artifact) -> Any:
    from training.saved import read_language_model

    network = read_language_model(artifact).eval()
    if not hasattr(network, "begin"):
        raise ValueError(
            f"{artifact.short} is a {type(network).__name__}, which says nothing by itself; GPT and BART do"
        )
    return network


def _prompt(text: str, encoder: Encoder, network: Any) -> TokenBatch:
    """A GPT reads on behind the mark that begins a document; an encoder-decoder reads a whole row."""
    import numpy as np
    import pyarrow as pa

    from training.batches import TokenBatch
    from training.models.layers.left_to_right import LeftToRight

    text = sys.stdin.read() if text == "-" else text
    tokens = encoder.encode(pa.array([text], pa.large_string())).tokens_T.astype(np.int64)
    whole = not isinstance(network, LeftToRight)
    row = np.concatenate([[encoder.cls_id], tokens, [encoder.sep_id] if whole else []]).astype(np.int64)
    return TokenBatch.from_sequences([row])


def _choice(args: Namespace) -> Any:
    from training.generation.sampling import Greedy, Sampling

    if args.temperature is None and args.top_k is None and args.top_p is None:
        return Greedy()
    temperature = 1.0 if args.temperature is None else args.temperature
    return Sampling(temperature=temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
