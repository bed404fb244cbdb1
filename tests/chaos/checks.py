"""Whether what clients were promised is what is there, once everything is healed and has come to rest.

Each check returns what is wrong, by operation where there is one. `CHECKS` is what a run prints and is judged by.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from tests.chaos.journal import Journal, Operation
from tests.chaos.world import Tenant, World
from tests.flows.client import Client
from tests.flows.ledger import text_of
from tests.waiting import pause, until

ADDING = ("upload", "picture")
AT_ONCE = 4
#: Seconds in which a message of an event that was stored during the checks arrives.
ARRIVES_S = 30
#: Kinds of events of which there is one for each thing that they tell of.
ONE_EACH = {"asset.created": "asset", "asset.deleted": "asset", "job.succeeded": "job", "job.failed": "job"}


@dataclass
class Checked:
    """How much of something was looked at, and what of it was wrong."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Checks:
    world: World
    journal: Journal
    tenants: Sequence[Tenant]
    #: Seconds in which a host looks through its files, and notices those of indexes that were changed under it.
    look_s: float = 0.0

    def settle(self, seconds: float) -> None:
        """Until every job has ended and every message was sent, as far as that comes."""
        pause(self.look_s, "a host looks through its files")
        self.world.send("workers.collect_garbage")
        until(self._rests, seconds, lambda: f"work that does not end: {self._unfinished()}", every_s=1.0)

    def _rests(self) -> bool:
        return not self._unfinished()

    def _unfinished(self) -> list[tuple]:
        return self.world.query(
            "SELECT 'job', kind, state, count(*), min(id::text) FROM job"
            " WHERE state IN ('queued', 'running') GROUP BY kind, state"
            " UNION ALL SELECT 'delivery', '', state, count(*), min(id::text) FROM webhook_delivery"
            " WHERE state = 'pending' GROUP BY state"
        )

    def all(self) -> dict[str, Checked]:
        self._know()
        return {name: check(self) for name, check in CHECKS.items()}

    # --- What is known -----------------------------------------------------------------------------------

    def _know(self) -> None:
        rows = self.world.query(
            "SELECT a.tenant_id::text, a.id::text, a.status, a.metadata->>'n', b.sha256, a.error::text"
            " FROM asset a JOIN blob b ON b.id = a.blob_id"
        )
        slugs = {tenant.id: tenant.slug for tenant in self.tenants}
        self.assets: dict[str, tuple[str, str, str | None, str]] = {}
        self.by_number: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.errors: dict[str, str] = {}
        for tenant, asset, status, number, sha256, error in rows:
            self.assets[asset] = (slugs[tenant], status, number, sha256)
            self.errors[asset] = error or ""
            if number is not None:
                self.by_number[slugs[tenant], number].append(asset)
        self.jobs = {
            job: (kind, state, error or "")
            for job, kind, state, error in self.world.query(
                "SELECT id::text, kind, state, error::text FROM job"
            )
        }
        self.erased = {one.promised["asset"] for one in self.journal.acknowledged("erase")}
        self.erased |= {
            asset for one in self.journal.acknowledged("person") for asset in one.promised["assets"].split()
        }

    def _tell(self, operation: Operation, what: str) -> str:
        return f"{operation}: {what}; {self.journal.near(operation.began, operation.ended)}"

    def _each(self, operations: Sequence[Operation], look: Callable[[Client, Operation], str]) -> Checked:
        """Ask the API about each; `look` says what is wrong."""
        clients = {tenant.slug: tenant for tenant in self.tenants}

        def one(operation: Operation) -> str:
            try:
                return look(self.world.client(clients[operation.tenant]), operation)
            except (requests.RequestException, AssertionError) as error:
                return f"it cannot be looked at: {error!r}"

        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(one, operations))
        wrong = [self._tell(op, what) for op, what in zip(operations, found, strict=True) if what]
        return Checked(len(operations), wrong)

    # --- There, or gone ----------------------------------------------------------------------------------

    def present(self) -> Checked:
        """Every file that was acknowledged and not erased: ready, with its bytes, and found by its own words."""
        kept = [op for op in self.journal.acknowledged(*ADDING) if op.promised["asset"] not in self.erased]
        return self._each(kept, self._is_present)

    def _is_present(self, client: Client, operation: Operation) -> str:
        asset, sha256 = operation.promised["asset"], operation.promised["sha256"]
        if asset not in self.assets:
            return "it is not there"
        if self.assets[asset][1] != "ready":
            return f"it is {self.assets[asset][1]}: {self.errors[asset]}"
        content = client.request("GET", f"/assets/{asset}/content")
        if content.status_code != 200:
            return f"its content is answered with {content.status_code}: {content.text[:200]}"
        if operation.kind == "upload" and hashlib.sha256(content.content).hexdigest() != sha256:
            return "its content is other than what was sent"
        return self._is_found(client, asset, operation.promised["n"])

    def _is_found(self, client: Client, asset: str, number: str) -> str:
        for exact in (False, True):
            query = {"text": text_of(int(number)), "top_k": 20, "exact": exact}
            if asset not in client.found(**query):
                return f"it is not found by its own words (exact: {exact})"
        return (
            "" if asset in client.found(text="anything", filter={"n": int(number)}) else "no filter finds it"
        )

    def rows(self) -> Checked:
        """Of every import each row once."""
        imports, checked = self.journal.acknowledged("import"), Checked()
        for operation in imports:
            numbers = operation.promised["numbers"].split()
            checked.count += len(numbers)
            there = [number for number in numbers if len(self.by_number[operation.tenant, number]) == 1]
            if there != numbers:
                state = self.jobs.get(operation.promised["job"])
                told = self.world.query(
                    "SELECT r.row, r.outcome, r.reason FROM import_row r JOIN import i ON i.id = r.import_id"
                    " WHERE i.job_id::text = %s AND r.outcome <> 'imported'",
                    operation.promised["job"],
                )
                what = f"{len(there)} of its rows are there; {state}; its receipt says {told}"
                checked.wrong.append(self._tell(operation, what))
        return checked

    def gone(self) -> Checked:
        """What was erased: not by its id, not by a search, not in the storage."""
        erased = self.journal.acknowledged("erase")
        added = {op.promised["asset"]: op for op in self.journal.acknowledged(*ADDING)}
        persons = [
            added[asset]
            for one in self.journal.acknowledged("person")
            for asset in one.promised["assets"].split()
        ]
        return self._each([*erased, *persons], lambda client, op: self._is_gone(client, op, added))

    def _is_gone(self, client: Client, operation: Operation, added: Mapping[str, Operation]) -> str:
        asset, number = operation.promised["asset"], operation.promised["n"]
        if asset in self.assets:
            return "its row is there"
        if (status := client.request("GET", f"/assets/{asset}").status_code) != 404:
            return f"it is answered with {status}"
        if asset in client.found(text=text_of(int(number)), top_k=20):
            return "a search finds it"
        sha256 = added[asset].promised["sha256"]
        # Another tenant may have the same text.
        own = next(tenant.id for tenant in self.tenants if tenant.slug == operation.tenant)
        left = list((self.world.app.data_dir / "blobs" / own).glob(f"*/{sha256[:2]}/{sha256}"))
        return f"its files are there: {left}" if left else ""

    # --- Once --------------------------------------------------------------------------------------------

    def once(self) -> Checked:
        """Of each operation one: assets, audits, generations and decisions, and none that nobody asked for."""
        checked = Checked()
        added = self.journal.acknowledged(*ADDING)
        for operation in added:
            found = self.by_number[operation.tenant, operation.promised["n"]]
            if len(found) > 1:
                checked.wrong.append(self._tell(operation, f"there are {len(found)}: {found}"))
        for what, kind, statement in COUNTED:
            there = Counter(tenant for (tenant,) in self.world.query(statement))
            for tenant in self.tenants:
                asked = len(self.journal.acknowledged(kind, tenant=tenant.slug))
                checked.count += asked
                if there[tenant.id] != asked:
                    checked.wrong.append(
                        f"{tenant.slug}: {asked} {what} were asked for, {there[tenant.id]} are there"
                    )
        wanted = {op.promised["n"] for op in added} | {
            number for op in self.journal.acknowledged("import") for number in op.promised["numbers"].split()
        }
        checked.count += len(added)
        strays = [
            asset for (_, number), ids in self.by_number.items() if number not in wanted for asset in ids
        ]
        if strays:
            checked.wrong.append(f"assets that nobody was promised: {strays}")
        return checked

    def decided(self) -> Checked:
        rows = self.world.query("SELECT review::text, count(*) FROM review_outcome GROUP BY review")
        outcomes, asked = dict(rows), self.journal.acknowledged("decide")
        wrong = [
            self._tell(operation, f"{outcomes.get(operation.promised['review'], 0)} outcomes")
            for operation in asked
            if outcomes.get(operation.promised["review"]) != 1
        ]
        return Checked(len(asked), wrong)

    def ended(self) -> Checked:
        """Every job, those that somebody was told of and those of the platform itself."""
        told = {
            operation.promised["job"]: operation
            for operation in self.journal.operations
            if operation.state == "acknowledged" and operation.promised.get("job")
        }
        wrong = [self._tell(op, "its job is not there") for job, op in told.items() if job not in self.jobs]
        for job, (kind, state, error) in self.jobs.items():
            # One promotion makes way for the next.
            if state == "succeeded" or (state == "cancelled" and kind.startswith("embed_beside")):
                continue
            # What was erased meanwhile needs no embedding.
            erased = job in told and told[job].promised.get("asset") in self.erased
            if not erased or state in ("queued", "running"):
                what = f"{kind} {job} is {state} {error}"
                wrong.append(self._tell(told[job], what) if job in told else what)
        return Checked(len(self.jobs), wrong)

    def told(self) -> Checked:
        """Messages: each event that is stored was delivered under its id, with one body, and tells of another thing."""
        arrived: list[tuple[str, str]] = []
        stored: list[tuple] = []

        def sent() -> bool:
            arrived[:] = list(self.world.receiver.messages)
            stored[:] = self.world.query(
                "SELECT e.tenant_id::text, e.id::text, e.type, e.body, d.state FROM webhook_event e"
                " JOIN webhook_delivery d ON d.event_id = e.id AND d.tenant_id = e.tenant_id"
            )
            return all(state != "pending" for *_, state in stored)

        # Upkeep goes on, and what it sealed just now is on its way: what never arrives is found wrong below.
        with contextlib.suppress(AssertionError):
            until(sent, ARRIVES_S, every_s=0.5)
        slugs, wrong = {tenant.id: tenant.slug for tenant in self.tenants}, []
        events: Counter[tuple[str, str, str]] = Counter()
        for tenant, event, kind, body, state in stored:
            bodies = self.world.receiver.messages.get((slugs[tenant], event), [])
            if not bodies:
                wrong.append(f"{kind} {event} of {slugs[tenant]} is {state} and never came: {body}")
            elif set(bodies) != {body.encode()}:
                wrong.append(f"{kind} {event} of {slugs[tenant]} came with other bodies: {bodies}")
            if kind in ONE_EACH:
                events[slugs[tenant], kind, json.loads(body)["data"][ONE_EACH[kind]]] += 1
        known = {(slugs[tenant], event) for tenant, event, *_ in stored}
        wrong += [f"a message that no event is of: {one}" for one in arrived if one not in known]
        wrong += [f"{count} events are of one {what}" for what, count in events.items() if count > 1]
        wrong += self._untold(events)
        return Checked(len(stored), wrong)

    def _untold(self, events: Mapping[tuple[str, str, str], int]) -> Iterator[str]:
        for operation in self.journal.acknowledged(*ADDING):
            if not events.get((operation.tenant, "asset.created", operation.promised["asset"])):
                yield self._tell(operation, "no event told that it was created")
        for operation in self.journal.acknowledged("erase"):
            if not events.get((operation.tenant, "asset.deleted", operation.promised["asset"])):
                yield self._tell(operation, "no event told that it was deleted")

    # --- Books -------------------------------------------------------------------------------------------

    def usage(self) -> Checked:
        """Counters of quotas are what is there, nothing is reserved, and generations are charged once."""
        rows = self.world.query(USAGE)
        slugs = {tenant.id: tenant.slug for tenant in self.tenants}
        wrong = [
            f"{slugs[tenant]}: {resource} {used:g} used and {reserved:g} reserved, {there:g} are there"
            for tenant, resource, used, reserved, there in rows
            if abs(used - there) > 1e-6 or abs(reserved) > 1e-6
        ]
        left = self.world.query(RESERVED)
        return Checked(len(rows), [*wrong, *(f"a reservation is left: {one}" for one in left)])

    def record(self) -> Checked:
        said = self.world.manage("verify_record", check=False)
        wrong = [line for line in said.splitlines() if "BROKEN" in line or "Error" in line]
        return Checked(len(self.tenants), wrong)

    def doctor(self) -> Checked:
        found = json.loads(
            self.world.manage("doctor", "--json", "--deep", check=False).partition("\n]")[0] + "]"
        )
        # Counters and files are looked at here, where nothing is at work any more.
        strict = ("quotas", "files-without-rows", "indexes", "index-builds")
        wrong = [
            f"{one['check']} {one['verdict']}: {one['what']}"
            for one in found
            if one["verdict"] in ("fail", "skipped") or (one["verdict"] == "warn" and one["check"] in strict)
        ]
        return Checked(len(found), wrong)

    def indexed(self) -> Checked:
        """Every tenant's index has as many vectors as the database."""
        checked = Checked()
        for tenant in self.tenants:
            size = self.world.client(tenant).search(text="anything")["index"]["size"]
            [(rows,)] = self.world.query(
                "SELECT count(*) FROM vector v JOIN vector_clock c ON c.tenant_id = v.tenant_id"
                " AND c.live = v.model WHERE v.tenant_id = %s",
                tenant.id,
            )
            checked.count += rows
            if size != rows:
                checked.wrong.append(f"{tenant.slug}: {size} vectors are searched, {rows} are stored")
        return checked

    def answered(self) -> Checked:
        """No answer that nothing explains, and every operation was answered in the end."""
        started = self.journal.operations
        wrong = [f"{one} was never answered" for one in started if one.state == "open"]
        return Checked(len(started), [*self.journal.wrong, *wrong])


#: What, the kind of operation, and the tenant of each that is there.
COUNTED = (
    ("audits", "audit", "SELECT tenant_id::text FROM audit WHERE source = 'request'"),
    ("generations", "generate", "SELECT tenant_id::text FROM generation"),
    ("decisions", "decide", "SELECT tenant_id::text FROM review_outcome"),
    ("test events", "hook", "SELECT tenant_id::text FROM webhook_event WHERE type = 'webhook.test'"),
    ("erasures of persons", "person", "SELECT tenant_id::text FROM erasure WHERE kind = 'subject'"),
    ("imports", "import", 'SELECT tenant_id::text FROM "import"'),
)
#: Upkeep goes on: what a job holds that has not ended is not left.
RESERVED = """
    SELECT r.tenant_id::text, r.owner::text, r.amounts::text FROM reservation r
    LEFT JOIN job j ON j.tenant_id = r.tenant_id AND j.id = r.owner
    WHERE j.state IS NULL OR j.state NOT IN ('queued', 'running')
"""
USAGE = """
    WITH stored(tenant_id, resource, amount) AS (
        SELECT tenant_id, 'assets', count(*)::float8 FROM asset GROUP BY tenant_id
        UNION ALL SELECT a.tenant_id, 'bytes', sum(b.bytes + a.metadata_bytes)::float8
            FROM asset a JOIN blob b ON b.id = a.blob_id GROUP BY a.tenant_id
        UNION ALL SELECT v.tenant_id, 'vectors', count(*)::float8
            FROM vector v JOIN vector_clock k ON k.tenant_id = v.tenant_id AND k.live = v.model GROUP BY v.tenant_id
        UNION ALL SELECT tenant_id, 'generations', count(*)::float8
            FROM generation WHERE state = 'succeeded' GROUP BY tenant_id
        UNION ALL SELECT tenant_id, 'cpu_s', sum(cost_cpu_s)::float8 FROM job GROUP BY tenant_id
    )
    SELECT c.tenant_id::text, c.resource, sum(c.used), sum(c.reserved), coalesce(max(s.amount), 0)
    FROM quota_counter c LEFT JOIN stored s ON s.tenant_id = c.tenant_id AND s.resource = c.resource
    WHERE c.resource IN ('assets', 'bytes', 'vectors', 'generations', 'cpu_s') GROUP BY c.tenant_id, c.resource
"""
CHECKS: dict[str, Callable[[Checks], Checked]] = {
    "acknowledged files are there and found": Checks.present,
    "rows of imports are there, once": Checks.rows,
    "erased files are gone": Checks.gone,
    "nothing is there twice": Checks.once,
    "decisions were taken once": Checks.decided,
    "jobs have ended well": Checks.ended,
    "events were told, each under one id": Checks.told,
    "usage is what was done": Checks.usage,
    "the record verifies": Checks.record,
    "indexes are what is stored": Checks.indexed,
    "doctor finds nothing": Checks.doctor,
    "answers are explained": Checks.answered,
}
