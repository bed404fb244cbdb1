"""Filters of SCIM (RFC 7644, section 3.4.2.2) as conditions of the database, within bounds.

scim2-models reads the grammar; here each node becomes a condition. What is not kept cannot be asked for and is refused,
as an answer with everybody in it would be taken for a match.
"""

from __future__ import annotations

import datetime as dt
import operator
import uuid
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from django.db.models import Q
from django.utils.dateparse import parse_datetime
from scim2_models import InvalidFilterException, Resource, ScimFilter
from scim2_models.path import (
    AttrPath,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
)

MAX_LENGTH = 2_000
MAX_NODES = 50

# Attribute in small letters -> column, and what kind of value it has.
USER = {
    "id": ("id", "id"),
    "username": ("user_name_key", "key"),
    "externalid": ("external_id", "exact"),
    "displayname": ("display_name", "text"),
    "name.formatted": ("formatted_name", "text"),
    "name.givenname": ("given_name", "text"),
    "name.familyname": ("family_name", "text"),
    "emails": ("emails", "emails"),
    "emails.value": ("emails", "emails"),
    "active": ("active", "flag"),
    "groups": ("groups__group_id", "id"),
    "groups.value": ("groups__group_id", "id"),
    "meta.created": ("created_at", "time"),
    "meta.lastmodified": ("changed_at", "time"),
}
GROUP = {
    "id": ("id", "id"),
    "displayname": ("display_name_key", "key"),
    "externalid": ("external_id", "exact"),
    "members": ("members__person_id", "id"),
    "members.value": ("members__person_id", "id"),
    "meta.created": ("created_at", "time"),
    "meta.lastmodified": ("changed_at", "time"),
}
Columns = Mapping[str, tuple[str, str]]
_LOOKUPS = {"eq": "exact", "ne": "exact", "co": "contains", "sw": "startswith", "ew": "endswith"}
_ORDER = {"gt": "gt", "ge": "gte", "lt": "lt", "le": "lte"}
NOTHING = Q(pk__in=[])


def condition(model: type[Resource[Any]], columns: Columns, text: str) -> Q:
    """The rows that a filter asks for. Raises InvalidFilterException."""
    if len(text) > MAX_LENGTH:
        raise InvalidFilterException(detail=f"A filter has at most {MAX_LENGTH} characters.")
    _check_characters(text)
    bound: Any = ScimFilter.__class_getitem__(model)
    try:
        node = bound(text).ast
    except RecursionError as error:
        raise InvalidFilterException(detail="The filter is nested too deeply.") from error
    return _Conditions(columns).visit(node)


def _check_characters(text: str) -> None:
    """What Postgres cannot compare, nobody here has."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidFilterException(detail="A filter holds a character that no attribute has.")


class _Conditions(FilterVisitor[Q]):
    def __init__(self, columns: Columns) -> None:
        self._columns, self._seen = columns, 0

    def visit(self, node: FilterNode) -> Q:
        self._seen += 1
        if self._seen > MAX_NODES:
            raise InvalidFilterException(detail=f"A filter has at most {MAX_NODES} conditions.")
        return super().visit(node)

    def visit_not(self, node: Not) -> Q:
        return ~self.visit(node.expr)

    def visit_logical_expr(self, node: LogicalExpr) -> Q:
        join: Callable[[Q, Q], Q] = operator.and_ if node.op == LogicalOperator.and_ else operator.or_
        return reduce(join, [self.visit(term) for term in node.terms])

    def visit_value_path(self, node: ValuePath) -> Q:
        """`emails[type eq "work" and value eq "…"]`: one entry that has all of these."""
        name = node.attr_path.attr.lower()
        terms = node.val_filter.terms if isinstance(node.val_filter, LogicalExpr) else (node.val_filter,)
        joined = isinstance(node.val_filter, Comparison) or (
            isinstance(node.val_filter, LogicalExpr) and node.val_filter.op == LogicalOperator.and_
        )
        wanted: dict[str, object] = {}
        for term in terms:
            self._seen += 1
            if not joined or not isinstance(term, Comparison) or term.op.value != "eq":
                raise InvalidFilterException(detail="Entries of a list are compared with eq, joined by and.")
            wanted[term.attr_path.attr.lower()] = term.value
        if name == "emails" and set(wanted) <= {"value", "type", "primary"}:
            return Q(emails__contains=[wanted])
        if set(wanted) == {"value"}:
            return _compare(*self._named(f"{name}.value"), "eq", wanted["value"])
        raise InvalidFilterException(detail=f"Entries of {name[:60]} cannot be filtered so.")

    def visit_present(self, node: Present) -> Q:
        column, kind = self._column(node.attr_path)
        if kind in ("id", "flag", "time"):
            return Q(**{f"{column}__isnull": False})
        return ~Q(**{column: [] if kind == "emails" else ""})

    def visit_comparison(self, node: Comparison) -> Q:
        column, kind = self._column(node.attr_path)
        op = node.op.value
        found = _compare(column, kind, op, node.value)
        return ~found if op == "ne" else found

    def _column(self, path: AttrPath) -> tuple[str, str]:
        return self._named(path.attr.lower() + (f".{path.sub_attr.lower()}" if path.sub_attr else ""))

    def _named(self, name: str) -> tuple[str, str]:
        if name not in self._columns:
            raise InvalidFilterException(detail=f"Users and groups cannot be filtered by {name[:60]}.")
        return self._columns[name]


def _compare(column: str, kind: str, op: str, value: object) -> Q:
    """The condition; of `ne` what it denies."""
    if kind == "id":
        return _of_id(column, op, value)
    if kind == "flag":
        return Q(**{column: _flag(op, value)})
    if kind == "time":
        return Q(**{f"{column}__{_ORDER.get(op, 'exact')}": _time(op, value)})
    text = _text(value)
    if kind == "emails":
        # Of a list of entries whole addresses only.
        if op not in ("eq", "ne"):
            raise InvalidFilterException(detail="Addresses are compared with eq.")
        return Q(emails__contains=[{"value": text}])
    if op in _ORDER:
        return Q(**{f"{column}__{_ORDER[op]}": text})
    if kind == "key":
        return Q(**{f"{column}__{_LOOKUPS[op]}": text.lower()})
    return Q(**{f"{column}__{'' if kind == 'exact' else 'i'}{_LOOKUPS[op]}": text})


def _of_id(column: str, op: str, value: object) -> Q:
    if op not in ("eq", "ne"):
        raise InvalidFilterException(detail="Ids are compared with eq.")
    try:
        return Q(**{column: uuid.UUID(_text(value))})
    except ValueError:
        return NOTHING


def _flag(op: str, value: object) -> bool:
    if op not in ("eq", "ne"):
        raise InvalidFilterException(detail="active is compared with eq.")
    if isinstance(value, bool):
        return value
    # As Entra ID sends it.
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidFilterException(detail="active is true or false.")


def _time(op: str, value: object) -> dt.datetime:
    if op not in (*_ORDER, "eq", "ne"):
        raise InvalidFilterException(detail="Times are compared with eq, gt, ge, lt and le.")
    try:
        found = parse_datetime(_text(value))
    except ValueError:
        found = None
    if found is None:
        raise InvalidFilterException(detail="A time is like 2026-11-30T12:00:00Z.")
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidFilterException(detail="The value is a string.")
    _check_characters(value)
    return value
