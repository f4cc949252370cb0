"""Every module has its test file: `mirror/<ring>/…/<module>.py` is tested by `tests/<ring>/…/test_<module>.py`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mirror"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def does_something(module: Path) -> bool:
    """Whether a module holds a function with a body. Contracts and plain data are tested where used."""
    tree = ast.parse((PACKAGE / module).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return any(
        not isinstance(line, ast.Expr) or not isinstance(line.value, ast.Constant) for f in functions for line in f.body
    )


def file_names(module: Path) -> set[str]:
    """The names its test file may have: two modules of a ring may be called alike."""
    parts = [part.strip("_") for part in (module.parent.parts[1:] if len(module.parts) > 2 else ())]
    own = module.parent.name if module.stem == "__init__" else module.stem.strip("_")
    return {f"test_{own}.py", "_".join(["test", *parts, own]) + ".py"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_it_has_a_test_file(module: Path) -> None:
    if not does_something(module):
        return
    ring = module.parts[0] if len(module.parts) > 1 else ""
    there = {path.name for path in (ROOT / "tests" / ring).glob("**/*.py" if ring else "*.py")}
    assert there & file_names(module), f"write tests/{ring}/test_{module.stem}.py"
