"""What is personal data is masked, and what only looks like it stays."""

import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.normalize import normalize
from corpus.pii import ALL, Card, Email, IpAddress, Mobile, Phone, Pii, ResidentId, mask_pii


def luhn(body: str) -> str:
    """The body with its check digit: Luhn's rule as ISO/IEC 7812-1 annex B words it."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return body + str(-total % 10)


def resident(body: str) -> str:
    """The body with its check character: the weights and table of GB 11643-1999."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


FOUND: list[tuple[Pii, str]] = [
    (Email(), "anna@host.org"),
    (Email(), "John.Doe+news@mail.example.com"),
    (Email(), "li_wei@mail.tsinghua.edu.cn"),
    (IpAddress(), "93.184.216.34"),
    (IpAddress(), "8.8.8.8"),
    (IpAddress(), "2606:2800:220:1:248:1893:25c8:1946"),
    (IpAddress(), "2001:4860:4860::8888"),
    (Phone(), "+49 30 901820"),
    (Phone(), "+1 (650) 253-0000"),
    (Phone(), "+442079460958"),
    (Phone(), "0044 20 7946 0958"),
    (Phone(), "+86 138 1234 5678"),
    (Card(), "4111 1111 1111 1111"),
    (Card(), "5500-0055-5555-5559"),
    (Card(), "378282246310005"),
    (Card(), "3782 822463 10005"),
    (Card(), luhn("621234567890123456")),
    (ResidentId(), "11010519491231002X"),
    (ResidentId(), resident("44030819900307123")),
    (Mobile(), "13812345678"),
    (Mobile(), "138 1234 5678"),
    (Mobile(), "199-0123-4567"),
]

LOOK_ALIKES = [
    "numpy==1.26.4.1 needs Python 3.11.7",
    "version 3.10.2.11 of the driver, v93.184.216.34",
    "see section 12.34.56.78 and RFC 1.2.3.4",
    "pip install package-10.20.30.40.tar.gz",
    "listens on 192.168.1.17, 10.0.0.1, 127.0.0.1 and 0.0.0.0",
    "documentation uses 192.0.2.7, 198.51.100.3, 203.0.113.9 and 2001:db8::1",
    "the network 93.184.216.0 and 300.400.500.600",
    "OID 1.3.6.1.4.1.311.21.20",
    "std::vector<int> a::b fe80::1 12:34:56 2023:10:11",
    "ISBN 978-3-16-148410-0, ISBN 9780306406157, ISBN 0-306-40615-2",
    "2023-10-11 12:30:45, 20231011123045, 11.10.2023, 1999-2004",
    "pi is 3.14159265358979323846 and e is 2.71828182845904523536",
    "4111 1111 1111 1112 has a wrong check digit",
    "0000 0000 0000 0000 and 4444444444444444444444",
    "a / b = 4111111111111111/3, x=5500005555555559",
    "110105194912310021 has a wrong check digit, 11010519491331002X a wrong month",
    "ACGTACGTTAGCCATAGGCATCGACTACGACTAGCATCAGC",
    "@property and self.a @ self.b, w@x, git@github.com:user/repo, foo@2x, a@b.T",
    "y = x@model.weight",
    "order 12345678901, serial 10012345678, 1381234567890",
    "the years 1914 1918 1939 1945 and 1 000 000 000 000 000",
    "2 + 12345678 = 12345680, C++11, +1 for this, +12 -34",
    "call 555-0199 or extension 4321",
    "ratio 16:9, chapter 3:16, 10.1000/4111111111111111",
    "timestamp 1697031045123, hash 4d5500005555555559ab",
    "巴黎公约第13条，共138个国家，2023年10月11日，第1234567890号文件。",
    "Matthew 5:3 +4.5 °C, +0.25, +3,000",
]


@pytest.mark.parametrize(("kind", "item"), FOUND, ids=[f"{k.name} {i}" for k, i in FOUND])
@pytest.mark.parametrize(
    "around", ["{}", "It is {}, he said.", "({})", "联系方式：{}。", "To: {}\nfrom here"]
)
def test_each_kind_is_found_by_its_own_type_and_by_all_together(kind: Pii, item: str, around: str) -> None:
    for kinds in ((kind,), ALL):
        counts: Counter[str] = Counter()
        masked = mask_pii(kinds, around.format(item), counts)
        assert sum(counts.values()) == 1
        if len(kinds) == 1:
            assert masked == around.format(kind.placeholder)
            assert counts == {f"masked_{kind.name}": 1}
        assert item not in masked


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_only_looks_like_it_stays(text: str) -> None:
    counts: Counter[str] = Counter()
    assert mask_pii(ALL, text, counts) == text
    assert not counts


def test_one_number_in_ten_passes_the_check_of_a_card() -> None:
    rng = random.Random(0)
    numbers = ["4" + "".join(rng.choices("0123456789", k=15)) for _ in range(2000)]
    masked = {n for n in numbers if mask_pii((Card(),), n, Counter()) != n}
    assert masked == {n for n in numbers if luhn(n[:-1]) == n}
    assert 120 < len(masked) < 280


def test_placeholders_are_the_users_and_may_be_nothing() -> None:
    text = "anna@host.org, 8.8.8.8"
    assert mask_pii((Email(placeholder="[mail]"), IpAddress(placeholder="")), text, Counter()) == "[mail], "


def test_real_prose_loses_almost_nothing(shared_data: Path) -> None:
    """Encyclopaedia, novels and laws print addresses now and then: fewer than one item in a megabyte is masked."""
    counts: Counter[str] = Counter()
    size = 0
    for name in (
        "pretrain_en/wikipedia-00",
        "pretrain_en/books-00",
        "pretrain_zh/laws-00",
        "pretrain_multi/ja",
    ):
        for text in (
            pq.read_table(shared_data / f"{name}.parquet", columns=["text"]).column("text").to_pylist()[::12]
        ):
            size += len(text.encode())
            mask_pii(ALL, normalize(text), counts)
    assert size > 4_000_000
    assert sum(counts.values()) <= size / 1e6
    assert counts["masked_card"] + counts["masked_resident_id"] == 0


def test_dna_is_left_alone(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "dna/splice_dev.parquet")
    assert all(mask_pii(ALL, t, Counter()) == t for t in table.column("sequence").to_pylist())
