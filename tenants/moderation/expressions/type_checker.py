"""What operators between two types give, and which cannot stand between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tenants.moderation.expressions import regex_cost
from tenants.moderation.expressions.syntax import (
    Binary,
    Call,
    Chain,
    Choice,
    ExpressionError,
    Field,
    Has,
    Index,
    Items,
    Literal,
    Loop,
    Name,
    Negate,
    Node,
    Not,
)
from tenants.moderation.expressions.types import ANY, BOOL, DOUBLE, INT, NULL, NUMBERS, Type, a_kind, choice
from tenants.moderation.expressions.variables import VARIABLES, path_of


def operator_result(node: Binary, left: Type, right: Type) -> Type:
    """Raises ExpressionError where the operation could never succeed."""
    if node.operator in ("+", "-", "*", "/", "%"):
        return _arithmetic(node, left, right)
    if node.operator == "in":
        _member(node, left, right)
    elif node.operator in ("==", "!="):
        _equality(node, left, right)
    elif not left.orders_with(right):
        raise ExpressionError(f"{a_kind(left)} and {a_kind(right)} have no order.", node.at)
    return BOOL


def number_operand(kind: Type, operator: str, at: int) -> Type:
    """The type of a number that is reckoned with. Raises ExpressionError for what is none."""
    if kind.kind not in NUMBERS:
        hint = "; write double(…) around it" if kind.kind == "any" else ""
        raise ExpressionError(f"{operator} is for numbers, and this is {a_kind(kind)}{hint}.", at)
    return replace(kind, low=None, high=None)


def _arithmetic(node: Binary, left: Type, right: Type) -> Type:
    # Texts and lists are not joined: repeated, that would take any amount of memory.
    number_operand(left, node.operator, node.left.at)
    number_operand(right, node.operator, node.right.at)
    if left.kind != right.kind or (node.operator == "%" and left.kind != "int"):
        raise ExpressionError(
            f"{node.operator} is for two whole numbers or two others, 1.0 is no whole one; write double(…).",
            node.at,
        )
    return INT if left.kind == "int" else DOUBLE


def _equality(node: Binary, left: Type, right: Type) -> None:
    if {left.kind, right.kind} & {"list", "object"}:
        raise ExpressionError("Lists and objects are not compared; compare their parts.", node.at)
    if not left.equals(right):
        raise ExpressionError(f"{a_kind(left)} is never equal to {a_kind(right)}.", node.at)


def _member(node: Binary, left: Type, right: Type) -> None:
    if right.kind == "object":
        if left.kind not in ("string", "any"):
            raise ExpressionError("Fields have names: a text is asked for.", node.at)
    elif right.kind not in ("list", "any"):
        raise ExpressionError(f"in asks for a list, and this is {a_kind(right)}.", node.right.at)
    elif right.kind == "list" and right.size and not left.equals(right.items):
        raise ExpressionError(f"{a_kind(left)} is in no {right.told()}.", node.at)


MAX_STEPS, MAX_NESTING = 20_000, 2

NODE, ROUND, COPY, COPY_OBJECT = 0.5, 1.0, 0.1, 3.0

PER_CHARACTER = 0.002

# Matching walks the compiled pattern for each character.
PER_WALK = 0.006

_LITERALS: Mapping[type, Type] = {bool: BOOL, int: INT, float: DOUBLE, type(None): NULL}


@dataclass
class Inspection:
    """`paths`: what is read, such as `("categories", "abuse", "score")`; `*` stands for every entry of a list, an empty
    name for nothing of it. `names`: literals that are compared with a text that refers to something, as (what it
    refers to, literal). `unlike`: comparisons that no value can make true."""

    steps: float = 0.0
    paths: set[tuple[str, ...]] = field(default_factory=set)
    names: set[tuple[str, str]] = field(default_factory=set)
    unlike: list[str] = field(default_factory=list)

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(path[0] for path in self.paths)


def inspect(tree: Node) -> Inspection:
    """Raises ExpressionError for what cannot be right in any document, and for what costs too much."""
    found = _Inspector()
    kind = found.visit(tree)
    if kind.kind not in ("bool", "any"):
        raise ExpressionError(
            f"A rule is a condition: this is {a_kind(kind)}, neither true nor false.", tree.at
        )
    if found.result.steps > MAX_STEPS:
        raise ExpressionError(
            f"This may take {found.result.steps:,.0f} steps, of {MAX_STEPS:,} that a rule may take."
            " Lists in lists and patterns on each entry cost most.",
            tree.at,
        )
    return found.result


class _Inspector:
    def __init__(self) -> None:
        self.result = Inspection()
        self._times, self._nesting = 1.0, 0
        # Of a loop's variable: its type, and whose entries it stands for.
        self._bound: dict[str, tuple[Type, tuple[str, ...] | None]] = {}

    def _spend(self, steps: float) -> None:
        self.result.steps += self._times * steps

    def visit(self, node: Node) -> Type:
        self._spend(NODE)
        match node:
            case Literal(value):
                return (
                    choice(value)
                    if isinstance(value, str) and value
                    else _LITERALS.get(type(value), Type("string"))
                )
            case Name() | Field() | Index():
                return self._place(node, True)
            case Has(target):
                return self._has(target)
            case Call():
                return self._call(node)
            case Loop():
                return self._loop(node)
            case Items(items):
                return self._items(items)
            case Not(operand):
                self._want(operand, "bool", "! asks for a condition")
                return BOOL
            case Negate(operand):
                return number_operand(self.visit(operand), "-", operand.at)
            case Chain(operator, operands):
                for operand in operands:
                    self._want(operand, "bool", f"{operator} joins conditions")
                return BOOL
            case Choice(condition, yes, no):
                return self._choice(condition, yes, no)
            case Binary():
                return self._binary(node)
        raise ExpressionError("This cannot be used in a rule.", node.at)

    def _want(self, node: Node, kind: str, why: str) -> Type:
        found = self.visit(node)
        if found.kind not in (kind, "any"):
            raise ExpressionError(f"{why}, and this is {a_kind(found)}.", node.at)
        return found

    # --- Names and their parts ---

    def _place(self, node: Node, read: bool) -> Type:
        """The type of a variable or of a part; `read`: nothing more particular of it is read."""
        if isinstance(node, Field | Index):
            kind = self._part(node)
        elif isinstance(node, Name):
            kind = self._name(node)
        else:
            return self.visit(node)
        if read:
            self._read(path_of(node))
        return kind

    def _read(self, path: tuple[str, ...] | None) -> None:
        if path is None:
            return
        if path[0] not in self._bound:
            self.result.paths.add(path)
        elif (of := self._bound[path[0]][1]) is not None:
            self.result.paths.add((*of, *path[1:]))

    def _name(self, node: Name) -> Type:
        if node.name in self._bound:
            return self._bound[node.name][0]
        if node.name not in VARIABLES:
            raise ExpressionError(
                f"There is no variable {node.name!r}; there are {', '.join(VARIABLES)}.", node.at
            )
        return VARIABLES[node.name]

    def _part(self, node: Field | Index) -> Type:
        target = self._place(node.target, path_of(node) is None)
        key = node.name if isinstance(node, Field) else self._key(node.key, target)
        if target.kind == "any":
            return ANY
        if target.kind == "list" and isinstance(node, Index):
            return target.items
        if target.kind != "object" or not isinstance(key, str):
            raise ExpressionError(f"This is {a_kind(target)}, which has no such part.", node.at)
        if key not in target.fields and not target.open:
            raise ExpressionError(f"There is no {key!r} here; there are {', '.join(target.fields)}.", node.at)
        return target.fields.get(key, ANY)

    def _key(self, key: Node, target: Type) -> str | None:
        kind = self.visit(key)
        if target.kind == "list" and kind.kind not in ("int", "any"):
            raise ExpressionError("An entry of a list has a whole number.", key.at)
        if target.kind == "object" and not (isinstance(key, Literal) and isinstance(key.value, str)):
            raise ExpressionError("A part is named by a text in quotes.", key.at)
        return key.value if isinstance(key, Literal) and isinstance(key.value, str) else None

    def _has(self, target: Field) -> Type:
        holder = self._place(target.target, path_of(target) is None)
        if holder.kind not in ("object", "any"):
            raise ExpressionError(f"This is {a_kind(holder)}, which has no fields.", target.at)
        if holder.kind == "object" and not holder.open and target.name not in holder.fields:
            raise ExpressionError(f"There is no {target.name!r} here.", target.at)
        self._read(path_of(target))
        return BOOL

    # --- Functions ---

    def _call(self, node: Call) -> Type:
        target = self.visit(node.target)
        if node.function == "size":
            self._arguments(node, 0)
            if target.kind not in ("list", "string", "any", "object"):
                raise ExpressionError(f"size() is of lists and texts, and this is {a_kind(target)}.", node.at)
            return replace(INT, low=0)
        if node.function in ("int", "double", "string"):
            if target.kind in ("list", "object", "null", "bool"):
                raise ExpressionError(f"{node.function}() cannot be made of {a_kind(target)}.", node.at)
            return {"int": INT, "double": DOUBLE}.get(node.function, Type("string", size=target.size or 30))
        self._arguments(node, 1)
        if target.kind not in ("string", "any"):
            raise ExpressionError(f"{node.function}() is of texts, and this is {a_kind(target)}.", node.at)
        argument = node.arguments[0]
        self._want(argument, "string", f"{node.function}() asks for a text")
        self._spend(target.size * PER_CHARACTER)
        if node.function == "matches":
            self._pattern(argument, target.size)
        return BOOL

    def _arguments(self, node: Call, count: int) -> None:
        if len(node.arguments) != count:
            raise ExpressionError(
                f"{node.function}() takes {count or 'no'} argument{'s' * (count != 1)}.", node.at
            )

    def _pattern(self, pattern: Node, size: int) -> None:
        if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
            raise ExpressionError("The pattern of matches() is written out, as a text in quotes.", pattern.at)
        weight = regex_cost.regex_cost(pattern.value, pattern.at)
        self._spend(weight + weight * size * PER_WALK)

    # --- Lists ---

    def _items(self, items: tuple[Node, ...]) -> Type:
        kinds = [self.visit(item) for item in items]
        same = kinds[0] if kinds and len({kind.kind for kind in kinds}) == 1 else ANY
        choices = tuple(value for kind in kinds for value in kind.choices) if same.kind == "string" else ()
        size = max((kind.size for kind in kinds), default=0)
        return Type("list", size=len(items), element=replace(same, size=size, choices=choices))

    def _loop(self, node: Loop) -> Type:
        target = self.visit(node.target)
        if target.kind not in ("list", "any"):
            raise ExpressionError(
                f"{node.function}() walks through a list, and this is {a_kind(target)}.", node.at
            )
        if node.variable in VARIABLES or node.variable in self._bound:
            raise ExpressionError(f"{node.variable!r} is taken; give the entries another name.", node.at)
        if self._nesting == MAX_NESTING:
            raise ExpressionError(f"At most {MAX_NESTING} loops stand in each other.", node.at)
        size = target.size if target.kind == "list" else 50
        body = self._body(node, target.items if target.kind == "list" else ANY, size)
        if node.function in ("map", "filter"):
            kept = body if node.function == "map" else target.items
            # The engine copies what it has so far at every entry.
            self._spend(size * size * (COPY_OBJECT if kept.kind in ("object", "any", "list") else COPY))
            return Type("list", size=size, element=kept)
        return BOOL

    def _body(self, node: Loop, element: Type, size: int) -> Type:
        of = self._entries_of(node)
        outside, self._bound = self._bound, {**self._bound, node.variable: (element, of)}
        times, self._times, self._nesting = self._times, self._times * size, self._nesting + 1
        self._spend(ROUND)
        if node.function == "map":
            body = self.visit(node.body)
        else:
            body = self._want(node.body, "bool", f"{node.function}() asks for a condition")
        self._bound, self._times, self._nesting = outside, times, self._nesting - 1
        return body

    def _entries_of(self, node: Loop) -> tuple[str, ...] | None:
        """The path of the entries that a loop walks through, None where they are no variable's."""
        path = path_of(node.target)
        if path is None:
            return None
        # A filter keeps whole entries; other loops need only that there is one.
        self._read((*path, "*") if node.function == "filter" else (*path, "*", ""))
        bound = self._bound.get(path[0])
        if bound is None:
            return (*path, "*")
        return None if bound[1] is None else (*bound[1], *path[1:], "*")

    # --- Operators ---

    def _choice(self, condition: Node, yes: Node, no: Node) -> Type:
        self._want(condition, "bool", "? asks for a condition")
        first, second = self.visit(yes), self.visit(no)
        if first.kind == second.kind:
            return replace(first, size=max(first.size, second.size), choices=(), nullable=True)
        return replace(ANY, size=max(first.size, second.size, ANY.size))

    def _binary(self, node: Binary) -> Type:
        left, right = self.visit(node.left), self.visit(node.right)
        kind = operator_result(node, left, right)
        if node.operator == "in":
            self._spend(right.size * (COPY + (left.size + right.items.size) * PER_CHARACTER))
            for item in node.right.items if isinstance(node.right, Items) else ():
                self._known(left, item)
            if right.kind == "list":
                self._known(right.items, node.left)
        elif kind is BOOL:
            self._spend((left.size + right.size) * PER_CHARACTER)
            if node.operator in ("==", "!="):
                self._known(left, node.right)
                self._known(right, node.left)
        return kind

    def _known(self, kind: Type, other: Node) -> None:
        """A literal that is compared with a text of which we know what it can be."""
        if not isinstance(other, Literal) or not isinstance(other.value, str):
            return
        if kind.refers:
            self.result.names.add((kind.refers, other.value))
        elif kind.choices and other.value not in kind.choices:
            self.result.unlike.append(f"{other.value!r} is none of {', '.join(kind.choices)}")
