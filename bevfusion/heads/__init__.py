"""What is read out: where the scan fits on the map, how far that is off, and whether it is right."""
