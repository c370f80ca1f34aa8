"""The fields of one object, each where its path leads to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

import msgspec
import pyarrow as pa

from stream_app.contract.codecs.codec import Record, Shape
from stream_app.contract.node import Node, Reasons, Undeclared
from stream_app.feeds.fields import Field

_Tree = dict[str, "_Tree | Node"]


class Group:
    """The declared fields of one object, each where its path leads to.

    names, nodes: the fields in their order.
    """

    def __init__(self, fields: Mapping[str, Field], node_of: Callable[[Field, str], Node], prefix: str = "") -> None:
        self.names = tuple(fields)
        self._prefix = prefix
        self._paths = [field.path or (name,) for name, field in fields.items()]
        self.nodes = [
            node_of(field, prefix + ".".join(path)) for field, path in zip(fields.values(), self._paths, strict=True)
        ]
        self._tree: _Tree = {}
        for path, node in zip(self._paths, self.nodes, strict=True):
            branch = self._tree
            for name in path[:-1]:
                branch = cast("_Tree", branch.setdefault(name, {}))
            branch[path[-1]] = node
        # most objects have no path that descends: then nothing is to be looked for, field by field
        self._plain = [(node.judge, path[0]) for node, path in zip(self.nodes, self._paths, strict=True)]
        self._descends = any(len(path) > 1 for path in self._paths)
        pickers = [_picker(self._tree, path) for path in self._paths]
        self._holders = dict(zip(self.names, zip(self.nodes, pickers, strict=True), strict=True))
        self.has_raw = any(node.has_raw for node in self.nodes)
        self.shape = _shape(self._tree)
        self.empty = _empty(self._tree)

    def named(self) -> Iterator[tuple[str, Node]]:
        """Yield the fields in their order, each with its name."""
        yield from zip(self.names, self.nodes, strict=True)

    def struct(self, *, strict: bool) -> type[Any]:
        """Return the struct that msgspec decodes objects as; a strict one refuses members that are not declared."""
        return _struct(self._tree, strict=strict)

    def hold(self, structs: Sequence[Any], names: Iterable[str]) -> list[pa.Array]:
        """Return what was decoded of those fields as Arrow, a column each."""
        found = (self._holders[name] for name in names)
        return [node.hold(pick(structs)) for node, pick in found]

    def judge(self, record: Record, reasons: Reasons) -> list[Any]:
        """Return the values of the fields in their order, None for each that adds a reason."""
        if not self._descends:
            return [judge(record.get(name), reasons) for judge, name in self._plain]
        return [self._judge(node, path, record, reasons) for node, path in zip(self.nodes, self._paths, strict=True)]

    def invalid(self, record: Record) -> frozenset[str]:
        """Return the fields that add a reason."""
        places = zip(self.names, self.nodes, self._paths, strict=True)
        found: dict[str, Reasons] = {name: {} for name in self.names}
        for name, node, path in places:
            self._judge(node, path, record, found[name])
        return frozenset(name for name, reasons in found.items() if reasons)

    def _judge(self, node: Node, path: Sequence[str], record: Record, reasons: Reasons) -> Any:
        holder = record if len(path) == 1 else self._holder(record, path, reasons)
        return None if holder is None else node.judge(holder.get(path[-1]), reasons)

    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add the members that no field is declared for, with their first values."""
        _undeclared(self._tree, given, self._prefix, found)

    def _holder(self, record: Record, path: Sequence[str], reasons: Reasons) -> Record | None:
        """Return the object that holds the last name of a path; an empty one if it is missing."""
        for depth, name in enumerate(path[:-1], 1):
            found = record.get(name)
            if type(found) is not dict:
                if found is None:
                    return {}
                reasons[f"bad_type:{self._prefix}{'.'.join(path[:depth])}"] = None
                return None
            record = found
        return record


def _struct(tree: _Tree, *, strict: bool) -> type[Any]:
    # attributes are numbered, since a member may have a name that no attribute can have
    members: list[Any] = []
    for number, sub in enumerate(tree.values()):
        if isinstance(sub, Node):
            kind = sub.type_of(strict=strict)
        else:
            kind = _struct(sub, strict=strict)
            kind = kind if _is_required(sub) else kind | None
        members.append((f"f{number}", kind) if _is_required(sub) else (f"f{number}", kind, None))
    rename = {f"f{number}": name for number, name in enumerate(tree)}
    return msgspec.defstruct("Record", members, rename=rename, kw_only=True, forbid_unknown_fields=strict, gc=False)


def _empty(tree: _Tree) -> Any:
    """Return a struct without values, in place of an object that is missing."""
    inner = {f"f{number}": None if isinstance(sub, Node) else _empty(sub) for number, sub in enumerate(tree.values())}
    return _struct(tree, strict=False)(**inner)


def _is_required(sub: _Tree | Node) -> bool:
    return sub.is_required if isinstance(sub, Node) else any(map(_is_required, sub.values()))


def _shape(tree: _Tree) -> Shape:
    shapes = {name: sub.shape if isinstance(sub, Node) else _shape(sub) for name, sub in tree.items()}
    return Shape(members={name: shape for name, shape in shapes.items() if shape})


def _picker(tree: _Tree, path: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    steps: list[tuple[attrgetter[Any], Any]] = []
    sub: _Tree | Node = tree
    for name in path:
        branch = cast("_Tree", sub)
        sub = branch[name]
        empty = None if isinstance(sub, Node) or _is_required(sub) else _empty(sub)
        # faster than tuples, which the garbage collector would look through
        steps.append((attrgetter(f"f{list(branch).index(name)}"), empty))

    def pick(records: Sequence[Any]) -> Sequence[Any]:
        for get, empty in steps:
            records = list(map(get, records))
            if empty is not None:
                records = [empty if record is None else record for record in records]
        return records

    return pick


def _undeclared(tree: _Tree, given: Any, prefix: str, found: Undeclared) -> None:
    for name, value in given.items() if type(given) is dict else ():
        sub = tree.get(name)
        if sub is None:
            found.setdefault(prefix + name, value)
        elif isinstance(sub, Node):
            sub.undeclared(value, found)
        else:
            _undeclared(sub, value, f"{prefix}{name}.", found)
