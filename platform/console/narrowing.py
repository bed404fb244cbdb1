"""What a member sees of the workspace: all of it, or chosen datasets and review queues."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.audits.labels import RULES
from console.forms import StyledForm
from tenants.accounts.models import Membership
from tenants.accounts.permissions import ADMIN, may_manage
from tenants.datasets.selectors import list_datasets
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.moderation.policies.selectors import list_queues
from tenants.people import members, narrowing
from tenants.scope import Narrowing

Choices = list[tuple[str, str]]


class SomeOf(forms.MultipleChoiceField):
    """Boxes whose choices the form knows only once it is made; it checks them itself."""

    widget = forms.CheckboxSelectMultiple

    def valid_value(self, value: object) -> bool:
        return True


class NarrowingForm(StyledForm):
    """Two limits, each with a switch of its own: an empty list is never taken for everything."""

    limit_datasets = forms.BooleanField(required=False, label=gettext_lazy("Only these datasets"))
    datasets = SomeOf(required=False, label=gettext_lazy("Datasets"))
    limit_queues = forms.BooleanField(required=False, label=gettext_lazy("Only these review queues"))
    queues = SomeOf(required=False, label=gettext_lazy("Review queues"))

    def __init__(self, offered: tuple[Choices, Choices], *args: Any, **kwargs: Any) -> None:
        self._offered = dict(zip(("datasets", "queues"), offered, strict=True))
        super().__init__(*args, **kwargs)
        for name, choices in self._offered.items():
            field: Any = self.fields[name]
            field.choices = choices

    def clean_datasets(self) -> list[str]:
        return self._known("datasets")

    def clean_queues(self) -> list[str]:
        return self._known("queues")

    def _known(self, name: str) -> list[str]:
        chosen: list[str] = self.cleaned_data[name]
        if set(chosen) - {value for value, _label in self._offered[name]}:
            raise forms.ValidationError(_("Something you selected no longer exists. Select again."))
        return chosen

    @property
    def narrowing(self) -> Narrowing | None:
        """What was chosen; None: everything."""
        given = self.cleaned_data
        datasets = tuple(map(uuid.UUID, given["datasets"])) if given["limit_datasets"] else None
        queues = tuple(given["queues"]) if given["limit_queues"] else None
        return None if datasets is None and queues is None else Narrowing(datasets, queues)


def offered(also: Iterable[str] = ()) -> tuple[Choices, Choices]:
    """The workspace's datasets and queues by name; `also`: queues that somebody has already. In its scope."""
    datasets = [(str(one.id), one.name) for one in list_datasets().order_by("name")]
    queues = sorted({*list_queues(), *also})
    return datasets, [(name, str(RULES.get(name, name))) for name in queues]


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def show(request: Request, user_id: uuid.UUID) -> HttpResponse:
    """The form of one member; what is sent is in force with their next request."""
    with request.workspace.open():
        member = members.get_member(user_id)
        sent = request.POST if request.method == "POST" else None
        form = NarrowingForm(offered(member.queues or ()), sent, initial=_initial(member))
    if request.method == "POST" and form.is_valid():
        try:
            with request.workspace.open():
                ended = narrowing.narrow_member(actor=actor_of(request), user_id=user_id, to=form.narrowing)
        except (Conflict, Invalid, NotAllowed) as error:
            form.refuse(error)
        else:
            messages.success(request, _said(member, form.narrowing, [key.name for key in ended]))
            return redirect("console:people")
    reach = may_manage(request.workspace.role, member.role)
    context = {"member": member, "form": form, "reach": reach}
    return page(request, "narrowing.html", context, status=422 if form.errors else 200)


def _initial(member: Membership) -> dict[str, object]:
    return {
        "limit_datasets": member.datasets is not None,
        "datasets": [str(one) for one in member.datasets or ()],
        "limit_queues": member.queues is not None,
        "queues": member.queues or [],
    }


def _said(member: Membership, to: Narrowing | None, keys: list[str]) -> str:
    who = member.user.name or member.user.email
    said = (
        _("%(who)s can now see the whole workspace.")
        if to is None
        else _("%(who)s can now see what you selected.")
    )
    said %= {"who": who}
    return said + (_(" Revoked with it: %(keys)s.") % {"keys": ", ".join(keys)} if keys else "")
