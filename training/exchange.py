"""Hugging Face folders <-> our models, gated on equal answers.

    config.json  model.safetensors                        what transformers' AutoModel... reads
    vocab.txt  tokenizer.json  tokenizer_config.json      what its AutoTokenizer reads
    README.md  cloze.json                                 the model card; the same facts for our server

Only safetensors are read, and no code of a folder is ever run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training import card as cards
from training import exchange_bert as theirs
from training.batches import TokenBatch
from training.card import Card
from training.models.bert import BertForPretraining
from training.models.initialize import initialize
from training.tasks.classify import BertForClassification, ClassifyConfig

Model = BertForPretraining | BertForClassification

WEIGHTS, CONFIG, README, FACTS = "model.safetensors", "config.json", "README.md", "cloze.json"
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TOLERANCE = 1e-5  # of logits, read back against original


def export_folder(model: Model, folder: Path, *, vocabulary: Mapping[str, bytes], card: Card) -> None:
    """Write `model` as a Hugging Face folder; `vocabulary` holds the contents of TOKENIZER_FILES.

    The folder is read again at the end; unless the logits of a probe then equal the model's to TOLERANCE,
    nothing is left of it and RuntimeError is raised. Raises ValueError if vocabulary, labels and model do not
    belong together.
    """
    _check_parts(model, vocabulary, card)
    tokenizer = json.loads(vocabulary["tokenizer_config.json"]) | {
        "model_max_length": model.config.max_seq_len
    }
    shape = _shape(model)
    files = {name: vocabulary[name] for name in TOKENIZER_FILES} | {
        "tokenizer_config.json": _json(tokenizer),
        CONFIG: _json(_their_config(model, card)),
        FACTS: _json(cards.facts(card, family="bert", shape=shape)),
        README: cards.readme(card, family="BERT", shape=shape).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    save_file(_their_weights(model), str(folder / WEIGHTS), metadata={"format": "pt"})
    difference = _difference(model, import_folder(folder))
    if not difference <= TOLERANCE:  # refuses what is not a number too
        for name in (*files, WEIGHTS):
            (folder / name).unlink()
        raise RuntimeError(
            f"{card.name} read back from {folder} differs in its logits by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}; nothing was exported: look for weights that are not finite"
        )


def import_folder(folder: Path) -> Model:
    """The model in a Hugging Face folder, in float32 on the CPU.

    A checkpoint without pooler and sentence head (`BertForMaskedLM`) gets fresh ones. Raises ValueError, one
    sentence, for everything that is not a BERT of ours.
    """
    facts = _read_config(folder)
    config = theirs.our_config(facts, str(folder / CONFIG))
    architecture = (facts.get("architectures") or ["none"])[0]
    model: Model
    if architecture == theirs.CLASSIFICATION:
        dropout = facts.get("classifier_dropout")
        task = ClassifyConfig(
            num_labels=len(facts.get("id2label", ("0", "1"))),  # transformers leaves out its default
            max_seq_len=config.max_seq_len,
            dropout=config.dropout if dropout is None else dropout,
        )
        model = BertForClassification(config, task, seed=None)
    elif architecture in theirs.PRETRAINING:
        model = BertForPretraining(config, seed=None)
    else:
        known = ", ".join((*theirs.PRETRAINING, theirs.CLASSIFICATION))
        raise ValueError(f"{folder / CONFIG} has architecture {architecture}; read are {known}")
    weights = _read_weights(folder)
    if architecture == "BertForMaskedLM" and "bert.pooler.dense.weight" not in weights:
        for name in theirs.SENTENCE_MODULES:
            initialize(model.get_submodule(name), seed=0, std=config.initializer_std)
    _fill(model, weights, folder)
    return model


def _their_weights(model: Model) -> dict[str, Tensor]:
    weights = {}
    for ours, tensor in model.state_dict().items():
        names = theirs.their_names(ours)
        for name, part in zip(names, tensor.chunk(len(names)), strict=True):
            weights[name] = part.detach().cpu().contiguous()
    return weights


def _fill(model: nn.Module, given: Mapping[str, Tensor], folder: Path) -> None:
    """Put `given` into all weights that are still on the meta device: each must be there, in its shape, and
    no other.
    """
    path, rest, weights = folder / WEIGHTS, dict(given), {}
    for ours, own in model.state_dict().items():
        if not own.is_meta:
            weights[ours] = own
            continue
        names = theirs.their_names(ours)
        shape = (own.shape[0] // len(names), *own.shape[1:])
        for name in names:
            if name not in rest:
                raise ValueError(
                    f"{path} has no tensor {name}, {shape}; it is not the BERT its config.json describes"
                )
            if tuple(rest[name].shape) != shape:
                raise ValueError(
                    f"tensor {name} is {tuple(rest[name].shape)} in {path} and {shape} by its config.json; "
                    "put the config.json of these weights beside them"
                )
        weights[ours] = torch.cat([rest.pop(name) for name in names])
    if rest:
        name = min(rest)
        raise ValueError(
            f"{path} has a tensor {name}, {tuple(rest[name].shape)}, that the BERT its config.json "
            "describes has not; put the config.json of these weights beside them"
        )
    model.load_state_dict(weights, assign=True)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise ValueError(
            f"{folder} has no {CONFIG}; give a folder written by `cloze` or by transformers' save_pretrained"
        )
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy or export it again") from None
    return facts


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors in float32, copied out of the file, without those that only repeat another."""
    path = folder / WEIGHTS
    if not path.exists():
        pickles = sorted(file for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{pickles[0]} is a pickle, which can run code when it is read; save the model again with a "
                f"transformers that writes {WEIGHTS}"
            )
        raise ValueError(f"{folder} has no {WEIGHTS}; save the model as one safetensors file")
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); copy or export it again"
        ) from None
    tensors = {theirs.modern_name(name): tensor for name, tensor in tensors.items()}
    tensors.pop("bert.embeddings.position_ids", None)  # 0, 1, 2, ... in older checkpoints
    for copy, original in theirs.COPIES.items():
        if copy in tensors and not torch.equal(tensors.pop(copy), tensors[original]):
            raise ValueError(f"tensor {copy} in {path} differs from {original}; in BERT they are one")
    return tensors


def _their_config(model: Model, card: Card) -> dict[str, Any]:
    config = theirs.their_config(model.config)
    if isinstance(model, BertForPretraining):
        return config | {"architectures": [theirs.PRETRAINING[0]]}
    labels = list(card.labels or ())
    return config | {
        "architectures": [theirs.CLASSIFICATION],
        "classifier_dropout": model.task.dropout,
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _shape(model: Model) -> dict[str, int]:
    names = ("num_layers", "hidden_size", "num_heads", "feed_forward_size", "vocab_size", "max_seq_len")
    shape = {name: getattr(model.config, name) for name in names}
    return shape | {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def _check_parts(model: Model, vocabulary: Mapping[str, bytes], card: Card) -> None:
    missing = [name for name in TOKENIZER_FILES if name not in vocabulary]
    if missing:
        raise ValueError(
            f"the vocabulary has no {missing[0]}; an exported folder needs {', '.join(TOKENIZER_FILES)}"
        )
    entries = vocabulary["vocab.txt"].removesuffix(b"\n").count(b"\n") + 1
    if entries != model.config.vocab_size:
        raise ValueError(
            f"the vocabulary has {entries} entries and the model {model.config.vocab_size}; "
            "give the one it was trained with"
        )
    outputs = model.task.num_labels if isinstance(model, BertForClassification) else None
    names = None if card.labels is None else len(set(card.labels))
    if outputs != names:
        raise ValueError(
            f"the card names {names} different labels and the model has {outputs}; name each output once"
        )


def _difference(model: Model, other: Model) -> float:
    """The largest difference of two models' logits on sequences of several lengths and both segments."""
    noise = torch.Generator().manual_seed(0)
    lengths = sorted({min(length, model.config.max_seq_len) for length in (3, 17, 70)})
    rows = [torch.randint(model.config.vocab_size, (length,), generator=noise).numpy() for length in lengths]
    segment_b = [length // 2 for length in lengths] if model.config.num_segments > 1 else None
    batch = TokenBatch.from_sequences(rows, segment_b)
    device = next(model.parameters()).device
    outputs = zip(_logits(model, batch.to(device)), _logits(other, batch), strict=True)
    return float(torch.stack([(mine.cpu() - back).abs().max() for mine, back in outputs]).max())


@torch.no_grad()
def _logits(model: Model, batch: TokenBatch) -> list[Tensor]:
    was_training = model.training
    model.eval()
    try:
        if isinstance(model, BertForClassification):
            return [model.logits(batch)]
        everywhere = torch.arange(len(batch.tokens_T), device=batch.tokens_T.device)
        return [model.masked_lm_logits(batch, everywhere), model.next_sentence_logits(batch)]
    finally:
        model.train(was_training)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
