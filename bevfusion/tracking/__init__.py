"""The poses of a log without truth: following it on a map, and writing what came of it."""
