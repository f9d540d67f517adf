"""How much of the code is guards: for each file of the core, its lines, and the share that refuses something.

    python -m tools.guards              # of this working tree
    python -m tools.guards FOLDER       # of another `minigpt` folder, an earlier one for instance

Counted are lines of code: docstrings, comments and empty lines left out. "declared": `@takes(…)` above a body, and the functions
that it names, which are guards and nothing else. "in bodies": statements that raise or call a guard, with the condition or the
handler that only leads there, and functions whose names begin with "check".
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "minigpt"
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
            tokenize.ENCODING}


def lines_of(node: ast.AST) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines that hold code."""
    tokens = tokenize.tokenize(io.BytesIO(source.encode()).readline)
    lines = {line for token in tokens if token.type not in NOT_CODE for line in range(token.start[0], token.end[0] + 1)}
    documented = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    for node in documented:
        if ast.get_docstring(node) is not None:
            lines -= lines_of(node.body[0])
    return lines


def declared(tree: ast.Module) -> set[int]:
    """The lines of `@takes(…)`, and of the functions of this file that these name."""
    calls = [decorator for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)
             for decorator in node.decorator_list
             if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "takes"]
    named = {name.id for call in calls for name in ast.walk(call) if isinstance(name, ast.Name)}
    guards = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in named]
    return {line for node in calls + guards for line in lines_of(node)}


def in_bodies(tree: ast.Module) -> set[int]:
    """The lines that raise or check, and those of conditions and handlers that only lead to a `raise`."""
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                and (node.module or "").endswith("arguments") for alias in node.names}
    found = set()
    for node in ast.walk(tree):
        name = called(node)
        if isinstance(node, ast.Raise) and node.exc is not None or name in imported or name.lstrip("_").startswith("check"):
            found |= lines_of(node)
        if isinstance(node, ast.If | ast.ExceptHandler) and isinstance(node.body[-1], ast.Raise):
            found |= lines_of(node)
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith("check"):
            found |= lines_of(node)
    return found


def called(node: ast.AST) -> str:
    """What a statement calls and does nothing else: `check(x)`, or `x = integer("x", x)`."""
    call = getattr(node, "value", None) if isinstance(node, ast.Expr | ast.Assign | ast.Return) else None
    function = getattr(call, "func", None)
    return getattr(function, "attr", None) or getattr(function, "id", None) or ""


def row(path: Path) -> tuple[str, int, int, float, float]:
    """The file's name, its lines, its lines of code, and the two shares of these."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    code = code_lines(source, tree)
    above = declared(tree) & code
    return path.stem, source.count("\n"), len(code), len(above) / len(code), len(in_bodies(tree) & code - above) / len(code)


def main(folder: Path) -> None:
    print("| file | lines | code | declared | in bodies |\n|---|---:|---:|---:|---:|")
    for path in sorted(folder.glob("*.py")):
        name, lines, code, above, inside = row(path)
        if path.name not in ("__init__.py", "__main__.py"):
            print(f"| {name} | {lines} | {code} | {above:.0%} | {inside:.0%} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
