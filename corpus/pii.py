"""Personal data in text: what it looks like, and how to be sure that it is not something else.

A pattern finds candidates, and a check that a number of the kind must pass decides: a registered top-level domain, a
public address, a dialling plan (the `phonenumbers` library), a check digit. Precision before recall: version numbers,
ISBNs, dates, DNA and decimals stay; so do private and documentation addresses, local phone numbers without a country
code, and old resident ids, which have no check digit.

    Email        anna@host.org                     but not git@host.org:repo, a@b.T in code
    IpAddress    93.184.216.34, 2606:2800:220::1   but not 10.0.0.1, 192.0.2.7, 1.2.3.4, version 3.10.2.11
    Phone        +49 30 901820, 0044 20 7946 0958  international form only
    Card         4111 1111 1111 1111               issuer's prefix, length and Luhn's check digit
    ResidentId   11010519491231002X                Chinese: district, date, ISO 7064 check digit
    Mobile       138 1234 5678                     Chinese: prefix in service
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Email:
    """E-mail addresses."""

    name: ClassVar[str] = "email"
    placeholder: str = "<EMAIL>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every address replaced, how many)."""
        return _replace(text, _AT, _EMAIL, _is_email, self.placeholder)


@dataclass(frozen=True, kw_only=True)
class IpAddress:
    """Public IPv4 and IPv6 addresses."""

    name: ClassVar[str] = "ip_address"
    placeholder: str = "<IP>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every public address replaced, how many)."""
        text, four = _replace(text, _DOTTED, _IPV4, _is_ipv4, self.placeholder)
        text, six = _replace(text, _GROUPS, _IPV6, _is_ipv6, self.placeholder)
        return text, four + six


@dataclass(frozen=True, kw_only=True)
class Phone:
    """Phone numbers with a country code."""

    name: ClassVar[str] = "phone"
    placeholder: str = "<PHONE>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every number replaced, how many)."""
        text, plus = _replace(text, _PLUS, _PHONE, _is_phone, self.placeholder)
        text, zeros = _replace(text, _ZEROS, _PHONE_00, _is_phone, self.placeholder)
        return text, plus + zeros


@dataclass(frozen=True, kw_only=True)
class Card:
    """Payment card numbers."""

    name: ClassVar[str] = "card"
    placeholder: str = "<CARD>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every number replaced, how many)."""
        return _replace(text, _DIGITS, _CARD, _is_card, self.placeholder)


@dataclass(frozen=True, kw_only=True)
class ResidentId:
    """Resident identity numbers of the People's Republic of China, 18 digits."""

    name: ClassVar[str] = "resident_id"
    placeholder: str = "<ID>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every number replaced, how many)."""
        return _replace(text, _DIGITS, _RESIDENT, _is_resident, self.placeholder)


@dataclass(frozen=True, kw_only=True)
class Mobile:
    """Chinese mobile numbers without a country code, 11 digits."""

    name: ClassVar[str] = "mobile"
    placeholder: str = "<PHONE>"

    def mask(self, text: str) -> tuple[str, int]:
        """(the text with every number replaced, how many)."""
        return _replace(text, _DIGITS, _MOBILE, _is_mobile, self.placeholder)


Pii = Email | IpAddress | Phone | Card | ResidentId | Mobile
# An id holds digits that could be a card's, and a card's could be a phone's: the longest and best checked first.
ALL: tuple[Pii, ...] = (Email(), IpAddress(), ResidentId(), Card(), Phone(), Mobile())


def mask_pii(kinds: Iterable[Pii], text: str, counts: Counter[str]) -> str:
    """The text with every item replaced by its kind's placeholder; adds `masked_<kind>` to the counts."""
    order = [type(k) for k in ALL]
    for kind in sorted(kinds, key=lambda k: order.index(type(k))):
        text, found = kind.mask(text)
        if found:
            counts[f"masked_{kind.name}"] += found
    return text


def _replace(
    text: str,
    hint: re.Pattern[str],
    pattern: re.Pattern[str],
    check: Callable[[re.Match[str]], bool],
    placeholder: str,
) -> tuple[str, int]:
    """Replace the matches that pass the check; `hint` is a part of every match that is quick to look for."""
    if not hint.search(text):
        return text, 0
    found = 0

    def one(match: re.Match[str]) -> str:
        nonlocal found
        if not check(match):
            return match[0]
        found += 1
        return placeholder

    return pattern.sub(one, text), found


_AT = re.compile("@")
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
_GROUPS = re.compile(r"[23][0-9A-Fa-f]{3}:")
_PLUS = re.compile(r"\+[1-9]")
_ZEROS = re.compile(r"00[1-9][0-9]{0,2}[ \-]")
_DIGITS = re.compile(r"[0-9]{3}[ \-]?[0-9]{4}[ \-]?[0-9]{2}")

# Nothing that could make a number part of a longer one, of a decimal, a path, a version or an identifier.
_ALONE = r"(?<![0-9A-Za-z_.,/+\-=#@$%^&:])(?<![0-9] )"
_ENDS = r"(?![0-9A-Za-z_@]|[.,\-/ ][0-9])"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-/=@])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,6}"
    r"([A-Za-z]{2,12})(?![A-Za-z0-9_\-@(\[=]|\.[A-Za-z0-9]|:[A-Za-z0-9~/])"
)
_GENERIC = frozenset(
    [
        "com",
        "org",
        "net",
        "edu",
        "gov",
        "mil",
        "int",
        "info",
        "biz",
        "name",
        "pro",
        "aero",
        "asia",
        "cat",
        "coop",
        "jobs",
        "mobi",
        "museum",
        "tel",
        "travel",
        "app",
        "blog",
        "cloud",
        "dev",
        "email",
        "online",
        "page",
        "shop",
        "site",
        "store",
        "tech",
        "xyz",
        "test",
        "example",
        "invalid",
        "eu",
        "uk",
        "su",
    ]
)
_IPV4 = re.compile(
    r"(?<![0-9A-Za-z_.\-/=@~^])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_\-]|\.[0-9A-Za-z]|\*)"
)
_IPV4_CONTEXT = re.compile(
    r"(?:\b(?:ip|ipv4|address|addr|host|server|dns|ping|from|client|gateway)\b|地址)[^.\n]{0,12}$", re.I
)
_VERSION_CONTEXT = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|released|rel|build|firmware|driver|kernel|update|upgrade|patch|sp|api|sdk"
    r"|section|sections|sec|chapter|clause|article|figure|fig|table|rule|part|paragraph|appendix|oid)\b|§|版本|版|节|章|条)"
    r"[\s:.#(\[\"'=<>~]{0,6}$",
    re.I,
)
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z_:]|\.[0-9])"
)
_PHONE = re.compile(r"(?<![0-9A-Za-z_+*/=^)\-.])\+[1-9][0-9 ().\-]{6,20}[0-9](?![0-9A-Za-z_=*^/]|[.,][0-9])")
_PHONE_00 = re.compile(_ALONE + r"00[1-9][0-9]{0,2}[ \-][0-9 ()\-]{6,18}[0-9]" + _ENDS)
_CARD = re.compile(
    _ALONE
    + r"(?:[2-6][0-9]{12,18}|[2-6][0-9]{3}(?:([ \-])[0-9]{4})(?:\1[0-9]{4}){2}|3[47][0-9]{2}[ \-][0-9]{6}[ \-][0-9]{5})"
    + _ENDS
)
_RESIDENT = re.compile(r"(?<![0-9A-Za-z_.,/+\-=#@$%^&])[1-8][0-9]{16}[0-9Xx]" + _ENDS)
_MOBILE = re.compile(_ALONE.replace(":", "") + r"1[3-9][0-9](?:[0-9]{8}|([ \-])[0-9]{4}\1[0-9]{4})" + _ENDS)

_PROVINCES = frozenset(
    (
        *range(11, 16),
        *range(21, 24),
        *range(31, 38),
        *range(41, 47),
        *range(50, 55),
        *range(61, 66),
        71,
        81,
        82,
        83,
    )
)
_CARD_PREFIXES = (  # first digits from, to; lengths: Visa, Mastercard, American Express, Discover, JCB, UnionPay, Diners
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16,)),
    ("644", "659", (16,)),
    ("3528", "3589", (16,)),
    ("62", "62", (16, 17, 18, 19)),
    ("300", "305", (14,)),
    ("36", "36", (14,)),
)


def _is_email(match: re.Match[str]) -> bool:
    top = match[1].lower()
    local = match[0].partition("@")[0]
    return (top in _GENERIC or top in _countries()) and ".." not in match[0] and not local.endswith(".")


@cache
def _countries() -> frozenset[str]:
    from phonenumbers import (
        SUPPORTED_REGIONS,
    )  # the ISO 3166 codes, which are the top-level domains of countries

    return frozenset(r.lower() for r in SUPPORTED_REGIONS)


def _is_ipv4(match: re.Match[str]) -> bool:
    parts = match[0].split(".")
    if parts[3] == "0" or any((len(p) > 1 and p[0] == "0") or int(p) > 255 for p in parts):  # .0: a network
        return False
    before = match.string[max(0, match.start() - 24) : match.start()]
    if _VERSION_CONTEXT.search(before) or not ipaddress.IPv4Address(match[0]).is_global:
        return False
    # four single digits are a version or a section more often than an address
    plain = all(len(p) == 1 for p in parts) and len(set(parts)) > 1
    return not plain or _IPV4_CONTEXT.search(before) is not None


def _is_ipv6(match: re.Match[str]) -> bool:
    try:
        return ipaddress.IPv6Address(match[0]).is_global
    except ValueError:
        return False


def _is_phone(match: re.Match[str]) -> bool:
    import phonenumbers

    number = "+" + match[0].lstrip("+0") if match[0].startswith("00") else match[0]
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number)))
    except phonenumbers.NumberParseException:
        return False


def _is_mobile(match: re.Match[str]) -> bool:
    import phonenumbers

    number = phonenumbers.parse(match[0], "CN")
    return bool(phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE)


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub("[^0-9]", "", match[0])
    issued = any(
        first <= digits[: len(first)] <= last and len(digits) in sizes
        for first, last, sizes in _CARD_PREFIXES
    )
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return issued and len(set(digits)) > 1 and (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _is_resident(match: re.Match[str]) -> bool:
    number = match[0].upper()
    year, month, day = int(number[6:10]), int(number[10:12]), int(number[12:14])
    try:
        date(year, month, day)
    except ValueError:
        return False
    weighted = sum(int(d) << (17 - k) for k, d in enumerate(number[:17]))
    check = "10X98765432"[weighted % 11]
    return int(number[:2]) in _PROVINCES and 1850 <= year <= 2100 and number[17] == check
