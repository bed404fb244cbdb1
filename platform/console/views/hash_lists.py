"""Hash lists: known bad and known good content, by hashes."""

from __future__ import annotations

import uuid

from django.http import HttpResponse

from console.access import Request, needs, page
from tenants.accounts.permissions import MODERATE
from tenants.errors import NotFound
from tenants.moderation.models import HashList, SharedHashList


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    with request.workspace.open():
        lists = list(HashList.objects.order_by("-id"))
        shared = list(SharedHashList.objects.order_by("name"))
    return page(request, "hash_lists.html", {"lists": lists, "shared": shared})


@needs(MODERATE)
def show(request: Request, list_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        found = HashList.objects.filter(pk=list_id).first()
        if found is None:
            raise NotFound("There is no such hash list.")
    return page(request, "hash_list.html", {"list": found})
