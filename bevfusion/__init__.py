"""Where on the map am I, and which way do I face? LiDAR localization against OpenStreetMap."""

__version__ = "0.1.0"
