"""The architecture as a test: who may import whom, and how large a file or function may become."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "polysense"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS = {
    **dict.fromkeys(("errors", "modality", "outputs", "protocols", "safety", "storage", "version"), 0),
    **dict.fromkeys(("processing", "nn", "losses", "merging", "metrics", "data", "world"), 1),
    "models": 2,
    "continual": 3,
    "trainer": 4,
    "": 4,  # the package itself: its version is for those above
    **dict.fromkeys(("hub", "report", "recipes", "cli"), 5),
    **dict.fromkeys(("testing", "__main__"), 6),  # nothing imports these
}
TORCH_ALONE = (
    "losses",
    "merging",
    "metrics",
    "nn",
    "data",
    "world",
    "errors",
    "modality",
    "protocols",
    "safety",
    "storage",
)
MAY_IMPORT_TRANSFORMERS = ("nn.connectors.qformer",)
WITHOUT_A_MIRRORED_TEST = {"version"}
"""Modules tested under another name; at most one in twenty."""


def module_name(path: Path) -> str:
    """Dotted name below polysense, "" for the package itself."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of everything that a file imports, at its top or inside functions, but for type checking."""
    hidden = {
        id(child)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "polysense." * bool(node.level) + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """Modules of polysense that a file imports."""
    found = set()
    for name in imports(path):
        if name == "polysense" or name.startswith("polysense."):
            inner = name.removeprefix("polysense").lstrip(".")
            found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return found


def part(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward_only(module: str) -> None:
    own = LAYERS[part(module)]
    for other in own_imports(MODULES[module]):
        assert part(other) in LAYERS, f"{other} has no layer: add it to LAYERS and to the design"
        siblings_meet = own in (0, 5) or part(other) == part(module)
        assert LAYERS[part(other)] < own or (LAYERS[part(other)] == own and siblings_meet), f"{module} imports {other}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("models.")])
def test_models_never_import_one_another(module: str) -> None:
    if module == "models.auto":
        return
    shared = {"models", "models.base", "models.config", "models.nested", "models.processor"}
    family = ".".join(module.split(".")[:2])
    others = {other for other in own_imports(MODULES[module]) if part(other) == "models"} - shared
    assert all(other == family or other.startswith(f"{family}.") for other in others), f"{module} imports {others}"


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) in TORCH_ALONE])
def test_what_is_torch_alone_imports_neither_transformers_nor_peft(module: str) -> None:
    if module in MAY_IMPORT_TRANSFORMERS:
        return
    heavy = {name.split(".")[0] for name in imports(MODULES[module])} & {"transformers", "peft", "accelerate"}
    assert not heavy, f"{module} imports {heavy}"


def test_there_is_no_cycle_even_through_imports_inside_functions() -> None:
    """An import inside a function is no way around a cycle: it counts like any other."""
    graph = {name: {other for other in own_imports(path) if other != name} for name, path in MODULES.items()}
    for name, others in graph.items():  # a package's own __init__ gathers its modules; they may not import it back
        graph[name] = {other for other in others if not (other in graph and name.startswith(f"{other}."))}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("module", MODULES)
def test_budgets_of_lines_and_parameters(module: str) -> None:
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= 400, f"{module} has {lines} lines"
    for function in functions(MODULES[module]):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 60, f"{module}.{function.name} has {length} lines"
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        named = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
        assert len(named) <= 8, f"{module}.{function.name} takes {len(named)} parameters"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_prints_asserts_or_swallows(module: str) -> None:
    for node in ast.walk(tree(MODULES[module])):
        assert not isinstance(node, ast.Assert), f"{module} asserts in line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{module} prints in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module} catches everything in line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name == "*" for alias in node.names), f"{module} imports a star"


def test_no_weights_are_pickled_anywhere() -> None:
    for module, path in MODULES.items():
        found = {name.split(".")[0] for name in imports(path)} & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
        assert not found, f"{module} imports {found}"
        calls = [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        assert "torch.load" not in calls and "torch.save" not in calls, f"{module} pickles"


def test_every_module_has_its_mirrored_test() -> None:
    modules = {name for name, path in MODULES.items() if path.name not in {"__init__.py", "__main__.py"}}
    missing = {
        name
        for name in modules
        if not (ROOT / "tests" / Path(*name.split(".")[:-1]) / f"test_{name.split('.')[-1]}.py").exists()
    }
    assert missing <= WITHOUT_A_MIRRORED_TEST, f"no mirrored test: {sorted(missing - WITHOUT_A_MIRRORED_TEST)}"
    assert len(missing) <= 0.05 * len(modules)
    assert not WITHOUT_A_MIRRORED_TEST - missing, "a listed exception has its test by now"


def test_the_contract_looks_at_something() -> None:
    assert len(FILES) > 50
    assert {"errors", "nn.experts", "models.unialign.modeling_unialign"} <= set(MODULES)


def test_every_section_that_a_docstring_cites_exists() -> None:
    facts = (ROOT / "docs" / "method-facts.md").read_text(encoding="utf-8")
    there = set(re.findall(r"^#+ ([\d.]*\d)", facts, re.MULTILINE))
    numbers = r"method-facts\s+(\d[\d.]*(?:(?:,| and| to)\s+\d[\d.]*)*)"
    cited = {
        section.rstrip(".")
        for path in FILES
        for listed in re.findall(numbers, path.read_text(encoding="utf-8"))
        for section in re.findall(r"\d[\d.]*", listed)
    }
    assert len(cited) > 20 and cited <= there
