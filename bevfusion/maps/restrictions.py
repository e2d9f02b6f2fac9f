"""Turn restrictions of an extract: relations of type restriction, as courses of nodes that are forbidden or demanded.

https://wiki.openstreetmap.org/wiki/Relation:restriction
"""

from itertools import product

from bevfusion.maps.elements import Elements, Relation, Tags
from bevfusion.maps.features import TurnRestriction
from bevfusion.summary import InputSummary

_KEYS = ("restriction:motorcar", "restriction:motor_vehicle", "restriction")  # the more special one counts
_CARS = frozenset({"motorcar", "motor_vehicle", "vehicle"})

Course = tuple[int, ...]  # ids of nodes


def turn_restrictions(elements: Elements, summary: InputSummary) -> tuple[TurnRestriction, ...]:
    """What holds for cars at all times; the summary is told of rules that cannot be used.

    Rules for certain hours (restriction:conditional) and for other vehicles are left out.

    Args:
        elements: of the extract.
        summary: of the map.
    """
    place_of = {int(ref): place for place, ref in enumerate(elements.way_ids.tolist())}
    found: list[TurnRestriction] = []
    unusable = conditional = total = 0
    for relation in elements.relations:
        if relation.tags.get("type") != "restriction":
            continue
        total += 1
        rule = _rule(relation.tags)
        if not rule:
            conditional += any("conditional" in key for key in relation.tags)
            continue
        courses = _courses(relation, elements, place_of)
        if rule != "no_u_turn":
            courses = [course for course in courses if course[0] != course[-1]]
        unusable += not courses
        found.extend(TurnRestriction(course, rule.startswith("only_")) for course in courses)
    if unusable:
        text = f"{unusable} of {total} turn restrictions cannot be used: the file lacks their ways or nodes"
        summary.add("lost", "restrictions", text, count=unusable, total=total)
    if conditional:
        text = f"{conditional} of {total} turn restrictions hold at certain hours, and are left out"
        summary.add("ignored", "restrictions", text, count=conditional, total=total)
    return tuple(found)


def _rule(tags: Tags) -> str:
    """no_... or only_... as it holds for cars; empty if none does."""
    value = next((tags[key] for key in _KEYS if key in tags), "")
    excepted = {word.strip() for word in tags.get("except", "").split(";")}
    return value if value.startswith(("no_", "only_")) and not excepted & _CARS else ""


def _courses(relation: Relation, elements: Elements, place_of: dict[int, int]) -> list[Course]:
    """From a node before the junction through the junction to the node behind it; none if something is missing."""
    ways: dict[str, list[Course]] = {"from": [], "via": [], "to": []}
    junction: Course = ()
    for member in relation.members:
        if member.kind == "node" and member.role == "via":
            junction = (member.ref,)
        elif member.kind == "way" and member.role in ways:
            nodes = _nodes(elements, place_of.get(member.ref))
            if nodes is None:
                return []
            ways[member.role].append(nodes)
    chains = [junction] if junction else _chains(ways["via"])
    return [
        (before, *chain, behind)
        for chain, come, go in product(chains, ways["from"], ways["to"])
        for before, behind in product(_beside(come, chain[0]), _beside(go, chain[-1]))
        if len(chain) == 1 or (before != chain[1] and behind != chain[-2])
    ]


def _nodes(elements: Elements, way: int | None) -> Course | None:
    """The nodes of a way; None where one is missing."""
    if way is None:
        return None
    places = elements.way_nodes[elements.starts[way] : elements.starts[way + 1]]
    return None if len(places) < 2 or places.min() < 0 else tuple(elements.node_ids[places].tolist())


def _chains(ways: list[Course]) -> list[Course]:
    """Via ways put together, both ways round; none if they do not meet."""
    if not ways:
        return []
    chain, *rest = ways
    for way in rest:
        joined = [
            (*first, *second[1:])
            for first, second in product((chain, chain[::-1]), (way, way[::-1]))
            if first[-1] == second[0]
        ]
        if not joined:
            return []
        chain = joined[0]
    return [chain, chain[::-1]]


def _beside(way: Course, node: int) -> list[int]:
    """The neighbours of a node on a way; none if it does not lie there."""
    return [
        way[at + step] for at, ref in enumerate(way) if ref == node for step in (-1, 1) if 0 <= at + step < len(way)
    ]
