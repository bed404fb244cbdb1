"""Signing up: a verified address opens one workspace, whoever asks however often, and nobody learns who is known."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as letters
from django.core import signing
from django.db import close_old_connections, connection
from django.test import Client
from django.utils import timezone

from config.self_service import SelfService, read_self_service
from console.account import throttle
from tenants.accounts import links, mail
from tenants.accounts.models import Membership, OperatorAct, SignUp, Tenant, User
from tenants.errors import Invalid
from tenants.people import sign_up
from tests.console.pages import faults_of
from tests.tenants.people import new_user

PASSWORD = "seven quiet kettles hum"
LINK = re.compile(r"(/sign-up/open\?token=\S+)")
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="[^"]+"')


@pytest.fixture(autouse=True)
def rules(settings: Any) -> SelfService:
    settings.EMAIL_HOST = "mail.example"
    # Domains of their own keep these tests from the bounds of others.
    settings.SELF_SERVICE = SelfService(frozenset({"sign-up"}), trials_a_day=100_000)
    return settings.SELF_SERVICE


@pytest.fixture(autouse=True)
def posted(monkeypatch: Any) -> list[tuple[str, str]]:
    """What was handed to the queue; the tests do the worker's work."""
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(mail, "send", lambda task, argument: sent.append((task, argument)))
    return sent


@pytest.fixture
def visitor(fresh_address: str) -> Client:
    return Client(REMOTE_ADDR=fresh_address)


@pytest.fixture
def address() -> str:
    return f"ann@{secrets.token_hex(6)}.example"


def asked(visitor: Client, email: str) -> Any:
    return visitor.post("/sign-up", {"email": email})


def letter_to(visitor: Client, email: str, **headers: str) -> Any:
    """The letter that the worker writes after the address was typed in."""
    assert visitor.post("/sign-up", {"email": email}, headers=headers).status_code == 200
    row = SignUp.objects.get(address_digest=sign_up.digest_of(email), used_at=None)
    sent = len(letters.outbox)
    sign_up.mail_sign_up(row.pk)
    [letter] = letters.outbox[sent:]
    assert letter.to == [email]
    return letter


def link_for(visitor: Client, email: str) -> str:
    return LINK.search(letter_to(visitor, email).body)[1]


def filled(**changes: str) -> dict[str, str]:
    return {"name": "Ann", "workspace": "Ann's Shop", "password": PASSWORD, "again": PASSWORD, **changes}


def opened(visitor: Client, link: str, **changes: str) -> Any:
    assert visitor.get(link)["Location"] == "/sign-up/open"
    return visitor.post("/sign-up/open", filled(**changes))


# --- Off by default -----------------------------------------------------------------------------------------


def test_off_by_default_nothing_is_there(settings: Any, visitor: Client, address: str) -> None:
    settings.SELF_SERVICE = SelfService()
    for path in ("/sign-up", "/sign-up/open", "/sign-up/open?token=x"):
        assert visitor.get(path).status_code == 404
        assert visitor.post(path, {"email": address}).status_code == 404
    assert "/sign-up" not in visitor.get("/login").content.decode()
    assert not SignUp.objects.filter(address_digest=sign_up.digest_of(address)).exists()


@pytest.mark.parametrize("value", ["", "0", "off"])
def test_the_setting_is_off_unless_it_says_on(value: str) -> None:
    assert (
        read_self_service(
            lambda name, default: value if name == "SELF_SERVICE" else default, mail=False
        ).parts
        == frozenset()
    )


def test_it_is_refused_without_mail_and_with_values_that_cannot_be(tmp_path: Any) -> None:
    from django.core.exceptions import ImproperlyConfigured

    def read(mail: bool = True, **given: str) -> SelfService:
        return read_self_service(lambda name, default: given.get(name, default), mail=mail)

    with pytest.raises(ImproperlyConfigured, match="set EMAIL_URL"):
        read(mail=False, SELF_SERVICE="1")
    wrong = (
        {"SELF_SERVICE": "signup"},
        {"SIGN_UP_LINK_HOURS": "0"},
        {"SIGN_UP_TRIALS_A_DAY": "many"},
        {"TERMS_URL": "javascript:alert(1)"},
        {"SIGN_UP_DISPOSABLE_DOMAINS_FILE": str(tmp_path / "absent")},
    )
    for given in wrong:
        with pytest.raises(ImproperlyConfigured):
            read(**given)
    (tmp_path / "list").write_text("# comment\nMailinator.example\n\n@trash.example # why\n")
    found = read(SELF_SERVICE="1", SIGN_UP_DISPOSABLE_DOMAINS_FILE=str(tmp_path / "list"))
    assert found.parts == {"sign-up", "requests", "closing"}
    assert found.disposable_domains == {"mailinator.example", "trash.example"}


# --- The way in ---------------------------------------------------------------------------------------------


def test_only_the_link_makes_person_tenant_and_trial(visitor: Client, address: str, posted: Any) -> None:
    assert faults_of(visitor.get("/sign-up").content.decode()) == []
    link = link_for(visitor, address)
    row = SignUp.objects.get(address_digest=sign_up.digest_of(address))
    assert posted == [("workers.mail_sign_up", str(row.pk))]
    assert not User.objects.filter(email=address).exists()
    # Programs that read mail open links, too.
    for _ in range(2):
        Client().get(link, follow=True)
    assert not User.objects.filter(email=address).exists()
    before = timezone.now()
    assert visitor.get(link)["Location"] == "/sign-up/open"
    form = visitor.get("/sign-up/open").content.decode()
    assert faults_of(form) == []
    assert (address in form, "token=" in form) == (True, False)
    answer = visitor.post("/sign-up/open", filled())
    assert (answer.status_code, answer["Location"]) == (302, "/")
    user = User.objects.get(email=address)
    member = Membership.objects.select_related("tenant__plan").get(user=user)
    tenant = member.tenant
    assert (member.role, tenant.name, tenant.plan_id, user.name) == ("owner", "Ann's Shop", "trial", "Ann")
    assert user.check_password(PASSWORD)
    assert timedelta(days=14) <= tenant.trial_ends_at - before <= timedelta(days=14, minutes=1)
    assert re.fullmatch(r"ann-s-shop-[0-9a-f]{8}", tenant.slug)
    assert "Welcome to Ann" in visitor.get("/").content.decode()
    row.refresh_from_db()
    assert (row.email, row.digest, row.used_at is not None) == ("", None, True)
    act = OperatorAct.objects.get(target=tenant.slug)
    assert (act.actor, act.verb) == ("self-service", "tenant.opened")


def test_a_link_works_once(visitor: Client, address: str) -> None:
    link = link_for(visitor, address)
    assert opened(visitor, link).status_code == 302
    again = Client()
    again.get(link)
    answer = again.post("/sign-up/open", filled(workspace="Second"))
    assert answer.status_code == 410
    assert Tenant.objects.filter(memberships__user__email=address).count() == 1


def test_two_clicks_at_once_make_one_tenant(visitor: Client, address: str) -> None:
    digest = sign_up.read_token(link_for(visitor, address).partition("token=")[2])

    def click(number: int) -> str:
        close_old_connections()
        try:
            sign_up.open_workspace(digest=digest, name="Ann", workspace=f"Shop {number}", password=PASSWORD)
            return "made"
        except Exception as error:
            return type(error).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(click, range(4)))
    assert said == ["NotFound", "NotFound", "NotFound", "made"]
    assert Tenant.objects.filter(memberships__user__email=address).count() == 1
    assert User.objects.filter(email=address).count() == 1


def test_links_that_expired_were_changed_or_replaced_open_nothing(visitor: Client, address: str) -> None:
    first = link_for(visitor, address)
    second = link_for(visitor, address)
    # The newest alone.
    visitor.get(first)
    assert visitor.get("/sign-up/open").status_code == 410
    for changed in (
        second[:-1] + ("A" if second[-1] != "A" else "B"),
        "/sign-up/open?token=",
        "/sign-up/open?token=%00",
    ):
        assert Client().get(changed).status_code == 410
    forged = signing.dumps(["x", "y"], salt="another")
    assert Client().get(f"/sign-up/open?token={forged}").status_code == 410
    row = SignUp.objects.get(address_digest=sign_up.digest_of(address))
    SignUp.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    visitor.get(second)
    assert visitor.post("/sign-up/open", filled()).status_code == 410
    assert not User.objects.filter(email=address).exists()


def test_a_token_says_itself_when_it_is_too_old(settings: Any, visitor: Client, address: str) -> None:
    link = link_for(visitor, address)
    SignUp.objects.filter(address_digest=sign_up.digest_of(address)).update(
        expires_at=timezone.now() + timedelta(days=9)
    )
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, link_hours=0)
    assert Client().get(link).status_code == 410


def test_by_passkey_the_person_has_no_password(settings: Any, visitor: Client, address: str) -> None:
    settings.BASE_URL = "https://search.example"
    link = link_for(visitor, address)
    answer = opened(visitor, link, password="", again="", passkey="on")
    assert (answer.status_code, answer["Location"]) == (302, "/account/passkeys/new")
    assert not User.objects.get(email=address).has_usable_password()


def test_the_terms_have_to_be_agreed_to_where_there_are_some(
    settings: Any, visitor: Client, address: str
) -> None:
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, terms_url="https://example.org/terms")
    link = link_for(visitor, address)
    refused = opened(visitor, link)
    assert refused.status_code == 422
    assert "https://example.org/terms" in refused.content.decode()
    assert opened(visitor, link, agreed="on").status_code == 302


# --- Nobody learns who is known -----------------------------------------------------------------------------


def test_known_and_unknown_addresses_are_answered_with_the_same_bytes(
    fresh_address: str, posted: Any
) -> None:
    user, unknown = new_user(), f"p-{secrets.token_hex(6)}@people.example"
    assert len(user.email) == len(unknown)
    answers = []
    for email in (user.email, unknown):
        with CountQueries() as counted:
            answer = asked(Client(REMOTE_ADDR=fresh_address), email)
        body = TOKEN.sub("", answer.content.decode()).replace(email, "X")
        headers = {name: value for name, value in answer.headers.items() if name != "X-Request-Id"}
        answers.append((answer.status_code, body, headers, len(counted)))
    assert answers[0] == answers[1]
    assert [task for task, _ in posted] == ["workers.mail_sign_up"] * 2


class CountQueries:
    """The kinds of statements that a request makes: the same work for both."""

    def __enter__(self) -> list[str]:
        from django.test.utils import CaptureQueriesContext

        self._captured = CaptureQueriesContext(connection)
        self._captured.__enter__()
        self._kinds: list[str] = []
        return self._kinds

    def __exit__(self, *exc: object) -> None:
        self._captured.__exit__(*exc)
        self._kinds += [query["sql"].split()[0] for query in self._captured.captured_queries]


def test_a_known_address_gets_a_letter_that_says_so(visitor: Client) -> None:
    user = new_user()
    letter = letter_to(visitor, user.email)
    assert letter.subject == "You have an account at Crosslight"
    assert ("/login" in letter.body, "token=" in letter.body) == (True, False)
    row = SignUp.objects.get(address_digest=sign_up.digest_of(user.email))
    assert (row.digest, row.mailed_at is not None) == (None, True)


def test_letters_are_in_the_language_of_the_page(visitor: Client, address: str) -> None:
    letter = letter_to(visitor, address, **{"accept-language": "zh-CN"})
    assert letter.subject == "开通您的 Crosslight 工作区"
    assert LINK.search(letter.body)


def test_an_address_that_got_an_account_meanwhile_is_told(visitor: Client, address: str) -> None:
    link = link_for(visitor, address)
    User.objects.create_user(address)
    answer = opened(visitor, link)
    assert answer.status_code == 409
    assert "has an account by now" in answer.content.decode()
    assert not Membership.objects.filter(user__email=address).exists()


# --- Bounds -------------------------------------------------------------------------------------------------


def test_a_mailbox_cannot_be_flooded_however_its_address_is_spelt(address: str, posted: Any) -> None:
    name, _, domain = address.partition("@")
    answers = [
        Client(REMOTE_ADDR=f"2001:db8:{n}:{secrets.token_hex(2)}::1")
        .post("/sign-up", {"email": f"{name}+{n}@{domain.upper()}"})
        .status_code
        for n in range(throttle.NARROW.free + 1)
    ]
    assert answers == [200] * throttle.NARROW.free + [429]
    assert len(posted) == throttle.NARROW.free
    assert SignUp.objects.filter(domain=domain).count() == 1


def test_a_network_asks_for_so_many_letters_and_waits(fresh_address: str, posted: Any) -> None:
    answers = [
        asked(Client(REMOTE_ADDR=fresh_address), f"a{n}@{secrets.token_hex(4)}.example").status_code
        for n in range(throttle.MAILING.free + 1)
    ]
    assert answers == [200] * throttle.MAILING.free + [429]


def test_a_mailbox_has_so_many_trials(settings: Any, visitor: Client, address: str) -> None:
    assert opened(visitor, link_for(visitor, address)).status_code == 302
    # As if the account were gone.
    User.objects.filter(email=address).update(email=f"gone-{address}")
    tagged = address.replace("@", "+2@")
    letter = letter_to(Client(REMOTE_ADDR="2001:db8:99::1"), tagged)
    assert "has had its trial" in letter.body
    assert "token=" not in letter.body
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, trials_of_address=2)
    assert opened(Client(), link_for(Client(REMOTE_ADDR="2001:db8:98::1"), tagged)).status_code == 302


def test_domain_and_installation_have_bounds_a_day(settings: Any, visitor: Client, address: str) -> None:
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, trials_of_domain_a_day=1)
    second = link_for(visitor, f"bob-{address}")
    assert opened(visitor, link_for(visitor, address)).status_code == 302
    # Asked for before, and refused at the end, too.
    late = Client()
    assert opened(late, second).status_code == 429
    assert asked(Client(), f"cy-{address}").status_code == 429
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, trials_of_domain_a_day=20, trials_a_day=0)
    assert asked(Client(), f"x@{secrets.token_hex(4)}.example").status_code == 429


@pytest.mark.parametrize(
    "changes",
    [
        {"blocked_domains": frozenset({"bad.example"})},
        {"disposable_domains": frozenset({"bad.example"})},
        {"allowed_domains": frozenset({"good.example"})},
    ],
)
def test_domains_can_be_kept_out(settings: Any, visitor: Client, changes: Any, posted: Any) -> None:
    settings.SELF_SERVICE = replace(settings.SELF_SERVICE, **changes)
    name = secrets.token_hex(4)
    for email in (f"{name}@bad.example", f"{name}@sub.BAD.example"):
        answer = asked(visitor, email)
        assert answer.status_code == 422
        assert "cannot sign up here" in answer.content.decode()
    assert asked(visitor, f"{name}@sub.good.example").status_code == 200
    assert len(posted) == 1


@pytest.mark.parametrize(
    "email",
    [
        "a@b.example\nBcc: c@d.example",
        "a@b.example\r\nSubject: x",
        '"a b"@c.example',
        "a@xn--\u202e.example",
        "ä@b.example",
        "a@b@c.example",
        "a" * 250 + "@b.example",
    ],
)
def test_addresses_that_would_be_headers_are_refused(visitor: Client, email: str, posted: Any) -> None:
    assert asked(visitor, email).status_code == 422
    assert posted == []
    with pytest.raises(Invalid):
        sign_up.checked_address(email)


@pytest.mark.parametrize(
    "name",
    [
        "Ann\u202eevil",
        "a\x07b",
        "\u2066x",
        "\u200b",
        " \u3000 ",
        "a\u2028b",
        "…",
        "see https://evil.example",
        "www.evil.example",
    ],
)
@pytest.mark.parametrize("field", ["name", "workspace"])
def test_names_that_mislead_are_refused(visitor: Client, address: str, field: str, name: str) -> None:
    link = link_for(visitor, address)
    assert opened(visitor, link, **{field: name}).status_code == 422
    assert not User.objects.filter(email=address).exists()


def test_names_of_all_scripts_are_taken(visitor: Client, address: str) -> None:
    answer = opened(visitor, link_for(visitor, address), name="安妮 👩‍💻", workspace="安妮的店")
    assert answer.status_code == 302
    tenant = Tenant.objects.get(memberships__user__email=address)
    assert (tenant.name, re.sub(r"[0-9a-f]{8}$", "", tenant.slug)) == ("安妮的店", "workspace-")


def test_a_password_that_is_guessed_is_refused_and_the_link_stays(visitor: Client, address: str) -> None:
    link = link_for(visitor, address)
    assert opened(visitor, link, password="password1234", again="password1234").status_code == 422
    assert opened(visitor, link).status_code == 302


def test_links_name_this_installation_and_lead_nowhere_else(
    settings: Any, visitor: Client, address: str
) -> None:
    settings.BASE_URL = "https://search.example"
    letter = letter_to(visitor, address)
    assert f"https://search.example{links.SIGN_UP}?token=" in letter.body
    visitor.get(LINK.search(letter.body)[1])
    answer = visitor.post("/sign-up/open?next=https://evil.example", filled(next="//evil.example"))
    assert (answer.status_code, answer["Location"]) == (302, "/")


# --- Upkeep -------------------------------------------------------------------------------------------------


def test_what_was_never_verified_goes_and_a_lost_letter_is_asked_for_again(
    visitor: Client, address: str, posted: Any
) -> None:
    asked(visitor, address)
    rows = SignUp.objects.filter(address_digest=sign_up.digest_of(address))
    posted.clear()
    sign_up.tend()
    assert posted == []
    rows.update(created_at=timezone.now() - timedelta(minutes=3))
    sign_up.tend()
    assert ("workers.mail_sign_up", str(rows.get().pk)) in posted
    rows.update(expires_at=timezone.now() - timedelta(hours=23))
    sign_up.tend()
    assert rows.exists()
    rows.update(expires_at=timezone.now() - timedelta(hours=25))
    sign_up.tend()
    assert not rows.exists()


def test_that_a_mailbox_had_its_trial_is_forgotten_after_a_year(visitor: Client, address: str) -> None:
    opened(visitor, link_for(visitor, address))
    rows = SignUp.objects.filter(address_digest=sign_up.digest_of(address))
    rows.update(used_at=timezone.now() - timedelta(days=364))
    sign_up.tend()
    assert rows.exists()
    rows.update(used_at=timezone.now() - timedelta(days=366))
    sign_up.tend()
    assert not rows.exists()
