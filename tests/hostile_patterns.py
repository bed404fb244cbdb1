"""Every regular expression of the product, and texts that make one slow which goes back over what it has read.

A child process of ``test_regular_expressions.py``: ``python -m tests.hostile_patterns`` prints a JSON line for each
expression. Expressions are found in the source (calls of ``re``), so that a new one is looked at by itself.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import re
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from re import _compiler, _constants, _parser
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("ml", "tenants", "platform", "workers")
#: What a call of `re` does with its text; `sub`, `split` and `findall` go through it all, as `finditer` does.
USES = {"match": "match", "fullmatch": "fullmatch", "search": "search"} | dict.fromkeys(
    ("sub", "subn", "split", "findall", "finditer"), "finditer"
)
#: Where it cannot be seen what is done with an expression.
ALL_USES = ("match", "fullmatch", "finditer")

SHORT, LONG = 1_024, 4_096
#: Linear work of an expression on LONG characters takes less, quadratic work tens of milliseconds; of a reader,
#: which does more with each character.
QUICK_S, READ_S = 0.002, 0.01
#: LONG is four times SHORT: linear work takes four times as long, quadratic sixteen times.
MOST_GROWTH = 8.0
#: For one text; more is broken off. The timer counts coarsely on a busy machine; what has to be slow gets less.
LIMIT_S, SHORT_LIMIT_S = 0.5, 0.1

Pattern = re.Pattern[Any]


@dataclass(frozen=True)
class Site:
    """A call of `re` in the source. ``expression``: what stands there for the pattern."""

    path: str
    lines: range
    method: str
    expression: str
    flags: str
    uses: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.path}: {self.expression}"


# --- Finding them ---


def sites() -> list[Site]:
    """Every call of `re` in the product. Raises ValueError for an import that would hide one."""
    texts = {
        str(path.relative_to(ROOT)): path.read_text()
        for top in TOPS
        for path in sorted((ROOT / top).rglob("*.py"))
        if "node_modules" not in path.parts
    }
    # Only what imports it can call it.
    importing = {
        path: text
        for path, text in texts.items()
        if re.search(r"^\s*(?:import|from) .*\bre", text, re.MULTILINE)
    }
    return [site for path, text in importing.items() for site in _sites(path, ast.parse(text))]


def _sites(path: str, tree: ast.Module) -> Iterator[Site]:
    own = _uses_by_name(tree)
    targets: dict[ast.expr, str] = {}
    for node in ast.walk(tree):
        hidden = (isinstance(node, ast.ImportFrom) and node.module in ("re", "regex", "re2")) or (
            isinstance(node, ast.Import)
            and any(
                name.name in ("regex", "re2") or (name.name == "re" and name.asname) for name in node.names
            )
        )
        if hidden:
            raise ValueError(f"{path}:{node.lineno}: import re as re, so that its calls are found")
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and node.value is not None:
                targets[node.value] = target.id
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in {"compile", *USES}
        ):
            continue
        method, name = node.func.attr, targets.get(node, "")
        if method != "compile":
            uses: tuple[str, ...] = (USES[method],)
        else:
            found = own.get(name, {"?"}) if name.startswith("_") else {"?"}
            uses = ALL_USES if "?" in found else tuple(sorted(found))
        given = [
            *node.args[1 if method == "compile" else {"sub": 4, "subn": 4, "split": 3}.get(method, 2) :][:1]
        ]
        given += [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
        yield Site(
            path,
            range(node.lineno, (node.end_lineno or node.lineno) + 1),
            method,
            ast.unparse(node.args[0]),
            ast.unparse(given[0]) if given else "0",
            uses,
        )


def _uses_by_name(tree: ast.Module) -> dict[str, set[str]]:
    """What is called on each name (``_WORD.finditer``); "?" where it is handed on."""
    uses: dict[str, set[str]] = defaultdict(set)
    called = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in USES and isinstance(node.value, ast.Name):
            called.add(node.value)
            uses[node.value.id].add(USES[node.attr])
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in called:
            uses[node.id].add("?")
    return uses


@dataclass
class Compiled:
    """What was compiled while the product's modules were imported, by file and line."""

    by_line: dict[tuple[str, int], list[Pattern]] = field(default_factory=lambda: defaultdict(list))

    def watch(self) -> None:
        compile_ = re.compile

        def recording(pattern: Any, flags: Any = 0) -> Pattern:
            compiled = compile_(pattern, flags)
            frame = sys._getframe(1)
            self.by_line[frame.f_code.co_filename, frame.f_lineno].append(compiled)
            return compiled

        re.compile = recording

    def at(self, site: Site) -> list[Pattern]:
        return [one for line in site.lines for one in self.by_line[str(ROOT / site.path), line]]


def patterns_of(
    site: Site, compiled: Compiled, examples: dict[str, Callable[[], list[Pattern]]]
) -> list[Pattern]:
    """What is compiled at a site: read from the source, from what its module compiled, or from examples."""
    try:
        return [re.compile(ast.literal_eval(site.expression), _flags(site))]
    except ValueError:
        pass
    module = _module(site.path)
    if found := compiled.at(site):
        return found
    if site.name in examples:
        return examples[site.name]()
    value = eval(site.expression, vars(module))
    return [value if isinstance(value, re.Pattern) else re.compile(value, _flags(site))]


def _flags(site: Site) -> int:
    return int(eval(site.flags, {"re": re}))


def _module(path: str) -> ModuleType:
    return importlib.import_module(path.removeprefix("platform/").removesuffix(".py").replace("/", "."))


# --- Texts for one ---

ALPHABET = [*map(chr, range(32, 127)), *"\n\t\x00\x7fé中。，·́あ\u200b\u3000\ufeff\U0001f600ß"]
Node = tuple[Any, Any]
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
_SINGLE = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
MANY = 8


class Attack:
    """Texts from a pattern's own parts: what it repeats, and what stands before that, many times."""

    def __init__(self, pattern: Pattern) -> None:
        self.binary = isinstance(pattern.pattern, bytes)
        self.flags = pattern.flags & ~_constants.SRE_FLAG_DEBUG
        parsed = _parser.parse(pattern.pattern, self.flags)
        self.state = parsed.state
        self.heads: set[str] = set()
        self.bodies: set[str] = set()
        self.sets: list[Pattern] = []
        self.groups: dict[int, str] = {}
        whole = self._walk(list(parsed), [""])
        self.heads.update(whole)

    def texts(self) -> list[tuple[str, str]]:
        """Pairs of what is repeated and what stands around it, as (before, unit)."""
        letters = self._letters()
        units = {unit for unit in self.bodies | self.heads if unit} | set(letters)
        units |= {head[:-1] for head in self.heads if len(head) > 1}
        units |= {head + body for head in self.heads for body in self.bodies if head + body}
        units |= {one + other for one in letters[:6] for other in letters[:6] if one != other}
        befores = {""} | self.heads
        pairs = {("", unit) for unit in units}
        pairs |= {(before, unit) for before in befores for unit in {*self.bodies, *letters} if unit}
        return sorted(pairs)

    def ends(self) -> list[str]:
        """What follows: nothing, and a character that no repeated set has."""
        odd = next((c for c in "\x00!中\n\x7fz~" if not any(self._has(one, c) for one in self.sets)), "\x00")
        return ["", odd]

    def _letters(self) -> list[str]:
        """A character for each combination of sets that have it, those that most have first."""
        of: dict[tuple[bool, ...], str] = {}
        for character in ALPHABET:
            if self.binary and ord(character) > 255:
                continue
            of.setdefault(tuple(self._has(one, character) for one in self.sets), character)
        return [of[key] for key in sorted(of, key=sum, reverse=True) if any(key)][:12]

    def _has(self, one: Pattern, character: str) -> bool:
        return one.match(character.encode("latin-1", "replace") if self.binary else character) is not None

    def _walk(self, nodes: list[Node], befores: list[str]) -> list[str]:
        """Samples of `nodes` behind each of `befores`; notes what is repeated."""
        for node in nodes:
            befores = self._one(node, befores)
        return befores

    def _one(self, node: Node, befores: list[str]) -> list[str]:
        kind, value = node
        if kind in _SINGLE:
            return [before + self._sample(node) for before in befores]
        if kind in _REPEATS:
            least, most, body = value
            if most >= MANY:
                self.heads.update(befores)
                self.bodies.update(self._walk(list(body), [""])[:6])
                for item in body:
                    if item[0] in _SINGLE:
                        self.sets.append(self._set(item))
            inner = self._walk(list(body), befores)
            more = inner
            for _ in range(min(least, 64) - 1):
                more = self._walk(list(body), more)
            return [*more, *(befores if not least else [])][:6]
        if kind == _constants.SUBPATTERN:
            found = self._walk(list(value[3]), befores)
            if value[0] is not None and found:
                self.groups[value[0]] = found[0][len(befores[0]) :]
            return found
        if kind == _constants.ATOMIC_GROUP:
            return self._walk(list(value), befores)
        if kind == _constants.BRANCH:
            found = [one for branch in value[1] for one in self._walk(list(branch), befores[:2])]
            return [*found[:4], *found[-2:]]
        if kind == _constants.GROUPREF:
            return [before + self.groups.get(value, "") for before in befores]
        if kind == _constants.GROUPREF_EXISTS:
            return self._walk(list(value[1]), befores)
        return befores  # places and looks around

    def _set(self, node: Node) -> Pattern:
        parts = _parser.SubPattern(self.state, [node])
        compiled = _compiler.compile(parts, self.flags)
        # Without a source the engine takes it for one of text.
        return _Bytes(compiled) if self.binary else compiled

    def _sample(self, node: Node) -> str:
        kind, value = node
        if kind == _constants.LITERAL:
            return chr(value)
        one = self._set(node)
        for character in "a0 -." + "".join(ALPHABET):
            if not (self.binary and ord(character) > 255) and self._has(one, character):
                return character
        for what, inside in value:
            if what == _constants.RANGE:
                return chr(inside[0])
            if what == _constants.LITERAL:
                return chr(inside)
        return "a"


class _Bytes:
    """A set of a pattern of bytes, asked for a byte."""

    def __init__(self, compiled: Pattern) -> None:
        self.compiled = compiled

    def match(self, content: bytes) -> Any:
        return self.compiled.match(content.decode("latin-1"))


# --- Measuring ---


class TooSlow(Exception):
    pass


def seconds(work: Callable[[], object], enough_s: float, limit_s: float) -> float:
    """Processor time of this call, the least of up to three, none after one below `enough_s`. Raises TooSlow."""
    best = limit_s
    for _ in range(3):
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        start = time.thread_time()  # the clock of the process is coarse while its timer is set
        work()
        best = min(best, time.thread_time() - start)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if best < enough_s:
            break
    return best


def grows(
    work: Callable[[str], object], make: Callable[[int], str], enough_s: float, limit_s: float = LIMIT_S
) -> str | None:
    """What is wrong, or None where the time of `work` grows at most as its text does."""
    try:
        long = seconds(lambda: work(make(LONG)), enough_s, limit_s)
        if long < enough_s:
            return None
        short = seconds(lambda: work(make(SHORT)), 0, limit_s)
    except TooSlow:
        return f"more than {limit_s} s for {LONG} characters"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if long <= short * MOST_GROWTH:
        return None
    return f"{short * 1000:.1f} ms for {SHORT}, {long * 1000:.1f} ms for {LONG} characters"


def check(pattern: Pattern, uses: tuple[str, ...], limit_s: float = LIMIT_S) -> str | None:
    """The first text of those tried whose time grows more than it does."""
    attack = Attack(pattern)
    for use in uses:
        work = _work(pattern, use, attack.binary)
        for before, unit in attack.texts():
            for end in attack.ends():

                def make(size: int, before: str = before, unit: str = unit, end: str = end) -> str:
                    return (before + unit * (size // len(unit) + 1))[: max(size - len(end), 1)] + end

                if wrong := grows(work, make, QUICK_S, limit_s):
                    return f"{use} of {before!r} + {unit!r} * n + {end!r}: {wrong}"
    return None


def _work(pattern: Pattern, use: str, binary: bool) -> Callable[[str], object]:
    method = getattr(pattern, use)

    def work(text: str) -> object:
        found = method(text.encode("latin-1", "replace") if binary else text)
        return sum(1 for _ in found) if use == "finditer" else found

    return work


def arm(cpu_s: int) -> None:
    """Break off by signal what is slow, and end the process where even that is not heard."""

    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))


# --- What is not written down as an expression, or not with its parts ---


def examples() -> dict[str, Callable[[], list[Pattern]]]:
    """For expressions that are put together only when they are used: what they are then."""
    from ml.composing.moods import PROTOTYPES

    return {
        "ml/composing/moods.py: f'\\\\b(?:{self.english})'": lambda: [
            re.compile(rf"\b(?:{one.english})", re.IGNORECASE) for one in PROTOTYPES
        ],
        "ml/composing/moods.py: self.chinese": lambda: [re.compile(one.chinese) for one in PROTOTYPES],
        "tenants/retrieval/query/fusion_weights.py: f'(?<!\\\\w){re.escape(word)}'": lambda: [
            re.compile(rf"(?<!\w){re.escape(word)}", re.IGNORECASE) for word in ("aaab", "a b a c", "C++")
        ],
    }


def scanners() -> dict[str, Callable[[str], object]]:
    """What reads the text or the bytes of strangers in loops of its own, or with several expressions."""
    import io

    from ml import passages
    from ml.auditing import identifiers, text_models, text_normalization
    from ml.detectors import abuse, keywords
    from ml.encoders import _scripts
    from ml.media.sniffing import sniff
    from ml.provenance import generators
    from ml.provenance.tags import fields
    from ml.reasoning import checker, read_rules
    from tenants.accounts.models import UserManager
    from tenants.datasets import values
    from tenants.datasets.importers import delimited, entries
    from tenants.moderation.expressions import syntax
    from tenants.retrieval.query import lexical

    terms = keywords.Terms.compile(["fool", "bad word here", "bana*", "傻瓜"])

    def tags_by(read: Callable[[bytes, fields.Tags], None], before: bytes = b"") -> Callable[[str], object]:
        return lambda text: read(before + text.encode("utf-8", "surrogatepass"), fields.Tags())

    def refused(read: Callable[[str], object]) -> Callable[[str], None]:
        def reader(text: str) -> None:
            with contextlib.suppress(Exception):
                read(text)

        return reader

    return {
        "rules over facts": refused(read_rules),
        "rules over facts, in the checker": refused(checker._rules_of),
        "sniff": lambda text: sniff(text.encode()),
        "normalise": text_normalization.normalise,
        "identifiers": identifiers.find_identifiers,
        "keywords": lambda text: list(terms.find(keywords.Text(text))),
        "grams": lambda text: text_models.ngrams(text_models.mask_identifiers(text), 2, (2, 4)),
        "language": text_models.language_of,
        "addresses": lambda text: abuse._ADDRESS.sub(" ", text),
        "Chinese parts": _scripts.chinese_parts,
        "words": lexical.tokens,
        "words with places": lambda text: list(lexical.located(text)),
        "highlight": lambda text: lexical.highlight({"aa", "banana"}, [("text", text)]),
        "passages": passages.passages,
        "values": lambda text: (values.read_cell(text), values.parse_time(text)),
        "names of columns": lambda text: delimited.unique(text.split(" ")[:1_000]),
        "file names": lambda text: (entries.is_ignored(text), entries.refusal(text), entries.suffix(text)),
        "addresses of people": UserManager.normalize_email,
        "expressions": lambda text: syntax.tokenize(text),
        "signs of generators": lambda text: generators.generator_marks(
            [fields.Tag("png", "parameters", text), fields.Tag("png", "dream", text)]
        ),
        "XMP": tags_by(fields.read_xmp, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>"),
        "XMP anywhere": tags_by(fields.scan),
        "EXIF": tags_by(fields.read_exif, b"II*\x00\x08\x00\x00\x00"),
        "Photoshop": tags_by(fields.read_resources),
        "EXIF anywhere": lambda text: _scan(io.BytesIO(text.encode())),
    }


def _scan(file: Any) -> None:
    from ml.provenance.tags import fields, files

    files._size = lambda stream: len(stream.getbuffer())
    files.read_picture(file, "image/avif", fields.Tags())


#: Parts of hostile texts for all of them.
UNITS = (
    *(
        "a",
        "A",
        "0",
        " ",
        "\n",
        ".",
        "a ",
        "a.",
        "a b ",
        "a-",
        "@",
        "a@",
        "a@b.",
        "f*",
        "1-",
        "1 ",
        "a'",
        "cat ",
    ),
    *("中", "中 ", "中-", "é", "e\u0301", "\u0301", "\u0315\u0300", "\uff9e\u0300", "a" + "\u0315\u0300" * 3),
    *(
        "\u200b",
        "🙂",
        "\u0622\u0628",
        "ﷺ",
        "가",
        "ᄀ",
        "\u1161",
        "ｶﾞ",
        "İ",
        "http://",
        "www.",
        "-s 0 ",
        " -S 0",
    ),
    *(
        "<",
        "<a",
        "<!---->",
        "<?xml?>",
        "<x:xmpmeta ",
        "<rdf:RDF>",
        "</xmpmeta ",
        "a<b/>",
        "a&amp;",
        "<![CDATA[a]]>",
    ),
    *(
        "Exif\0\0II*\0",
        "8BIM\x04\x04\0\0\0\0\0\0",
        "steps: 1 ",
        '{"a":',
        "[",
        '"',
        "\\",
        "(",
        "!",
        "a,",
        "Job ID: ",
    ),
)

#: Expressions that are slow, each in another way: the least that this file has to notice.
KNOWN_SLOW = {
    r"(a+)+$": ("match",),
    r"(a|a)*b": ("match",),
    r"(\w+\s?)*$": ("fullmatch",),
    r"\s+$": ("search",),
    r"<!--.*?-->": ("finditer",),
    r".*=.*=": ("finditer",),
    r"\d+\.\d+x": ("finditer",),
    r"[^@]+@[^@]+\.com": ("search",),
    r"\s*(<!--.*?-->\s*|<\?xml.*?\?>\s*)*<(html|head)": ("match",),
    r"-s \d+\b.*-S \d+": ("search",),
}


def main() -> None:
    """Print a line of JSON for everything that was looked at: its part, its name, and what is wrong or None."""

    def tell(part: str, name: str, wrong: str | None) -> None:
        sys.stdout.write(json.dumps([part, name, wrong]) + "\n")
        sys.stdout.flush()

    compiled = Compiled()
    compiled.watch()
    import django

    django.setup()
    arm(int(sys.argv[1]))
    for pattern, uses in KNOWN_SLOW.items():
        tell("known", pattern, check(re.compile(pattern, re.DOTALL), uses, SHORT_LIMIT_S))
    known = examples()
    # Twice where something is found: another process may have had the cache.
    for site in sites():
        try:
            found = patterns_of(site, compiled, known)
        except NameError as error:
            tell("expression", site.name, f"put together when it is used ({error}): add it to examples()")
            continue
        for pattern in found:
            tell("expression", site.name, check(pattern, site.uses) and check(pattern, site.uses))
    for name, scan in scanners().items():
        for unit in UNITS:
            tell("scanner", name, _of_scanner(scan, unit) and _of_scanner(scan, unit))


def _of_scanner(scan: Callable[[str], object], unit: str) -> str | None:
    def work(text: str) -> None:
        try:
            scan(text)
        except TooSlow:
            raise
        except Exception as error:
            # A refusal, or the end of a budget; what a reader does not expect is another test's matter.
            if type(error).__module__.partition(".")[0] not in ("tenants", "ml"):
                raise

    wrong = grows(work, lambda size: (unit * size)[:size], READ_S)
    return wrong and f"{unit!r} * n: {wrong}"


if __name__ == "__main__":
    main()
