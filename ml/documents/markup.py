"""HTML, and what becomes HTML: Markdown, chapters of an EPUB, bodies of e-mails.

Nothing is fetched and no script runs: what a browser would fetch or run becomes a finding. Style sheets count as far
as they hide: in ``style`` attributes, and in simple rules (``.name``, ``#name``, ``element``) of ``style`` elements.
"""

from __future__ import annotations

import email
import email.policy
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import lxml.html
from lxml import etree

from ml.documents.archive import Archive, refuse_entities
from ml.documents.model import Builder, DocumentError, clean, is_wide, letters, row, shortened
from ml.media.model import File

#: Of HTML, Markdown and e-mail without its attachments; longer ones would be cut by the limit of characters anyway.
MAX_MARKUP = 32 << 20

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BREAKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
    }
    | {
        "fieldset",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "main",
        "nav",
        "p",
        "section",
    }
    | {"summary", "legend", "td", "th", "tr", "option"}
)
#: Whose text no browser shows.
_SILENT = frozenset(
    {"script", "style", "template", "head", "noscript", "svg", "math", "object", "iframe", "textarea"}
)
_PLUGINS = frozenset({"iframe", "object", "embed", "applet", "frame"})

_HIDING = frozenset(
    {
        ("display", "none"),
        ("visibility", "hidden"),
        ("visibility", "collapse"),
        ("mso-hide", "all"),
        ("font-size", "1px"),
        ("font-size", "1pt"),
    }
)
_WHITE = frozenset({"#fff", "#ffffff", "white", "rgb(255,255,255)", "rgb(255, 255, 255)"})
_SIZES = frozenset({"height", "width", "max-height", "max-width"})
_NUMBER = re.compile(r"-?\d{0,9}\.?\d{0,9}")
_SIMPLE = re.compile(r"^(?:[a-z][a-z0-9]*+)?(?:[.#][\w-]++)?$", re.IGNORECASE)
_CHARSET = re.compile(rb"(?:charset|encoding)\s{0,8}=\s{0,8}[\"']?([\w-]{1,40})", re.IGNORECASE)
_LIST_MARK = "- "


def load() -> None:
    """Nothing more to import: what is needed stands above."""
    _markdown()


def decode(content: bytes, declared: str | None = None) -> str:
    """Text of bytes: by its mark of order, by what is declared, as UTF-8, as GB 18030, at last as Windows-1252."""
    for mark, code in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if content.startswith(mark):
            return content[len(mark) :].decode(code, "replace")
    # GB 18030 contains its forerunners, whose names pages still declare.
    declared = "gb18030" if (declared or "").lower() in ("gb2312", "gbk") else declared
    for name in ("utf-8", declared or "utf-8", "gb18030"):
        try:
            return content.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("cp1252", "replace")


def _style(text: str | None) -> dict[str, str]:
    """The declarations of a style, in small letters."""
    found = {}
    for part in (text or "").lower().split(";")[:200]:
        name, _, value = part.partition(":")
        found[name.strip()] = value.strip().removesuffix("!important").strip()
    return found


def _hides(style: dict[str, str]) -> bool:
    if not _HIDING.isdisjoint(style.items()):
        return True
    for name, value in style.items():
        digits = _NUMBER.match(value)
        if digits is None or digits[0] in ("", "-", "."):
            if name == "clip" and value.startswith(("rect(0", "rect(1px")):
                return True
            continue
        try:
            number = float(digits[0])
        except ValueError:
            continue
        if name in ("opacity", "font-size") and number == 0:
            return True
        if name in ("left", "top", "text-indent", "margin-left") and number <= -500:
            return True
        if name in _SIZES and number == 0 and style.get("overflow") == "hidden":
            return True
    return False


def _has_ground(style: dict[str, str]) -> bool:
    return any(name.startswith("background") for name in style)


def _content(file: File) -> bytes:
    if file.stat().st_size > MAX_MARKUP:
        raise DocumentError("too_large", f"a text of more than {MAX_MARKUP >> 20} MB is not read: split it")
    with file.open("rb") as opened:
        return opened.read()


def read_html(file: File, builder: Builder) -> None:
    content = _content(file)
    declared = _CHARSET.search(content[:4096])
    add_html(builder, decode(content, declared[1].decode("ascii", "replace") if declared else None))


# --- Markdown ---------------------------------------------------------------------------------------------

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE | re.IGNORECASE)


def _markdown() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def read_markdown(file: File, builder: Builder) -> None:
    text = decode(_content(file)).replace("\r\n", "\n").replace("\r", "\n")
    if front := _FRONT_MATTER.match(text):
        if title := _FRONT_TITLE.search(front[1]):
            builder.title = title[1]
        text = text[front.end() :]
    add_html(builder, _markdown().render(text))


# --- HTML -------------------------------------------------------------------------------------------------


@dataclass
class _Styles:
    """Which elements the rules of ``style`` elements hide: by class, id, or name."""

    hidden: set[str] = field(default_factory=set)
    any: bool = False

    @classmethod
    def of(cls, root: Any) -> _Styles:
        styles = cls()
        for element in root.iter("style"):
            styles.any = True
            for rule in (element.text or "")[:200_000].split("}"):
                selectors, _, body = rule.rpartition("{")
                if _hides(_style(body)):
                    names = (name.strip() for name in selectors.split(","))
                    styles.hidden |= {name.lower() for name in names if name and _SIMPLE.match(name)}
        return styles

    def hide(self, element: Any) -> bool:
        if not self.hidden:
            return False
        tag = str(element.tag)
        names = {tag, *(f".{name.lower()}" for name in (element.get("class") or "").split())}
        if identifier := element.get("id"):
            names.add(f"#{identifier.lower()}")
        return not self.hidden.isdisjoint(names | {tag + name for name in names if name != tag})


def add_html(builder: Builder, text: str, page: int = 1) -> None:
    """Add the blocks and findings of one HTML document. Raises DocumentError."""
    refuse_entities(text[: 1 << 16].encode("utf-8", "replace"), "the document type")
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    if not text.strip():
        return
    parser = lxml.html.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=False
    )
    try:
        root = lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, AssertionError):
        return
    for entry in parser.error_log:
        if "depth" in entry.message.lower():
            raise DocumentError("too_large", "elements are nested too deeply: flatten the document")
    _Walk(builder, page, _Styles.of(root)).run(root)


class _Walk:
    """Goes through a tree once, without calling itself: blocks are closed as elements end."""

    def __init__(self, builder: Builder, page: int, styles: _Styles) -> None:
        self.builder, self.page, self.styles = builder, page, styles
        self._words: list[str] = []
        self._kind = "paragraph"
        self._list: list[str] | None = None
        self._in_pre = False

    def run(self, root: Any) -> None:
        self._active(root)
        title = root.find(".//head/title")
        if title is not None and not self.builder.title:
            self.builder.title = clean(title.text or "")
        self._drop_unseen(root)
        body = root.find("body")
        self._children(root if body is None else body)
        self._flush()

    def _children(self, root: Any) -> None:
        """The elements below in order; an element is visited when it begins, and left when it ends."""
        stack: list[tuple[Any, Iterator[Any], Any]] = [(root, iter(root), self._enter(root))]
        self._say(root.text)
        while stack:
            element, children, left = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                if element is not root:
                    self._leave(element, left)
                    self._say(element.tail)
                continue
            if not isinstance(child.tag, str):
                self._say(child.tail)
                continue
            if self._skip(child):
                self._say(child.tail)
                continue
            left = self._enter(child)
            self._say(child.text)
            stack.append((child, iter(child), left))

    def _skip(self, element: Any) -> bool:
        """Whether what is in an element is done: it has no text, or it is a table."""
        tag = element.tag
        if tag == "br":
            self._words.append("\n")
        elif tag == "table" and _is_data(element):
            self._flush()
            caption = element.find("caption")
            if caption is not None:
                self.builder.add("caption", clean(_text(caption)), self.page)
            self.builder.add("table", "\n".join(filter(None, self._rows(element))), self.page)
        else:
            return False
        return True

    def _drop_unseen(self, root: Any) -> None:
        """Take out what nobody sees, and say how it begins. Depth is checked here."""
        stack = [(root, iter(list(root)))]
        while stack:
            child = next(stack[-1][1], None)
            if child is None:
                stack.pop()
                continue
            if not isinstance(child.tag, str):
                continue
            if len(stack) > self.builder.limits.depth:
                raise DocumentError("too_large", "elements are nested too deeply: flatten the document")
            if child.tag in _SILENT and child.tag != "head":
                child.drop_tree()
            elif reason := self._hidden(child):
                if text := clean(_text(child)):
                    told = f"Text that a reader does not see ({reason}): {shortened(text, 120)}"
                    self.builder.find("hidden_text", told, self.page)
                child.drop_tree()
            else:
                stack.append((child, iter(list(child))))

    def _rows(self, table: Any) -> Iterator[str]:
        for line in table.iter("tr"):
            cells = [cell for cell in line if cell.tag in ("td", "th")]
            if cells:
                yield row(_text(cell) for cell in cells)

    def _hidden(self, element: Any) -> str:
        style = _style(element.get("style"))
        if element.get("hidden") is not None:
            return "marked hidden"
        if _hides(style):
            return "hidden by its style"
        if self.styles.hide(element):
            return "hidden by a style sheet"
        if style.get("color") in _WHITE and not _has_ground(style) and not self._on_a_ground(element):
            return "white on white"
        return ""

    def _on_a_ground(self, element: Any) -> bool:
        """Whether something around it may have a colour: then white letters may well be seen."""
        if self.styles.any:
            return True
        around = [element, *element.iterancestors()]
        return any(
            part.get("bgcolor")
            or part.get("class")
            or part.get("background")
            or _has_ground(_style(part.get("style")))
            for part in around
        )

    def _enter(self, element: Any) -> Any:
        """What has to be restored when the element ends."""
        tag = element.tag
        before = (self._kind, self._list, self._in_pre)
        if tag in _HEADINGS:
            self._flush()
            self._kind = "heading"
        elif tag in ("ul", "ol", "menu"):
            if self._list is None:
                self._flush()
                self._list = []
            else:
                self._item()
        elif tag == "li":
            if self._list is None:
                self._flush()
            else:
                self._item()
        elif tag in ("figcaption", "caption"):
            self._flush()
            self._kind = "caption"
        elif tag in ("footer", "nav") and not element.xpath(
            "boolean(ancestor::article or ancestor::blockquote)"
        ):
            self._flush()
            self._kind = "footer" if tag == "footer" else "header"
        elif tag == "aside" or element.get("role") in ("doc-footnote", "doc-endnote", "doc-endnotes"):
            self._flush()
            self._kind = "note"
        elif tag == "pre":
            self._flush()
            self._in_pre = True
        elif tag in _BREAKS:
            self._break()
        return before

    def _leave(self, element: Any, before: Any) -> None:
        tag = element.tag
        kind, items, in_pre = before
        if tag == "li" and self._list is not None:
            self._item()
        if tag in ("ul", "ol", "menu") and items is None and self._list is not None:
            self._item()
            done, self._list = self._list, None
            self._put("list", "\n".join(done))
        if kind != self._kind or tag in _HEADINGS or tag == "pre":
            self._flush()
        elif tag in _BREAKS:
            self._break()
        self._kind, self._list, self._in_pre = kind, items, in_pre

    def _break(self) -> None:
        if self._list is None:
            self._flush()
        elif self._words:
            self._words.append(" ")

    def _item(self) -> None:
        text = clean("".join(self._words))
        self._words = []
        if text and self._list is not None:
            self._list.append(_LIST_MARK + text)

    def _say(self, text: str | None) -> None:
        if text:
            self._words.append(text if self._in_pre else re.sub(r"\s+", _gap, text))

    def _flush(self) -> None:
        text = clean("".join(self._words), lines=True)
        self._words = []
        if self._list is not None:
            if text:
                self._list.append(_LIST_MARK + clean(text))
            return
        self._put(self._kind, text)

    def _put(self, kind: str, text: str) -> None:
        if kind == "heading":
            text = clean(text)
        if kind == "list" and self._kind in ("header", "footer", "note"):
            kind = self._kind
        self.builder.add(kind, text, self.page)

    def _active(self, root: Any) -> None:
        """Findings of what would run, send, or be fetched."""
        find = self.builder.find
        for element in root.iter():
            tag = element.tag
            if not isinstance(tag, str):
                continue
            if tag == "script":
                find("active_content", "Scripts, which were not run", self.page)
            elif tag in _PLUGINS:
                find("active_content", f"Embedded content ({tag}), which was not opened", self.page)
            elif tag == "form" and (element.get("action") or element.get("method")):
                where = _host(element.get("action"))
                find(
                    "active_content",
                    f"A form that sends what is typed{f' to {where}' if where else ''}",
                    self.page,
                )
            elif tag == "meta" and (element.get("http-equiv") or "").lower() == "refresh":
                find("active_content", "The page leads on to another one by itself", self.page)
            elif tag == "link" and "stylesheet" in (element.get("rel") or "").lower():
                if host := _host(element.get("href")):
                    find("active_content", f"A style sheet from {host}, which was not fetched", self.page)
            elif tag in ("img", "video", "audio", "source", "input") and (host := _host(element.get("src"))):
                told = f"Remote pictures or media from {host}, which were not fetched"
                find("active_content", told, self.page)
            for name, value in element.attrib.items():
                if name.startswith("on"):
                    find(
                        "active_content",
                        "Scripts in attributes (such as onclick), which were not run",
                        self.page,
                    )
                elif name in ("href", "src", "action") and value.strip().lower().startswith("javascript:"):
                    find("active_content", "Links that run a script", self.page)


def _gap(found: re.Match[str]) -> str:
    """What white space is shown as: nothing where a line of Chinese ended."""
    before, after = (
        found.string[max(0, found.start() - 1) : found.start()],
        found.string[found.end() : found.end() + 1],
    )
    return "" if "\n" in found[0] and is_wide(before) and is_wide(after) else " "


def _host(address: str | None) -> str:
    """The host of an outside address, "" where there is none."""
    address = (address or "").strip()
    if not re.match(r"(?:https?:|ftp:|file:)?//", address, re.IGNORECASE):
        return ""
    try:
        return (urlsplit(address).hostname or "another host")[:100]
    except ValueError:
        return "another host"


def _text(element: Any) -> str:
    """All that an element shows, without scripts and styles."""
    words: list[str] = []
    for node in element.iter():
        if not isinstance(node.tag, str):
            words.append(node.tail or "" if node is not element else "")
            continue
        if node.tag == "br" or node.tag in _BREAKS or node.tag in ("li", *_HEADINGS):
            words.append(" ")
        if node.tag not in _SILENT:
            words.append(node.text or "")
        if node is not element:
            words.append(node.tail or "")
    return "".join(words)


def _is_data(table: Any) -> bool:
    """A table of data, not one that only places things: rows of several cells, and no table in it."""
    if (table.get("role") or "").lower() in ("presentation", "none") or table.find(".//table") is not None:
        return False
    widths = [sum(cell.tag in ("td", "th") for cell in line) for line in table.iter("tr")]
    if table.find(".//th") is not None:
        return True
    return (
        len(widths) > 1 and max(widths) > 1 and not any(len(_text(cell)) > 1_000 for cell in table.iter("td"))
    )


# --- EPUB -------------------------------------------------------------------------------------------------

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PACKAGE = "{http://www.idpf.org/2007/opf}"
_DUBLIN = "{http://purl.org/dc/elements/1.1/}"
_CIPHER = "{http://www.w3.org/2001/04/xmlenc#}CipherReference"
_CHAPTERS = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def read_epub(file: File, builder: Builder) -> None:
    """Chapters in the order of the spine; each is a page."""
    with file.open("rb") as opened:
        book = Archive(opened, builder.limits)
        chapters, title = _spine(book)
        builder.title = title
        builder.page_count = min(len(chapters), builder.limits.pages)
        for number, name in enumerate(chapters, 1):
            if number > builder.limits.pages:
                builder.full(f"more than {builder.limits.pages:,} chapters")
            if name not in book.names:
                builder.find("not_read", f"The chapter {name[:80]} is missing from the file", number)
                continue
            content = book.read(name)
            declared = _CHARSET.search(content[:4096])
            text = decode(content, declared[1].decode("ascii", "replace") if declared else None)
            refuse_entities(content, name)
            add_html(builder, text, number)
        builder.title = title or builder.title


def _spine(book: Archive) -> tuple[list[str], str]:
    """Names of the chapters, and the title."""
    container = book.xml("META-INF/container.xml")
    roots = [found.get("full-path") or "" for found in container.iter(f"{_CONTAINER}rootfile")]
    package_name = next((name for name in roots if name in book.names), None)
    if package_name is None:
        raise DocumentError("damaged", "the list of chapters is missing: save the book again")
    package = book.xml(package_name)
    folder = posixpath.dirname(package_name)
    by_id = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href") or "")))
        for item in package.iter(f"{_PACKAGE}item")
        if item.get("media-type") in _CHAPTERS
    }
    chapters = [
        by_id[found.get("idref")]
        for found in package.iter(f"{_PACKAGE}itemref")
        if found.get("idref") in by_id
    ]
    if not chapters:
        raise DocumentError("damaged", "the book lists no chapters: save it again")
    if "META-INF/encryption.xml" in book.names:
        ciphers = (found.get("URI") for found in book.xml("META-INF/encryption.xml").iter(_CIPHER))
        if not set(chapters).isdisjoint(unquote(name) for name in ciphers if name):
            raise DocumentError("encrypted", "the book is protected against copying (DRM): send it without")
    title = next((found.text or "" for found in package.iter(f"{_DUBLIN}title")), "")
    return chapters, clean(title)


# --- E-mail -----------------------------------------------------------------------------------------------

MAX_EMAIL = 64 << 20
MAX_PARTS = 1_000


def read_email(file: File, builder: Builder) -> None:
    """Its head, then its text; the form in HTML where there is no text. Attachments are named, not opened."""
    if file.stat().st_size > MAX_EMAIL:
        raise DocumentError("too_large", f"an e-mail of more than {MAX_EMAIL >> 20} MB is not read")
    with file.open("rb") as opened:
        message: Any = email.message_from_binary_file(opened, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise DocumentError("damaged", "the e-mail has no head: save it as .eml again")
    builder.title = _field(message, "subject")
    head = [(name, _field(message, name)) for name in ("From", "To", "Cc", "Subject", "Date")]
    builder.add("paragraph", "\n".join(f"{name}: {value}" for name, value in head if value))
    text, html = _bodies(message, builder)
    said = clean(text, lines=True)
    if html:
        shown = Builder(builder.limits)
        add_html(shown, html)
        builder.take(shown, blocks=not said)
        if said and letters(shown.words()) > 1.5 * letters(said) + 200:
            told = "The e-mail's form in HTML says more than its text, which was read"
            builder.find("not_read", told, 1)
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        builder.add("paragraph", clean(paragraph, lines=True))


def _bodies(message: EmailMessage, builder: Builder) -> tuple[str, str]:
    """The first text and the first HTML that are no attachments; everything else becomes a finding."""
    text, html = "", ""
    stack: list[tuple[Any, int]] = [(message, 0)]
    count = 0
    while stack:
        part, depth = stack.pop()
        count += 1
        if count > MAX_PARTS or depth > builder.limits.depth // 4:
            raise DocumentError(
                "too_large", "the e-mail has too many parts, or parts within parts: send them apart"
            )
        kind = part.get_content_type()
        attached = part.get_content_disposition() == "attachment" or part.get_filename()
        if part.is_multipart() and kind.startswith("multipart/") and not attached:
            if kind == "multipart/encrypted":
                raise DocumentError(
                    "encrypted", "the e-mail is encrypted: save it decrypted, and send it again"
                )
            stack += [(child, depth + 1) for child in reversed(part.get_payload())]
        elif kind == "text/plain" and not attached:
            text = f"{text}\n\n{_decoded(part)}" if text else _decoded(part)
        elif kind == "text/html" and not attached and not html:
            html = _decoded(part)
        else:
            name = shortened(clean(part.get_filename() or "without a name"), 80)
            builder.find("not_read", f"An attachment, which was not opened: {name} ({kind[:60]})", 1)
    return text, html


def _decoded(part: Any) -> str:
    payload = part.get_payload(decode=True)
    return decode(payload or b"", part.get_content_charset())


def _field(message: EmailMessage, name: str) -> str:
    try:
        return shortened(clean(str(message.get(name, ""))), 500)
    except (ValueError, TypeError, IndexError, AttributeError):
        # The standard library's parser of addresses fails on some that are not well-formed.
        return ""
