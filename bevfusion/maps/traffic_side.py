"""Which side of the road people drive on: what the extract's tags say, else the country that it lies in.

The country comes from the time zone, whose borders are those of countries wherever the sides differ (tzfpy holds the
polygons of the timezone-boundary-builder, made from OpenStreetMap).
"""

from collections.abc import Iterable

import tzfpy

_LEFT_HAND_ZONES = frozenset(
    f"{region}/{place}"
    for region, places in {
        "Africa": "Blantyre Dar_es_Salaam Gaborone Harare Johannesburg Kampala Lusaka Maputo Maseru Mbabane Nairobi "
        "Windhoek",
        "America": "Anguilla Antigua Barbados Cayman Dominica Grand_Turk Grenada Guyana Jamaica Montserrat Nassau "
        "Paramaribo Port_of_Spain St_Kitts St_Lucia St_Thomas St_Vincent Tortola",
        "Asia": "Bangkok Brunei Colombo Dhaka Dili Famagusta Hong_Kong Jakarta Jayapura Karachi Kathmandu Kolkata "
        "Kuala_Lumpur Kuching Macau Makassar Nicosia Pontianak Singapore Thimphu Tokyo",
        "Atlantic": "Bermuda South_Georgia St_Helena Stanley",
        "Australia": "Adelaide Brisbane Broken_Hill Darwin Eucla Hobart Lindeman Lord_Howe Melbourne Perth Sydney",
        "Europe": "Dublin Guernsey Isle_of_Man Jersey London Malta",
        "Indian": "Christmas Cocos Mahe Maldives Mauritius",
        "Pacific": "Apia Auckland Bougainville Chatham Fakaofo Fiji Funafuti Guadalcanal Kanton Kiritimati Nauru Niue "
        "Norfolk Pitcairn Port_Moresby Rarotonga Tarawa Tongatapu",
    }.items()
    for place in places.split()
)
"""Time zones (IANA) of the countries and territories with left-hand traffic."""


def left_hand_traffic_at(lat_deg: float, lon_deg: float) -> bool:
    """Whether people drive on the left in the country of a place."""
    return tzfpy.get_tz(lon_deg, lat_deg) in _LEFT_HAND_ZONES


def tagged_left_hand_traffic(sides_of_region: Iterable[str], sides_of_roads: Iterable[str | None]) -> bool | None:
    """What `driving_side` says; None if it says nothing of the extract as a whole.

    Args:
        sides_of_region: values of the tag on boundaries and places, which hold for all roads inside.
        sides_of_roads: those of each road that cars drive on, None where it is not tagged. A road carries the tag where
            it differs from its country's rule, so it counts for the whole only where half of them have it.
    """
    for sides in (list(sides_of_region), list(sides_of_roads)):
        left, right = sides.count("left"), sides.count("right")
        if left != right and 2 * (left + right) >= len(sides):
            return left > right
    return None
