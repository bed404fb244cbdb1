"""In which encoding a text file is written: its byte order mark, UTF-8, else the likeliest."""

from __future__ import annotations

import codecs

from charset_normalizer import from_bytes
from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.errors import Invalid

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

# Python also knows "encodings" that are none (idna, unicode_escape): only these are taken.
ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1258",
    "iso8859-1",
    "iso8859-2",
    "iso8859-5",
    "iso8859-7",
    "iso8859-9",
    "iso8859-15",
    "koi8-r",
    "koi8-u",
    "cp437",
    "cp850",
    "cp866",
    "mac-roman",
    "gb18030",
    "big5",
    "shift_jis",
    "cp932",
    "euc_jp",
    "euc_kr",
    "cp949",
)
_CODECS = {codecs.lookup(name).name: name for name in ENCODINGS}
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "ascii": "utf-8"}
# Those between which a guess chooses: more candidates make short samples come out exotic.
_LIKELY = ["cp1252", "cp1250", "cp1251", "cp1253", "gb18030", "big5", "cp932", "euc_jp", "cp949", "koi8_r"]

#: Stands for bytes that are not of the encoding, so that only the row that holds them fails.
UNREADABLE = "\udcff"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNREADABLE, max(error.end, error.start + 1)


#: Name of the error handler for ``open`` and ``decode``.
MARKING = "importers.mark"
codecs.register_error(MARKING, _mark)


def encoding(head: bytes, asked: object = None) -> str:
    """The encoding to read with: the one that was asked for, or a guess. Raises Invalid for unknown ones."""
    if asked is None or asked == "":
        return next((name for mark, name in _MARKS if head.startswith(mark)), None) or _guess(head)
    try:
        name = codecs.lookup(str(asked)).name
    except (LookupError, ValueError):
        name = ""
    name = _WIDER.get(name, name)
    if name not in _CODECS:
        raise Invalid(
            _("Unknown encoding. Known are %(names)s.") % {"names": ", ".join(ENCODINGS)},
            pointer="/options/encoding",
        )
    if name == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Invalid(
            _("The file has no byte order mark: say utf-16-le or utf-16-be."), pointer="/options/encoding"
        )
    if name == "utf-8" and head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return _CODECS[name]


def _guess(head: bytes) -> str:
    try:
        # The sample may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    matches = from_bytes(head[: limits.ENCODING_SAMPLE], cp_isolation=_LIKELY)
    names = [name for match in matches for name in match.could_be_from_charset]
    # On a par with others (the library orders them by name), the one of Western Europe is the commoner by far.
    best = "cp1252" if "cp1252" in names and names[0] == "cp1250" else (names or ["utf-8"])[0]
    found = codecs.lookup(best).name
    return _CODECS.get(_WIDER.get(found, found), "utf-8")
