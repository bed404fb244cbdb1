"""The kinds of identifiers, in the order of who goes first: what has a checksum before what only looks alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ml.auditing import checksums

_VERSION = re.compile(
    r"(?:\bv|version|release|build|firmware|chapter|section|版本|固件)\W{0,3}$", re.IGNORECASE
)


@dataclass(frozen=True)
class Kind:
    """``context``: words of which one has to be near, or None. ``unless``: words before it that speak against.

    ``confidence``: how often such a string is what it looks like, by judgement, not by measurement. ``checked``: by a
    checksum. ``shown``: how many of its last signs evidence may show.
    """

    name: str
    pattern: re.Pattern[str]
    confidence: float
    check: Callable[[str], bool] | None = None
    context: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    sensitive: Literal["low", "medium", "high"] = "medium"
    shown: int = 2

    @property
    def checked(self) -> bool:
        return self.check is not None


def _form(pattern: str) -> re.Pattern[str]:
    """Bounded by what is no Latin letter or digit: Chinese text has no spaces around numbers."""
    return re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])")


def _words(words: str) -> re.Pattern[str]:
    return re.compile(words, re.IGNORECASE)


_PHONE_WORDS = _words(
    r"\b(?:tel|phone|call|mobile|cell|text me|whats ?app|sms|fax|ring|dial|contact)|电话|手机|致电|拨打|微信|联系"
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "email",
        re.compile(
            r"(?<![A-Za-z0-9._%+@\-])[A-Za-z0-9_%+][A-Za-z0-9._%+\-]{0,63}"
            r"@(?:[A-Za-z0-9\-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
        0.95,
        checksums.email,
        shown=0,
    ),
    Kind(
        "iban",
        _form(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"),
        0.99,
        checksums.iban,
        sensitive="high",
        shown=4,
    ),
    Kind(
        "bitcoin_wallet",
        _form(r"[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[a-z0-9]{11,71}"),
        0.99,
        checksums.bitcoin,
        shown=4,
    ),
    Kind(
        "tron_wallet",
        _form(r"T[1-9A-HJ-NP-Za-km-z]{33}"),
        0.99,
        lambda value: checksums.base58(value, (0x41,)),
        shown=4,
    ),
    Kind("ethereum_wallet", _form(r"0x[0-9a-fA-F]{40}"), 0.9, shown=4),
    Kind(
        "chinese_resident_id", _form(r"[1-8]\d{16}[\dXx]"), 0.98, checksums.chinese_resident, sensitive="high"
    ),
    Kind(
        "payment_card",
        _form(r"\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|3\d{3}([ -]?)\d{6}\2\d{4,5}"),
        0.9,
        checksums.payment_card,
        sensitive="high",
        shown=4,
    ),
    Kind(
        "french_social_security",
        _form(
            r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[23]\d|4[0-2]) ?(?:\d{2}|2[AB])"
            r" ?\d{3} ?\d{3} ?\d{2}"
        ),
        0.95,
        checksums.french_social_security,
        sensitive="high",
    ),
    Kind(
        "italian_fiscal_code",
        _form(r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]"),
        0.98,
        checksums.italian_fiscal,
        sensitive="high",
    ),
    Kind(
        "mexican_curp",
        _form(r"[A-Z][AEIOUX][A-Z]{2}\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[HMX][A-Z]{5}[A-Z0-9]\d"),
        0.95,
        sensitive="high",
    ),
    Kind(
        "us_social_security",
        _form(r"\d{3}-\d{2}-\d{4}"),
        0.85,
        checksums.us_social_security,
        sensitive="high",
    ),
    Kind(
        "us_social_security",
        _form(r"\d{3} ?\d{2} ?\d{4}"),
        0.9,
        checksums.us_social_security,
        _words(r"\bssn\b|social security"),
        sensitive="high",
    ),
    Kind(
        "brazilian_cpf",
        _form(r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
        0.97,
        checksums.brazilian_person,
        sensitive="high",
    ),
    Kind(
        "brazilian_cpf",
        _form(r"\d{11}"),
        0.95,
        checksums.brazilian_person,
        _words(r"\bcpf\b"),
        sensitive="high",
    ),
    Kind("russian_snils", _form(r"\d{3}-\d{3}-\d{3}[ -]\d{2}"), 0.95, checksums.snils, sensitive="high"),
    Kind(
        "korean_resident_number",
        _form(r"\d{6}-[1-8]\d{6}"),
        0.85,
        checksums.korean_resident,
        sensitive="high",
    ),
    Kind(
        "hong_kong_id",
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}\d{6}\([0-9A]\)"),
        0.95,
        checksums.hong_kong_identity,
        sensitive="high",
    ),
    Kind("singapore_nric", _form(r"[STFG]\d{7}[A-Z]"), 0.8, checksums.singapore_identity, sensitive="high"),
    Kind(
        "taiwanese_id",
        _form(r"[A-Z][1289]\d{8}"),
        0.9,
        checksums.taiwanese_identity,
        _words(r"身分證|身份证|national id|\bid (?:no|number|card)"),
        sensitive="high",
    ),
    Kind("indian_pan", _form(r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]"), 0.8, sensitive="high"),
    Kind("indian_aadhaar", _form(r"[2-9]\d{3} \d{4} \d{4}"), 0.85, checksums.aadhaar, sensitive="high"),
    Kind(
        "indian_aadhaar",
        _form(r"[2-9]\d{11}"),
        0.95,
        checksums.aadhaar,
        _words(r"aadhaa?r|uidai"),
        sensitive="high",
    ),
    Kind(
        "uk_national_insurance",
        _form(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
        0.85,
        checksums.uk_national_insurance,
        sensitive="high",
    ),
    Kind(
        "uk_nhs_number",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{4}"),
        0.95,
        checksums.nhs,
        _words(r"\bnhs\b"),
        sensitive="high",
    ),
    Kind(
        "german_tax_id",
        _form(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"),
        0.95,
        checksums.german_tax,
        _words(r"steuer|\btin\b|idnr|tax id"),
        sensitive="high",
    ),
    Kind(
        "spanish_id",
        _form(r"(?:\d{8}|[XYZ]\d{7})-?[A-Z]"),
        0.95,
        checksums.spanish_identity,
        _words(r"\b(?:dni|nie|nif)\b|identidad"),
        sensitive="high",
    ),
    Kind(
        "japanese_my_number",
        _form(r"\d{4}[ -]?\d{4}[ -]?\d{4}"),
        0.95,
        checksums.japanese_number,
        _words(r"マイナンバー|個人番号|my ?number"),
        sensitive="high",
    ),
    Kind(
        "canadian_sin",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{3}"),
        0.95,
        checksums.luhn,
        _words(r"\bsin\b|social insurance|\bnas\b"),
        sensitive="high",
    ),
    Kind(
        "passport",
        _form(r"(?=[A-Z0-9]{0,8}\d{4})[A-Z]{0,2}\d{5,9}"),
        0.85,
        None,
        _words(r"passport|护照|護照|reisepass|passeport|pasaporte"),
        sensitive="high",
    ),
    Kind(
        "phone",
        re.compile(r"(?<![A-Za-z0-9+])\+[1-9](?:[ ().\-]{0,2}\d){7,14}(?![A-Za-z0-9])"),
        0.9,
        checksums.international_phone,
    ),
    Kind("phone", _form(r"(?:86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}"), 0.75),
    Kind(
        "phone",
        re.compile(
            r"(?<![A-Za-z0-9.\-])(?:1[ .\-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([ .\-]))"
            r"[2-9]\d{2}(?(1)\1|[ .\-])\d{4}(?![A-Za-z0-9\-])"
        ),
        0.75,
    ),
    Kind(
        "phone",
        re.compile(
            r"(?<![A-Za-z0-9.\-])(?:\(?0\d{1,4}\)?|00[1-9]\d{0,2}|[2-9]\d{2})"
            r"(?:[ .\-/]?\d){5,10}(?![A-Za-z0-9])"
        ),
        0.7,
        None,
        _PHONE_WORDS,
    ),
    Kind(
        "ip_address",
        re.compile(r"(?<![A-Za-z0-9.])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9]|\.\d)"),
        0.7,
        checksums.public_address_not_version,
        unless=_VERSION,
        sensitive="low",
        shown=0,
    ),
    Kind(
        "ip_address",
        re.compile(r"(?<![A-Za-z0-9:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9:])"),
        0.8,
        checksums.public_address,
        sensitive="low",
        shown=0,
    ),
    Kind("mac_address", _form(r"[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5}"), 0.8, sensitive="low", shown=0),
    Kind(
        "coordinates",
        re.compile(r"(?<![\d.,])-?\d{1,2}\.\d{4,12}, ?-?\d{1,3}\.\d{4,12}(?![\d.])"),
        0.8,
        checksums.coordinates,
        shown=0,
    ),
    Kind(
        "coordinates",
        re.compile(r"\d{1,3}° ?\d{1,2}['′] ?(?:\d{1,2}(?:\.\d{1,6})?[\"″] ?)?[NSEW](?![A-Za-z])"),
        0.8,
        shown=0,
    ),
    Kind(
        "date_of_birth",
        _form(r"\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"),
        0.75,
        None,
        _words(r"born|birth|\bd\.?o\.?b\b|出生|生日"),
        shown=0,
    ),
    Kind(
        "chinese_number_plate",
        re.compile(
            r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
            r"[A-HJ-NP-Z]·?[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])"
        ),
        0.75,
        sensitive="low",
    ),
)
