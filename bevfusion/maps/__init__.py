"""The topology map: OpenStreetMap or a map image, drawn into layers and cut into tiles."""
