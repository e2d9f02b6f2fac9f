"""Where the LiDAR and the map branch meet."""
