"""A localization node for ROS 2 and ROS 1 over `SequenceLocalizer`, and a player of drives.

`core.py` is the node without ROS; `node_ros2.py` and `node_ros1.py` carry messages to it, and `publishers.py` makes
messages of what it says. The folder is the ROS package, too: package.xml, programs, launch files, parameters, views.
"""
