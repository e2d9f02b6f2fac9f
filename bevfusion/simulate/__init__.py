"""Simulated drives: a map made solid, a sensor, traffic, and a route."""
