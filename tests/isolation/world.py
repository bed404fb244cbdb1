"""Tenants that look alike: the same names and nearly the same content, in which each has words that nobody else has.

A world has something of every kind that the product keeps. What it is made of is read back from the database, so that a
new table is looked at by itself: all its rows are in the digest, and all ids in them are the tenant's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from django.apps import apps
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tenants.accounts import keys, quotas, services
from tenants.accounts.models import Membership, Session, UsageDay, User
from tenants.accounts.permissions import SCOPES, Actor
from tenants.datasets import resumable, storage
from tenants.datasets.models import Asset, StreamDeadLetter, TranscriptSegment
from tenants.events import endpoints
from tenants.jobs import services as jobs
from tenants.jobs.models import Job, JobArchive
from tenants.learning.models import ClassifierVersion
from tenants.moderation import reviews
from tenants.moderation.models import Audit, PolicyVersion, Review, ShadowDecision
from tenants.moderation.reviews import bulk
from tenants.people import invitations
from tenants.retrieval import model_routing, saved
from tenants.retrieval.cache import async_writer
from tenants.retrieval.models import ComputedField, SearchGate, VectorGap
from tenants.scope import TenantModel, operator_scope, tenant_scope
from tenants.valkey import client as valkey
from tests.api.conftest import Api, upload
from tests.conftest import Party
from tests.console import generating
from tests.console.auditing import audited
from tests.console.learning import candidate, promotion
from tests.tenants.learning.world import with_files
from tests.tenants.reviewing import World as Moderated
from tests.tenants.reviewing import make_world
from workers.base import run_job

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
#: Two texts, a pair of pictures and a file that both tenants have byte for byte.
TEXTS = ("A red kettle on a black stove", "A small harbour at dusk")
SHARED_TEXT = "This sentence is in both workspaces, byte for byte."
#: Jobs that take long or go out to the network; what they leave behind is made by hand.
HEAVY = frozenset(
    {
        *(
            "finetune",
            "train_gate",
            "generate",
            "embed_beside",
            "project_map",
            "backtest_policy",
            "audit_item",
        ),
        "read_stream",
    }
)


@dataclass
class World:
    """One tenant, and what is known of it: rows by table, ids by the name that the API gives them."""

    party: Party
    salt: str
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    #: What paths name and no table has under that name.
    paths: dict[str, list[str]] = field(default_factory=dict)
    #: Requests that were made with an Idempotency-Key: method, path, body, key.
    replays: list[tuple[str, str, Any, str]] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    cursors: list[str] = field(default_factory=list)
    #: Files as they were uploaded, by name.
    files: dict[str, bytes] = field(default_factory=dict)
    _count: int = 0

    @property
    def id(self) -> uuid.UUID:
        return self.party.tenant.id

    @property
    def api(self) -> Api:
        return Api(self.party.token)

    def word(self) -> str:
        """Letters and digits that are nowhere else."""
        self._count += 1
        return f"{self.salt}{self._count:04d}"

    def read(self) -> None:
        """Look at everything in the database that is this tenant's."""
        self.rows = dump(self.id)
        for row in self.rows["hash_entry"]:
            # An entry is named by its item.
            row["id"] = row["item"]
        for table, rows in self.rows.items():
            self.ids[table] = [str(row["id"]) for row in rows if "id" in row]
        # The key that calls: nobody revokes what they call with.
        prefix = self.party.token.partition(".")[0]
        self.ids["api_key"] = [row["id"] for row in self.rows["api_key"] if row["prefix"] != prefix]
        self.ids["user"] = [row["user_id"] for row in self.rows["membership"]]
        self.ids["batch"] = list({r["batch"] for r in self.rows["review_outcome"] if r["batch"]})
        self.ids["slug"] = [row["slug"] for row in self.rows["search_task"]]

    def text(self) -> str:
        return json.dumps(self.rows)


def new_world(salt: str = "") -> World:
    """A tenant with something of everything, whose jobs have run. About two seconds."""
    salt = salt or f"q{secrets.token_hex(3).translate(str.maketrans('0123456789', 'ghijkmnprs'))}z"
    slug = f"t-{secrets.token_hex(6)}"
    tenant = services.create_tenant(slug=slug, name=f"Harbour Shop {salt}0000", plan="demo")
    owner = User.objects.create(email=f"owner-{salt}0000@people.example", name=f"Ann {salt}0000")
    services.set_role(tenant=tenant, user=owner, role="owner")
    with tenant_scope(tenant.id):
        _, token = keys.create_key(name=f"Shop window {salt}0000", scopes=list(SCOPES), created_by=owner)
    world = World(Party(tenant, owner, "", token), salt)
    for build in (_people, _content, _moderation, _learning, _asked, _by_hand, _fill):
        build(world)
    settle(world)
    _exported(world)
    _listed(world)
    async_writer.flush()
    world.read()
    return world


def grow(world: World) -> None:
    """More of nearly everything."""
    _people(world)
    _content(world, f"More photographs {world.word()}")
    _moderation(world)
    settle(world)
    world.read()


# --- What is in it ------------------------------------------------------------------------------------------


def made(world: World, method: str, path: str, body: Any, **headers: str) -> Any:
    """The answer to a request that has to succeed; creating ones carry keys that both tenants use."""
    if method == "POST":
        key = f"order-{len(world.replays)}"
        headers["Idempotency-Key"] = key
        world.replays.append((method, path, body, key))
    answer = world.api.call(method, path, body, headers)
    if answer.status_code >= 300:
        raise AssertionError(f"{method} {path}: {answer.status_code} {answer.content[:500]!r}")
    return answer.json() if answer.content else None


def _people(world: World) -> None:
    word = world.word
    made(world, "POST", "/keys", {"name": f"Spare {word()}", "scopes": ["read"]})
    made(world, "POST", "/invitations", {"email": f"bob-{word()}@people.example", "role": "viewer"})
    actor = Actor(str(world.party.owner.pk), "owner", world.party.owner.pk)
    with tenant_scope(world.id):
        invitations.invite(actor=actor, email=f"eve-{word()}@people.example", role="editor")
    member = User.objects.create(email=f"carol-{word()}@people.example", name=f"Carol {word()}")
    services.set_role(tenant=world.party.tenant, user=member, role="viewer")
    made(world, "PUT", "/origins", {"origins": [f"https://{word()}.example"]})
    hook = made(
        world,
        "POST",
        "/webhooks",
        {"url": f"https://hooks.example/{word()}", "description": f"Orders {word()}"},
    )
    made(world, "POST", f"/webhooks/{hook['id']}/test", None)
    with tenant_scope(world.id):
        endpoints.give_up_pending(uuid.UUID(hook["id"]))


def _content(world: World, name: str = "Holiday photographs") -> None:
    word = world.word
    schema = {"colour": {"type": "text", "label": f"Colour {word()}"}, "price": {"type": "number"}}
    body = {"name": name, "description": f"By the sea {word()}", "metadata_schema": schema}
    dataset = made(world, "POST", "/datasets", body)["id"]
    empty = made(world, "POST", "/datasets", {"name": f"Archive {word()}"})["id"]
    assets = f"/datasets/{dataset}/assets"
    for text in (*(f"{text} {word()}" for text in TEXTS), SHARED_TEXT):
        told = {"colour": "red", "note": word(), "price": 12}
        made(world, "POST", assets, {"text": text, "external_id": f"sku-{word()}", "metadata": told})
    for name, content in files_of(world).items():
        world.files[name] = content
        fields = {"file": upload(content, f"{name}-{word()}.png"), "text": f"A kettle {word()}"}
        fields["metadata"] = json.dumps({"colour": "red", "note": word()})
        answer = world.api.form(assets, fields)
        assert answer.status_code == 202, answer.content
    rows = "".join(f"{text} {word()},{word()},blue\n" for text in TEXTS)
    table = upload(f"text,external_id,colour\n{rows}".encode(), f"orders-{word()}.csv")
    for into, start in ((dataset, "true"), (empty, "false")):
        table.seek(0)
        answer = world.api.form(f"/datasets/{into}/imports", {"file": table, "start": start})
        assert answer.status_code in (201, 202), answer.content
    with tenant_scope(world.id):
        upload_id = uuid.uuid4()
        content = word().encode()
        resumable.begin(
            upload_id=upload_id,
            length=40,
            metadata={"filename": f"film-{word()}.mp4"},
            expires_at=_tomorrow(),
        )
        resumable.begin(upload_id=uuid.uuid4(), length=4, metadata={}, expires_at=_tomorrow())
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    answer = world.api.call("PATCH", f"/uploads/{upload_id}", content, headers)
    assert answer.status_code == 204, answer.content


def files_of(world: World) -> dict[str, bytes]:
    """Pictures: one that every world has byte for byte, and one with a word of its own in its metadata and pixels."""
    ground = np.kron(np.random.default_rng(7).integers(0, 255, (6, 8, 3)), np.ones((8, 8, 1))).astype(
        np.uint8
    )
    own = ground.copy()
    own[0, : len(world.salt), 0] = list(world.salt.encode())
    told = PngInfo()
    told.add_text("Description", f"Taken by {world.word()}")
    return {"same": _png(ground), "kettle": _png(own, told)}


def _png(pixels: np.ndarray, told: PngInfo | None = None) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", pnginfo=told)
    return sink.getvalue()


def _moderation(world: World) -> None:
    word = world.word
    rule = {"id": "rude", "when": "false", "then": "review", "reason": f"It may be rude {word()}."}
    policy = made(world, "POST", "/policies", {"name": f"House rules {word()}", "rules": [rule]})["policy"][
        "id"
    ]
    rule["reason"] = f"It is rude {word()}."
    made(world, "POST", f"/policies/{policy}/versions", {"rules": [rule]})
    world.api.post(f"/policies/{policy}/activate", {"version": 1, "mode": "enforce"})
    world.api.post(f"/policies/{policy}/activate", {"version": 2, "mode": "shadow"})
    made(world, "POST", f"/policies/{policy}/backtest", {"version": 2})
    listed = made(
        world,
        "POST",
        "/hash-lists",
        {"name": f"Known fakes {word()}", "stance": "bad", "description": word()},
    )["id"]
    noted = {"algorithm": "sha256", "hash": hashlib.sha256(word().encode()).hexdigest(), "note": word()}
    made(world, "POST", f"/hash-lists/{listed}/entries", {"hashes": [noted]})
    judged = make_world(world.party)
    for _ in range(2):
        _audit(world, judged)
    made(world, "POST", "/audits", {"text": f"Buy now {word()}", "subject": f"seller-{word()}"})
    with tenant_scope(world.id):
        open_ones = list(Review.objects.filter(rule="rude", state="open").order_by("id"))
        reviews.queue.claim(review_id=open_ones[0].id, actor="key:x")
        reviews.decide_review(
            review_id=open_ones[0].id, decision="block", reason=f"Rude {word()}", actor="key:x"
        )
        reviews.open_appeal(audit_id=open_ones[0].audit_id, reason=f"It is not {word()}", actor="key:x")
        bulk.apply(wanted=bulk.Filter(rule="naked"), decision="allow", reason=f"Fine {word()}", actor="key:x")


def _by_hand(world: World) -> None:
    """What only jobs make that would take too long here."""
    word = world.word
    with tenant_scope(world.id):
        audit = Audit.objects.order_by("id")[0]
        version = PolicyVersion.objects.order_by("-number")[0]
        ShadowDecision.objects.create(audit=audit, version=version, decision="review", rules=[{"id": word()}])
        asset = Asset.objects.filter(modality="image").order_by("id")[0]
        TranscriptSegment.objects.create(asset=asset, start_s=0, end_s=1, text=f"Somebody says {word()}")
        VectorGap.objects.create(asset=asset, model="prior:2", revision=0, reason=f"Too dark {word()}")
        SearchGate.objects.create(number=1, content=b"x", report={"note": word()}, live=False)
        now = timezone.now()
        JobArchive.objects.create(first_at=now, last_at=now, count=1, jobs=[{"kind": word()}])
        UsageDay.objects.create(day=now.date(), kind="requests", amount=4_711)
        ComputedField.objects.create(key=word(), facet_key=word(), model="prior:2")


#: Written by sealing alone, which reads them again.
SEALED = frozenset({"audit_log_line", "audit_log_seal", "moderation_seal"})
#: Of connections to identity providers, which tests/api/test_permissions.py makes, and of who signs in by them.
SIGN_ON = frozenset({"identity_provider", "sign_on_identity", "sign_on_request", "used_assertion"})


def _fill(world: World) -> None:
    """A row of each kind that there is none of yet: whatever the database takes, with words of this tenant."""
    empty = {table: model for table, model in tenant_tables().items() if table not in SEALED | SIGN_ON}
    with tenant_scope(world.id):
        for _ in range(3):
            # A row may need one of another kind.
            for table, model in list(empty.items()):
                if model.objects.exists() or _filled(world, model):
                    del empty[table]


def _filled(world: World, model: type[TenantModel]) -> bool:
    try:
        with transaction.atomic():
            model.objects.create(**{
                one.name: _value_of(world, one)
                for one in model._meta.local_fields
                if one.name not in ("id", "tenant") and not (one.has_default() or one.null)
            })  # fmt: skip
    except (DatabaseError, LookupError):
        return False
    return True


def _value_of(world: World, one: Any) -> Any:
    """Raises LookupError where it needs a row that there is not, or a type that is not known here."""
    if one.is_relation:
        found = world.party.owner if one.related_model is User else one.related_model.objects.first()
        if found is None:
            raise LookupError(one.name)
        return found
    if one.choices:
        return one.choices[0][0]
    makers: dict[str, Any] = {
        "UUIDField": uuid.uuid4,
        "DateTimeField": timezone.now,
        "DateField": lambda: timezone.now().date(),
        "BinaryField": lambda: world.word().encode(),
        "JSONField": lambda: [world.word()],
        "BooleanField": lambda: False,
        "URLField": lambda: f"https://{world.word()}.example",
        "EmailField": lambda: f"{world.word()}@people.example",
    }
    kind = one.get_internal_type()
    if kind in ("CharField", "TextField", "SlugField"):
        return world.word()[: one.max_length]
    if kind.endswith("IntegerField") or kind == "FloatField":
        return 1
    return makers[kind]()


def _audit(world: World, judged: Moderated) -> None:
    """Of an item that nobody else has: evidence with a word of the tenant's wherever content could put one."""
    said = world.word()
    asset = judged.add(external_id=world.word())
    concluded = {"rules": f'p("{world.word()}").', "error": f"More than {world.word()} facts follow."}
    audited(judged, ("rude", "naked", "made"), hostile=said, asset=asset, reasoning=concluded)


def _learning(world: World) -> None:
    word = world.word
    with TemporaryDirectory() as folder:
        model = with_files(candidate(world.party, name=f"Shelf labels {word()}"), Path(folder))
    promotion(world.party, model, "failed", report={"worse": ["golden"]}, override_reason=word())
    asset = _assets(world)[0]
    made(world, "POST", "/golden-queries", {"text": f"kettle {word()}", "relevant": [asset]})
    kind = made(world, "POST", "/classifiers", {"name": f"ripe-{word()}", "words": f"a ripe fruit {word()}"})
    labels = {"examples": [{"asset": asset, "label": True}]}
    made(world, "POST", f"/classifiers/{kind['id']}/examples", labels)
    with tenant_scope(world.id):
        ClassifierVersion.objects.create(
            classifier_id=kind["id"], number=7, state="candidate", source="words",
            model=model_routing.live(), report={"tier": word()},
        )  # fmt: skip
    made(world, "POST", "/maps", {"name": f"The shop {word()}"})
    made(
        world,
        "POST",
        "/tasks",
        {"slug": f"shop-{word()}", "weights": {"text": 1}, "description": f"For the shop {word()}"},
    )
    made(world, "POST", "/generations", {"prompt": f"a kettle by the sea {word()}"})
    done = generating.made(world.party, prompt=f"a cat by the sea {word()}", negative=word())
    blocked = {"type": "prompt-blocked", "detail": f"Not allowed {word()}"}
    stopped = generating.ended(world.party, "blocked", blocked)
    with tenant_scope(world.id):
        for row in (done, stopped):
            quotas.settle(owner=row.job_id, used={})


def _asked(world: World) -> None:
    """After the embedding: searches, an erasure, and notes in the log of a job."""
    settle(world)
    for text in (TEXTS[0], f"{TEXTS[1]} {world.word()}"):
        found = world.api.post("/search", {"text": text, "top_k": 1}).json()
        world.ids.setdefault("search", []).append(found["search_id"])
        if found.get("next"):
            world.cursors.append(found["next"])
    wanted = {
        "search_id": world.ids["search"][-1],
        "asset": found["results"][0]["asset"]["id"],
        "kind": "click",
    }
    made(world, "POST", "/feedback", wanted)
    query = {"text": f"kettle {world.word()}", "datasets": [found["results"][0]["asset"]["dataset"]]}
    made(world, "POST", "/saved-searches", {"name": f"Kettles {world.word()}", "query": query})
    told = {"datasets": query["datasets"], "modalities": ["image"]}
    made(world, "POST", "/standing-queries", {"name": f"Kettles {world.word()}", "query": told})
    broker = {"kind": "redis", "url": "rediss://ann:secret@broker.example", "topic": world.word()}
    named = {"name": f"Items {world.word()}", "dataset": query["datasets"][0]}
    source = made(world, "POST", "/stream-sources", {**named, **broker})
    with tenant_scope(world.id):
        StreamDeadLetter.objects.create(
            source_id=source["id"],
            dataset_id=source["dataset"],
            position="1-0",
            external_id=world.word(),
            slug="invalid",
            reason="Send the text of the item.",
            body=f'{{"id": "{world.word()}"}}',
        )
        member = Membership.objects.filter(tenant=world.id).order_by("pk")[0]
        saved.note_recent(member_id=member.pk, query={**query, "text": world.word()})
    made(world, "POST", "/erasures", {"external_ids": [f"sku-{world.word()}"]})


def _exported(world: World) -> None:
    made(world, "POST", "/exports", {})
    settle(world)


def _listed(world: World) -> None:
    """Cursors of its lists, and tags of its files."""
    datasets = world.api.get("/datasets?limit=1").json()
    world.cursors.append(datasets["next"])
    for path in ("/jobs?limit=1", "/assets", "/audits?limit=1"):
        if path != "/assets":
            world.cursors.append(world.api.get(path).json()["next"])
    for asset in _assets(world, "image"):
        world.etags.append(world.api.get(f"/assets/{asset}/content").headers.get("ETag", '"x"'))


def _assets(world: World, modality: str = "") -> list[str]:
    with tenant_scope(world.id):
        rows = Asset.objects.order_by("id")
        return [str(row.id) for row in (rows.filter(modality=modality) if modality else rows)]


def _tomorrow() -> dt.datetime:
    return timezone.now() + dt.timedelta(days=1)


def settle(world: World, most: int = 40) -> int:
    """Run the jobs that wait, as workers would, and what these queue; how many."""
    done = 0
    while done < most:
        with tenant_scope(world.id):
            waiting = Job.objects.filter(jobs.UNFINISHED).exclude(kind__in=HEAVY).exclude(state="running")
            found = list(waiting.order_by("id").values_list("id", flat=True)[: most - done])
        if not found:
            break
        for job_id in found:
            run_job(str(job_id), str(world.id))
            done += 1
    return done


# --- All that is a tenant's -----------------------------------------------------------------------------------


def tables() -> list[str]:
    """Every table with a column `tenant_id`, whether it is a tenant's or a global one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY table_name"
        )
        return [name for (name,) in cursor.fetchall()]


def tenant_tables() -> dict[str, type[TenantModel]]:
    return {m._meta.db_table: m for m in apps.get_models() if issubclass(m, TenantModel)}


def dump(tenant_id: uuid.UUID) -> dict[str, list[dict[str, Any]]]:
    """All rows of a tenant by table, and those of its people."""
    found: dict[str, list[dict[str, Any]]] = {}
    with operator_scope("isolation: reading a tenant"), connection.cursor() as cursor:
        for table, condition in _conditions():
            cursor.execute(f'SELECT to_jsonb(t) FROM "{table}" t WHERE {condition} ORDER BY 1', [tenant_id])
            found[table] = [json.loads(row) if isinstance(row, str) else row for (row,) in cursor.fetchall()]
    return found


def _conditions() -> Iterator[tuple[str, str]]:
    for table in tables():
        yield table, "t.tenant_id = %s"
    yield "tenant", "t.id = %s"
    members = f'SELECT user_id FROM "{Membership._meta.db_table}" WHERE tenant_id = %s'
    yield User._meta.db_table, f"t.id IN ({members})"
    yield Session._meta.db_table, f"t.user_id IN ({members})"


def state(tenant_id: uuid.UUID) -> dict[str, str]:
    """A digest of each table's rows, of the stored files and of what is kept in Valkey: what nobody else may change."""
    async_writer.flush()
    found: dict[str, str] = {}
    with operator_scope("isolation: state of a tenant"), connection.cursor() as cursor:
        for table, condition in _conditions():
            cursor.execute(
                f"SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '') "
                f'FROM "{table}" t WHERE {condition}',
                [tenant_id],
            )
            found[table] = cursor.fetchone()[0]
    for path in sorted(storage.files_below(str(tenant_id))):
        with default_storage.open(path, "rb") as file:
            found[f"file {path}"] = hashlib.sha256(file.read()).hexdigest()
    for key in sorted(valkey().scan_iter(match=f"*{tenant_id}*", count=5_000)):
        found[f"key {key.decode(errors='replace')}"] = hashlib.sha256(valkey().dump(key) or b"").hexdigest()
    return found


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What differs; entries of Valkey that have only expired do not."""
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) and not (name.startswith("key ") and name not in after)
    ]


def without_rows(world: World) -> list[str]:
    """Tables of tenants of which this world has no row."""
    return sorted(table for table in tenant_tables() if not world.rows.get(table))
