"""The audit log: who did what, and when."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from console.access import Request, needs, page
from console.paging import page_of, parse_id
from tenants.accounts.models import ApiKey, User
from tenants.accounts.permissions import ADMIN
from tenants.events import selectors

PAGE = 50
NOBODY = "The system"


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    verb, actor = request.GET.get("verb", ""), request.GET.get("actor", "")
    with request.workspace.open():
        found = page_of(selectors.list_events(verb=verb, actor=actor), request.GET.get("before", ""), PAGE)
        actors = selectors.actors()
        names = _names({*actors, *(event.actor for event in found.items)} | _people_in(found.items))
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


def _people_in(events: list[Any]) -> set[str]:
    return {event.target for event in events if event.verb.startswith("member.")}


def _line(event: Any, names: dict[str, str]) -> dict[str, Any]:
    return {
        "event": event,
        "who": names.get(event.actor, event.actor) or NOBODY,
        "target": names.get(event.target, event.target),
    }


def _names(actors: set[str]) -> dict[str, str]:
    """What people and keys are called, by the words of the log. Who was erased keeps the pseudonym."""
    ids = {found: actor for actor in actors if (found := parse_id(actor))}
    people = {ids[user.pk]: user.name or user.email for user in User.objects.filter(pk__in=ids)}
    prefixes = [actor.removeprefix("key:") for actor in actors if actor.startswith("key:")]
    keys = ApiKey.objects.filter(prefix__in=prefixes)
    return {**people, **{f"key:{key.prefix}": f"Key “{key.name}”" for key in keys}}
