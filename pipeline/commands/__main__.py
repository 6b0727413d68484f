"""List the commands: each module of this package whose docstring begins with "Command: "."""

import ast
from pathlib import Path

MARK = "Command: "


def list_commands() -> dict[str, str]:
    """What each command does, in one line, by the command's name. Imports none of them."""
    commands = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        summary = docstring.partition("\n")[0]
        if summary.startswith(MARK):
            commands[path.stem] = summary.removeprefix(MARK)
    return commands


def main() -> None:
    """Command line."""
    commands = list_commands()
    print("Run `uv run python -m pipeline.commands.<name> --help` for the options of one of these:\n")
    width = max(map(len, commands))
    for name, summary in commands.items():
        print(f"  {name:{width}}  {summary}")


if __name__ == "__main__":
    main()
