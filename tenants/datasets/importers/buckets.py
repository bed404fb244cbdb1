"""A bucket's prefix as a disk: S3 through fsspec over Arrow's file system (docs/adr/0008).

Nobody's credentials but the tenant's: without them access is anonymous, and endpoint and region are always said, so
that neither the environment nor an instance's profile can lend this process's rights to whoever names a bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from tenants.datasets.importers import entries, limits
from tenants.datasets.importers.folders import Node
from tenants.errors import Invalid, ServiceError, Unavailable

_LOCATION = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_REGION = re.compile(r"[a-z]{2,3}(-[a-z]{2,12}){1,2}-\d{1,2}")
_SECRETS = ("access_key", "secret_key", "session_token")


class Bucket:
    """Raises Invalid for what cannot be a bucket, Unavailable while it does not answer.

    ``options``: ``region`` (asked of AWS where it is not given), ``endpoint`` (one of ``allowed``: addresses that the
    operator lets tenants name; none means AWS). ``secret``: access_key, secret_key and, if so issued, session_token.
    """

    def __init__(
        self, location: str, options: dict[str, Any], secret: dict[str, Any] | None, allowed: tuple[str, ...]
    ) -> None:
        found = _LOCATION.fullmatch(location)
        if not found or ".." in found[1]:
            raise Invalid(_("A location is s3://bucket/prefix."), pointer="/location")
        self._bucket, prefix = found[1], (found[2] or "").strip("/")
        if prefix and entries.refusal(prefix) not in (None, _(entries.NESTED)):
            raise Invalid(_("The prefix must be a plain path."), pointer="/location")
        self._root = f"{self._bucket}/{prefix}".rstrip("/")
        self._endpoint = _endpoint(options.get("endpoint"), allowed)
        self._region, self._secret = _region(options.get("region")), _keys(secret)

    @cached_property
    def _files(self) -> ArrowFSWrapper:
        region = self._region or ("us-east-1" if self._endpoint else self._asked_region())
        return ArrowFSWrapper(
            fs.S3FileSystem(**self._credentials(), **_address(self._endpoint, region, self._bucket))
        )

    def _credentials(self) -> dict[str, object]:
        return dict(self._secret) if self._secret else {"anonymous": True}

    def _asked_region(self) -> str:
        try:
            return str(fs.resolve_s3_region(self._bucket))
        except OSError:
            raise Invalid(
                _(
                    "The bucket's region could not be found out: check its name, or say the region in the options."
                ),
                pointer="/options/region",
            ) from None

    def listing(self, folder: str) -> list[Node]:
        path = f"{self._root}/{folder}" if folder else self._root
        try:
            found = self._files.fs.get_file_info(fs.FileSelector(path))
        except FileNotFoundError:
            raise Invalid(
                _("The bucket does not exist, or there is nothing under this prefix."), pointer="/location"
            ) from None
        except OSError as error:
            raise _refused(error) from None
        # A key that ends with a slash is how consoles make "folders".
        return [_node(one) for one in found if one.base_name]

    def node(self, path: str) -> Node | None:
        try:
            found = self._files.fs.get_file_info(f"{self._root}/{path}")
        except OSError as error:
            raise _refused(error) from None
        return None if found.type == fs.FileType.NotFound else _node(found)

    def chunks(self, path: str) -> Iterator[bytes]:
        try:
            with self._files.open(f"{self._root}/{path}", "rb", seekable=False) as stream:
                yield from iter(partial(stream.read, limits.S3_CHUNK), b"")
        except FileNotFoundError:
            raise Invalid(_("The file is no longer in the bucket."), pointer="/file") from None
        except OSError as error:
            raise _refused(error) from None


def _node(info: fs.FileInfo) -> Node:
    return Node(info.base_name, info.type == fs.FileType.Directory, info.size)


def _address(endpoint: str, region: str, bucket: str) -> dict[str, object]:
    """Where to connect to: always said, or Arrow takes AWS_ENDPOINT_URL of this process."""
    parts = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
    return {
        "region": region,
        "scheme": parts.scheme,
        "endpoint_override": parts.netloc,
        # AWS wants the bucket in the host's name, but for names with dots, which its certificate does not cover.
        "force_virtual_addressing": not endpoint and "." not in bucket,
        "connect_timeout": limits.S3_CONNECT_S,
        "request_timeout": limits.S3_REQUEST_S,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=limits.S3_TRIES),
        "background_writes": False,
    }


def _endpoint(asked: object, allowed: tuple[str, ...]) -> str:
    if not asked:
        return ""
    if str(asked).rstrip("/") not in [one.strip().rstrip("/") for one in allowed]:
        raise Invalid(
            _("This endpoint is not allowed here; the operator can allow it by IMPORT_S3_ENDPOINTS."),
            pointer="/options/endpoint",
        )
    return str(asked).rstrip("/")


def _region(asked: object) -> str:
    if not asked:
        return ""
    if not isinstance(asked, str) or not _REGION.fullmatch(asked):
        raise Invalid(_("A region looks like eu-central-1."), pointer="/options/region")
    return asked


def _keys(secret: dict[str, Any] | None) -> dict[str, str]:
    """Both halves or none: with one, Arrow would look for the other around this process."""
    given = {key: value for key, value in (secret or {}).items() if value}
    if any(key not in _SECRETS or not _is_token(value) for key, value in given.items()):
        raise Invalid(_("Credentials are %(names)s.") % {"names": ", ".join(_SECRETS)}, pointer="/secret")
    if given and not (given.get("access_key") and given.get("secret_key")):
        raise Invalid(_("Give both access_key and secret_key, or neither."), pointer="/secret")
    return given


def _is_token(value: object) -> bool:
    """Fits into a header of HTTP, where credentials go."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _refused(error: OSError) -> ServiceError:
    words = " ".join(str(error).split())[:300]
    if "ACCESS_DENIED" in words or "HTTP status 403" in words or isinstance(error, PermissionError):
        return Invalid(
            _("The bucket refuses access: check the credentials and their rights."), pointer="/secret"
        )
    if "NO_SUCH_BUCKET" in words or "HTTP status 404" in words:
        return Invalid(_("The bucket does not exist."), pointer="/location")
    if "HTTP status 301" in words or "PermanentRedirect" in words:
        return Invalid(
            _("The bucket lies in another region; say which in the options."), pointer="/options/region"
        )
    return Unavailable(_("The bucket does not answer: %(words)s") % {"words": words})
