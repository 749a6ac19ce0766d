"""Functions by their dotted names, read in the source of their module: nothing of it is imported or run."""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Names with which a module can give itself others, of which its source does not tell.
_HIDING = {"__getattr__", "__dict__", "delattr", "eval", "exec", "globals", "locals", "modules", "setattr", "vars"}
_LARGEST = 1 << 20  # bytes of a source; reading a larger one takes longer than trying


@dataclass(frozen=True, slots=True)
class Definition:
    """What the source of a module says of a name.

    Attributes:
        module: The name of the module.
        file: Its source.
        name: What is looked for in it.
        known: Every name that the module has.
        function: The one definition of the name, where it is a function and nothing changes it afterwards.
        fault: Why the source cannot be read by Python; empty if it can.
    """

    module: str
    file: str
    name: str
    known: Sequence[str] = ()
    function: ast.FunctionDef | None = None
    fault: str = ""

    def list_parameters(self) -> tuple[list[str], list[str]] | None:
        """Lists what it can be called with by name, and what of that has no default; None if not only that counts."""
        if self.function is None:
            return None
        arguments = self.function.args
        if arguments.kwarg is not None or arguments.posonlyargs:
            return None
        by_place = [each.arg for each in arguments.args]
        required = by_place[: len(by_place) - len(arguments.defaults)]
        by_name = [each.arg for each in arguments.kwonlyargs]
        required += [name for name, default in zip(by_name, arguments.kw_defaults, strict=True) if default is None]
        return by_place + by_name, required


def find_definition(target: str) -> Definition | None:
    """Finds what the source of a module says of a function.

    Args:
        target: Its dotted name.

    Returns:
        It; None where only Python itself can tell: no source, names that come from elsewhere, or a module that was
        imported already and has it.
    """
    found = _find_module(target.split("."))
    if found is None:
        return None
    module, spec, name = found
    if hasattr(sys.modules.get(module), name):
        return None
    file = spec.origin or ""
    if not isinstance(spec.loader, SourceFileLoader) or Path(file).stat().st_size > _LARGEST:
        return None
    try:
        tree = ast.parse(Path(file).read_bytes(), file)
    except SyntaxError as error:
        return Definition(module, file, name, fault=f"{error.msg}, line {error.lineno}")
    except ValueError:
        return None
    if _hides_names(tree):
        return None
    bound = list(_list_bound(tree.body))
    bound += [(name, node) for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]
    known = {each for each, _ in bound} | {"__doc__", "__file__", "__name__"}
    definitions = [node for each, node in bound if each == name]
    only = definitions[0] if len(definitions) == 1 else None
    function = only if isinstance(only, ast.FunctionDef) and not only.decorator_list else None
    return Definition(module, file, name, sorted(known), function)


def _find_module(parts: Sequence[str]) -> tuple[str, ModuleSpec, str] | None:
    """Finds the module of a dotted name without importing what it is in, and the name in it that is meant."""
    try:
        spec: Any = find_spec(parts[0])
    except (ImportError, ValueError):  # of a module that was made by hand
        return None
    module = parts[0]
    for number, part in enumerate(parts[1:], 1):
        places = spec.submodule_search_locations if spec is not None else None
        inner = PathFinder.find_spec(f"{module}.{part}", places) if places is not None else None
        if inner is None:
            is_whole = spec is not None and spec.origin is not None and number == len(parts) - 1
            return (module, spec, part) if is_whole else None
        module, spec = f"{module}.{part}", inner
    return None


def _hides_names(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if isinstance(node, ast.Delete):
            return True
        named = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
        if named in _HIDING:
            return True
    return False


def _list_bound(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Gives each name that statements bind in their own scope, with the statement."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name.partition(".")[0]), node
        else:
            stores = (each for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
            yield from ((each.id, node) for each in stores)
            # Of blocks, such as `if` and `try`, also what is inside of their functions: a name too many hides no other.
            inside = [each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]
            simple = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
            yield from _list_bound([each for each in inside if isinstance(each, simple)])
