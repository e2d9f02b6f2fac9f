"""The way the road goes from a pose: on a map's road graph, along a route, or over each branch that lies ahead."""
