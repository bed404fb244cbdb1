"""Identifiers of people in text: where they stand, and of which kind each is."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

# --- Checksums -------------------------------------------------------------------------------------------
# Checksums and other rules of what identifies people: each tells whether a string can be such a number or address.


#: ISO 13616: how long an IBAN of each country is (the larger part of the registry).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip

#: First digits of payment cards (from, to) with the lengths of their numbers.
ISSUERS = (
    (4, 4, (13, 16, 19)), (51, 55, (16,)), (2221, 2720, (16,)), (34, 34, (15,)), (37, 37, (15,)),
    (6011, 6011, (16, 19)), (644, 659, (16, 19)), (3528, 3589, (16, 19)), (300, 305, (14, 16)), (36, 36, (14,)),
    (38, 39, (14, 16)), (62, 62, (16, 17, 18, 19)), (2200, 2204, (16,)), (81, 82, (16,)),
)  # fmt: skip

#: GB/T 2260: the two digits of China's provinces.
_PROVINCES = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83"
)
PROVINCES = frozenset(_PROVINCES.split())

#: Nobody's address: names that are reserved for examples, and files whose names look like addresses.
_NO_DOMAIN = re.compile(
    r"(?:@|\.)(?:example\.(?:com|org|net)|example|invalid|test|localhost)$|\.(?:png|jpe?g|gif|svg|webp|css|js|mp4)$",
    re.IGNORECASE,
)

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_FISCAL_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_VERHOEFF_D = ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
               "5987604321", "6598710432", "7659821043", "8765932104", "9876543210")  # fmt: skip
_VERHOEFF_P = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870",
               "4286573901", "2793806415", "7046913258")  # fmt: skip


def alphanumeric(value: str) -> str:
    """Its letters and digits, upper case."""
    return "".join(sign for sign in value if sign.isalnum()).upper()


def luhn(value: str) -> bool:
    digits = [int(digit) for digit in reversed(alphanumeric(value))]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def payment_card(value: str) -> bool:
    """Luhn's sum, and a length that one of the issuers gives to numbers with such first digits."""
    digits = alphanumeric(value)
    known = any(
        first <= int(digits[: len(str(first))]) <= last and len(digits) in lengths
        for first, last, lengths in ISSUERS
    )
    return known and len(set(digits)) > 1 and luhn(digits)


def iban(value: str) -> bool:
    text = alphanumeric(value)
    if len(text) != IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def chinese_resident(value: str) -> bool:
    """GB 11643: province, day of birth, ISO 7064 mod 11-2."""
    text = alphanumeric(value)
    if text[:2] not in PROVINCES or not is_date(text[6:10], text[10:12], text[12:14]):
        return False
    total = sum(int(digit) * pow(2, 17 - at, 11) for at, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17]


def is_date(year: str, month: str, day: str) -> bool:
    """A day on which someone who lives may be born."""
    try:
        return 1900 <= date(int(year), int(month), int(day)).year <= 2100
    except ValueError:
        return False


def us_social_security(value: str) -> bool:
    area, group, serial = alphanumeric(value)[:3], alphanumeric(value)[3:5], alphanumeric(value)[5:]
    fake = {"078051120", "219099999", "123456789"}
    return (
        area not in ("000", "666")
        and area < "900"
        and group != "00"
        and serial != "0000"
        and alphanumeric(value) not in fake
    )


def uk_national_insurance(value: str) -> bool:
    return alphanumeric(value)[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def nhs(value: str) -> bool:
    digits = [int(digit) for digit in alphanumeric(value)]
    check = -sum(digit * (10 - at) for at, digit in enumerate(digits[:9])) % 11
    return check == digits[9]


def french_social_security(value: str) -> bool:
    text = alphanumeric(value).replace("2A", "19").replace("2B", "18")
    return text.isdigit() and 97 - int(text[:13]) % 97 == int(text[13:])


def german_tax(value: str) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits one stands two or three times."""
    digits = [int(digit) for digit in alphanumeric(value)]
    rest = 10
    for digit in digits[:10]:
        rest = ((rest + digit) % 10 or 10) * 2 % 11
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    return digits[0] != 0 and counts[0] in (2, 3) and (11 - rest) % 10 == digits[10]


def spanish_identity(value: str) -> bool:
    text = alphanumeric(value)
    number = str("XYZ".index(text[0])) + text[1:8] if text[0] in "XYZ" else text[:8]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def italian_fiscal(value: str) -> bool:
    text = alphanumeric(value)
    numbers = [int(sign, 36) - 10 if sign.isalpha() else int(sign) for sign in text]
    total = sum(_FISCAL_ODD[number] for number in numbers[:15:2]) + sum(numbers[1:15:2])
    return chr(65 + total % 26) == text[15]


def brazilian_person(value: str) -> bool:
    digits = [int(digit) for digit in alphanumeric(value)]
    if len(set(digits)) == 1:
        return False
    checks = [
        sum(digit * (n + 1 - at) for at, digit in enumerate(digits[:n])) * 10 % 11 % 10 for n in (9, 10)
    ]
    return checks == digits[9:]


def aadhaar(value: str) -> bool:
    """Verhoeff's sum."""
    rest = 0
    for at, digit in enumerate(reversed(alphanumeric(value))):
        rest = int(_VERHOEFF_D[rest][int(_VERHOEFF_P[at % 8][int(digit)])])
    return rest == 0 and alphanumeric(value)[0] not in "01"


def snils(value: str) -> bool:
    digits = [int(digit) for digit in alphanumeric(value)]
    total = sum(digit * (9 - at) for at, digit in enumerate(digits[:9])) % 101 % 100
    return any(digits[:9]) and total == digits[9] * 10 + digits[10]


def korean_resident(value: str) -> bool:
    text = alphanumeric(value)
    century = "19" if text[6] in "1256" else "20"
    return is_date(century + text[:2], text[2:4], text[4:6])


def japanese_number(value: str) -> bool:
    digits = [int(digit) for digit in alphanumeric(value)]
    rest = sum(digit * (at + 2 if at < 6 else at - 4) for at, digit in enumerate(reversed(digits[:11]))) % 11
    return (11 - rest if rest > 1 else 0) == digits[11]


def singapore_identity(value: str) -> bool:
    text = alphanumeric(value)
    total = sum(int(digit) * weight for digit, weight in zip(text[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += 4 if text[0] in "TG" else 0
    return ("JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK")[total % 11] == text[8]


def hong_kong_identity(value: str) -> bool:
    text = alphanumeric(value).rjust(9)
    numbers = [36 if sign == " " else int(sign, 36) for sign in text]
    return sum(number * (9 - at) for at, number in enumerate(numbers)) % 11 == 0


def taiwanese_identity(value: str) -> bool:
    text = alphanumeric(value)
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    numbers = [first // 10, first % 10, *(int(digit) for digit in text[1:])]
    return (
        sum(
            number * weight for number, weight in zip(numbers, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)
        )
        % 10
        == 0
    )


def bitcoin(value: str) -> bool:
    """Base58Check or bech32, whichever the address is written in."""
    return _bech32(value.lower()) if value[:3].lower() == "bc1" else base58(value, (0, 5))


def base58(value: str, versions: tuple[int, ...]) -> bool:
    number = 0
    for sign in value:
        at = _BASE58.find(sign)
        if at < 0:
            return False
        number = number * 58 + at
    if number >= 1 << 200:
        return False
    content = number.to_bytes(25, "big")
    digest = hashlib.sha256(hashlib.sha256(content[:21]).digest()).digest()
    return content[0] in versions and digest[:4] == content[21:]


def _bech32(value: str) -> bool:
    """BIP 173 and 350."""
    numbers = [_BECH32.find(sign) for sign in value[3:]]
    if -1 in numbers:
        return False
    rest = 1
    for number in [3, 3, 0, 2, 3, *numbers]:
        top = rest >> 25
        rest = (rest & 0x1FFFFFF) << 5 ^ number
        for at, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            rest ^= generator if top >> at & 1 else 0
    return rest in (1, 0x2BC830A3)


def public_address(value: str) -> bool:
    """An IP address that is somebody's: no private, local or documentation range."""
    try:
        return ipaddress.ip_address(value.strip("[]")).is_global
    except ValueError:
        return False


def coordinates(value: str) -> bool:
    latitude, longitude = (float(part) for part in value.replace("，", ",").split(","))
    return abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)


def email(value: str) -> bool:
    return not _NO_DOMAIN.search(value) and ".." not in value


def international_phone(value: str) -> bool:
    digits = alphanumeric(value)
    return 8 <= len(digits) <= 15 and digits[0] != "0" and len(set(digits)) > 2


def public_address_not_version(value: str) -> bool:
    parts = [int(part) for part in value.split(".")]
    # Four small numbers are a version or a chapter far oftener than an address.
    return max(parts) >= 32 and public_address(value)


# --- Kinds -----------------------------------------------------------------------------------------------
# The kinds of identifiers, in the order of who goes first: what has a checksum before what only looks alike.


_VERSION = re.compile(
    r"(?:\bv|version|release|build|firmware|chapter|section|版本|固件)\W{0,3}$", re.IGNORECASE
)


@dataclass(frozen=True)
class IdentifierKind:
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

KINDS: tuple[IdentifierKind, ...] = (
    IdentifierKind(
        "email",
        re.compile(
            r"(?<![A-Za-z0-9._%+@\-])[A-Za-z0-9_%+][A-Za-z0-9._%+\-]{0,63}"
            r"@(?:[A-Za-z0-9\-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
        0.95,
        email,
        shown=0,
    ),
    IdentifierKind(
        "iban",
        _form(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"),
        0.99,
        iban,
        sensitive="high",
        shown=4,
    ),
    IdentifierKind(
        "bitcoin_wallet",
        _form(r"[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[a-z0-9]{11,71}"),
        0.99,
        bitcoin,
        shown=4,
    ),
    IdentifierKind(
        "tron_wallet",
        _form(r"T[1-9A-HJ-NP-Za-km-z]{33}"),
        0.99,
        lambda value: base58(value, (0x41,)),
        shown=4,
    ),
    IdentifierKind("ethereum_wallet", _form(r"0x[0-9a-fA-F]{40}"), 0.9, shown=4),
    IdentifierKind(
        "chinese_resident_id", _form(r"[1-8]\d{16}[\dXx]"), 0.98, chinese_resident, sensitive="high"
    ),
    IdentifierKind(
        "payment_card",
        _form(r"\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|3\d{3}([ -]?)\d{6}\2\d{4,5}"),
        0.9,
        payment_card,
        sensitive="high",
        shown=4,
    ),
    IdentifierKind(
        "french_social_security",
        _form(
            r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[23]\d|4[0-2]) ?(?:\d{2}|2[AB])"
            r" ?\d{3} ?\d{3} ?\d{2}"
        ),
        0.95,
        french_social_security,
        sensitive="high",
    ),
    IdentifierKind(
        "italian_fiscal_code",
        _form(r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]"),
        0.98,
        italian_fiscal,
        sensitive="high",
    ),
    IdentifierKind(
        "mexican_curp",
        _form(r"[A-Z][AEIOUX][A-Z]{2}\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[HMX][A-Z]{5}[A-Z0-9]\d"),
        0.95,
        sensitive="high",
    ),
    IdentifierKind(
        "us_social_security",
        _form(r"\d{3}-\d{2}-\d{4}"),
        0.85,
        us_social_security,
        sensitive="high",
    ),
    IdentifierKind(
        "us_social_security",
        _form(r"\d{3} ?\d{2} ?\d{4}"),
        0.9,
        us_social_security,
        _words(r"\bssn\b|social security"),
        sensitive="high",
    ),
    IdentifierKind(
        "brazilian_cpf",
        _form(r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
        0.97,
        brazilian_person,
        sensitive="high",
    ),
    IdentifierKind(
        "brazilian_cpf",
        _form(r"\d{11}"),
        0.95,
        brazilian_person,
        _words(r"\bcpf\b"),
        sensitive="high",
    ),
    IdentifierKind("russian_snils", _form(r"\d{3}-\d{3}-\d{3}[ -]\d{2}"), 0.95, snils, sensitive="high"),
    IdentifierKind(
        "korean_resident_number",
        _form(r"\d{6}-[1-8]\d{6}"),
        0.85,
        korean_resident,
        sensitive="high",
    ),
    IdentifierKind(
        "hong_kong_id",
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}\d{6}\([0-9A]\)"),
        0.95,
        hong_kong_identity,
        sensitive="high",
    ),
    IdentifierKind("singapore_nric", _form(r"[STFG]\d{7}[A-Z]"), 0.8, singapore_identity, sensitive="high"),
    IdentifierKind(
        "taiwanese_id",
        _form(r"[A-Z][1289]\d{8}"),
        0.9,
        taiwanese_identity,
        _words(r"身分證|身份证|national id|\bid (?:no|number|card)"),
        sensitive="high",
    ),
    IdentifierKind("indian_pan", _form(r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]"), 0.8, sensitive="high"),
    IdentifierKind("indian_aadhaar", _form(r"[2-9]\d{3} \d{4} \d{4}"), 0.85, aadhaar, sensitive="high"),
    IdentifierKind(
        "indian_aadhaar",
        _form(r"[2-9]\d{11}"),
        0.95,
        aadhaar,
        _words(r"aadhaa?r|uidai"),
        sensitive="high",
    ),
    IdentifierKind(
        "uk_national_insurance",
        _form(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
        0.85,
        uk_national_insurance,
        sensitive="high",
    ),
    IdentifierKind(
        "uk_nhs_number",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{4}"),
        0.95,
        nhs,
        _words(r"\bnhs\b"),
        sensitive="high",
    ),
    IdentifierKind(
        "german_tax_id",
        _form(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"),
        0.95,
        german_tax,
        _words(r"steuer|\btin\b|idnr|tax id"),
        sensitive="high",
    ),
    IdentifierKind(
        "spanish_id",
        _form(r"(?:\d{8}|[XYZ]\d{7})-?[A-Z]"),
        0.95,
        spanish_identity,
        _words(r"\b(?:dni|nie|nif)\b|identidad"),
        sensitive="high",
    ),
    IdentifierKind(
        "japanese_my_number",
        _form(r"\d{4}[ -]?\d{4}[ -]?\d{4}"),
        0.95,
        japanese_number,
        _words(r"マイナンバー|個人番号|my ?number"),
        sensitive="high",
    ),
    IdentifierKind(
        "canadian_sin",
        _form(r"\d{3}[ -]?\d{3}[ -]?\d{3}"),
        0.95,
        luhn,
        _words(r"\bsin\b|social insurance|\bnas\b"),
        sensitive="high",
    ),
    IdentifierKind(
        "passport",
        _form(r"(?=[A-Z0-9]{0,8}\d{4})[A-Z]{0,2}\d{5,9}"),
        0.85,
        None,
        _words(r"passport|护照|護照|reisepass|passeport|pasaporte"),
        sensitive="high",
    ),
    IdentifierKind(
        "phone",
        re.compile(r"(?<![A-Za-z0-9+])\+[1-9](?:[ ().\-]{0,2}\d){7,14}(?![A-Za-z0-9])"),
        0.9,
        international_phone,
    ),
    IdentifierKind("phone", _form(r"(?:86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}"), 0.75),
    IdentifierKind(
        "phone",
        re.compile(
            r"(?<![A-Za-z0-9.\-])(?:1[ .\-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([ .\-]))"
            r"[2-9]\d{2}(?(1)\1|[ .\-])\d{4}(?![A-Za-z0-9\-])"
        ),
        0.75,
    ),
    IdentifierKind(
        "phone",
        re.compile(
            r"(?<![A-Za-z0-9.\-])(?:\(?0\d{1,4}\)?|00[1-9]\d{0,2}|[2-9]\d{2})"
            r"(?:[ .\-/]?\d){5,10}(?![A-Za-z0-9])"
        ),
        0.7,
        None,
        _PHONE_WORDS,
    ),
    IdentifierKind(
        "ip_address",
        re.compile(r"(?<![A-Za-z0-9.])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9]|\.\d)"),
        0.7,
        public_address_not_version,
        unless=_VERSION,
        sensitive="low",
        shown=0,
    ),
    IdentifierKind(
        "ip_address",
        re.compile(r"(?<![A-Za-z0-9:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9:])"),
        0.8,
        public_address,
        sensitive="low",
        shown=0,
    ),
    IdentifierKind(
        "mac_address", _form(r"[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5}"), 0.8, sensitive="low", shown=0
    ),
    IdentifierKind(
        "coordinates",
        re.compile(r"(?<![\d.,])-?\d{1,2}\.\d{4,12}, ?-?\d{1,3}\.\d{4,12}(?![\d.])"),
        0.8,
        coordinates,
        shown=0,
    ),
    IdentifierKind(
        "coordinates",
        re.compile(r"\d{1,3}° ?\d{1,2}['′] ?(?:\d{1,2}(?:\.\d{1,6})?[\"″] ?)?[NSEW](?![A-Za-z])"),
        0.8,
        shown=0,
    ),
    IdentifierKind(
        "date_of_birth",
        _form(r"\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"),
        0.75,
        None,
        _words(r"born|birth|\bd\.?o\.?b\b|出生|生日"),
        shown=0,
    ),
    IdentifierKind(
        "chinese_number_plate",
        re.compile(
            r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
            r"[A-HJ-NP-Z]·?[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])"
        ),
        0.75,
        sensitive="low",
    ),
)


# --- Search ----------------------------------------------------------------------------------------------


#: How far before and behind a number the word may stand that says what it is.
BEFORE, BEHIND = 40, 15


@dataclass(frozen=True)
class IdentifierMatch:
    """One identifier: its place in the text that was searched."""

    kind: IdentifierKind
    span: tuple[int, int]
    value: str


def find_identifiers(text: str) -> list[IdentifierMatch]:
    """All identifiers, in order, none overlapping another: earlier kinds go first. Linear in the text's length."""
    taken = bytearray(len(text))
    found = []
    for kind in KINDS:
        for each in _of_kind(kind, text):
            first, last = each.span
            if not any(taken[first:last]):
                taken[first:last] = b"\x01" * (last - first)
                found.append(each)
    return sorted(found, key=lambda each: each.span)


def _of_kind(kind: IdentifierKind, text: str) -> Iterator[IdentifierMatch]:
    for match in kind.pattern.finditer(text):
        first, last = match.span()
        before = text[max(0, first - BEFORE) : first]
        if kind.unless and kind.unless.search(before):
            continue
        if kind.context and not (
            kind.context.search(before) or kind.context.search(text[last : last + BEHIND])
        ):
            continue
        if kind.check is None or kind.check(match.group()):
            yield IdentifierMatch(kind, match.span(), match.group())
