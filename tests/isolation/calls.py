"""Calls of every documented operation, with arguments that belong to one tenant, to another, or to both at once.

Operations and parameters are read from the OpenAPI document. A valid body is the one that tests/api/test_permissions.py
has for each route; what else a schema allows is added at random. Ids are put where a name asks for one.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from api.paging import encode_cursor
from tests.api.openapi import generated
from tests.api.test_permissions import BUILDERS, OPEN, TABLE, build_world
from tests.isolation.world import SHARED_TEXT, TEXTS, World

PREFIX = "/api/v1"
#: Names of parameters and members whose ids are not those of the table of the same name.
KINDS = {
    "member": "user",
    "batch": "batch",
    "slug": "slug",
    "task": "slug",
    "search": "search",
    "golden": "golden_query",
    "saved": "saved_search",
    "standing": "standing_query",
    "alert": "standing_alert",
    "source": "stream_source",
    "letter": "stream_dead_letter",
    "file": "query_picture",
    "entry": "hash_entry",
    "item": "hash_entry",
    "list": "hash_list",
    "model": "learnt_model",
    "relevant": "asset",
    "parent": "job",
    "variation_of": "generation",
    "like": "asset",
    "later": "asset",
    "target": "asset",
    "key": "api_key",
    "job": "job",
    "user": "user",
    "handle": "session",
    "backtest": "policy_backtest",
    "picture": "audit_picture",
    "version": "",
    "number": "",
    "dataset": "dataset",
}
#: Members of bodies that have the name of a table and hold something else.
NO_IDS = frozenset(
    {
        "text",
        "image",
        "audio",
        "video",
        "vector",
        "kind",
        "rule",
        "decision",
        "state",
        "scope",
        "origin",
        "role",
        "domain",
    }
)
OWN, THEIRS, MIXED = "own", "theirs", "mixed"
#: Parameters that are numbers, and those that the table of permissions can make.
LITERALS = frozenset({"version", "number"})
MADE = frozenset(name for made in BUILDERS.values() for name in made)
#: Sent in a form where a file is asked for.
TABLE_FILE = b"text,colour\nA red kettle,red\n"


@dataclass(frozen=True)
class Operation:
    """One method of one path of the document."""

    method: str
    path: str
    parameters: tuple[Mapping[str, Any], ...]
    bodies: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def group(self) -> str:
        return self.path.split("/")[1]

    @property
    def names(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    def at(self, place: str) -> list[str]:
        return [one["name"] for one in self.parameters if one["in"] == place]

    def required(self, place: str) -> list[str]:
        return [one["name"] for one in self.parameters if one["in"] == place and one.get("required")]


@dataclass(frozen=True)
class Call:
    """A request in the making; `body` is what JSON can hold, raw bytes, or None. `files` make it a form."""

    operation: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        """All that it says, as text: what is only repeated in an answer is no news."""
        parts = [self.path, json.dumps(dict(self.query)), json.dumps(dict(self.headers))]
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body, default=str).encode()
        # Whoever has a file knows its digest.
        digests = [hashlib.sha256(content).hexdigest().encode() for content in self.files.values()]
        return b"\n".join(["\n".join(parts).encode(), raw, *self.files.values(), *digests])

    @property
    def contents(self) -> Iterator[bytes]:
        """What of it may be stored as a file: files, a raw body, and texts of one."""
        yield from self.files.values()
        if isinstance(self.body, bytes):
            yield self.body
        elif isinstance(self.body, dict):
            yield from (value.encode() for value in self.body.values() if isinstance(value, str))

    def smaller(self) -> Iterator[Call]:
        """The same with one thing less."""
        for part in ("query", "headers", "files"):
            for name in getattr(self, part):
                kept = {key: value for key, value in getattr(self, part).items() if key != name}
                yield replace(self, **{part: kept})
        if isinstance(self.body, dict):
            for name in self.body:
                yield replace(self, body={key: value for key, value in self.body.items() if key != name})

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        line = f"{self.method} {self.path}{'?' if query else ''}{query}"
        for name, value in self.headers.items():
            line += f"\n    {name}: {value}"
        if self.body is not None:
            line += f"\n    {self.body if isinstance(self.body, bytes) else json.dumps(self.body)}"
        return line + "".join(
            f"\n    file {name}: {len(content)} bytes" for name, content in self.files.items()
        )


class Document:
    """The operations that the product documents for keys, and a valid request for each."""

    def __init__(self) -> None:
        self._whole = generated()
        self.operations = [
            Operation(
                method.upper(),
                path.removeprefix(PREFIX),
                tuple(item.get("parameters", ())),
                {
                    kind: content.get("schema", {})
                    for kind, content in item.get("requestBody", {}).get("content", {}).items()
                },
            )
            for path, item_of in self._whole["paths"].items()
            for method, item in item_of.items()
            if (method.upper(), path.removeprefix(PREFIX).strip("/")) not in OPEN
        ]
        self.rows = {(row.method, _shape("/" + row.route)): row for row in reversed(TABLE)}

    def row(self, operation: Operation) -> Any:
        """What tests/api/test_permissions.py sends to it. Raises LookupError where it has none."""
        return self.rows[operation.method, _shape(operation.path)]

    def schema(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema with its reference followed, and of choices the first that says something."""
        while True:
            if "$ref" in given:
                given = self._whole["components"]["schemas"][given["$ref"].rsplit("/", 1)[1]]
            elif given.get("allOf"):
                given = given["allOf"][0]
            elif choices := given.get("oneOf") or given.get("anyOf"):
                given = choices[0]
            else:
                return given


def name_in_paths(world: World, document: Document) -> None:
    """Have tests/api/test_permissions.py make what paths name and the world has none of."""
    names = sorted({name for one in document.operations for name in one.names})
    kinds = {name: kind_of(name, world) for name in names}
    wanted = [
        name
        for name in names
        if (not kinds[name] and name in MADE - LITERALS) or (kinds[name] and not world.ids.get(kinds[name]))
    ]
    # At once: whoever makes one may end others of the kind.
    made = build_world(world.party, wanted)
    world.paths = {name: [made[name]] for name in wanted}
    world.read()


def _shape(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path.partition("?")[0])


def kind_of(name: str, world: World) -> str:
    """Whose ids a name asks for: a key of `World.ids`, or nothing."""
    stem = name.removesuffix("_ids").removesuffix("_id")
    if name in NO_IDS or name.removesuffix("s") in NO_IDS:
        return ""
    for one in (stem, stem.removesuffix("s"), stem.removesuffix("ies") + "y"):
        if one in KINDS:
            return KINDS[one]
        if one in world.ids:
            return one
        fitting = [table for table in world.ids if table.endswith(f"_{one}")]
        if len(fitting) == 1:
            return fitting[0]
    return ""


class Caller:
    """Makes calls for the attacker, with ids of its own and of the victim."""

    def __init__(self, document: Document, attacker: World, victim: World, chance: random.Random) -> None:
        self.document, self.attacker, self.victim, self.random = document, attacker, victim, chance
        self._values: dict[str, list[str]] = {}

    # --- Whose ---

    def owner(self, mode: str) -> World:
        if mode == MIXED:
            return self.random.choice((self.attacker, self.victim))
        return self.attacker if mode == OWN else self.victim

    def one_of(self, kind: str, mode: str) -> str:
        """An id of a kind; where the tenant has none, of any other kind."""
        owner = self.owner(mode)
        ids = owner.ids.get(kind) or [i for some in owner.ids.values() for i in some]
        return self.random.choice(ids)

    # --- A call ---

    def documented(self, operation: Operation, mode: str, *, plain: bool = False) -> Call:
        """`plain`: nothing but what the operation needs."""
        row = self.document.row(operation)
        path = self._path(operation, mode)
        headers = dict(row.headers)
        query = {} if plain else self._query(operation, mode)
        query |= {name: self._text(name, mode) for name in operation.required("query") if name not in query}
        if not plain:
            headers |= self._headers(operation, mode)
        call = Call(operation.name, operation.method, PREFIX + path, query, headers)
        if isinstance(row.body, bytes) or (
            row.body is None and "application/offset+octet-stream" in headers.values()
        ):
            return replace(call, body=row.body)
        form = operation.bodies.get("multipart/form-data")
        if form is not None and not plain and self.random.random() < 0.4:
            return self._form(call, form, mode)
        schema = operation.bodies.get("application/json")
        if schema is None:
            return call
        return replace(call, body=self._body(row.body, schema, mode, plain))

    def replayed(self) -> Call:
        """A request of the victim, with its Idempotency-Key, by the attacker."""
        method, path, body, key = self.random.choice(self.victim.replays)
        return Call(
            f"replay {method} {_shape_of_ids(path)}",
            method,
            PREFIX + path,
            {},
            {"Idempotency-Key": key},
            body,
        )

    def _path(self, operation: Operation, mode: str) -> str:
        names = operation.names
        values: dict[str, str] = {}
        if len(names) > 1 and mode != MIXED:
            # The last names a row that says to what it belongs.
            values = self._row_of(names, self.owner(mode))
        for name in names:
            if name in values:
                continue
            if name in self.attacker.paths:
                values[name] = self.random.choice(self.owner(mode).paths[name])
                continue
            kind = kind_of(name, self.victim)
            values[name] = self.one_of(kind, mode) if kind else self.random.choice(("1", "2", "7"))
        return operation.path.format(**values)

    def _row_of(self, names: list[str], owner: World) -> dict[str, str]:
        for name in reversed(names):
            kind = kind_of(name, owner)
            rows = owner.rows.get(kind)
            if not rows:
                continue
            row = self.random.choice(rows)
            found = {name: str(row["id"])}
            for other in names:
                column = f"{kind_of(other, owner)}_id"
                if other != name and row.get(column):
                    found[other] = str(row[column])
            return found
        return {}

    def _query(self, operation: Operation, mode: str) -> dict[str, str]:
        found = {}
        for name in operation.at("query"):
            if self.random.random() < 0.35:
                found[name] = self._text(name, mode)
        return found

    def _headers(self, operation: Operation, mode: str) -> dict[str, str]:
        keys = [key for *_, key in self.victim.replays] + [uuid.uuid4().hex]
        known = {
            "Idempotency-Key": lambda: self.random.choice(keys),
            "If-None-Match": lambda: self.random.choice([*self.victim.etags, '"x"']),
            "Range": lambda: self.random.choice(("bytes=0-9", "bytes=5-", "bytes=-5")),
            "Last-Event-ID": lambda: self.random.choice(("1-succeeded-1-0-1-0-2-0", "0-queued-0-0-1-0-2-0")),
            "Prefer": lambda: "respond-async",
        }
        found = {
            name: known[name]()
            for name in operation.at("header")
            if name in known and self.random.random() < 0.4
        }
        if self.random.random() < 0.1:
            # No key but the caller's may say who calls.
            found |= {"X-Tenant-Id": str(self.victim.id), "Cookie": f"tenant={self.victim.id}"}
        return found

    def _text(self, name: str, mode: str) -> str:
        """A value for a parameter of a query."""
        if name == "cursor":
            ids = [
                i for kind in ("asset", "job", "audit", "dataset") for i in self.owner(mode).ids.get(kind, ())
            ]
            made = encode_cursor(uuid.UUID(self.random.choice(ids)))
            return self.random.choice([made, *self.owner(mode).cursors])
        if name == "with":
            return self.random.choice(self.owner(mode).paths["version_id"])
        if name == "limit":
            return self.random.choice(("1", "2", "200"))
        if kind := kind_of(name, self.victim):
            return self.one_of(kind, mode)
        return self.random.choice([*self._seen(name), "1", "true"])

    def _seen(self, name: str) -> list[str]:
        """What columns of this name hold."""
        if name not in self._values:
            rows = (row for some in self.attacker.rows.values() for row in some)
            self._values[name] = sorted({v for row in rows if isinstance(v := row.get(name), str) and v})[:20]
        return self._values[name]

    # --- Bodies ---

    def _body(self, base: Any, schema: Mapping[str, Any], mode: str, plain: bool) -> Any:
        body = self._with_ids(dict(base or {}), mode)
        if not plain:
            for name, of in self.document.schema(schema).get("properties", {}).items():
                if name not in body and self.random.random() < 0.3:
                    body[name] = self._sample(name, of, mode)
        return body

    def _with_ids(self, value: Any, mode: str, name: str = "") -> Any:
        """The same with ids where names ask for some, and names that nothing has yet."""
        if isinstance(value, dict):
            return {key: self._with_ids(one, mode, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self._with_ids(one, mode, name) for one in value]
        if not isinstance(value, str):
            return value
        if name in ("name", "slug"):
            return f"{value[:20]}-{uuid.uuid4().hex[:8]}"
        if name == "email":
            return f"{uuid.uuid4().hex[:12]}@people.example"
        kind = kind_of(name, self.victim)
        return self.one_of(kind, mode) if kind else value

    def _sample(self, name: str, given: Mapping[str, Any], mode: str, depth: int = 0) -> Any:
        """A value that a schema allows."""
        of = self.document.schema(given)
        kind = of.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if of.get("enum"):
            return self.random.choice(of["enum"])
        if kind == "string":
            return self._word(name, of, mode)
        if kind == "integer":
            low = int(of.get("minimum", 1))
            return self.random.randint(low, min(int(of.get("maximum", low + 3)), low + 3))
        if kind == "number":
            return float(of.get("minimum", 0)) or 0.5
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "array":
            count = max(1, int(of.get("minItems", 1)))
            return [self._sample(name, of.get("items", {}), mode, depth + 1) for _ in range(count)]
        wanted = of.get("properties", {})
        required = of.get("required", ())
        return {
            key: self._sample(key, one, mode, depth + 1)
            for key, one in wanted.items()
            if key in required or (depth < 3 and self.random.random() < 0.4)
        }

    def _word(self, name: str, of: Mapping[str, Any], mode: str) -> str:
        if of.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        if of.get("format") == "date":
            return "2026-11-01"
        if name == "cursor":
            return self._text(name, mode)
        if kind := kind_of(name, self.victim):
            return self.one_of(kind, mode)
        if name == "url":
            return "https://hooks.example/in"
        words = (
            TEXTS[0],
            TEXTS[1],
            SHARED_TEXT,
            f"A kettle {self.attacker.word()}",
            f"kettle {self.victim.salt}0007",
        )
        return self.random.choice(words)[: int(of.get("maxLength", 200))]

    def _form(self, call: Call, schema: Mapping[str, Any], mode: str) -> Call:
        fields: dict[str, str] = {}
        files: dict[str, bytes] = {}
        of = self.document.schema(schema)
        for name, one in of.get("properties", {}).items():
            if one.get("format") == "binary":
                files[name] = self._file(mode)
            elif name in of.get("required", ()) or self.random.random() < 0.3:
                value = self._sample(name, one, mode)
                fields[name] = value if isinstance(value, str) else json.dumps(value)
        if len(files) > 1:
            name = self.random.choice(sorted(files))
            files = {name: files[name]}
        return replace(call, body=fields, files=files)

    def _file(self, mode: str) -> bytes:
        """A file that the tenant has already, or a table."""
        owner = self.owner(mode)
        return self.random.choice([*owner.files.values(), TABLE_FILE])


def _shape_of_ids(path: str) -> str:
    return re.sub(r"[0-9a-f-]{36}", "{}", path)
