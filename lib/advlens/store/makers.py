"""Makers of artifacts and their versions, and the fingerprints by which a test sees that one changed.

A version is declared, not derived: a refactoring recomputes nothing. `artifacts.lock` holds the fingerprint of every
maker's code with the code that it uses; where one differs, its author bumps the version (the results may change) or
refreshes the lock (they were shown to be the same).
"""

import ast
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Code = TypeVar("Code", bound=Callable[..., Any])
PACKAGE = __name__.partition(".")[0]
LOCK = Path(__file__).parents[1] / "artifacts.lock"
VERSION, LIBRARIES = "__artifact_version__", "__artifact_libraries__"


def artifact(*, version: int, libraries: Sequence[str] = ()) -> Callable[[Code], Code]:
    """Declares a top-level function of the package as a maker of artifacts.

    Args:
        version: raised by whoever changes what the function computes, here or in code that it uses.
        libraries: distributions whose version is part of the key, because it changes the results.

    >>> @artifact(version=2)
    ... def double(x): return 2 * x
    >>> version_of(double)
    2
    """

    def declare(make: Code) -> Code:
        setattr(make, LIBRARIES, tuple(libraries))
        return versioned(version)(make)

    return declare


def versioned(version: int) -> Callable[[Code], Code]:
    """Declares the version of a class or function that makers are given as a parameter, such as a network's builder."""
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"version must be a whole number, 1 or more, got {version!r}")

    def declare(code: Code) -> Code:
        setattr(code, VERSION, version)
        return code

    return declare


def name_of(code: Callable) -> str:
    """The full name of a function or class."""
    return f"{code.__module__}.{code.__qualname__}"


def version_of(code: Callable) -> int | None:
    """The declared version; None where there is none (a subclass does not inherit its parent's)."""
    return vars(code).get(VERSION)


def is_ours(code: Any) -> bool:
    """Whether a function, class or module is part of this package."""
    module = getattr(code, "__module__", None) or getattr(code, "__name__", "")
    return module.partition(".")[0] == PACKAGE


# ---------------------------------------------------------------- fingerprints


def fingerprint(code: Callable) -> str:
    """SHA-256 of what a function or class does, with all code of this package that it uses.

    Docstrings, comments, formatting, annotations, the names of local variables and the texts of errors and warnings
    don't count. The same in every supported version of Python.
    """
    used = sorted(_used(code), key=name_of)
    return hashlib.sha256(json.dumps([[name_of(each), _dump(each)] for each in used]).encode()).hexdigest()


def files_of(code: Callable) -> set[Path]:
    """The files of a function or class and of all code of this package that it uses."""
    return {Path(inspect.getfile(each)) for each in _used(code)}


def _used(code: Callable) -> set[Callable]:
    """The function or class itself and those of this package that it refers to, directly or not."""
    found: set[Callable] = set()
    waiting = [code]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += _references(each)
    return found


@cache
def _references(code: Callable) -> tuple[Callable, ...]:
    return tuple(_named(code))


def _named(code: Callable) -> Iterator[Callable]:
    space = vars(sys.modules[code.__module__])
    for node in ast.walk(_tree(code)):
        target = None
        if isinstance(node, ast.Name):
            target = space.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = space.get(node.value.id)
            target = getattr(module, node.attr, None) if isinstance(module, types.ModuleType) else None
        if (inspect.isfunction(target) or inspect.isclass(target)) and is_ours(target):
            target = inspect.unwrap(target)
            if "<" not in target.__qualname__ and not target.__module__.startswith(f"{PACKAGE}.store"):
                yield target


def _tree(code: Callable) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(code)))


@cache
def _dump(code: Callable) -> str:
    """The code as text, with module constants that it names written out."""
    tree = _Essence().visit(_tree(code))
    space = vars(sys.modules[code.__module__])
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not node.id.startswith("__")}  # paths
    plain = (bool, int, float, str, tuple)
    constants = {name: repr(space[name]) for name in sorted(names) if isinstance(space.get(name), plain)}
    return json.dumps([_text(_Renamed().visit(tree)), constants])


class _Essence(ast.NodeTransformer):
    """Leaves out what changes no result: docstrings, annotations, and what errors and warnings say."""

    def visit_FunctionDef(self, node: Any) -> ast.AST:
        node.returns, node.decorator_list = None, [each for each in node.decorator_list if not _declares(each)]
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=None, cause=None)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "warn":
            return ast.Constant(None)
        return self.generic_visit(node)


def _declares(decorator: ast.expr) -> bool:
    """Whether a decorator is one of the store's: the lock holds their arguments itself."""
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(call, ast.Name) and call.id in ("artifact", "versioned", "storable")


class _Renamed(ast.NodeTransformer):
    """Numbers local variables (not parameters, which callers name) in the order in which they are bound."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        parameters = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        bound = [each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)]
        names = {name: f"local {i}" for i, name in enumerate(dict.fromkeys(bound)) if name not in parameters}
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id in names:
                each.id = names[each.id]
        return self.generic_visit(node)


def _text(node: Any) -> str:
    """Like `ast.dump`, without the empty fields that versions of Python differ in."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "kind"))
        inside = ",".join(f"{name}={_text(value)}" for name, value in fields if value not in (None, []))
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    return repr(node)


# ---------------------------------------------------------------- the lock


def makers() -> dict[str, Callable]:
    """Full name → every maker and versioned class of the package; imports the modules that declare any."""
    package = importlib.import_module(PACKAGE)
    found = {}
    for info in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        path = info.module_finder.find_spec(info.name, None).origin  # type: ignore[union-attr, call-arg]
        if re.search(r"^@(artifact|versioned)\(", Path(path).read_text(), flags=re.MULTILINE):  # pyright: ignore[reportArgumentType]
            for code in vars(importlib.import_module(info.name)).values():
                if (inspect.isfunction(code) or inspect.isclass(code)) and is_ours(code) and version_of(code):
                    found[name_of(code)] = code
    return dict(sorted(found.items()))


def current_lock() -> dict[str, dict[str, Any]]:
    """What the lock should hold: full name → version and fingerprint."""
    return {name: {"version": version_of(code), "fingerprint": fingerprint(code)} for name, code in makers().items()}


def read_lock() -> dict[str, dict[str, Any]]:
    """What the lock holds; nothing is imported for it."""
    return json.loads(LOCK.read_text()) if LOCK.exists() else {}


def write_lock() -> None:
    """Refreshes the lock: allowed where versions were bumped, or the results were shown to be the same."""
    LOCK.write_text(json.dumps(current_lock(), indent=1) + "\n")
