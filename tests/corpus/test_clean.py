"""Broken text is repaired, clean text is left alone, and what is masked is counted by kind."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.clean import CleanConfig, clean_text, repair
from corpus.normalize import normalize
from corpus.pii import ALL, Email, Phone

SENTENCES = (
    "Der schöne Frühling kommt über Nacht.",
    "Il a déjà mangé à l’hôtel “Bélier” – voilà…",
    "Вчера мы ходили в театр.",
    "今天天气很好。",
    "Příliš žluťoučký kůň.",
)


MISREAD = [
    *((text, "latin-1") for text in SENTENCES),
    *((SENTENCES[k], "cp1252") for k in (0, 3)),
    *((SENTENCES[k], "cp1251") for k in (1, 2, 3)),
    *((SENTENCES[k], "macroman") for k in (0, 1, 3, 4)),
]


@pytest.mark.parametrize(("text", "table"), MISREAD)
def test_a_line_that_was_read_with_the_wrong_table_is_read_again(text: str, table: str) -> None:
    clean = "A clean line — with “quotes”."
    broken = text.encode().decode(table)
    assert broken != text
    counts: Counter[str] = Counter()
    assert repair(f"{clean}\n{broken}\n", counts) == f"{clean}\n{text}\n"
    assert counts == {"repaired_lines": 1}


@pytest.mark.parametrize(
    "text", [*SENTENCES, "", "plain", "naïve Ångström £5 ½ ©", "Ñandú «sí»", "the letter Ã, or Â."]
)
def test_clean_text_comes_back_unchanged_and_uncounted(text: str) -> None:
    counts: Counter[str] = Counter()
    assert repair(text, counts) is text
    assert not counts


def test_real_text_in_many_languages_is_not_changed(shared_data: Path) -> None:
    texts = (
        pq.read_table(shared_data / "parallel/tatoeba_112langs.parquet", columns=["tgt"])
        .column("tgt")
        .to_pylist()
    )
    changed = [t for t in texts[::5] if repair(t, Counter()) != t]
    assert len(texts[::5]) > 12_000
    assert changed == []


def test_without_options_cleaning_is_normalising() -> None:
    text = "Caf\u0065\u0301 \r\n\t anna@host.org schÃ¶n"
    counts: Counter[str] = Counter()
    assert clean_text(CleanConfig(), text, counts) == normalize(text)
    assert not counts


def test_masking_sees_the_normal_form_and_counts_each_kind() -> None:
    config = CleanConfig(repair_unicode=True, mask_pii=(Email(), Phone(placeholder="")))
    counts: Counter[str] = Counter()
    text = "FÃ¼r Anna:\u00a0anna\u200b@host.org, bob@host.org;\ttel +49\u00a030\u00a0901820!"
    assert clean_text(config, text, counts) == "Für Anna: <EMAIL>, <EMAIL>; tel !"
    assert counts == {"repaired_lines": 1, "masked_email": 2, "masked_phone": 1}


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=80))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    config = CleanConfig(mask_pii=ALL)
    once = clean_text(config, text, Counter())
    assert clean_text(config, once, Counter()) == once


def test_a_kind_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names a kind twice"):
        CleanConfig(mask_pii=(Email(), Email(placeholder="x")))
