"""Hugging Face folders <-> our models, gated on equal answers.

    config.json  model.safetensors               what transformers' AutoModel... reads
    tokenizer.json  tokenizer_config.json        what its AutoTokenizer reads, with vocab.txt, or vocab.json and merges.txt
    README.md  cloze.json                        the model card; the same facts for our server

Only safetensors are read, and no code of a folder is ever run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from training import card as cards
from training.card import Card
from training.exchange import (
    albert,
    albert_classifier,
    bart,
    bert,
    bert_classifier,
    gpt,
    gpt2,
    roberta,
    roberta_classifier,
    spanbert,
    xlnet,
)
from training.exchange.albert_classifier import AlbertClassifierConfig
from training.exchange.bert_classifier import BertClassifierConfig
from training.exchange.family import Exchanged, Model
from training.exchange.reading import (
    CONFIG,
    FACTS,
    README,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    WEIGHTS,
    as_json,
    read_config,
    read_weights,
)
from training.exchange.roberta_classifier import RobertaClassifierConfig
from training.models.albert import AlbertConfig
from training.models.bart import BartConfig
from training.models.bert import BertConfig
from training.models.gpt import GptConfig
from training.models.gpt2 import Gpt2Config
from training.models.roberta import RobertaConfig
from training.models.spanbert import SpanBertConfig
from training.models.xlnet import XLNetConfig
from training.tasks.classify import Classifier

FAMILIES: tuple[tuple[type, Exchanged], ...] = (
    # A network whose config is on the left is written by what is on the right; a folder is read by the first on the
    # right that has its model_type and architecture.
    (BertConfig, bert),
    (BertClassifierConfig, bert_classifier),
    (RobertaConfig, roberta),
    (RobertaClassifierConfig, roberta_classifier),
    (AlbertConfig, albert),
    (AlbertClassifierConfig, albert_classifier),
    (SpanBertConfig, spanbert),
    (GptConfig, gpt),
    (Gpt2Config, gpt2),
    (BartConfig, bart),
    (XLNetConfig, xlnet),
)
CLASSIFIERS: Mapping[type, Any] = {  # of an encoder's config: what its classifier is written as
    BertConfig: BertClassifierConfig,
    SpanBertConfig: BertClassifierConfig,
    RobertaConfig: RobertaClassifierConfig,
    AlbertConfig: AlbertClassifierConfig,
}
TOLERANCE = 1e-5  # of logits, read back against original
TOKEN_IDS = ("bos_token", "eos_token", "pad_token")  # which transformers looks for in config.json


def exportable(config: object) -> bool:
    """Whether transformers has a class for the networks of this config."""
    return any(type(config) is kind for kind, _ in FAMILIES)


def export_folder(model: Model, folder: Path, *, vocabulary: Mapping[str, bytes], card: Card) -> None:
    """Write `model` as a Hugging Face folder; `vocabulary` holds the contents of its TOKENIZER_FILES.

    The folder is read again at the end; unless the logits of a probe then equal the model's to TOLERANCE,
    nothing is left of it and RuntimeError is raised. Raises ValueError if vocabulary, labels and model do not
    belong together.
    """
    _check_parts(model, vocabulary, card)
    config = _config_of(model, card)
    family = _family_of_config(config)
    tokenizer = json.loads(vocabulary[TOKENIZER_CONFIG]) | {"model_max_length": model.config.max_seq_len}
    shape = _shape(model)
    files = {name: vocabulary[name] for name in TOKENIZER_FILES if name in vocabulary} | {
        TOKENIZER_CONFIG: as_json(tokenizer),
        CONFIG: as_json(_facts(family, config, vocabulary)),
        FACTS: as_json(cards.facts(card, family=family.MODEL_TYPE, shape=shape)),
        README: cards.readme(card, family=family.ARCHITECTURES[0].partition("For")[0], shape=shape).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        save_file(family.to_theirs(model), str(folder / WEIGHTS), metadata={"format": "pt"})
        difference = _difference(model, import_folder(folder), card)
        if not difference <= TOLERANCE:  # refuses what is not a number too
            raise RuntimeError(
                f"{card.name} read back from {folder} differs in its logits by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}; nothing was exported: look for weights that are not finite"
            )
    except BaseException:
        for name in (*files, WEIGHTS):
            (folder / name).unlink(missing_ok=True)
        raise


def import_folder(folder: Path, *, family: type | None = None) -> Model:
    """The model in a Hugging Face folder, in float32 on the CPU.

    `family` is a config's type where a folder can be read as several: SpanBertConfig makes a SpanBERT of a BERT. Heads
    that a checkpoint of a masked LM lacks (BERT's pooler and sentence head, SpanBERT's head for spans) are fresh. Raises
    ValueError, one sentence, for everything that is no network of ours.
    """
    facts = read_config(folder)
    exchanged = _family_of_facts(facts, str(folder / CONFIG), family)
    config = exchanged.our_config(facts, str(folder / CONFIG))
    tensors = read_weights(folder)
    try:
        weights = exchanged.from_theirs(tensors, config)
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    model = config.network(seed=None)
    model.load_state_dict(weights, assign=True)
    return model


def _family_of_facts(facts: Mapping[str, Any], source: str, kind: type | None) -> Exchanged:
    model_type = facts.get("model_type")
    asked = [family for config, family in FAMILIES if kind in (None, config)]
    of_type = [family for family in asked if model_type == family.MODEL_TYPE]
    if not of_type:
        known = ", ".join(dict.fromkeys(family.MODEL_TYPE for family in asked))
        raise ValueError(f"{source} has model_type {model_type!r}; read are {known}")
    architectures = facts.get("architectures")
    if not architectures:  # the compact BERTs of Turc et al. say none; their tensors tell
        return of_type[0]
    for family in of_type:
        if architectures[0] in family.ARCHITECTURES:
            return family
    known = ", ".join(dict.fromkeys(name for family in of_type for name in family.ARCHITECTURES))
    raise ValueError(f"{source} has architecture {architectures[0]}; read are {known}")


def _family_of_config(config: Any) -> Exchanged:
    for kind, family in FAMILIES:
        if type(config) is kind:
            return family
    known = ", ".join(kind.__name__ for kind, _ in FAMILIES)
    raise ValueError(f"a {type(config).__name__} has no counterpart in transformers; exported are {known}")


def _config_of(model: Model, card: Card) -> Any:
    if isinstance(model, Classifier):
        kind = CLASSIFIERS[type(model.config)]
        return kind(encoder=model.config, task=model.task, labels=tuple(card.labels or ()))
    return model.config


def _facts(family: Exchanged, config: Any, vocabulary: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of config.json. Raises ValueError if the model counts on other special tokens than the vocabulary's."""
    facts = family.their_config(config)
    for name, token_id in _token_ids(vocabulary).items():
        if facts.setdefault(name, token_id) != token_id:
            raise ValueError(
                f"the model's {name} is {facts[name]} and the vocabulary's {token_id}; "
                "give the vocabulary it was trained with"
            )
    return facts | {
        "model_type": family.MODEL_TYPE,
        "architectures": [family.ARCHITECTURES[0]],
        "dtype": "float32",
    }


def _token_ids(vocabulary: Mapping[str, bytes]) -> dict[str, int]:
    """pad_token_id and the like, of the special tokens that the vocabulary has."""
    ids = _ids(vocabulary)
    named = json.loads(vocabulary[TOKENIZER_CONFIG])
    return {f"{name}_id": ids[named[name]] for name in TOKEN_IDS if named.get(name) in ids}


def _ids(vocabulary: Mapping[str, bytes]) -> dict[str, int]:
    """The id of every entry, from tokenizer.json."""
    described = json.loads(vocabulary[TOKENIZER])
    entries = described["model"]["vocab"]
    if isinstance(entries, list):  # Unigram: pairs of entry and score
        entries = {piece: number for number, (piece, _) in enumerate(entries)}
    return {**entries, **{token["content"]: token["id"] for token in described["added_tokens"]}}


def _shape(model: Model) -> dict[str, int]:
    names = (
        "num_layers",
        "hidden_size",
        "embedding_size",
        "num_heads",
        "feed_forward_size",
        "vocab_size",
        "max_seq_len",
    )
    shape = {name: getattr(model.config, name) for name in names if hasattr(model.config, name)}
    return shape | {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def _check_parts(model: Model, vocabulary: Mapping[str, bytes], card: Card) -> None:
    for name in (TOKENIZER, TOKENIZER_CONFIG):
        if name not in vocabulary:
            raise ValueError(f"the vocabulary has no {name}; an exported folder needs it")
    entries = max(_ids(vocabulary).values()) + 1
    if entries != model.config.vocab_size:
        raise ValueError(
            f"the vocabulary has {entries} entries and the model {model.config.vocab_size}; "
            "give the one it was trained with"
        )
    outputs = model.task.num_labels if isinstance(model, Classifier) else None
    names = None if card.labels is None else len(set(card.labels))
    if outputs != names:
        raise ValueError(
            f"the card names {names} different labels and the model has {outputs}; name each output once"
        )


def _difference(model: Model, back: Model, card: Card) -> float:
    """The largest difference of a model's logits to those of what was read back."""
    again = _outputs(back, card)
    differences = [(logits - again[name]).abs().max() for name, logits in _outputs(model, card).items()]
    return float(torch.stack(differences).max())


@torch.no_grad()
def _outputs(model: Model, card: Card) -> dict[str, Tensor]:
    was_training = model.training
    model.eval()
    try:
        outputs = _family_of_config(_config_of(model, card)).outputs(model)
        return {name: logits.cpu() for name, logits in outputs.items()}
    finally:
        model.train(was_training)
