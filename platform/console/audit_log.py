"""The audit log: who did what, and when."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _

from console.access import Request, needs, page
from console.paging import page_of, parse_id
from console.presenters import actor_names
from tenants.accounts.models import ApiKey, Invitation
from tenants.accounts.permissions import ADMIN
from tenants.events import selectors
from tenants.events.models import AuditEvent
from tenants.scope import current_tenant_id

PAGE = 50


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    # Without NUL, which the database takes in no text.
    verb, actor = (request.GET.get(name, "").replace("\0", "") for name in ("verb", "actor"))
    with request.workspace.open():
        found = page_of(selectors.list_events(verb=verb, actor=actor), request.GET.get("before", ""), PAGE)
        actors = selectors.actors()
        names = {**_targets(found.items), **actor_names({*actors, *_people_in(found.items)})}
        verbs = selectors.verbs()
    context = {
        "events": [_line(event, names) for event in found.items],
        "next": found.next,
        "verb": verb,
        "actor": actor,
        "verbs": verbs,
        "actors": sorted(
            ((name, names.get(name, name)) for name in actors if name), key=lambda pair: pair[1]
        ),
    }
    return page(request, "log.html", context)


def _people_in(events: list[AuditEvent]) -> set[str]:
    return {event.target for event in events if event.verb.startswith("member.")}


def _line(event: AuditEvent, names: dict[str, str]) -> dict[str, Any]:
    return {
        "event": event,
        "who": names.get(event.actor, event.actor) or _("The system"),
        "target": names.get(event.target, event.target),
        "named": event.target in names,
        "said": _format_details(event.details),
    }


def _format_details(details: dict[str, Any]) -> str:
    if set(details) == {"from", "to"}:
        return f"{details['from']} → {details['to']}"
    shown = {name.replace("_", " "): _format_value(value) for name, value in details.items()}
    return " · ".join(f"{name}: {value}" for name, value in shown.items() if value)


def _format_value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _targets(events: list[AuditEvent]) -> dict[str, str]:
    """What keys and invitations are called. The others are told by their ids."""
    ids = [found for event in events if (found := parse_id(event.target))]
    keys = ApiKey.objects.filter(pk__in=ids)
    invited = Invitation.objects.filter(tenant=current_tenant_id(), pk__in=ids)
    return {
        **{str(k.pk): _("Key “%(name)s”") % {"name": k.name} for k in keys},
        **{str(i.pk): i.email for i in invited},
    }
