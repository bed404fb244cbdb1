"""Zip files and XML of strangers: bounded, without entities, and nothing leads outside."""

from __future__ import annotations

import re
import zipfile
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from lxml import etree

from ml.documents.model import DocumentError, Limits

#: A member below this size may be packed as tightly as it likes: it cannot do harm.
SMALL = 1 << 20
CHUNK = 1 << 20

#: A document type with entities, in UTF-8 and in both orders of UTF-16.
_ENTITY = re.compile(
    b"|".join(re.escape("<!ENTITY".encode(code)) for code in ("utf-8", "utf-16-le", "utf-16-be"))
)


class Archive:
    """A zip that was checked: its members are of bounded number, size and ratio, and declare no entities."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise DocumentError(
                "damaged", "the end of the file is missing or damaged: send the whole file again"
            ) from error
        self.limits = limits
        members = self._zip.infolist()
        if len(members) > limits.members:
            raise DocumentError("too_large", f"the document has more than {limits.members:,} parts: split it")
        for member in members:
            self._check(member)
        if sum(member.file_size for member in members) > limits.unpacked_bytes:
            raise _unpacks(limits)
        self._left = limits.unpacked_bytes
        self.names = {member.filename for member in members if not member.is_dir()}

    def _check(self, member: zipfile.ZipInfo) -> None:
        if member.flag_bits & 1:
            raise DocumentError(
                "encrypted", "the document needs a password: save it without one, and send it again"
            )
        if ".." in PurePosixPath(member.filename.replace("\\", "/")).parts:
            raise DocumentError(
                "damaged",
                f"a part of the file has a name that leads outside of it ({member.filename[:60]}): save it again",
            )
        packed = max(1, member.compress_size)
        if member.file_size > SMALL and member.file_size / packed > self.limits.ratio:
            raise DocumentError(
                "too_large",
                f"a part of the file unpacks to more than {self.limits.ratio} times its size: save it again, or split"
                " the document",
            )

    def read(self, name: str) -> bytes:
        """One member; what the directory says of its size is not believed. Raises DocumentError."""
        content = bytearray()
        try:
            with self._zip.open(name) as member:
                while chunk := member.read(CHUNK):
                    content += chunk
                    self._left -= len(chunk)
                    if self._left < 0:
                        raise _unpacks(self.limits)
        except KeyError:
            raise DocumentError(
                "damaged", f"the part {name[:80]} is missing: save the document again"
            ) from None
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError, Exception) as error:
            if isinstance(error, (DocumentError, MemoryError)):
                raise
            raise DocumentError(
                "damaged", f"the part {name[:80]} is damaged: open the document, and save it again"
            ) from error
        return bytes(content)

    def xml(self, name: str) -> Any:
        """The root element of a member."""
        return parse_xml(self.read(name), name)

    def check_xml(self) -> None:
        """Look through all parts that are XML, for libraries that unpack by themselves afterwards."""
        for name in sorted(self.names):
            if name.endswith((".xml", ".rels", ".vml")):
                refuse_entities(self.read(name), name)
        self._left = self.limits.unpacked_bytes


def _unpacks(limits: Limits) -> DocumentError:
    most = limits.unpacked_bytes >> 20
    return DocumentError("too_large", f"the document unpacks to more than {most} MB: split it")


def refuse_entities(content: bytes, name: str) -> None:
    """Raises DocumentError where XML declares entities: they multiply what is read, or name other files."""
    if _ENTITY.search(content):
        raise DocumentError(
            "too_large",
            f"{name[:80]} declares XML entities, which can grow without bounds or name other files: save the document"
            " again without them",
        )


def parse_xml(content: bytes, name: str) -> Any:
    """Parsed without entities, document types and network. Raises DocumentError."""
    refuse_entities(content, name)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise told(error, name) from error


def told(error: Exception, name: str) -> DocumentError:
    """What a parser's refusal means."""
    message = str(error).lower()
    if "depth" in message or "huge" in message:
        return DocumentError("too_large", f"{name[:80]} is nested too deeply: flatten it, or send a PDF")
    return DocumentError("damaged", f"{name[:80]} is damaged: open the document, and save it again")
