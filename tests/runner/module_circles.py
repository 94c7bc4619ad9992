#!/usr/bin/env python3
"""Modules of a crate that import each other in a circle.

The children of a module are compared with each other: one imports another if any file of the first, tests left out, names
anything of the second.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRATES = {"nic-agent": "nic-agent/src", "offload": "offload/src", "ovsdb-session": "nic-agent/ovsdb/src"}
ITEM_END = re.compile(r"^#\[cfg\(test\)\]\n(?:#\[.*\]\n)*(?:pub(?:\([a-z]+\))? )?mod \w+(;| \{\n(?:.*\n)*?^\})", re.MULTILINE)
COMMENT = re.compile(r"//.*")
PATH = re.compile(r"\b(crate|super(?:::super)*|self)::")


def module_of(path):
    parts = list(path.with_suffix("").parts)
    return () if parts == ["lib"] else tuple(parts)


def leaves(text, at):
    """The paths of the tree that begins at `at`: `a::{b, c::d}` is a::b and a::c::d."""
    prefix, stack, paths, name = [], [], [], ""
    for char in text[at:]:
        if char.isalnum() or char == "_":
            name += char
        elif char == ":":
            if name:
                prefix, name = prefix + [name], ""
        elif char == "{" and not name:
            stack.append(list(prefix))
        elif stack and char in ",}":
            if name:
                paths.append(tuple(prefix + [name]))
            name, prefix = "", list(stack[-1])
            if char == "}":
                stack.pop()
                if not stack:
                    return paths
                prefix = list(stack[-1])
        elif stack and char.isspace():
            continue
        else:
            break
    if name:
        prefix = prefix + [name]
    return paths + [tuple(prefix)]


def imports(text, module):
    for found in PATH.finditer(text):
        start = found.group(1)
        if start == "crate":
            base = ()
        elif start == "self":
            base = module
        else:
            base = module[: len(module) - start.count("super")]
        for path in leaves(text, found.end()):
            yield base + path


def is_test(path):
    return any(part in ("tests", "tests.rs", "testing.rs", "fuzz.rs") for part in path.parts)


def circles(crate, source):
    files = {}
    for path in sorted((ROOT / source).rglob("*.rs")):
        relative = path.relative_to(ROOT / source)
        if is_test(relative) or relative.name == "main.rs":
            continue
        files[module_of(relative)] = COMMENT.sub("", ITEM_END.sub("", path.read_text()))
    arrows = {}
    for module, text in files.items():
        for target in imports(text, module):
            while target and target not in files:
                target = target[:-1]
            common = 0
            while common < min(len(module), len(target)) and module[common] == target[common]:
                common += 1
            if common < len(module) and common < len(target):
                parent = module[:common]
                arrows.setdefault(parent, {}).setdefault(module[common], set()).add(target[common])
    for parent, graph in sorted(arrows.items()):
        for circle in components(graph):
            yield "::".join((crate, *parent)) + ": " + " ".join(sorted(circle))


def reached(graph, start):
    seen, todo = set(), [start]
    while todo:
        for after in graph.get(todo.pop(), ()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def components(graph):
    reach = {name: reached(graph, name) for name in graph}
    done = set()
    for name in sorted(graph):
        if name in reach[name] and name not in done:
            circle = {name} | {other for other in reach[name] if name in reach.get(other, ())}
            done |= circle
            yield circle


def main():
    found = [line for crate, source in CRATES.items() for line in circles(crate, source)]
    for line in found:
        print(f"modules in a circle: {line}")
    print(f"{len(found)} circles of modules")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
