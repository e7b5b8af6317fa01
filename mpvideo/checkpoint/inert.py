"""A pickle read as inert data: its opcodes are interpreted here, nothing is imported and nothing is called.

A pickle is a program for a small stack machine (see `pickletools`). The dangerous opcodes are the ones that fetch a
name from a module and call what they got. Here a name becomes a `Name`, which is only text, and a call becomes a value
only for the few names that checkpoints of tensors consist of; every other call is refused, with its name.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpvideo.text import printable

MAX_OPCODES = 2_000_000
"""Longest program that is followed; a tensor takes about fifty."""

_LARGEST_INT = 2**63


@dataclass(frozen=True)
class Name:
    """What a pickle would import: a module and a name in it, as text."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Call = Callable[[tuple[Any, ...]], Any]
"""Makes an inert value from the arguments of a call."""

_REFUSED = "which is refused: only tensors and plain values are read"
_MARK = object()
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_CONSTANTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")


def read_pickle(file: io.BytesIO, calls: dict[str, Call], names: frozenset[str], resolve: Call) -> Any:
    """Reads one pickle from where the file stands, and leaves it right behind.

    Args:
        file: the bytes, in memory.
        calls: by full name, what may be called, and what becomes of it.
        names: what else may be named, as an argument; it stays a `Name`.
        resolve: makes a value of a persistent id, a tuple.

    Raises:
        ValueError: it is damaged, too long, or asks for anything else; the message says which.
    """
    return _Machine(calls, names, resolve).run(file)


class _Machine:
    """The stack machine: its stack, its memo, and what it may make."""

    def __init__(self, calls: dict[str, Call], names: frozenset[str], resolve: Call) -> None:
        self.calls, self.names, self.resolve = calls, names, resolve
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Follows the program to its end and returns what it leaves."""
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count >= MAX_OPCODES:
                    raise ValueError(f"it has more than {MAX_OPCODES:,} opcodes")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"its opcodes make no sense ({type(error).__name__})") from error
        raise ValueError("it ends too early")

    def step(self, opcode: str, argument: Any) -> None:
        """Does what one opcode says."""
        stack = self.stack
        if opcode in ("PROTO", "FRAME"):
            pass
        elif opcode in _CONSTANTS:
            stack.append(_small(argument))
        elif opcode in _LITERALS:
            stack.append(_LITERALS[opcode])
        elif opcode in _EMPTY:
            stack.append(_EMPTY[opcode]())
        elif opcode in _PUTS:
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in _GETS:
            stack.append(self.memo[argument])
        elif opcode == "MARK":
            stack.append(_MARK)
        elif opcode == "POP":
            stack.pop()
        elif opcode == "POP_MARK":
            self.since_mark()
        else:
            self.build(opcode, argument)

    def build(self, opcode: str, argument: Any) -> None:
        """The opcodes that put values together."""
        stack = self.stack
        if opcode in ("TUPLE", "LIST", "DICT"):
            items = self.since_mark()
            stack.append(_pairs(items) if opcode == "DICT" else items if opcode == "LIST" else tuple(items))
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            items = [stack.pop() for _ in range(count)]
            stack.append(tuple(reversed(items)))
        elif opcode in ("APPENDS", "SETITEMS", "ADDITEMS"):
            items = self.since_mark()
            self.add(stack[-1], opcode, items)
        elif opcode == "APPEND":
            items = [stack.pop()]
            self.add(stack[-1], "APPENDS", items)
        elif opcode == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self.add(stack[-1], "SETITEMS", [key, value])
        elif opcode == "GLOBAL":
            module, _, name = argument.partition(" ")
            self.name(module, name)
        elif opcode == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            self.name(module, name)
        elif opcode == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            self.call(function, arguments)
        elif opcode == "BUILD":
            stack.pop()  # attributes, such as the version numbers of a state dict; no value is kept in them
        elif opcode == "BINPERSID":
            stack.append(self.resolve(_tuple(stack.pop())))
        else:
            raise ValueError(f"its opcode {opcode} has no business in a file of tensors")

    def since_mark(self) -> list[Any]:
        """Takes everything down to the last mark off the stack."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def add(self, target: Any, opcode: str, items: list[Any]) -> None:
        """Adds items to a container."""
        if opcode == "APPENDS" and isinstance(target, list):
            target.extend(items)
        elif opcode == "SETITEMS" and isinstance(target, dict):
            target.update(_pairs(items))
        elif opcode == "ADDITEMS" and isinstance(target, set):
            target.update(map(_key, items))
        else:
            raise ValueError(f"its opcodes make no sense ({opcode} on {type(target).__name__})")

    def name(self, module: Any, name: Any) -> None:
        """Puts a name on the stack, if it is one of those that are known."""
        # Only strings are ever worded: the words of a list that holds itself sixty-fold would take for ever.
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its opcodes make no sense (a name that is no text)")
        found = Name(module, name)
        if str(found) not in self.calls and str(found) not in self.names:
            raise ValueError(f"it wants {printable(found, 100)}, {_REFUSED}")
        self.stack.append(found)

    def call(self, function: Any, arguments: Any) -> None:
        """Puts what a call makes on the stack."""
        if not isinstance(function, Name) or str(function) not in self.calls:
            what = printable(function, 100) if isinstance(function, Name) else f"a {type(function).__name__}"
            raise ValueError(f"it calls {what}, {_REFUSED}")
        self.stack.append(self.calls[str(function)](_tuple(arguments)))


def _small(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST_INT:
        raise ValueError("it has a whole number of more than 64 bits")
    return value


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError("its opcodes make no sense (arguments that are no tuple)")
    return value


def _key(value: Any) -> Any:
    # Not tuples: the hash of one that contains itself sixty-fold takes for ever.
    if isinstance(value, str | bytes | int | float | bool | None):
        return value
    raise ValueError(f"a key must be plain, got {type(value).__name__}")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("its opcodes make no sense (a key without a value)")
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}
