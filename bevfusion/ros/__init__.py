"""A ROS node over `SequenceLocalizer`: `core.py` knows no ROS, `node_ros2.py` and `node_ros1.py` are thin adapters."""
