"""Identifiers are found by form and checksum, and never shown whole; what only looks like one is left alone."""

from __future__ import annotations

import pytest

from ml.auditing.identifiers import KINDS, find_identifiers
from ml.detectors.base import Item, Words
from ml.detectors.personal_data import PersonalData, load
from tests.speed import LINEAR, growth

EXAMPLES = {
    "email": "write to jane.doe+x@mail.company.co.uk please",
    "iban": "DE89 3704 0044 0532 0130 00",
    "bitcoin_wallet": "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
    "tron_wallet": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "ethereum_wallet": "0x52908400098527886E0F7030069857D2E4169EE7",
    "chinese_resident_id": "身份证号11010519491231002X，请查收",
    "payment_card": "card 4111-1111-1111-1111",
    "french_social_security": "2 69 05 49 588 157 80",
    "italian_fiscal_code": "RSSMRA85T10A562S",
    "mexican_curp": "GOMC850312HDFRRL09",
    "us_social_security": "ssn is 219 09 9998",
    "brazilian_cpf": "529.982.247-25",
    "russian_snils": "112-233-445 95",
    "korean_resident_number": "900101-1234567",
    "hong_kong_id": "A123456(3)",
    "singapore_nric": "S1234567D",
    "taiwanese_id": "身分證 A123456789",
    "indian_pan": "AAAPA1234A",
    "indian_aadhaar": "2341 2341 2346",
    "uk_national_insurance": "AB 12 34 56 C",
    "uk_nhs_number": "NHS number 943 476 5919",
    "german_tax_id": "Steuer-ID 86095742719",
    "spanish_id": "DNI 12345678Z",
    "japanese_my_number": "マイナンバー 1234 5678 9018",
    "canadian_sin": "my SIN is 046 454 286",
    "passport": "护照号 E12345678",
    "phone": "+86 138 0013 8000",
    "ip_address": "from 93.184.215.14 today",
    "mac_address": "00:1A:2B:3C:4D:5E",
    "coordinates": "48.85837, 2.29448",
    "date_of_birth": "born on 12/05/1984",
    "chinese_number_plate": "车牌京A·12345",
}
PHONES = ["13800138000", "138-0013-8000", "(212) 555-0147", "212-555-0147", "1 212 555 0147", "+1 (415) 555-0132",
          "+49 30 901820", "call 030 9018 20", "电话：010-62345678"]  # fmt: skip
OTHERS = {"payment_card": ["378282246310005", "5555 5555 5555 4444", "6222021234567890128", "3530111333300000"],
          "iban": ["GB82WEST12345698765432", "NL91ABNA0417164300"],
          "bitcoin_wallet": ["bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"],
          "ip_address": ["2001:4860:4860::8888"], "coordinates": ["48°51'29.6\"N"],
          "us_social_security": ["123-45-6788"]}  # fmt: skip
NOTHING = [
    "Order 4111111111111112 shipped, order number 20231105123456",
    "Version 1.2.3.4, v93.184.215.14 and 120.0.6099.109, build 10.0.19041.1",
    "2024-05-12 12:30:45, 12/05/2024, 2024年5月12日, 20:15:00",
    "ISBN 978-3-16-148410-0 EAN 4006381333931",
    "Total 1,234,567.89 USD; pi is 3.14159265, lat 48.85",
    "user@example.com logo@2x.png 192.168.1.1 127.0.0.1 10.20.30.40",
    "Flight LH1234 room 123-45 page 100-200-3000 in 2019",
    "1234567890 0000000000 0000 0000 0000 0000 000-00-0000",
    "tracking 1Z999AA10123456784 sku A123456789 part B2345678",
    "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709 uuid 123e4567-e89b-12d3-a456-426614174000",
    "the score was 3-2, 100 000 000 people, 9 999 00",
    "110105194912310021 110105194913310023 DE89370400440532013001",
    "1BoatSLRHtKNngkdXEeobR76b53LETtpyU bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp",
    "订单号：202311051234567 快递单号 SF1234567890123",
]


def examine(text: str) -> tuple[float, list[dict[str, object]]]:
    item = Item("text", "text/plain", words=[Words(text, "text")])
    found = load("").examine(item).categories["personal_data"]
    return found.score, [dict(each) for each in found.evidence]


def test_every_kind_has_an_example() -> None:
    assert {kind.name for kind in KINDS} == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_kind_is_found(kind: str) -> None:
    assert [found.kind.name for found in find_identifiers(EXAMPLES[kind])] == [kind]


@pytest.mark.parametrize("text", [*((kind, text) for kind, texts in OTHERS.items() for text in texts),
                                  *(("phone", text) for text in PHONES)])  # fmt: skip
def test_other_forms_are_found(text: tuple[str, str]) -> None:
    assert [found.kind.name for found in find_identifiers(text[1])] == [text[0]]


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert find_identifiers(text) == []
    assert examine(text) == (0.0, [])


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_value_itself_is_never_in_the_evidence(kind: str) -> None:
    text = EXAMPLES[kind]
    value = find_identifiers(text)[0].value
    score, evidence = examine(text)
    assert score >= 0.7
    assert [each["type"] for each in evidence] == [kind]
    shown = str(evidence[0]["masked"])
    assert value not in repr(evidence)
    hidden = sum(sign.isalnum() for sign in value) - sum(sign.isalnum() for sign in shown)
    assert hidden >= sum(sign.isalnum() for sign in value) / 2
    assert text[evidence[0]["start"] : evidence[0]["end"]] == value


def test_disguised_numbers_are_found_where_they_stand() -> None:
    text = "call me: ＋８６\u200b １３８ ００１３ ８０００ ok"
    (_, [found]) = examine(text)
    assert found["type"] == "phone"
    assert text[found["start"] : found["end"]] == "＋８６\u200b １３８ ００１３ ８０００"


def test_letters_three_in_a_row_are_no_repetition() -> None:
    assert [found["type"] for found in examine("0xaaa08400098527886e0f7030069857d2e4169eee")[1]] == [
        "ethereum_wallet"
    ]


def test_words_of_a_transcript_carry_their_time() -> None:
    item = Item(
        "video", "video/mp4", words=[Words("hello", "text"), Words("13800138000", "transcript", 12.5)]
    )
    (found,) = PersonalData().examine(item).categories["personal_data"].evidence
    assert (found["origin"], found["piece"], found["at_s"]) == ("transcript", 1, 12.5)


def test_no_words_are_not_applicable() -> None:
    assert PersonalData().examine(Item("image", "image/png")).state == "not_applicable"


@pytest.mark.parametrize(
    "unit", ["1", "a@b.", "4111 ", "a:", "+1 ", "12.", "A1", "13800138000,", "DE89 ", "0x", "1."]
)
@pytest.mark.slow
def test_hostile_texts_take_no_longer(unit: str) -> None:
    assert growth(lambda chars: examine(unit * (chars // len(unit))), 25_000) < LINEAR
