"""Embeddings of queries: encoded once, the same afterwards, and nobody else's."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.retrieval.cache import Embedded, LookupCounts, QueryCache
from tenants.retrieval.query import encoding
from tenants.valkey import client, tenant_key
from tests.waiting import PATIENCE_S, pause


class Encoder:
    """Vectors from the text's digest; it counts what it encodes."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.texts: list[str] = []
        self.pause_s = pause_s

    def __call__(self, tenant_id: uuid.UUID, model: str, text: str) -> np.ndarray:
        self.texts.append(text)
        pause(self.pause_s, "others ask for the same meanwhile")
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        values = np.random.default_rng(seed).normal(size=256).astype(np.float32)
        return values / np.linalg.norm(values)


MODEL = "test:1"
NOBODY = uuid.UUID(int=0)


def as_it_is(tenant_id: uuid.UUID, model: str, text: str) -> str:
    return text


def of_256(tenant_id: uuid.UUID, model: str) -> int:
    return 256


def cache_of(encoder: Encoder, **others) -> QueryCache:
    return QueryCache(encoder, as_it_is, of_256, **others)


def keys_of(tenant_id: uuid.UUID) -> list[bytes]:
    return sorted(client().scan_iter(tenant_key(tenant_id, "*")))


@pytest.fixture
def tenant() -> uuid.UUID:
    return uuid.uuid4()


@pytest.mark.services
def test_each_layer_returns_what_was_encoded(tenant: uuid.UUID) -> None:
    encoder, counts = Encoder(), LookupCounts()
    here, there = cache_of(encoder, counted=counts), cache_of(encoder, counted=counts)
    found = [cache.find(tenant, "a red apple", MODEL) for cache in (here, here, there, there)]
    assert [(f.layer, f.hit) for f in found] == [
        ("miss", False),
        ("process", True),
        ("valkey", True),
        ("process", True),
    ]
    assert encoder.texts == ["a red apple"]
    expected = Encoder()(NOBODY, MODEL, "a red apple")
    assert all(f.vector.dtype == np.float32 and np.array_equal(f.vector, expected) for f in found)
    assert counts.read() == {
        ("embedding", "miss", str(tenant)): 1,
        ("embedding", "process", str(tenant)): 2,
        ("embedding", "valkey", str(tenant)): 1,
    }


def test_texts_models_and_tenants_are_apart(tenant: uuid.UUID) -> None:
    encoder = Encoder()
    cache = cache_of(encoder)
    asked = [
        (tenant, "a", "test:1"),
        (tenant, "A", "test:1"),
        (uuid.uuid4(), "a", "test:1"),
        (tenant, "a", "test:2"),
    ]
    assert [cache.find(*one).layer for one in asked] == ["miss"] * 4
    assert [cache.find(*one).layer for one in asked] == ["process"] * 4


def test_valkey_holds_no_text_and_names_the_tenant(tenant: uuid.UUID) -> None:
    cache_of(Encoder()).find(tenant, "somebody's illness", MODEL)
    [key] = keys_of(tenant)
    digest = hashlib.sha256(b"somebody's illness").hexdigest()
    assert key.decode() == f"t:{tenant}:query:test:1:{digest}"
    assert len(client().get(key)) == 1_024
    assert 3_500 < client().ttl(key) <= 3_600


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        bytes(1_024),
        b"\xff" * 1_024,
        np.ones(256, "<f4").tobytes(),
        Encoder()(NOBODY, MODEL, "x").tobytes()[:-4],
    ],
)
def test_damaged_values_are_encoded_anew_and_repaired(tenant: uuid.UUID, value: bytes) -> None:
    encoder = Encoder()
    cache_of(encoder).find(tenant, "a", MODEL)
    [key] = keys_of(tenant)
    client().set(key, value, ex=60)
    found = cache_of(encoder).find(tenant, "a", MODEL)
    assert found.layer == "miss" and np.array_equal(found.vector, Encoder()(NOBODY, MODEL, "a"))
    assert cache_of(encoder).find(tenant, "a", MODEL).layer == "valkey"


def test_sixteen_threads_with_a_new_text_encode_once(tenant: uuid.UUID) -> None:
    encoder = Encoder(pause_s=0.3)
    cache, barrier = cache_of(encoder), threading.Barrier(16)

    def ask(_: int) -> Embedded:
        barrier.wait(PATIENCE_S)
        return cache.find(tenant, "new", MODEL)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert encoder.texts == ["new"]
    layers = Counter(f.layer for f in found)
    assert layers["miss"] == 1 and layers["shared"] + layers["process"] == 15 and layers["shared"] > 0
    assert all(np.array_equal(f.vector, found[0].vector) for f in found)


def test_a_failure_is_not_kept(tenant: uuid.UUID) -> None:
    failures = iter([True, False])
    encoder = Encoder()

    def sometimes(tenant_id: uuid.UUID, model: str, text: str) -> np.ndarray:
        if next(failures):
            raise OSError("no memory")
        return encoder(tenant_id, model, text)

    cache = QueryCache(sometimes, as_it_is, of_256)
    with pytest.raises(OSError, match="no memory"):
        cache.find(tenant, "a", MODEL)
    assert cache.find(tenant, "a", MODEL).layer == "miss"


def test_equal_spellings_share_a_place(tenant: uuid.UUID) -> None:
    layers = [
        encoding.query_cache.find(tenant, text, encoding.model_id()).layer
        for text in ("Red  Apple", "red apple\n", "red apples")
    ]
    assert layers == ["miss", "process", "miss"]


@pytest.mark.parametrize("text", ["É", "CAFÉ au lait", "a [MASK] B", "Ａ", "X" * 1_001])
def test_what_is_not_certain_keeps_its_spelling(text: str) -> None:
    assert encoding.canonical(text, encoding.space()) == text


WORDS = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=40),
    st.text(st.sampled_from("aAbZ .,'-_[]#\t\n\r\x00\x0b\x0c\x1c\x7f"), max_size=40),
    st.lists(
        st.sampled_from(["Red", "BLUE", "Grey", "don't", "U.S.", "##ing", "  ", "\t\n"]), max_size=8
    ).map(" ".join),
)


@given(WORDS)
@settings(max_examples=150, deadline=None)
def test_the_encoder_cannot_tell_a_text_from_its_canonical_spelling(text: str) -> None:
    as_it_is, canonical = (
        encoding.space().embed_texts([text]),
        encoding.space().embed_texts([encoding.canonical(text, encoding.space())]),
    )
    assert np.array_equal(as_it_is, canonical)
