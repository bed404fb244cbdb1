"""Handing out stored bytes over HTTP: one place for the rules that the API and the console share.

A picture is served without its location, so not before it was decoded. Every answer says `nosniff` and
forbids scripts, and what a browser might run is only ever a download.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import IO

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, parse_etags
from django.utils.translation import gettext as _

from ml.documents.sniffing import EMAIL, FORMATS, MARKDOWN, OLE
from ml.media import HEAD_BYTES, sniff
from tenants.datasets import documents, shapes, storage
from tenants.datasets.encrypted_files import FileDamaged
from tenants.datasets.filenames import download_name
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotFound, NotReady

# What no browser runs, and its players show.
INLINE = frozenset(
    {
        *("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "text/plain"),
        *("audio/wav", "audio/mpeg", "audio/flac", "audio/ogg", "audio/aac", "audio/mp4", "audio/webm"),
        *("video/mp4", "video/webm", "video/quicktime"),
    }
)
# JPEG of pictures, WebP of frames and waveforms: `serve` looks at the one that it has opened anyway.
THUMBNAILS = ("image/jpeg", "image/webp")
TOLD_BY_CONTENT = ""
SUFFIXES = {
    "image/jpeg": "jpg",
    "text/plain": "txt",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    **{media_type: kind for media_type, kind in FORMATS.items() if kind not in ("markdown", "email")},
    MARKDOWN: "txt",
    EMAIL: "eml",
    OLE: "doc",
}
# Other endings that people give such files.
ALIASES = {
    **dict.fromkeys(("jpeg", "jpe", "jfif"), "jpg"),
    **dict.fromkeys(("md", "markdown", "text"), "txt"),
    **dict.fromkeys(("oga", "opus"), "ogg"),
    "wave": "wav",
    "m4v": "mp4",
    "qt": "mov",
    **dict.fromkeys(("htm", "xhtml"), "html"),
    **dict.fromkeys(("xls", "ppt"), "doc"),
}
# Asked for again each time: an asset that was deleted must not live on in a cache.
CACHE = "private, no-cache"
# Of a page where none is said.
PAGE_WIDTH = 800
NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Rendition:
    """One stored file of an asset: which kind, as what type, under which name a browser saves it."""

    path: str
    media_type: str
    etag: str
    filename: str

    def told_by(self, stream: IO[bytes]) -> Rendition:
        """With the type of what is in the stream, which is rewound; anything but a small picture is a download."""
        if self.media_type != TOLD_BY_CONTENT:
            return self
        found = sniff(stream.read(HEAD_BYTES))
        stream.seek(0)
        if found not in THUMBNAILS:
            return replace(self, media_type="application/octet-stream")
        return replace(self, media_type=found, filename=f"{self.filename}.{_suffix(found)}")


def content_of(asset: Asset) -> Rendition:
    """The asset's content as it may be shown. Raises NotReady for a picture that was not decoded (yet).

    What was generated here goes out as it was released: a copy without metadata would lose its credentials, and it
    holds no places.
    """
    blob = asset.blob
    if asset.modality != Asset.Modality.TEXT and blob.width is None and blob.details is None:
        raise NotReady(_("This file is served once it has been checked and its location data removed."))
    cleaned = blob.clean_type and asset.generation_id is None
    kind, media_type = ("clean", blob.clean_type) if cleaned else ("original", blob.media_type)
    return _rendition(asset, kind, media_type)


def thumbnail_of(asset: Asset) -> Rendition:
    """The asset's small picture. Raises NotFound for an asset without one."""
    if not asset.blob.has_thumbnail:
        raise NotFound(_("This asset has no thumbnail."))
    return _rendition(asset, "thumbnail", TOLD_BY_CONTENT)


def _rendition(asset: Asset, kind: str, media_type: str) -> Rendition:
    blob = asset.blob
    return Rendition(
        path=storage.path_of(asset.tenant_id, blob.sha256, kind),
        media_type=media_type,
        etag=f'"{blob.sha256[:32]}-{kind}"',
        filename=_saved_as(asset, media_type) if media_type else str(asset.id),
    )


def _saved_as(asset: Asset, media_type: str) -> str:
    suffix = _suffix(media_type)
    return download_name(asset.filename, suffix, ALIASES) if asset.filename else f"{asset.id}.{suffix}"


def _suffix(media_type: str) -> str:
    return SUFFIXES.get(media_type, media_type.rpartition("/")[2])


def serve(request: HttpRequest, rendition: Rendition) -> HttpResponseBase:
    """The bytes, or the part that a Range header asks for, or 304. Raises NotFound if the file is gone, and FileDamaged
    if it is no longer what was stored, as far as its first bytes tell."""
    if _known_to_client(request, rendition):
        return _unchanged(rendition)
    try:
        stream = storage.open_blob(rendition.path)
    except FileNotFoundError as error:
        raise NotFound(_("The content of this asset is gone.")) from error
    size = stream.seek(0, 2)
    stream.seek(0)
    rendition = rendition.told_by(stream)
    wanted = _range(request, rendition, size)
    # Once an answer has begun, nothing can be said but by breaking it off.
    stream.seek(wanted[0] if wanted else 0)
    stream.read(1)
    if wanted is None:
        response = StreamingHttpResponse(storage.chunks(stream, 0, size), content_type=rendition.media_type)
        response["Content-Length"] = size
        return _with_headers(response, rendition)
    return _with_headers(_part(stream, wanted, size, rendition.media_type), rendition)


def _unchanged(rendition: Rendition) -> HttpResponse:
    """304 updates the headers that a cache keeps: only those that need no look at the file."""
    return HttpResponse(status=304, headers={"ETag": rendition.etag, "Cache-Control": CACHE})


def _part(stream: IO[bytes], wanted: tuple[int, int], size: int, media_type: str) -> HttpResponseBase:
    start, end = wanted
    if start >= size or start > end:
        stream.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    length = end - start + 1
    response = StreamingHttpResponse(
        storage.chunks(stream, start, length), status=206, content_type=media_type
    )
    response["Content-Range"] = f"bytes {start}-{end}/{size}"
    response["Content-Length"] = length
    return response


def _known_to_client(request: HttpRequest, rendition: Rendition) -> bool:
    known = {tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))}
    return rendition.etag in known or "*" in known


def _range(request: HttpRequest, rendition: Rendition, size: int) -> tuple[int, int] | None:
    """First and last byte that were asked for, or None for all; several ranges are answered with all."""
    match = RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or match.group() == "bytes=-":
        return None
    if request.headers.get("If-Range", rendition.etag) != rendition.etag:
        return None
    first, last = match.groups()
    if not first:
        # The last n bytes; none at all cannot be satisfied.
        return (max(0, size - int(last)), size - 1) if int(last) else (size, size)
    if last and int(last) < int(first):
        return None  # invalid, and so to be ignored (RFC 9110, 14.1.1)
    return int(first), min(int(last), size - 1) if last else size - 1


def _with_headers(response: HttpResponseBase, rendition: Rendition) -> HttpResponseBase:
    attached = rendition.media_type not in INLINE
    if rendition.media_type == "text/plain":
        response["Content-Type"] = "text/plain; charset=utf-8"
    # RFC 6266: quoted where it is ASCII, else as filename* in UTF-8.
    response["Content-Disposition"] = str(content_disposition_header(attached, rendition.filename))
    response["ETag"] = rendition.etag
    response["Accept-Ranges"] = "bytes"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = CACHE
    return response


def serve_page(request: HttpRequest, asset: Asset, number: str) -> HttpResponse:
    """A page of a PDF as JPEG, `?width=` pixels wide or somewhat more. In no scope; raises as `page_picture`."""
    width = request.GET.get("width", "") or str(PAGE_WIDTH)
    if not NUMBER.fullmatch(width):
        raise Invalid(_("A width is a number of pixels."), pointer="/width")
    page = int(number) if NUMBER.fullmatch(number) else 0
    etag = f'"{asset.blob.sha256[:32]}-page-{page}-{int(width)}"'
    headers = {"ETag": etag, "Cache-Control": CACHE}
    if etag in {tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))}:
        return HttpResponse(status=304, headers=headers)
    picture = documents.page_picture(asset, page, int(width))
    headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
    return HttpResponse(picture, content_type="image/jpeg", headers=headers)


def document_text(asset: Asset) -> shapes.DocumentText:
    """What was read of a document, as the API shows it. Raises NotFound for what is none, NotReady."""
    if not documents.is_document(asset.blob.media_type):
        raise NotFound(_("This asset is not a document."))
    found = documents.stored(asset.tenant_id, asset.blob.sha256) if asset.blob.document else None
    if found is None:
        raise NotReady(_("This document has not been read."))
    blocks = [
        shapes.DocumentBlock(
            kind=one.kind, page=one.page, box=list(one.box) if one.box else None, start=one.start, end=one.end
        )
        for one in found.blocks
    ]
    return shapes.DocumentText(**(asset.blob.document or {}), text=found.text, blocks=blocks)


def read_text(asset: Asset, limit: int | None = None) -> str:
    """The words of a text asset, or its first `limit` bytes, those of a document included that was read; empty for
    another asset, and for a file that was lost or damaged."""
    if asset.modality != Asset.Modality.TEXT:
        return ""
    if documents.is_document(asset.blob.media_type):
        most = documents.MAX_CHARACTERS if limit is None else limit
        return documents.words_at(asset.tenant_id, asset.blob.sha256, 0, most)
    path = storage.path_of(asset.tenant_id, asset.blob.sha256)
    try:
        with storage.open_blob(path) as stream:
            raw = stream.read(-1 if limit is None else limit)
    except (FileNotFoundError, FileDamaged):
        return ""
    # A cut may fall inside a character.
    return raw.decode("utf-8-sig", errors="ignore")
