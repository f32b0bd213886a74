"""List the benchmarks: `python -m benchmarks`."""

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Return every program of this folder with the question that it answers, its docstring's first line."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        source = path.read_text()
        if path != Path(__file__) and '__name__ == "__main__"' in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return found


def main() -> None:
    """Print one line per benchmark."""
    found = benchmarks()
    width = max(map(len, found))
    for name, question in found.items():
        print(f"python -m benchmarks.{name.ljust(width)}  {question}")


if __name__ == "__main__":
    main()
