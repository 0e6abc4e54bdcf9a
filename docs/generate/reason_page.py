"""The page of reason codes: each with where it is raised and what is advised there, read from the source itself."""

import ast
from collections import defaultdict
from pathlib import Path

from hwsi.errors import Reason

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hwsi"
MOST = 6

HEAD = """# Reason codes

What a user can do something about is told in one line:

```text
hwsi: error [slide_missing]: there is no file a.svs. Check the path.
```

The code in brackets is stable: it stands in the table of a cohort (`hwsi status`), in the replies of the
[API](../api.md), and in `HwsiError.reason` in Python; `hwsi retry JOB --reason CODE` encodes those slides again.
`usage` is a call that the command line does not know. [Troubleshooting](../troubleshooting.md) goes from what you see
to what helps. Below is what the source advises, as it stands there.
"""


def reason_page() -> str:
    """The page, as Markdown."""
    advice, rooms = _raised()
    parts = [HEAD]
    for title, reasons in _groups().items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        for reason in reasons:
            where = ", ".join(f"`{room}`" for room in sorted(rooms[reason.name])) or "nowhere at present"
            parts.append(f"### {reason.value}\n\nRaised in {where}.\n")
            told = sorted(advice[reason.name], key=lambda text: (-advice[reason.name][text], text))[:MOST]
            parts.append("\n".join(f"- {text}" for text in told) + "\n" * bool(told))
    return "\n".join(parts)


def _groups() -> dict[str, list[Reason]]:
    """Heading -> codes, by the comments between them in ``errors.py``."""
    groups: dict[str, list[Reason]] = {}
    title = ""
    for line in (SOURCE / "errors.py").read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# "):
            title = text[2:]
        elif " = " in text and text.partition(" = ")[0] in Reason.__members__:
            groups.setdefault(title, []).append(Reason[text.partition(" = ")[0]])
    return groups


def _raised() -> tuple[dict[str, dict[str, int]], dict[str, set[str]]]:
    """(code -> advice -> how often, code -> rooms that raise it)."""
    advice: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    rooms: dict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "Reason." not in source:
            continue
        tree = ast.parse(source)
        texts = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
                rooms[node.attr].add(room)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HwsiError" and len(node.args) == 3:
                code, todo = getattr(node.args[0], "attr", ""), _text(node.args[2], texts)
                if code and todo:
                    advice[code][todo] += 1
    return advice, rooms


def _text(node: ast.expr, names: dict[str, ast.expr]) -> str:
    """A text as it stands in the source, what is put in at run time as an ellipsis; empty where it is no text."""
    if isinstance(node, ast.Name) and isinstance(names.get(node.id), ast.Constant | ast.JoinedStr):
        return _text(names[node.id], {})
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""
