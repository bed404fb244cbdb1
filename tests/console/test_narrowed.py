"""A narrowed reviewer at every address of the console, beside content of the same workspace that is not theirs.

Ids and words of every row that the database hides from them are fingerprints, and none may be in an answer.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import Resolver404, resolve, reverse

from console.urls import urlpatterns
from tenants.accounts.models import Membership
from tenants.accounts.permissions import ROLES, scopes_of
from tenants.moderation import reviews
from tenants.moderation.models import Outcome, Review
from tenants.moderation.reviews.cases import WAITING
from tenants.people.members import change_role
from tenants.people.narrowing import narrow_member
from tenants.people.roles import create_role
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import Query, search
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import new_party
from tests.console.auditing import audited
from tests.console.test_access import BEFORE_A_TENANT, TABLE, Things
from tests.tenants.people import acting, new_member
from tests.tenants.reviewing import ANN, World, make_world
from workers.base import run_job

pytestmark = pytest.mark.guard

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
VIEWS: dict[str, Any] = {p.name: p.callback for p in urlpatterns if p.name not in BEFORE_A_TENANT}
HTMX = {"HX-Request": "true"}


@dataclass
class Narrowed:
    """A workspace, a reviewer who sees one dataset of it, and what is in the others."""

    things: Things
    mine: World
    hidden: World
    reviewer: Any
    salt: str
    #: By the names of addresses' parameters: of the reviewer's own dataset, and of the others.
    own: dict[str, str] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    fingerprints: set[str] = field(default_factory=set)

    @property
    def to(self) -> Narrowing:
        return Narrowing((self.mine.dataset.id,))

    @property
    def id(self) -> uuid.UUID:
        return self.things.party.id

    def client(self, person: Any = None) -> Client:
        http = Client(raise_request_exception=False)
        http.force_login(person or self.reviewer)
        return http

    def found(self, content: bytes, asked: str = "") -> set[str]:
        """Fingerprints in an answer that the request did not bring itself."""
        text = content.decode(errors="replace").lower()
        names = set(UUID.findall(text)) | self.words(text)
        return {name for name in names & self.fingerprints if name not in asked.lower()}

    def words(self, text: str) -> set[str]:
        return set(re.findall(rf"{self.salt}[a-z]+", text))

    def narrow(self, person: Any, to: Narrowing | None) -> None:
        party = self.things.party
        with tenant_scope(party.id):
            narrow_member(actor=acting(party.tenant, party.owner), user_id=person.pk, to=to)


def _embedded(world: World, text: str, **fields: Any) -> Any:
    with tenant_scope(world.id):
        added = add_asset(dataset_id=world.dataset.id, text=text, **fields)
    assert added.job is not None
    run_job(str(added.job.id), str(world.id))
    return added.asset


@pytest.fixture(scope="module")
def narrow() -> Narrowed:
    things, salt = Things(new_party()), f"q{secrets.token_hex(4)}"
    mine, hidden = make_world(things.party), make_world(things.party)
    asset = _embedded(mine, "A red kettle on the stove", values={"colour": "red"}, external_id="mine")
    other = _embedded(
        hidden,
        f"A red kettle {salt}text",
        values={"colour": f"{salt}colour", f"{salt}key": "x"},
        external_id=f"{salt}external",
    )
    things.address("audit")
    own_audit = audited(mine, ("rude", "naked"), asset=asset)
    audit = audited(hidden, ("rude", "naked"), asset=other, hostile=f"{salt}evidence")
    flag = hidden.flags(audit)["naked"]
    with tenant_scope(things.party.id):
        reviews.queue.claim(review_id=flag.id, actor=ANN)
        reviews.decide_review(review_id=flag.id, decision="allow", reason=f"{salt}reason", actor=ANN)
    found = Narrowed(things, mine, hidden, new_member(things.party.tenant, "reviewer"), salt)
    found.own = {
        "dataset_id": str(mine.dataset.id),
        "asset_id": str(asset.id),
        "audit_id": str(own_audit.id),
        "review_id": str(mine.flags(own_audit)["rude"].id),
    }
    found.theirs = {
        "dataset_id": str(hidden.dataset.id),
        "asset_id": str(other.id),
        "audit_id": str(audit.id),
        "review_id": str(hidden.flags(audit)["rude"].id),
    }
    found.fingerprints = _hidden(found)
    found.narrow(found.reviewer, found.to)
    return found


def _rows(narrow: Narrowed, to: Narrowing | None) -> dict[str, dict[str, str]]:
    """By table and id all rows that somebody narrowed to this sees of the tables that narrow, as text."""
    rows: dict[str, dict[str, str]] = {}
    with narrowed(to), tenant_scope(narrow.id), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tablename FROM pg_policies WHERE policyname = 'dataset_narrowing'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT id::text, to_jsonb(t)::text FROM "{table}" t')
            rows[table] = dict(cursor.fetchall())
    return rows


def _hidden(narrow: Narrowed) -> set[str]:
    """Ids and words that stand in rows that the narrowing hides and in none that it shows, nor in the tenant's own."""
    all_rows, seen = _rows(narrow, None), _rows(narrow, narrow.to)
    hidden, shown = "", json.dumps(seen)
    for table, rows in all_rows.items():
        hidden += json.dumps([row for row_id, row in rows.items() if row_id not in seen[table]])
    party = narrow.things.party
    with tenant_scope(party.id), connection.cursor() as cursor:
        # Of no dataset: people, policies, and tasks of searches, which their pages may name.
        for table in ("policy", "policy_version", "search_task", "classifier"):
            cursor.execute(f'SELECT to_jsonb(t)::text FROM "{table}" t')
            shown += json.dumps(cursor.fetchall())
    people = Membership.objects.filter(tenant=party.tenant).values_list("user_id", flat=True)
    shown += json.dumps([str(party.id), *map(str, people)])
    names = set(UUID.findall(hidden)) | narrow.words(hidden)
    return names - set(UUID.findall(shown)) - narrow.words(shown)


def _addresses(narrow: Narrowed, name: str) -> Iterator[str]:
    """About things of every other dataset, and about the reviewer's own."""
    address = narrow.things.address(name)
    yield address
    converters = set(next(p for p in urlpatterns if p.name == name).pattern.converters)
    for known in (narrow.theirs, narrow.own):
        if converters and converters <= set(known):
            yield reverse(f"console:{name}", kwargs={one: known[one] for one in converters})


def _fields(narrow: Narrowed) -> list[dict[str, str]]:
    """What is typed into forms: ids of what is hidden where one can name something, words elsewhere."""
    hidden = narrow.theirs
    return [
        {},
        {"text": "a red kettle", "hybrid": "on"},
        {"text": "a red kettle", "dataset": hidden["dataset_id"]},
        {"image_asset": hidden["asset_id"], "asset": hidden["asset_id"], "like": hidden["asset_id"]},
        {
            "search": str(uuid.uuid4()),
            "asset": hidden["asset_id"],
            "kind": "click",
            "like": hidden["asset_id"],
        },
        {
            "decision": "allow",
            "rule": "rude",
            "reason": "Fine.",
            "as_of": "",
            "dataset": hidden["dataset_id"],
        },
        {"decision": "allow", "rule": "rude", "reason": ""},
    ]


def test_there_are_fingerprints_of_every_sort(narrow: Narrowed) -> None:
    assert len([one for one in narrow.fingerprints if UUID.fullmatch(one)]) > 20
    said = {one.removeprefix(narrow.salt) for one in narrow.fingerprints if one.startswith(narrow.salt)}
    assert {"text", "colour", "key", "external", "evidence", "reason"} <= said
    assert set(narrow.theirs.values()) <= narrow.fingerprints
    assert not set(narrow.own.values()) & narrow.fingerprints


def test_who_is_not_narrowed_finds_them(narrow: Narrowed) -> None:
    """Else the tests below could not fail."""
    http = narrow.client(new_member(narrow.things.party.tenant, "reviewer"))
    for name in ("dataset", "asset", "audit", "review"):
        address = reverse(f"console:{name}", kwargs={f"{name}_id": narrow.theirs[f"{name}_id"]})
        assert narrow.found(http.get(address).content, address), name
    found = http.post("/search/results", {"text": "a red kettle"}, headers=HTMX).content
    assert {f"{narrow.salt}text", f"{narrow.salt}colour"} <= narrow.found(found)
    assert {f"{narrow.salt}reason"} <= narrow.found(http.get("/reviews/decisions").content)


@pytest.mark.parametrize(("name", "method", "scope"), TABLE)
def test_nothing_of_another_dataset_is_answered(name: str, method: str, scope: str, narrow: Narrowed) -> None:
    http = narrow.client()
    opens = scope in scopes_of("reviewer") and method in VIEWS[name].narrowable
    for address in _addresses(narrow, name):
        for fields in _fields(narrow):
            for headers in ({}, HTMX):
                answer = _sent(http, method, address, fields, headers)
                content = b"".join(answer.streaming_content) if answer.streaming else answer.content
                assert answer.status_code < 500, (address, fields, content[-2000:])
                told = content + answer.headers.get("Location", "").encode()
                assert narrow.found(told, f"{address} {json.dumps(fields)}") == set(), (address, fields)
                if not opens:
                    assert answer.status_code == (302 if name == "home" else 403), (address, fields)


def _sent(
    http: Client, method: str, address: str, fields: Mapping[str, str], headers: Mapping[str, str]
) -> Any:
    send = {"GET": http.get, "POST": http.post}.get(method)
    if send is None:
        return http.generic(method, address, headers=headers)
    return send(address, fields, headers=headers)


def test_what_another_dataset_holds_is_absent_by_its_id(narrow: Narrowed) -> None:
    http = narrow.client()
    for name, method, _ in TABLE:
        converters = set(next(p for p in urlpatterns if p.name == name).pattern.converters)
        if converters and converters <= set(narrow.theirs) and method in VIEWS[name].narrowable:
            address = reverse(f"console:{name}", kwargs={one: narrow.theirs[one] for one in converters})
            assert _sent(http, method, address, {}, {}).status_code == 404, (name, method)


def test_nothing_of_another_dataset_is_changed(narrow: Narrowed) -> None:
    """Whatever forms are sent: a decision in bulk says which flags by words, and names none of them."""
    http, seen = narrow.client(), _rows(narrow, narrow.to)
    before = _rows(narrow, None)
    for name, method, _ in TABLE:
        if method != "GET":
            for address in _addresses(narrow, name):
                for fields in _fields(narrow):
                    _sent(http, method, address, fields, {})
    after = _rows(narrow, None)
    for table, rows in before.items():
        hidden = {row_id: row for row_id, row in rows.items() if row_id not in seen[table]}
        assert {row_id: after[table].get(row_id) for row_id in hidden} == hidden, table
    with tenant_scope(narrow.id):
        made = Outcome.objects.filter(reviewer=str(narrow.reviewer.pk))
        theirs = Review.objects.filter(asset__dataset_id=narrow.mine.dataset.id)
        assert set(made.values_list("item", flat=True)) <= set(theirs.values_list("asset_id", flat=True))


class _Forms(HTMLParser):
    """Where the forms and links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.actions |= {given[name] for name in ("action", "formaction", "hx-post") if given.get(name)}
        self.links += [given[name] for name in ("href", "hx-get", "src") if given.get(name, "")[:1] == "/"]


def test_a_page_offers_no_way_into_what_is_refused(narrow: Narrowed) -> None:
    http, seen = narrow.client(), set[str]()
    waiting = ["/", "/datasets", *(reverse(f"console:{n[:-3]}", args=[v]) for n, v in narrow.own.items())]
    while waiting:
        address = waiting.pop().partition("#")[0]
        if address in seen or address.startswith(("/static", "/api", "/docs", "/operator")):
            continue
        seen.add(address)
        answer = http.get(address)
        # What cannot be searched for or shown yet says so.
        assert answer.status_code in (200, 302, 404, 409, 422), address
        if not answer.streaming and "html" in answer.headers.get("Content-Type", ""):
            forms = _Forms()
            forms.feed(answer.content.decode())
            waiting += forms.links
            assert [one for one in forms.actions if not _is_open(one)] == [], address
    assert len(seen) > 15


def _is_open(action: str) -> bool:
    """Whether a form leads where a narrowed person may send it."""
    try:
        view: Any = resolve(action.partition("?")[0]).func
    except Resolver404:
        return True
    return getattr(view, "needs", None) is None or bool(view.narrowable)


def test_counts_are_of_what_is_seen(narrow: Narrowed) -> None:
    http = narrow.client()
    narrow.mine.flag()
    with tenant_scope(narrow.id):
        everywhere = Review.objects.filter(state__in=WAITING)
        waiting = everywhere.filter(asset__dataset_id=narrow.mine.dataset.id)
        mine, total = waiting.count(), everywhere.count()
    assert 0 < mine < total
    page = http.get("/reviews").content.decode()
    assert f'<span class="count-badge">{mine}<' in page
    found = http.post("/search/results", {"text": "a red kettle"}, headers=HTMX).content.decode()
    assert "1 compared" in found
    assert "red" in found


def test_a_picture_of_theirs_is_no_query_and_no_neighbour(narrow: Narrowed) -> None:
    http, asset = narrow.client(), narrow.theirs["asset_id"]
    for fields in (
        {"image_asset": asset},
        {"like": asset},
        {"text": "x", "dataset": narrow.theirs["dataset_id"]},
    ):
        assert http.post("/search/results", fields, headers=HTMX).status_code == 404, fields
    near = http.get(f"/assets/{narrow.own['asset_id']}/neighbours", headers=HTMX)
    assert near.status_code == 200
    assert narrow.found(near.content) == set()


def test_a_search_of_somebody_else_tells_nothing_to_them(narrow: Narrowed) -> None:
    """Neither its further pages nor what they judge by its id."""
    theirs = search(tenant_id=narrow.id, query=Query(text="a red kettle", top_k=1))
    assert theirs.next is not None
    http = narrow.client()
    fields = {"text": "a red kettle", "cursor": theirs.next}
    assert http.post("/search/results", fields, headers=HTMX).status_code == 410
    judged = {"search": theirs.search_id, "asset": narrow.theirs["asset_id"], "kind": "relevant"}
    assert http.post("/search/feedback", judged, headers=HTMX).status_code == 404


def test_jobs_are_neither_shown_nor_streamed(narrow: Narrowed) -> None:
    http, job = narrow.client(), narrow.things.ids["job_id"]
    for address in (f"/jobs/{job}", f"/jobs/{job}/events", f"/jobs/{job}/log", f"/jobs/states?ids={job}"):
        assert http.get(address).status_code == 403, address


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"owner", "admin"}))
def test_a_role_adds_nothing_to_what_narrowed_people_do(narrow: Narrowed, role: str) -> None:
    """An editor who is narrowed reads: what they would write is for the whole workspace."""
    person = new_member(narrow.things.party.tenant, role)
    narrow.narrow(person, narrow.to)
    http = narrow.client(person)
    assert http.get("/")["Location"] == "/datasets"
    assert http.get(f"/datasets/{narrow.own['dataset_id']}").status_code == 200
    assert http.get(f"/datasets/{narrow.theirs['dataset_id']}").status_code == 404
    for name in ("jobs", "map", "generate", "models", "usage", "keys", "people", "data", "log", "webhooks"):
        assert http.get(reverse(f"console:{name}")).status_code == 403, name
    sent = http.post(f"/datasets/{narrow.own['dataset_id']}/edit", {"name": "mine now"})
    assert sent.status_code == 403


def test_a_role_of_the_workspaces_own_can_be_narrowed(narrow: Narrowed) -> None:
    party = narrow.things.party
    with tenant_scope(party.id):
        role = create_role(
            actor=acting(party.tenant, party.owner),
            name=f"desk-{secrets.token_hex(3)}",
            scopes=["moderate", "write", "generate"],
        )
    person = new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        change_role(actor=acting(party.tenant, party.owner), user_id=person.pk, role=role.name)
    narrow.narrow(person, narrow.to)
    http = narrow.client(person)
    # It does not read: reviews are where they begin.
    assert http.get("/")["Location"] == "/reviews"
    page = http.get("/reviews")
    assert page.status_code == 200
    assert narrow.found(page.content) == set()
    assert http.get(f"/reviews/{narrow.theirs['review_id']}").status_code == 404
    assert http.get("/datasets").status_code == 403
    assert http.post("/datasets/new", {"name": "mine"}).status_code == 403


def test_queues_narrow_what_is_reviewed(narrow: Narrowed) -> None:
    person = new_member(narrow.things.party.tenant, "reviewer")
    narrow.narrow(person, Narrowing(narrow.to.datasets, ("naked",)))
    audit = narrow.mine.audit(("rude", "naked"))
    flags = narrow.mine.flags(audit)
    http = narrow.client(person)
    assert http.get(f"/reviews/{flags['rude'].id}").status_code == 404
    page = http.get(f"/reviews/{flags['naked'].id}").content.decode()
    assert str(flags["rude"].id) not in page
    http.post(f"/reviews/{flags['naked'].id}/claim")
    sent = {"decision": "allow", "reason": "Fine."}
    assert http.post(f"/reviews/{flags['naked'].id}/decide", sent).status_code == 302
    # The flag that they do not see holds the item.
    assert narrow.mine.stands(audit)[0] == "review"


def test_narrowing_holds_with_the_next_request_and_is_lifted_so(narrow: Narrowed) -> None:
    person = new_member(narrow.things.party.tenant, "reviewer")
    http, address = narrow.client(person), f"/assets/{narrow.theirs['asset_id']}"
    assert (http.get(address).status_code, http.get("/jobs").status_code) == (200, 200)
    narrow.narrow(person, narrow.to)
    assert (http.get(address).status_code, http.get("/jobs").status_code) == (404, 403)
    narrow.narrow(person, None)
    assert (http.get(address).status_code, http.get("/jobs").status_code) == (200, 200)


def test_who_is_not_narrowed_pays_nothing_for_it(narrow: Narrowed) -> None:
    """None of their statements sets a narrowing, and no savepoint stands around any."""
    from django.test.utils import CaptureQueriesContext

    http = narrow.client(new_member(narrow.things.party.tenant, "reviewer"))
    for address in (f"/assets/{narrow.own['asset_id']}", "/reviews", f"/reviews/{narrow.own['review_id']}"):
        with CaptureQueriesContext(connection) as made:
            assert http.get(address).status_code == 200
        said = [query["sql"] for query in made.captured_queries]
        assert not [sql for sql in said if "app.datasets" in sql or "SAVEPOINT" in sql], address
