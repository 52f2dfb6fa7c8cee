"""Reads SCENES.md: which scenes there are and what each must show.

Used by run.py. A program that has more, fewer or other scenes than its list does not run, so that the languages stay alike.
"""

import pathlib

# The heads of the two lists of SCENES.md.
PEER = "A peer reads and publishes"
CLIENT = "Our client reads from a hub written in grpcio"


def meanings(file: pathlib.Path, head: str) -> dict:
    """The scenes below this head, in order, with what must hold."""
    rows, inside = {}, False
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            inside = line.lstrip("# ") == head
        elif inside and line.startswith("| ") and not line.startswith("| scene "):
            name, meaning = (cell.strip() for cell in line.strip("|").split("|", 1))
            rows[name] = meaning
    return rows


def paired(scenes: list, expected: dict) -> list:
    """Each scene's name, function and meaning, in the order of the list."""
    by_name = {scene.__name__: scene for scene in scenes}
    missing, unknown = expected.keys() - by_name.keys(), by_name.keys() - expected.keys()
    if missing or unknown:
        raise SystemExit(f"SCENES.md and this program differ: not here {sorted(missing)}, not in the list {sorted(unknown)}")
    return [(name, by_name[name], meaning) for name, meaning in expected.items()]
