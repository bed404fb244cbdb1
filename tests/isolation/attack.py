"""The run: calls of one tenant against everything of another, judged by what the answers hold and by what changed.

The seed chooses the calls; ids and words are new in each run. `report` of a Run prints one table; `leaks` and `faults`
say what was found, each with the shortest call that shows it.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from tenants.retrieval.map_points import forget_points
from tests.api.conftest import upload
from tests.isolation.calls import MIXED, OWN, THEIRS, Call, Caller, Document, Operation, name_in_paths
from tests.isolation.judging import Judge
from tests.isolation.pages import PAGE, Pages
from tests.isolation.world import TEXTS, World, changes, grow, new_world, settle, state

#: After so many calls the attacker's jobs run, and the victim's state is compared.
BATCH = 100
#: After so many the attacker is a new tenant: it deletes what is its own, too.
RENEW = 1_000
#: Tries at a call of one's own that has to succeed.
TRIES = 30
#: An address from which /metrics is not open.
FAR = "192.0.2.7"


@dataclass(frozen=True)
class Answer:
    """Status, and all that came back: headers and body, streams read to their end."""

    status: int
    content: bytes
    headers: bytes

    @property
    def kind(self) -> str:
        if self.status < 400:
            return "answered"
        known = {404: "not found", 401: "refused", 403: "refused", 409: "conflict", 429: "busy", 503: "busy"}
        return known.get(self.status, "invalid" if self.status < 500 else "error")


@dataclass
class Leak:
    what: str
    call: str

    def __str__(self) -> str:
        return f"{self.what}\n  {self.call}"


@dataclass
class Run:
    """Counts by group of operations, and what was found."""

    seed: int
    calls: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    operations: dict[str, set[str]] = field(default_factory=dict)
    #: Operations that did what they are for, and those that only said that the state of the thing forbids it.
    reached: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    leaks: list[Leak] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    comparisons: int = 0
    jobs: int = 0
    forms: int = 0
    #: Answers that were compared before and after the victim grew.
    comparable: int = 0
    seconds: float = 0.0

    def count(self, group: str, operation: str, answer: Answer) -> None:
        self.calls += 1
        self.counts.setdefault(group, Counter())[answer.kind] += 1
        self.operations.setdefault(group, set()).add(operation)

    def report(self) -> str:
        kinds = ("answered", "not found", "refused", "conflict", "invalid", "busy", "error")
        head = f"{'':16}{'operations':>11}{'calls':>8}" + "".join(f"{kind:>11}" for kind in kinds)
        lines = [
            f"{group:16}{len(self.operations[group]):>11}{counts.total():>8}"
            + "".join(f"{counts[kind]:>11}" for kind in kinds)
            for group, counts in sorted(self.counts.items())
        ]
        whole: Counter[str] = sum(self.counts.values(), Counter())
        total = f"{'all':16}{sum(map(len, self.operations.values())):>11}{whole.total():>8}" + "".join(
            f"{whole[kind]:>11}" for kind in kinds
        )
        read = f"{self.forms} forms of the console, {self.jobs} jobs of the attacker, "
        read += f"the victim's state compared {self.comparisons} times, {self.comparable} answers read again"
        found = f"{len(self.leaks)} leaks, {len(self.errors)} errors"
        end = f"seed {self.seed}, {self.seconds:.0f} s: {read}: {found}"
        return "\n".join(["", head, *lines, total, end, *map(str, self.leaks[:5]), *self.errors[:5]])


class Attack:
    """A victim, an attacker that looks alike, and the calls between them."""

    def __init__(
        self, seed: int, victim: World | None = None, attacker: World | None = None, *, console: bool = True
    ) -> None:
        self.console = console
        self.random = random.Random(seed)
        self.run = Run(seed)
        self.document = Document()
        self.victim = victim or new_world()
        if not self.victim.paths:
            name_in_paths(self.victim, self.document)
        self.http = Client(raise_request_exception=False, REMOTE_ADDR=FAR)
        self.enter(attacker or new_world())
        self.before = state(self.victim.id)
        self.batch: list[Call] = []

    def enter(self, attacker: World) -> None:
        """Go on as this tenant."""
        self.attacker = attacker
        if not attacker.paths:
            name_in_paths(attacker, self.document)
        self.judge = Judge(self.victim, attacker)
        self.caller = Caller(self.document, attacker, self.victim, self.random)
        # What it has sent and was kept: repeating that is no leak.
        self.planted: set[str] = set()
        self.pages = Pages(attacker, self.victim, self.random)
        self.person = self.pages.sign_in()
        self.run.forms = max(self.run.forms, self.pages.learn(self.person) if self.console else 0)

    # --- Calls ---

    def send(self, call: Call) -> Answer:
        if call.operation.startswith(PAGE):
            return self._open(call)
        body, kind = call.body, "application/json"
        if call.files:
            fields = {
                **(call.body or {}),
                **{name: upload(content, name) for name, content in call.files.items()},
            }
            body, kind = encode_multipart(BOUNDARY, fields), MULTIPART_CONTENT
        elif not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.attacker.party.token}", **call.headers}
        kind = headers.pop("Content-Type", kind)
        response = self.http.generic(
            call.method, call.path, body, content_type=kind, headers=headers, query_params=dict(call.query)
        )
        return read(response)

    def _open(self, call: Call) -> Answer:
        """A page or a form, as the attacker's owner."""
        headers = dict(call.headers)
        if cookie := headers.pop("Cookie", ""):
            self.person.cookies["tenant"] = cookie.partition("=")[2]
        body = urlencode(call.body or {}).encode()
        kind = "application/x-www-form-urlencoded"
        path = f"{call.path}?{urlencode(call.query)}" if call.query else call.path
        answer = read(self.person.generic(call.method, path, body, content_type=kind, headers=headers))
        if b"/login" in answer.headers:
            self.person = self.pages.sign_in()
        return answer

    def leaked(self, call: Call, answer: Answer) -> set[str]:
        found = self.judge.found(answer.content) | self.judge.found(answer.headers)
        return found - self._said(call) - self.planted if found else found

    def _said(self, call: Call) -> set[str]:
        files = (self.judge.made_of(content) for content in call.contents)
        return self.judge.found(call.sent).union(*files)

    def do(self, call: Call, group: str) -> Answer:
        answer = self.send(call)
        self.run.count(group, call.operation, answer)
        self.batch.append(call)
        if answer.kind == "error" and len(self.run.errors) < 50:
            self.run.errors.append(f"{answer.status}: {call}")
        if found := self.leaked(call, answer):
            self.run.leaks.append(Leak(f"{sorted(found)[:4]} in the answer to", str(self.shortest(call))))
        elif answer.status < 400 and call.method != "GET":
            self.planted |= self._said(call)
        return answer

    def shortest(self, call: Call) -> Call:
        """The call with everything taken away that the leak does not need; where it happens only once, the call."""
        goes_on = True
        while goes_on:
            goes_on = False
            for smaller in call.smaller():
                if self.leaked(smaller, self.send(smaller)):
                    call, goes_on = smaller, True
                    break
        return call

    # --- The whole ---

    def everything(self, calls: int, operations: Iterable[Operation] = ()) -> Run:
        """Each operation once so that it succeeds, then so many calls by chance."""
        start = time.monotonic()
        chosen = list(operations) or self.document.operations
        self.reach_all(chosen)
        while self.run.calls < calls:
            if self.run.calls // RENEW != (self.run.calls + BATCH) // RENEW:
                self.compare()
                self.enter(new_world())
            until = min(self.run.calls + BATCH, calls)
            while self.run.calls < until:
                self.one(chosen)
            self.compare()
        self.compare()
        self.run.seconds = time.monotonic() - start
        return self.run

    def one(self, operations: list[Operation]) -> None:
        if self.random.random() < 0.05:
            call = self.caller.replayed()
            self.do(call, call.path.split("/")[3])
            return
        if self.console and self.random.random() < 0.25:
            mode = self.random.choices((THEIRS, MIXED, OWN), (5, 3, 2))[0]
            if (page := self.pages.call(mode)) is not None:
                self.do(page, "console")
            return
        operation = self.random.choice(operations)
        mode = self.random.choices((THEIRS, MIXED, OWN), (5, 3, 2))[0]
        answer = self.do(self.caller.documented(operation, mode), operation.group)
        if answer.status < 300:
            self.run.reached.add(operation.name)

    def reach_all(self, operations: list[Operation]) -> None:
        """Call each with arguments of the attacker's own until it does what it is for: deletions last."""
        order = {
            one.name: (one.method == "DELETE", -len(one.names), self.random.random()) for one in operations
        }
        for operation in sorted(operations, key=lambda one: order[one.name]):
            wanted = self.document.row(operation).status
            for attempt in range(TRIES):
                answer = self.do(self.caller.documented(operation, OWN, plain=True), operation.group)
                if answer.status < 300 or answer.status == wanted:
                    self.run.reached.add(operation.name)
                    break
                if answer.status == 409:
                    self.run.conflicts.add(operation.name)
                if attempt == TRIES // 2:
                    # What was made meanwhile can be named, too.
                    self.attacker.read()

    def once(self) -> list[Leak]:
        """Each operation with ids of the victim, each list, search and replay by the attacker; until the first leak."""
        calls = [self.caller.documented(one, THEIRS, plain=True) for one in self.document.operations]
        calls += [
            self.caller.documented(one, OWN, plain=True)
            for one in self.document.operations
            if one.method == "GET"
        ]
        calls += [
            Call(
                "POST /search",
                "POST",
                "/api/v1/search",
                body={**asked, "top_k": 50, "hybrid": "text" in asked},
            )
            for asked in (
                {"text": TEXTS[0]},
                {"text": TEXTS[1]},
                {"image": {"asset": self.attacker.ids["asset"][-1]}},
            )
        ]
        calls += [
            Call("POST /search", "POST", "/api/v1/search", body={"cursor": one})
            for one in self.victim.cursors
        ]
        calls += [self.caller.replayed() for _ in range(20)]
        for call in calls:
            self.do(call, "once")
            if self.run.leaks:
                return self.run.leaks
        self.compare()
        return self.run.leaks

    def unreached(self) -> list[str]:
        """Operations that no call with the attacker's own ids reached: there are no valid arguments for them."""
        return sorted({one.name for one in self.document.operations} - self.run.reached - self.run.conflicts)

    def told_by_growth(self) -> list[str]:
        """What the attacker reads otherwise after the victim has grown, and reads alike while nothing happens.

        Counts, orders and pages of others would show so, which no fingerprint tells.
        """
        self.attacker.read()
        # A map as it was before the attacker's own changes may be shown for half a minute, which ends in between.
        forget_points()
        reading = [one for one in self.document.operations if one.method == "GET"]
        chosen = [self.caller.documented(one, OWN, plain=True) for one in reading]
        chosen += [
            Call(
                "POST /search",
                "POST",
                "/api/v1/search",
                body={"text": text, "top_k": 50, "facets": ["colour"]},
            )
            for text in TEXTS
        ]
        first = [steady(self.send(call)) for call in chosen]
        again = [steady(self.send(call)) for call in chosen]
        grow(self.victim)
        after = [steady(self.send(call)) for call in chosen]
        self.before = state(self.victim.id)
        self.run.comparable = sum(one == two for one, two in zip(first, again, strict=True))
        return [
            str(call)
            for call, one, two, three in zip(chosen, first, again, after, strict=True)
            if one == two and two != three
        ]

    def compare(self) -> None:
        """Let the attacker's jobs run; then nothing of the victim may have changed."""
        self.run.jobs += settle(self.attacker)
        self.attacker.read()
        after = state(self.victim.id)
        self.run.comparisons += 1
        if changed := changes(self.before, after):
            self.run.leaks.append(
                Leak(f"{changed[:3]} changed during", "\n  ".join(map(str, self._culprits() or self.batch)))
            )
            self.before = state(self.victim.id)
        self.batch = []

    def _culprits(self) -> list[Call]:
        """Of the calls since the last comparison the first that changes something when it is sent again."""
        for call in self.batch:
            before = state(self.victim.id)
            self.send(call)
            settle(self.attacker)
            if changes(before, state(self.victim.id)):
                return [call]
        return []


#: Of one request alone, and counts of the attacker's own requests.
_PASSING = re.compile(
    rb'"(request_id|search_id|took_ms|last_used_at|requests|used|now)": ?("[^"]*"|[-0-9.e]+|null)'
)


def steady(answer: Answer) -> tuple[int, bytes]:
    """Status and body without what no two answers share."""
    return answer.status, _PASSING.sub(b"", answer.content)


def read(response: Any) -> Answer:
    content = b"".join(response.streaming_content) if response.streaming else response.content
    response.close()
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    cookies = response.cookies.output() if response.cookies else ""
    return Answer(response.status_code, content, f"{headers}\n{cookies}".encode())
