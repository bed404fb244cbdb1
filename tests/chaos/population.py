"""Who works while faults happen: clients of several tenants, each operation written down with what it was promised."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.chaos.journal import Journal, Operation
from tests.chaos.world import Tenant
from tests.flows.client import Client
from tests.flows.ledger import text_of
from tests.flows.pictures import jpeg
from tests.waiting import pause

#: How often what is asked for; of a thousand.
MIX = {
    "search": 380,
    "upload": 330,
    "picture": 60,
    "erase": 90,
    "audit": 60,
    "decide": 30,
    "hook": 20,
    "import": 15,
    "person": 10,
    "generate": 5,
    "promote": 4,
    "finetune": 0,
}
#: A training takes minutes: in long runs only.
AT_LENGTH = {**MIX, "finetune": 1}
SPACES = ("prior-1", "prior-2")
#: Operations after which nothing is there that was not there before.
READS = ("search",)
#: Answers that a client may get while something is away: with a reason, and to be asked again.
PASSING = {
    429: None,
    503: {"unavailable", "index-rebuilding", "keys-unavailable", "model-unavailable"},
    507: None,
}
AGAIN_S, PATIENCE_S = 0.5, 180.0
ROWS_OF_AN_IMPORT = 8


class Unanswered(Exception):
    """Nobody answered for as long as somebody would wait."""


@dataclass
class Shelf:
    """Of one tenant, what its clients know: numbers of texts by asset, and whose they are."""

    tenant: Tenant
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: int = 0
    #: Assets that are to be there, with the operation that added them.
    kept: dict[str, Operation] = field(default_factory=dict)
    #: Those whose erasure has been asked for, or is about to be.
    leaving: set[str] = field(default_factory=set)

    def next_number(self) -> int:
        with self.lock:
            self.numbers += 1
            return self.numbers


class Worker(threading.Thread):
    """One client of a tenant, who asks one thing after the other until `wanted()` is false."""

    def __init__(
        self,
        client: Client,
        shelf: Shelf,
        journal: Journal,
        number: int,
        seed: int,
        wanted: Callable[[], bool],
        mix: Mapping[str, int],
    ) -> None:
        super().__init__(daemon=True)
        self.client, self.shelf, self.journal, self.number = client, shelf, journal, number
        self.random, self._wanted = random.Random(f"{seed}/{number}"), wanted
        self._uploads, self._mix = 0, dict(mix)

    def run(self) -> None:
        while self._wanted():
            kind = self.random.choices(list(self._mix), list(self._mix.values()))[0]
            try:
                self._operations()[kind]()
            except Unanswered as error:
                self.journal.say_wrong(str(error))
            except Exception as error:
                self.journal.say_wrong(f"{kind}: {error!r}")

    def _operations(self) -> dict[str, Callable[[], None]]:
        return {
            "search": self._search,
            "upload": self._upload,
            "picture": self._picture,
            "erase": self._erase,
            "audit": self._audit,
            "decide": self._decide,
            "hook": self._hook,
            "import": self._import,
            "person": self._person_erasure,
            "generate": self._generate,
            "promote": self._promote,
            "finetune": self._finetune,
        }

    # --- Asking ------------------------------------------------------------------------------------------

    def _ask(self, operation: Operation, method: str, path: str, **body: Any) -> requests.Response:
        """The answer that says what came of it, however often it has to be asked for."""
        headers = {"Idempotency-Key": operation.key}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = self.client.request(method, path, headers=headers, **body)
            except requests.RequestException:
                operation.lost += 1
                self.client.session.close()
            else:
                if not self._passes(operation, answer):
                    return answer
            pause(AGAIN_S, "what is away needs time to come back")
        raise Unanswered(f"nobody answered {operation} for {PATIENCE_S:.0f} s")

    def _passes(self, operation: Operation, answer: requests.Response) -> bool:
        """Whether it has to be asked again; notes an answer that nothing explains."""
        if answer.status_code < 500 and answer.status_code not in PASSING:
            return False
        slug = _slug(answer)
        known = PASSING.get(answer.status_code, set())
        if known is not None and slug not in known:
            told = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}"
            self.journal.say_wrong(f"{told} to {operation}")
        if answer.status_code in (429, 507):
            operation.refused += 1
        else:
            # What broke on the way may have been done.
            operation.lost += 1
        return True

    def _do(
        self, kind: str, method: str, path: str, good: tuple[int, ...], **body: Any
    ) -> tuple[Operation, dict[str, Any] | None]:
        operation = self.journal.begin(kind, self.shelf.tenant.slug)
        answer = self._ask(operation, method, path, **body)
        if answer.status_code in good:
            return operation, answer.json() if answer.content else {}
        self.journal.refuse(operation, f"{answer.status_code} {_slug(answer)}")
        # One training of a workspace at a time is what its plan allows.
        allowed = answer.status_code == 409 or (kind, _slug(answer)) == ("finetune", "quota-exceeded")
        if not allowed:
            self.journal.say_wrong(f"{operation} was refused: {answer.text[:300]}")
        return operation, None

    # --- Operations --------------------------------------------------------------------------------------

    def _upload(self) -> None:
        number, person = self.shelf.next_number(), self._person()
        topic = "unsure" if number % 4 == 0 else "plain"
        metadata = {"n": number, "person": person, "topic": topic}
        self._add(
            "upload",
            number,
            person,
            text_of(number).encode(),
            json={"text": text_of(number), "metadata": metadata},
        )

    def _picture(self) -> None:
        number, person = self.shelf.next_number(), self._person()
        content = jpeg(10_000 + number, 48)
        metadata = f'{{"n": {number}, "person": "{person}", "topic": "plain"}}'
        self._add(
            "picture",
            number,
            person,
            content,
            files={"file": ("upload", content)},
            data={"text": text_of(number), "metadata": metadata},
        )

    def _person(self) -> str:
        """Whose the next upload is: four belong to one person, whom only this client knows."""
        self._uploads += 1
        return self._owner()

    def _owner(self) -> str:
        return f"{self.number}-{self._uploads // 4}"

    def _add(self, kind: str, number: int, person: str, content: bytes, **body: Any) -> None:
        path = f"/datasets/{self.shelf.tenant.dataset}/assets"
        operation, made = self._do(kind, "POST", path, (202,), **body)
        if made is None:
            return
        asset, sha256 = made["asset"], hashlib.sha256(content).hexdigest()
        promised = {"asset": asset["id"], "job": made["job"]["id"], "n": str(number), "person": person}
        self.journal.acknowledge(operation, sha256=sha256, **promised)
        if asset["sha256"] != sha256:
            self.journal.say_wrong(f"{operation} is said to be of {asset['sha256']}")
        with self.shelf.lock:
            self.shelf.kept[asset["id"]] = operation

    def _erase(self) -> None:
        with self.shelf.lock:
            pool = sorted(self.shelf.kept)
            if len(pool) < 5:
                return
            asset = self.random.choice(pool)
            number = self.shelf.kept.pop(asset).promised["n"]
            self.shelf.leaving.add(asset)
        operation = self.journal.begin("erase", self.shelf.tenant.slug)
        answer = self._ask(operation, "DELETE", f"/assets/{asset}")
        # 404: an answer before this one was lost.
        if answer.status_code in (204, 404):
            self.journal.acknowledge(operation, asset=asset, n=number)
        else:
            self.journal.refuse(operation, f"{answer.status_code}")
            self.journal.say_wrong(f"{operation}: {answer.status_code} {answer.text[:300]}")

    def _former_person(self) -> tuple[str, list[str]]:
        """One to whom nothing will be added, and what of theirs is there; it is nobody's from now on."""
        with self.shelf.lock:
            people: dict[str, list[str]] = {}
            for asset, operation in self.shelf.kept.items():
                people.setdefault(operation.promised.get("person", ""), []).append(asset)
            own = [one for one in people if one.startswith(f"{self.number}-") and one != self._owner()]
            if not own:
                return "", []
            person = self.random.choice(sorted(own))
            for asset in people[person]:
                self.shelf.kept.pop(asset)
                self.shelf.leaving.add(asset)
            return person, people[person]

    def _person_erasure(self) -> None:
        person, assets = self._former_person()
        if not person:
            return
        body = {"filter": {"person": person}}
        operation, made = self._do("person", "POST", "/erasures", (202,), json=body)
        if made is not None:
            self.journal.acknowledge(operation, person=person, job=made["job"]["id"], assets=" ".join(assets))

    def _search(self) -> None:
        with self.shelf.lock:
            pool = sorted(self.shelf.kept)
        number = int(self.shelf.kept[self.random.choice(pool)].promised["n"]) if pool else 1
        gone = {
            one.promised["asset"] for one in self.journal.acknowledged("erase", tenant=self.shelf.tenant.slug)
        }
        query = {"text": text_of(number), "top_k": 20, "exact": self.random.random() < 0.3}
        operation = self.journal.begin("search", self.shelf.tenant.slug)
        answer = self._ask(operation, "POST", "/search", json=query)
        if answer.status_code != 200:
            self.journal.refuse(operation, f"{answer.status_code}")
            self.journal.say_wrong(f"{operation}: {answer.status_code} {answer.text[:300]}")
            return
        self.journal.acknowledge(operation)
        found = {result["asset"]["id"] for result in answer.json()["results"]}
        if risen := found & gone:
            self.journal.say_wrong(f"{operation} found what was erased before: {sorted(risen)}")

    def _audit(self) -> None:
        text = f"A plain sentence, number {self.shelf.next_number()}."
        operation, made = self._do("audit", "POST", "/audits", (202,), json={"text": text})
        if made is not None:
            self.journal.acknowledge(operation, audit=made["audit"]["id"], job=made["job"]["id"])

    def _decide(self) -> None:
        operation = self.journal.begin("claim", self.shelf.tenant.slug)
        claimed = self._ask(operation, "POST", "/reviews/claim-next", json={})
        if claimed.status_code != 200 or claimed.json()["review"] is None:
            self.journal.refuse(operation, "nothing to decide")
            return
        review = claimed.json()["review"]["id"]
        self.journal.acknowledge(operation, review=review)
        body = {"decision": "allow", "reason": "It is fine."}
        decided = self.journal.begin("decide", self.shelf.tenant.slug)
        answer = self._ask(decided, "POST", f"/reviews/{review}/decide", json=body)
        if answer.status_code == 200:
            self.journal.acknowledge(decided, review=review)
            return
        self.journal.refuse(decided, f"{answer.status_code} {_slug(answer)}")
        with self.shelf.lock:
            was_erased = claimed.json()["review"]["asset"] in self.shelf.leaving
        # Another client may have decided it before, after an answer of ours was lost, or erased what it is about.
        if answer.status_code != 409 and not (answer.status_code == 404 and was_erased):
            self.journal.say_wrong(f"{decided} was refused: {answer.text[:300]}")

    def _hook(self) -> None:
        path = f"/webhooks/{self.shelf.tenant.webhook}/test"
        operation, made = self._do("hook", "POST", path, (202,))
        if made is not None:
            self.journal.acknowledge(operation, answer=str(made)[:500])

    def _import(self) -> None:
        numbers = [self.shelf.next_number() for _ in range(ROWS_OF_AN_IMPORT)]
        table = "\n".join(["text,n", *(f"{text_of(number)},{number}" for number in numbers)])
        path = f"/datasets/{self.shelf.tenant.dataset}/imports"
        files = {"file": ("rows.csv", table.encode())}
        operation, made = self._do("import", "POST", path, (202,), files=files)
        if made is not None:
            self.journal.acknowledge(operation, job=made["job"]["id"], numbers=" ".join(map(str, numbers)))

    def _generate(self) -> None:
        body = {
            "prompt": f"a red circle, number {self.shelf.next_number()}",
            "steps": 1,
            "width": 256,
            "height": 256,
        }
        operation, made = self._do("generate", "POST", "/generations", (202,), json=body)
        if made is not None:
            self.journal.acknowledge(operation, generation=made["generation"]["id"], job=made["job"]["id"])

    def _promote(self) -> None:
        """Another space, of those that ship and those that were trained here: all is embedded anew."""
        listed = self.journal.begin("models", self.shelf.tenant.slug)
        answer = self._ask(listed, "GET", "/models")
        self.journal.acknowledge(listed)
        model = self.random.choice(
            [
                one["id"]
                for one in answer.json()["results"]
                if one["state"] in ("candidate", "retired") and (not one["built_in"] or one["id"] in SPACES)
            ]
        )
        body = {"override": True, "reason": "A fire drill."}
        operation, made = self._do("promote", "POST", f"/models/{model}/promote", (202,), json=body)
        if made is not None:
            self.journal.acknowledge(operation, model=model, job=made["job"]["id"])

    def _finetune(self) -> None:
        body = {"dataset": self.shelf.tenant.dataset, "base": "prior-2", "epochs": 1}
        operation, made = self._do("finetune", "POST", "/finetunes", (202,), json=body)
        if made is not None:
            self.journal.acknowledge(operation, model=made["model"]["id"], job=made["job"]["id"])


def _slug(answer: requests.Response) -> str:
    if "json" not in answer.headers.get("Content-Type", ""):
        return ""
    body: Mapping[str, Any] = answer.json()
    return str(body.get("type", "")).rsplit(":", 1)[-1]
