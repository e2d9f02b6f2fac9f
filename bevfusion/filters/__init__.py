"""From the beliefs of single scans to the pose of a vehicle that moves."""
