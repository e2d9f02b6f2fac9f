"""Poses in the plane, grids, and latitude and longitude."""
