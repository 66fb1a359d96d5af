"""JetPack 6 has Python 3.10: the whole package must be written in it.

Grammar here; what the standard library lacks there is found by ``mypy --python-version 3.10``,
which ``make types`` runs.
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "edgekit"

# In the standard library since 3.11 or later, and easy to reach for.
_TOO_NEW = {"tomllib", "ExceptionGroup", "StrEnum", "Self", "assert_never", "TaskGroup", "batched"}


def test_every_file_is_written_in_the_grammar_of_310():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 40
    for path in files:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


def test_no_file_imports_a_name_that_310_lacks():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names}
                assert not names & _TOO_NEW, f"{path}:{node.lineno}"
