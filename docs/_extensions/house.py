"""Reads the table of the import order, ``docs/house.txt``, for the picture and for the tests."""

from __future__ import annotations

from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "house.txt"

#: The rooms of a package by floors, the lowest first; rooms of one floor do not import each other.
Floors = list[list[str]]


def houses(text: str | None = None) -> dict[str, Floors]:
    """
    Read the floors of each package in the table: ``txsticky``, and ``core`` inside it.

    :param text: the table; the file ``house.txt`` if it is None.
    """
    lines = (TABLE.read_text() if text is None else text).splitlines()
    orders: dict[str, str] = {}
    package = ""
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        if not line[0].isspace():
            package, _, line = line.partition(":")
        orders[package] = orders.get(package, "") + " " + line.strip()
    return {
        package: [[room.strip() for room in floor.split("|")] for floor in order.split("->")]
        for package, order in orders.items()
    }
