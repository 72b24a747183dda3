"""The tokenizer of a released model -> a vocabulary that texts are encoded with, as if we had trained it.

    WordPiece    BERT's, SpanBERT's, multilingual     tokenizer.json, or vocab.txt alone (the oldest releases)
    byte BPE     RoBERTa's, GPT-2's, BART's           tokenizer.json
    Unigram      ALBERT's, XLNet's                    tokenizer.json

The step reads no corpus. Its tokenizer.json is the released one, so that what is exported later (how blanks before <mask>
are read, say) goes on as it was.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import byte_bpe_files
from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.released_unigram import ReleasedUnigramEncoder, unigram_encoder
from corpus.wordpiece.encode import Encoder as WordPieceEncoder
from corpus.wordpiece.files import (
    CONFIG_FILE,
    MAX_SEQ_LEN,
    MAX_WORD_CHARACTERS,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    library_tokenizer,
    read_lowercase,
    read_vocabulary,
    vocabulary_files,
)

if TYPE_CHECKING:
    from infra.artifacts import Counts
    from infra.output import Output


@dataclass(frozen=True, kw_only=True)
class ImportedVocabulary:
    """The tokenizer of the Hugging Face folder `folder`. Where it lies names no result; `sha256`, of the file that is read,
    does (found, if it is not given).
    """

    folder: str = field(default="", compare=False)
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.folder and not self.sha256:
            raise ValueError("folder is empty; name the folder of a released model on this machine")
        if not self.sha256:
            object.__setattr__(self, "sha256", _content(Path(self.folder)))


def import_vocabulary(config: ImportedVocabulary, *, out: "Output") -> "Counts":
    """Write tokenizer.json, tokenizer_config.json and the files of its kind. Counts: vocab_size.

    Raises ValueError, one sentence, if the folder has changed or its tokenizer is none that cloze encodes.
    """
    folder = Path(config.folder)
    if not config.folder or _content(folder) != config.sha256:
        raise ValueError(
            f"{config.folder or 'the folder'} does not hold the tokenizer {config.sha256[:12]} any more; run the command "
            "again, or bring the files back"
        )
    encoder, files = read_released(folder)
    for name, content in files.items():
        out.write(name, content)
    return {"vocab_size": encoder.vocab_size}


def read_released(folder: Path) -> tuple[Encoder, dict[str, bytes]]:
    """The encoder of a folder's tokenizer, and the files of its vocabulary. Raises ValueError, one sentence."""
    path = folder / TOKENIZER_FILE
    if not path.exists():
        _content(folder)  # says in a sentence what is missing
        return _word_pieces(folder, None)
    described = _described(path)
    model = (described.get("model") or {}).get("type")
    try:
        _check_added(described)
        if model == "WordPiece":
            return _word_pieces(folder, described)
        if model == "BPE":
            return _byte_pairs(described)
        if model == "Unigram":
            return _unigram(described)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: {error}") from None
    raise ValueError(f"{path} has a {model} model; imported are WordPiece, byte-level BPE and Unigram")


def _word_pieces(folder: Path, described: dict[str, Any] | None) -> tuple[Encoder, dict[str, bytes]]:
    lowercase = read_lowercase(folder)
    if described is None:
        vocabulary = read_vocabulary(folder / VOCABULARY_FILE)
    else:
        model = described["model"]
        _check(
            {
                "pre_tokenizer": ((described.get("pre_tokenizer") or {}).get("type"), "BertPreTokenizer"),
                "unk_token": (model.get("unk_token"), "[UNK]"),
                "continuing_subword_prefix": (model.get("continuing_subword_prefix"), "##"),
                "max_input_chars_per_word": (model.get("max_input_chars_per_word"), MAX_WORD_CHARACTERS),
            },
            "BERT WordPiece",
        )
        vocabulary = _numbered(described)
    encoder = WordPieceEncoder(vocabulary, lowercase=lowercase)
    if described is None:
        described = json.loads(library_tokenizer(vocabulary, lowercase).to_str())
    return encoder, _files(vocabulary_files(vocabulary, lowercase), described)


def _byte_pairs(described: dict[str, Any]) -> tuple[Encoder, dict[str, bytes]]:
    model = described["model"]
    _check(
        {
            "continuing_subword_prefix": (model.get("continuing_subword_prefix") or "", ""),
            "end_of_word_suffix": (model.get("end_of_word_suffix") or "", ""),
        },
        "byte-level BPE",
    )
    _numbered(described)
    encoder = ByteBPEEncoder.from_description(described)
    return encoder, _files(byte_bpe_files(encoder.vocabulary, encoder.merges), described)


def _unigram(described: dict[str, Any]) -> tuple[Encoder, dict[str, bytes]]:
    encoder = unigram_encoder(described)
    if not isinstance(encoder, ReleasedUnigramEncoder):
        return encoder, _files(encoder.files(), described)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_SEQ_LEN} | encoder.named
    return encoder, _files({CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n"}, described)


def _files(made: Mapping[str, bytes], described: Mapping[str, Any]) -> dict[str, bytes]:
    """With the released tokenizer.json, which neither cuts nor pads."""
    whole = {**described, "truncation": None, "padding": None}
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    return {**made, TOKENIZER_FILE: text.encode() + b"\n"}


def _check(wanted: Mapping[str, tuple[Any, Any]], kind: str) -> None:
    for name, (found, needed) in wanted.items():
        if found != needed:
            raise ValueError(
                f"tokenizer.json has {name} {found!r}; cloze encodes {kind}, which has {needed!r}"
            )


def _check_added(described: Mapping[str, Any]) -> None:
    """Only special tokens may be cut out of a text before it is split: others would be words that no encoder knows."""
    for token in described.get("added_tokens") or ():
        if not token["special"]:
            raise ValueError(
                f"tokenizer.json has added {token['content']!r}, which is no special token; cloze encodes words by the model alone"
            )


def _numbered(described: Mapping[str, Any]) -> list[str]:
    """All entries in the order of their ids."""
    added = {token["content"]: token["id"] for token in described.get("added_tokens") or ()}
    ids = {**described["model"]["vocab"], **added}
    entries = sorted(ids, key=ids.__getitem__)
    for number, entry in enumerate(entries):
        if ids[entry] != number:
            raise ValueError(
                f"tokenizer.json gives {entry!r} the id {ids[entry]} where {number} is the next; ids have no gap and none is "
                "given twice"
            )
    return entries


def _described(path: Path) -> dict[str, Any]:
    try:
        described: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy or export it again") from None
    if not isinstance(described, dict):
        raise ValueError(
            f"{path} holds a {type(described).__name__}; a tokenizer.json is an object with names"
        )
    return described


def _content(folder: Path) -> str:
    """sha256 of what is read: tokenizer.json, or without one vocab.txt and the casing."""
    path = folder / TOKENIZER_FILE
    if path.exists():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not (folder / VOCABULARY_FILE).exists():
        raise ValueError(
            f"{folder} has neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}; save the tokenizer with transformers"
        )
    content = [(folder / VOCABULARY_FILE).read_bytes().hex(), read_lowercase(folder)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
