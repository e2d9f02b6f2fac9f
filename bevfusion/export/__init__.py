"""The whole network as a graph for other runtimes: points, a map tile and a prior heading in, beliefs out."""
