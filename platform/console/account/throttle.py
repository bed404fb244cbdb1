"""Slowing down who guesses: passwords, codes, tokens, and whose address is known here.

Attempts are counted in Valkey before anything is looked at, so that many at once gain nothing, and after some that are
free each one makes the next wait twice as long, up to a bound. Nobody is locked out: what had to wait is not counted,
so waiting always ends. How often, and for how long:

- an account from one network (an IPv4 address, or the /64 of an IPv6 one, which one household or server has): `NARROW`;
- an account from wherever, and a network with whatever accounts: `WIDE`, which many guessers share and so is short;
- a browser that has signed in to the account before has a count of its own, by a signed cookie, and no other counts for
  it: whoever guesses at the account, or from behind the same address, cannot keep its owner out. (OWASP, "Slow Down
  Online Guessing Attacks with Device Cookies".)

Whether there is such an account makes no difference to any of this.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.accounts.models import User
from tenants.accounts.networks import network_of
from tenants.errors import ServiceError
from tenants.valkey import Unavailable, client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    """After `free` attempts the next one waits for `first_s`, then twice, four times as long … at most `longest_s`."""

    free: int
    longest_s: int
    first_s: int = 1


NARROW, WIDE = Limit(5, 15 * 60), Limit(100, 30)
# A network that asks for workspaces: each try is a letter to somebody who may not have asked.
MAILING = Limit(20, 15 * 60)

# A count is forgotten so long after its last attempt; longer than any wait.
FORGET_S = 3600


# Six digits, a mailbox and a signed-in person's password must not be tried from many networks either: there the account
# counts by itself, narrowly. Tokens belong to no account: there only the network counts.
ACCOUNT_ONLY = frozenset({"code", "reset", "proof", "sign-up"})

NETWORK_ONLY = frozenset({"open", "link"})


DEVICE, DEVICE_S, DEVICE_SALT = "device", 180 * 24 * 3600, "console.account.throttle.device"


# KEYS: counts, then as many gates, which are there while attempts have to wait. ARGV: FORGET_S, then the `free`,
# `longest_s` and `first_s` of each count. Returns the milliseconds to wait, or 0 for an attempt that was counted.
_ADMIT = """
local n, wait = #KEYS / 2, 0
for i = 1, n do wait = math.max(wait, redis.call('PTTL', KEYS[n + i])) end
if wait > 0 then return wait end
for i = 1, n do
  local over = redis.call('INCR', KEYS[i]) - tonumber(ARGV[3 * i - 1])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
  if over >= 0 then
    local seconds = math.min(tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]) * 2 ^ math.min(over, 30))
    redis.call('SET', KEYS[n + i], '1', 'EX', string.format('%d', seconds))
  end
end
return 0
"""

# The same KEYS. ARGV: "own" for a count of this account alone, which is over; another one loses this one attempt.
_SUCCEED = """
local n = #KEYS / 2
for i = 1, n do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    if ARGV[i] == 'own' or redis.call('DECR', KEYS[i]) <= 0 then redis.call('DEL', KEYS[i]) end
    redis.call('DEL', KEYS[n + i])
  end
end
return 0
"""


class TooManyAttempts(ServiceError):
    """`wait_s` seconds have to pass before the next one."""

    slug, status, title = "too-many-attempts", 429, _("Too many attempts")

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(_wait_message(wait_s))


def _wait_message(wait_s: int) -> str:
    if wait_s < 120:
        text = ngettext(
            "Too many attempts. Wait %(count)s second, then try again.",
            "Too many attempts. Wait %(count)s seconds, then try again.",
            wait_s,
        )
        return text % {"count": wait_s}
    minutes = -(-wait_s // 60)
    return _("Too many attempts. Wait %(count)s minutes, then try again.") % {"count": minutes}


class Attempt:
    """One try for `purpose` at an account (an e-mail address) from a network, perhaps by a browser that it knows."""

    def __init__(self, account: str, address: str, purpose: str = "login", device: str = "") -> None:
        who, where = _account(account), _digest(network_of(address))
        own, shared = f"account:{purpose}:{who}", f"network:{purpose}:{where}"
        if device:
            limits = {f"device:{purpose}:{device}": NARROW}
        elif purpose in NETWORK_ONLY:
            limits = {shared: WIDE}
        elif purpose in ACCOUNT_ONLY:
            limits = {own: NARROW, shared: MAILING if purpose == "sign-up" else WIDE}
        else:
            limits = {f"both:{purpose}:{_digest(who + where)}": NARROW, own: WIDE, shared: WIDE}
        self._purpose, self._limits = purpose, list(limits.values())
        # One hash tag, as one script reads all of them: in a Cluster they lie on one server.
        self._keys = [f"{{attempts}}:{name}{part}" for part in ("", ":wait") for name in limits]

    @classmethod
    def of(cls, request: HttpRequest, purpose: str, account: str = "") -> Attempt:
        address = request.META.get("REMOTE_ADDR", "")
        return cls(account, address, purpose, _known_device(request, account))

    def admit(self) -> None:
        """Count this attempt. Raises TooManyAttempts, and counts nothing, if it has to wait."""
        limits = [n for limit in self._limits for n in (limit.free, limit.longest_s, limit.first_s)]
        wait_ms = self._run(_ADMIT, FORGET_S, *limits)
        if wait_ms > 0:
            raise TooManyAttempts(-(-wait_ms // 1000))

    def succeeded(self) -> None:
        """Forget the account's failures here, and this attempt where it was one of many."""
        self._run(_SUCCEED, *("own" if limit is NARROW else "shared" for limit in self._limits))

    def _run(self, script: str, *arguments: Any) -> int:
        try:
            return int(client().eval(script, len(self._keys), *self._keys, *arguments))
        except Unavailable:
            # Without Valkey nothing can be counted; that must not lock everybody out.
            log.warning("attempts are not counted: the cache is away", extra={"purpose": self._purpose})
            return 0


def remember_device(response: HttpResponse, email: str) -> None:
    """Let this browser, which has just signed in to the account, be counted by itself from now on."""
    value = signing.dumps([_account(email), secrets.token_hex(16)], salt=DEVICE_SALT)
    response.set_cookie(
        DEVICE,
        value,
        max_age=DEVICE_S,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _known_device(request: HttpRequest, account: str) -> str:
    """What the browser is counted as, if it has signed in to this account before; else ""."""
    try:
        who, device = signing.loads(request.COOKIES.get(DEVICE, ""), salt=DEVICE_SALT, max_age=DEVICE_S)
    except signing.BadSignature:
        return ""
    return str(device) if who == _account(account) else ""


def _account(email: str) -> str:
    return _digest(User.objects.normalize_email(email))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
