"""Clients that write and search without a pause, and remember what they were told.

What the API has acknowledged must stay true whatever is killed meanwhile: an asset whose job succeeded is found, a
deleted one is in no answer to a search that was sent after its deletion was acknowledged.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import requests

from tests.flows.client import Client
from tests.waiting import until

SPOKEN = """
anchor apple apron arrow autumn badger bakery balcony bamboo banjo barrel basket beacon beetle bicycle
blanket blossom bottle branch bridge bronze bucket butter cabin cactus candle canoe carpet castle cedar
cello chapel cherry chimney cinnamon clover cobbler coffee compass copper coral cotton cradle crane
cricket crystal curtain daisy diamond dolphin donkey dragon drum eagle ember engine falcon feather fiddle
flannel flute forest fossil fountain garden garlic ginger glacier goblet granite guitar hammer harbour
harvest hazel hedgehog helmet heron honey island ivory jacket jasmine kettle kitten ladder lantern
lavender lemon lighthouse lizard lobster maple marble meadow melon mirror monastery mosaic mountain
mushroom needle nettle oak oboe ocean olive orchard otter oyster paddle pagoda panther parrot pebble
pepper piano pigeon pillow plum pocket pottery prairie pumpkin quilt rabbit raven ribbon river robin
saddle saffron salmon sandal satin scarf shepherd shovel silver spider sponge squirrel stable statue
sugar sunset swallow tailor teapot temple thistle thunder tiger timber tobacco tortoise trumpet tulip
tunnel turnip umbrella valley velvet village violin walnut waterfall whistle willow window winter wolf
zebra
"""
WORDS = SPOKEN.split()
# An answer that a client may get while a server is being killed: none at all, or a 503 that says what is away.
AWAY = {"unavailable", "index-rebuilding"}
PAUSE_S = 0.08
DEEP = 50


def text_of(number: int) -> str:
    """Six words that no other number has, so that a search for them finds this one first."""
    return " ".join(random.Random(number).sample(WORDS, 6))


@dataclass
class Ledger:
    """By asset: its number, from which its text and its metadata `n` follow.

    `pending` were acknowledged and their jobs not seen to end; `kept` have succeeded; `unsure` are those for which an
    answer got lost on the way.
    """

    pending: dict[str, tuple[int, dict]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)
    generations: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self, name: str) -> dict[str, int]:
        with self.lock:
            return dict(getattr(self, name))

    def move(self, asset: str, source: str, target: str) -> None:
        with self.lock:
            found = getattr(self, source).pop(asset)
            getattr(self, target)[asset] = found[0] if isinstance(found, tuple) else found

    def note(self, answer: requests.Response | None) -> bool:
        """Count an answer; whether it is the one that was hoped for."""
        if answer is None:
            self.answers["no answer"] += 1
            return False
        self.answers[str(answer.status_code)] += 1
        if answer.ok:
            return True
        slug = answer.json().get("type", "").rsplit(":", 1)[-1] if "json" in _type_of(answer) else ""
        if answer.status_code != 503 or slug not in AWAY or not answer.headers.get("Retry-After"):
            self.wrong.append(
                f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
            )
        return False


def _type_of(answer: requests.Response) -> str:
    return answer.headers.get("Content-Type", "")


class Busy(threading.Thread):
    """Calls `turn` until it is told to stop; what it raises is a fault of the test itself and is kept."""

    def __init__(self, client: Client, ledger: Ledger, seed: int) -> None:
        super().__init__(daemon=True)
        self.client, self.ledger = Client(client.base_url, client.token), ledger
        self.random = random.Random(seed)
        # Who holds it keeps this client still.
        self.still, self._ended = threading.Lock(), threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            try:
                with self.still:
                    self.turn()
            except Exception as error:
                self.ledger.wrong.append(f"{type(self).__name__}: {error!r}")

    def turn(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self._ended.set()
        self.join(30)

    def ask(self, method: str, path: str, **kwargs: object) -> requests.Response | None:
        """The answer, noted; None where the connection broke or the answer was not a good one."""
        try:
            answer = self.client.request(method, path, **kwargs)
        except requests.RequestException:
            answer = None
            self.client.session.close()
        return answer if self.ledger.note(answer) else None


class Writer(Busy):
    """Adds assets and deletes others, among them some whose jobs still run."""

    def __init__(self, client: Client, ledger: Ledger, dataset: str, first: int) -> None:
        super().__init__(client, ledger, seed=1)
        self.dataset, self.number = dataset, first

    def turn(self) -> None:
        self._add()
        self._promote()
        if self.random.random() < 0.9:
            self._delete()

    def _add(self) -> None:
        self.number += 1
        body = {
            "text": text_of(self.number),
            "external_id": str(self.number),
            "metadata": {"n": self.number},
        }
        if answer := self.ask("POST", f"/datasets/{self.dataset}/assets", json=body):
            made = answer.json()
            with self.ledger.lock:
                self.ledger.pending[made["asset"]["id"]] = (self.number, made["job"])

    def _promote(self, most: int = 4) -> None:
        """Look at the oldest jobs that are not known to have ended."""
        with self.ledger.lock:
            oldest = list(self.ledger.pending.items())[:most]
        for asset, (_, job) in oldest:
            if not (answer := self.ask("GET", f"/jobs/{job['id']}")):
                return
            state = answer.json()["state"]
            if state == "succeeded":
                self.ledger.move(asset, "pending", "kept")
            elif state not in {"queued", "running"}:
                self.ledger.wrong.append(f"the job of an acknowledged asset: {answer.text[:300]}")
                self.ledger.move(asset, "pending", "unsure")

    def _delete(self) -> None:
        source = "pending" if self.random.random() < 0.1 else "kept"
        with self.ledger.lock:
            assets = list(getattr(self.ledger, source))
        if not assets:
            return
        asset = self.random.choice(assets)
        # While it is under way, nobody may say whether the asset is there.
        self.ledger.move(asset, source, "unsure")
        if self.ask("DELETE", f"/assets/{asset}"):
            self.ledger.move(asset, "unsure", "deleted")

    def settle(self, seconds: float) -> None:
        """Wait until every acknowledged asset's job has ended."""

        def is_settled() -> bool:
            self._promote(50)
            return not self.ledger.pending

        with suppress(AssertionError):  # what is left is told by whoever looks at the ledger
            until(is_settled, seconds, every_s=0.1)


class Searcher(Busy):
    """Asks for what must be found and for what must not be: by the index, exactly, and with a filter."""

    def turn(self) -> None:
        gone = self.ledger.snapshot("deleted")
        kept = self.ledger.snapshot("kept")
        here = self.random.random() < 0.7 or not gone
        if not (pool := list((kept if here else gone).items())):
            return
        asset, number = self.random.choice(pool)
        kind = self.random.choice(["plain", "plain", "exact", "filter"])
        query: dict = {"text": text_of(number), "top_k": DEEP, "exact": kind == "exact"}
        if kind == "filter":
            query["filter"] = {"n": {"gte": number - 20, "lte": number + 20}}
        if answer := self.ask("POST", "/search", json=query):
            self._judge(answer.json(), kind, gone, asset if here else None)

    def _judge(self, answer: dict, kind: str, gone: dict[str, int], wanted: str | None) -> None:
        found = [result["asset"]["id"] for result in answer["results"]]
        generation = answer["index"]["generation"]
        self.ledger.generations.add(generation)
        if risen := gone.keys() & set(found):
            self.ledger.wrong.append(f"deleted and found ({kind}, {generation}): {sorted(risen)}")
        # Who is being deleted at this moment may be missing.
        if wanted and wanted not in found and wanted in self.ledger.snapshot("kept"):
            self.ledger.wrong.append(f"kept and not found ({kind}, {generation}): {wanted}")
