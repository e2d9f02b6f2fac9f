"""A ROS node over `Localizer.step`: `core.py` knows no ROS, `node_ros2.py` and `node_ros1.py` are thin adapters."""
