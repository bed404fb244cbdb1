"""Single sign-on of a workspace: domains, connections to identity providers, and who keeps the password."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.account.sign_on import leave, refusal
from console.forms import StyledForm
from console.presenters import actor_names
from tenants.accounts import second_factor
from tenants.accounts.models import SignOnConnection
from tenants.accounts.permissions import ADMIN, may_manage
from tenants.errors import Conflict, Invalid, NotAllowed, ServiceError
from tenants.events import selectors
from tenants.people import members
from tenants.people.sign_on import break_glass, connections, domains, flows, saml

REFUSALS = (Conflict, Invalid, NotAllowed)
NO_ACCESS = ("", gettext_lazy("No access"))
ROWS = {"rows": 4, "spellcheck": "false", "class": "mono"}
USES_SHOWN = 5


class DomainForm(StyledForm):
    domain = forms.CharField(
        max_length=253,
        label=gettext_lazy("Domain"),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "example.org"}
        ),
    )


def _line(**attrs: str) -> forms.TextInput:
    return forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", **attrs})


class ConnectionForm(StyledForm):
    """What both protocols ask for; `role_lines` are "value = role", one a line."""

    name = forms.CharField(max_length=100, label=gettext_lazy("Name"), widget=_line(placeholder="Okta"))
    email_claim = forms.CharField(
        max_length=200, required=False, label=gettext_lazy("Claim with the e-mail address"), widget=_line()
    )
    role_claim = forms.CharField(
        max_length=200,
        required=False,
        label=gettext_lazy("Claim that gives roles"),
        widget=_line(placeholder="groups"),
    )
    role_lines = forms.CharField(
        max_length=40_000, required=False, label=gettext_lazy("Roles"), widget=forms.Textarea(attrs=ROWS)
    )
    default_role = forms.ChoiceField(required=False, label=gettext_lazy("Everyone else"))
    sync_roles = forms.BooleanField(
        required=False,
        label=gettext_lazy(
            "Roles follow the provider at each sign-in; whoever gets none leaves the workspace"
        ),
    )

    def __init__(self, tenant_id: uuid.UUID, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        roles = connections.assignable_roles(tenant_id)
        choices = [(role, labels.label_of(labels.ROLES, role)) for role in roles]
        self.fields["default_role"].choices = [NO_ACCESS, *choices]  # type: ignore[attr-defined]
        self.fields["role_lines"].help_text = _(
            "One line for each value, such as “catalogue-team = editor”. The first that fits counts. Roles: %(names)s."
        ) % {"names": ", ".join(roles)}

    @property
    def values(self) -> dict[str, Any]:
        """What the services take."""
        given = {name: value for name, value in self.cleaned_data.items() if name != "role_lines"}
        return {**given, "role_map": read_lines(self.cleaned_data["role_lines"])}

    def refuse(self, error: Any) -> None:
        for entry in getattr(error, "errors", ()):
            if entry["pointer"].startswith("/role_map"):
                entry["pointer"] = "/role_lines"
        super().refuse(error)


class OidcForm(ConnectionForm):
    issuer = forms.CharField(
        max_length=1000, label=gettext_lazy("Issuer"), widget=_line(placeholder="https://login.example.org")
    )
    client_id = forms.CharField(max_length=500, label=gettext_lazy("Client ID"), widget=_line())
    client_secret = forms.CharField(
        max_length=1000,
        required=False,
        label=gettext_lazy("Client secret"),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.CharField(
        max_length=200, required=False, label=gettext_lazy("More scopes"), widget=_line(placeholder="groups")
    )
    field_order = ("name", "issuer", "client_id", "client_secret", "scopes")


class SamlForm(ConnectionForm):
    metadata_url = forms.CharField(
        max_length=2000,
        required=False,
        label=gettext_lazy("Address of the provider’s metadata"),
        widget=_line(inputmode="url"),
    )
    metadata = forms.FileField(
        required=False,
        label=gettext_lazy("or the metadata as a file"),
        widget=forms.ClearableFileInput(attrs={"accept": ".xml,application/xml,text/xml"}),
    )
    field_order = ("name", "metadata_url", "metadata")

    def clean_metadata(self) -> str:
        found = self.cleaned_data["metadata"]
        if not found:
            return ""
        if found.size > saml.MAX_METADATA:
            raise forms.ValidationError(_("The file has more than a megabyte."))
        return str(found.read().decode("utf-8", "replace"))


FORMS: dict[str, type[ConnectionForm]] = {connections.OIDC: OidcForm, connections.SAML: SamlForm}


def read_lines(text: str) -> list[dict[str, str]]:
    """Lines of "value = role"; what is no role is for the service to refuse."""
    pairs = [line.rpartition("=") for line in text.splitlines() if line.strip()]
    return [
        {"value": value.strip() if equal else role.strip(), "role": role.strip() if equal else ""}
        for value, equal, role in pairs
    ]


def write_lines(role_map: list[dict[str, str]]) -> str:
    return "\n".join(f"{line['value']} = {line['role']}" for line in role_map)


# --- The overview ----------------------------------------------------------------------------------------


@needs(ADMIN)
def index(request: Request) -> HttpResponse:
    return _index(request, {}, 200)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        found = connections.list_connections()
        rows = [_domain(row) for row in domains.list_domains()]
        owners = [_owner(member) for member in members.list_members() if member.role == "owner"]
        uses = list(selectors.list_events(verb=break_glass.VERB)[:USES_SHOWN])
        names = actor_names(event.actor for event in uses)
    shown = {
        "connections": found,
        "domains": rows,
        "domain_form": DomainForm(),
        "owners": owners,
        "chooses": may_manage(request.workspace.role, "owner"),
        "enforced": any(one.route.enforced for one in found),
        "uses": [(names.get(event.actor, event.actor), event.created_at) for event in uses],
    }
    return page(request, "sso.html", {**shown, **context}, status=status)


def _domain(row: Any) -> dict[str, Any]:
    return {"row": row, "name": domains.record_name(row), "value": domains.record_value(row)}


def _owner(member: Any) -> dict[str, Any]:
    return {"member": member, "second_factor": second_factor.is_on(member.user)}


# --- Domains ---------------------------------------------------------------------------------------------


@needs(ADMIN, methods=("POST",))
def add_domain(request: Request) -> HttpResponse:
    form = DomainForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                domains.add_domain(**form.cleaned_data, actor=actor_of(request).label)
            messages.success(request, _("The domain was added. Verify it to use it."))
            return redirect("console:sso")
        except REFUSALS as error:
            form.refuse(error)
    return _index(request, {"domain_form": form, "open_domain": True}, 422)


@needs(ADMIN, methods=("POST",))
def prove_domain(request: Request, domain_id: uuid.UUID) -> HttpResponse:
    try:
        row = domains.prove_domain(
            tenant_id=request.workspace.tenant.id, domain_id=domain_id, actor=actor_of(request).label
        )
        messages.success(request, _("%(domain)s is verified.") % {"domain": row.domain})
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:sso")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def route_domain(request: Request, domain_id: uuid.UUID) -> HttpResponse:
    chosen = request.POST.get("connection", "")
    with request.workspace.open():
        found = [one.id for one in connections.list_connections() if str(one.id) == chosen]
        domains.route_domain(
            domain_id=domain_id, connection_id=found[0] if found else None, actor=actor_of(request).label
        )
    messages.success(request, _("Saved."))
    return redirect("console:sso")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def remove_domain(request: Request, domain_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        domains.remove_domain(domain_id=domain_id, actor=actor_of(request).label)
    messages.success(request, _("The domain was removed."))
    return redirect("console:sso")


# --- Connections -----------------------------------------------------------------------------------------


@needs(ADMIN, methods=("GET", "POST"), fresh=("GET", "POST"))
def create(request: Request) -> HttpResponse:
    protocol = request.POST.get("protocol", request.GET.get("protocol", ""))
    if protocol not in FORMS:
        protocol = connections.OIDC
    form = FORMS[protocol](request.workspace.tenant.id, request.POST or None, request.FILES or None)
    if form.is_bound and form.is_valid():
        try:
            changes = connections.read_values(request.workspace.tenant.id, protocol, form.values)
            with request.workspace.open():
                found = connections.create_connection(
                    protocol=protocol, changes=changes, actor=actor_of(request).label
                )
            return redirect("console:connection", connection_id=found.id)
        except REFUSALS as error:
            form.refuse(error)
    context = {"form": form, "protocol": protocol}
    return page(request, "sso_edit.html", context, status=422 if form.is_bound else 200)


@needs(ADMIN)
def show(request: Request, connection_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        found = connections.get_connection(connection_id)
        mine = list(domains.list_domains().filter(connection=connection_id))
        refused = list(
            selectors.list_events(verb="sign_on.refused").filter(target=str(connection_id))[:USES_SHOWN]
        )
    context = {
        "connection": found,
        "domains": mine,
        "refused": [(event.created_at, event.details.get("why", "")) for event in refused],
        "redirect_uri": connections.redirect_uri(connection_id),
        "service": connections.service_of(connection_id),
    }
    return page(request, "sso_connection.html", context)


@needs(ADMIN, methods=("GET", "POST"), fresh=("GET", "POST"))
def edit(request: Request, connection_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        found = connections.get_connection(connection_id)
    kind = FORMS[found.route.protocol]
    form = kind(
        request.workspace.tenant.id, request.POST or None, request.FILES or None, initial=_initial(found)
    )
    if form.is_bound and form.is_valid():
        try:
            changes = connections.read_values(request.workspace.tenant.id, found.route.protocol, form.values)
            with request.workspace.open():
                connections.update_connection(
                    connection_id=connection_id, changes=changes, actor=actor_of(request).label
                )
            messages.success(request, _("Saved."))
            return redirect("console:connection", connection_id=connection_id)
        except REFUSALS as error:
            form.refuse(error)
    context = {"form": form, "connection": found, "protocol": found.route.protocol}
    return page(request, "sso_edit.html", context, status=422 if form.is_bound else 200)


def _initial(found: connections.Connection) -> dict[str, Any]:
    row = found.provider
    names = (
        "name",
        "issuer",
        "client_id",
        "scopes",
        "metadata_url",
        "email_claim",
        "role_claim",
        "default_role",
    )
    kept = {name: getattr(row, name) for name in names}
    return {**kept, "sync_roles": row.sync_roles, "role_lines": write_lines(row.role_map)}


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def switch(request: Request, connection_id: uuid.UUID) -> HttpResponse:
    switches = {name: request.POST[name] == "yes" for name in ("enabled", "enforced") if name in request.POST}
    try:
        with request.workspace.open():
            connections.update_connection(
                connection_id=connection_id, changes={}, switches=switches, actor=actor_of(request).label
            )
        messages.success(request, _("Saved."))
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:connection", connection_id=connection_id)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def delete(request: Request, connection_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        connections.delete_connection(connection_id=connection_id, actor=actor_of(request).label)
    messages.success(request, _("The connection was deleted. Its sessions have ended."))
    return redirect("console:sso")


@needs(ADMIN, methods=("POST",))
def test(request: Request, connection_id: uuid.UUID) -> HttpResponse:
    """Go through it as anybody would, without being signed in by it."""
    with request.workspace.open():
        connections.get_connection(connection_id)
    route = SignOnConnection.objects.get(pk=connection_id)
    try:
        return leave(request, route, flows.Wish(flows.Purpose.TEST, user=request.user))
    except ServiceError as error:
        return refusal(request, error)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def choose_break_glass(request: Request, user_id: uuid.UUID) -> HttpResponse:
    chosen = request.POST.get("chosen") == "yes"
    try:
        with request.workspace.open():
            connections.choose_break_glass(user_id=user_id, chosen=chosen, actor=actor_of(request))
        messages.success(request, _("Saved."))
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:sso")
