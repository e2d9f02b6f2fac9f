"""The training-free matcher: a scan laid over the map at every pose of the window, scored by physics alone."""
