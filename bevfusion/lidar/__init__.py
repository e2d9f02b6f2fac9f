"""From a scan to LiDAR features in bird's-eye view."""
