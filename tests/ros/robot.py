"""The other side of the node, run as a process in the Python of a ROS: plays a script of a drive, records all answers.

python robot.py ros1|ros2 SCENARIO.json RESULT.json
"""

import json
import math
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

CLOUD = "/points"
IN = {"points": "/points", "odom": "/odom", "initialpose": "/initialpose"}


class Ros2:
    """rclpy behind the four calls that the robot needs."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        rclpy.init()
        self.node = rclpy.create_node("robot")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        threading.Thread(target=self.executor.spin, daemon=True).start()

    def advertise(self, kind: Any, topic: str, best_effort: bool = False, latched: bool = False) -> Any:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        return self.node.create_publisher(
            kind, topic, QoSProfile(depth=10, reliability=reliability, durability=durability)
        )

    def withdraw(self, publisher: Any) -> None:
        self.node.destroy_publisher(publisher)

    def listen(self, kind: Any, topic: str, callback: Any, latched: bool = False) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        self.node.create_subscription(kind, topic, callback, QoSProfile(depth=100, durability=durability))

    def readers(self, publisher: Any) -> int:
        return publisher.get_subscription_count()

    def ask(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(20.0), name
        future = client.call_async(request)
        until = time.monotonic() + 60.0
        while not future.done() and time.monotonic() < until:
            time.sleep(0.01)
        return future.result()

    def call(self, kind: Any, name: str, data: bool | None) -> tuple[bool, str]:
        request = kind.Request()
        if data is not None:
            request.data = data
        answer = self.ask(kind, name, request)
        return answer.success, answer.message

    def close(self) -> None:
        import rclpy

        self.executor.shutdown()
        rclpy.try_shutdown()


class Ros1:
    """The same with rospy."""

    def __init__(self) -> None:
        import rospy

        rospy.init_node("robot", disable_signals=True)
        self.rospy = rospy

    def advertise(self, kind: Any, topic: str, best_effort: bool = False, latched: bool = False) -> Any:
        return self.rospy.Publisher(topic, kind, queue_size=10, latch=latched, tcp_nodelay=True)

    def withdraw(self, publisher: Any) -> None:
        publisher.unregister()

    def listen(self, kind: Any, topic: str, callback: Any, latched: bool = False) -> None:
        self.rospy.Subscriber(topic, kind, callback, queue_size=100, tcp_nodelay=True)

    def readers(self, publisher: Any) -> int:
        return publisher.get_num_connections()

    def call(self, kind: Any, name: str, data: bool | None) -> tuple[bool, str]:
        self.rospy.wait_for_service(name, 20.0)
        proxy = self.rospy.ServiceProxy(name, kind)
        answer = proxy() if data is None else proxy(data)
        return answer.success, answer.message

    def close(self) -> None:
        self.rospy.signal_shutdown("done")


class Robot:
    """Plays and records; each step of the script is one method."""

    def __init__(self, ros: Any, script: dict[str, Any]) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
        from nav_msgs.msg import OccupancyGrid, Odometry, Path
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import Image, Imu, NavSatFix, PointCloud2
        from visualization_msgs.msg import MarkerArray

        from bevfusion.ros.publishers import TFMessage

        self.ros, self.script = ros, script
        with np.load(script["drive"], allow_pickle=False) as arrays:  # each look into the archive reads it anew
            self.drive = {name: arrays[name] for name in arrays.files}
        self.base_from_lidar = np.array(script["base_from_lidar"])
        self.result: dict[str, Any] = {name: [] for name in ("poses", "transforms", "tf", "headings", "timing")}
        self.result |= {"diagnostics": [], "map": None, "markers": None, "belief": None, "attention": None}
        self.result |= {"events": [], "sent_s": {}, "calls": [], "fixes": []}
        self.kinds = {"points": PointCloud2, "odom": Odometry, "initialpose": PoseWithCovarianceStamped}
        self.silent = bool(script.get("silent"))  # somebody else plays
        inputs = () if self.silent else ("odom", "initialpose")
        self.out = {name: ros.advertise(self.kinds[name], IN[name]) for name in inputs}
        self.clock = None if self.silent else ros.advertise(Clock, "/clock")
        self.points: Any = None
        self.best_effort = bool(script.get("best_effort"))
        self.static = None
        if TFMessage is not None:
            if not self.silent:
                self.static = ros.advertise(TFMessage, "/tf_static", latched=True)
                self.static.publish(TFMessage([self._static_transform()]))
            ros.listen(TFMessage, "/tf", self._on_tf)
        ros.listen(PoseWithCovarianceStamped, "/bevfusion/pose", self._on_pose)
        ros.listen(DiagnosticArray, "/bevfusion/timing", self._on_timing)
        ros.listen(DiagnosticArray, "/diagnostics", self._on_diagnostics)
        ros.listen(TransformStamped, "/bevfusion/transform", self._on_transform)
        if script.get("all_topics"):
            ros.listen(Imu, "/bevfusion/heading", self._on_heading)
            ros.listen(NavSatFix, "/bevfusion/geopose", self._on_fix)
            ros.listen(OccupancyGrid, "/bevfusion/map", self._on_map, latched=True)
            ros.listen(MarkerArray, "/bevfusion/map_markers", self._on_markers, latched=True)
            ros.listen(OccupancyGrid, "/bevfusion/belief", self._on_belief)
        if script.get("way"):
            self.result |= {"ways": [], "fields": [], "drivable": []}
            ros.listen(Path, "/bevfusion/direction", self._on_way)
            ros.listen(MarkerArray, "/bevfusion/direction_field", self._on_field)
            ros.listen(OccupancyGrid, "/bevfusion/drivable", self._on_drivable)
        if script.get("attention"):
            ros.listen(Image, "/bevfusion/attention", self._on_attention)

    # what the node says

    def _on_pose(self, message: Any) -> None:
        pose = message.pose.pose
        row = [stamp_ns(message), pose.position.x, pose.position.y, yaw_rad(pose.orientation), time.monotonic()]
        covariance = [float(value) for value in message.pose.covariance]
        self.result["poses"].append([*row, message.header.frame_id, covariance])

    def _on_timing(self, message: Any) -> None:
        values = {item.key: float(item.value) for item in message.status[0].values}
        self.result["timing"].append([stamp_ns(message), message.status[0].message, values])

    def _on_diagnostics(self, message: Any) -> None:
        status = message.status[0]
        level = status.level[0] if isinstance(status.level, bytes) else status.level
        self.result["diagnostics"].append([level, status.message, {item.key: item.value for item in status.values}])

    def _on_transform(self, message: Any) -> None:
        self.result["transforms"].append(transform_row(message))

    def _on_tf(self, message: Any) -> None:
        self.result["tf"] += [transform_row(item) for item in message.transforms]

    def _on_heading(self, message: Any) -> None:
        row = [stamp_ns(message), yaw_rad(message.orientation), float(message.orientation_covariance[8])]
        self.result["headings"].append(row)

    def _on_fix(self, message: Any) -> None:
        self.result["fixes"].append([stamp_ns(message), message.latitude, message.longitude])

    def _on_map(self, message: Any) -> None:
        cells = np.array(message.data, dtype=np.int8)
        counts = {str(value): int((cells == value).sum()) for value in (-1, 0, 100)}
        self.result["map"] = [message.info.width, message.info.height, message.info.resolution, counts]

    def _on_markers(self, message: Any) -> None:
        self.result["markers"] = {marker.ns: len(marker.points) for marker in message.markers}

    def _on_belief(self, message: Any) -> None:
        cells = np.array(message.data, dtype=np.int8).reshape(message.info.height, message.info.width)
        row, col = np.unravel_index(int(cells.argmax()), cells.shape)
        origin, cell_m = message.info.origin.position, message.info.resolution
        peak = [origin.x + (col + 0.5) * cell_m, origin.y + (row + 0.5) * cell_m]
        self.result["belief"] = [stamp_ns(message), peak, int(cells.max())]

    def _on_way(self, message: Any) -> None:
        points = [
            [item.pose.position.x, item.pose.position.y, yaw_rad(item.pose.orientation)] for item in message.poses
        ]
        self.result["ways"].append([stamp_ns(message), message.header.frame_id, points])

    def _on_field(self, message: Any) -> None:
        counts = [[marker.ns, int(marker.action), len(marker.points)] for marker in message.markers]
        self.result["fields"].append([stamp_ns(message.markers[0]), counts])

    def _on_drivable(self, message: Any) -> None:
        cells = np.array(message.data, dtype=np.int8).reshape(message.info.height, message.info.width)
        middle = cells[message.info.height // 2, message.info.width // 2]
        self.result["drivable"].append(
            [stamp_ns(message), message.header.frame_id, int(middle), int((cells < 50).sum())]
        )

    def _on_attention(self, message: Any) -> None:
        picture = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.width, 3)
        self.result["attention"] = [message.encoding, *picture.shape, int(picture.max()), int(picture.min())]

    # steps of the script

    def run(self) -> dict[str, Any]:
        for step in self.script["steps"]:
            name, *arguments = step
            getattr(self, name)(*arguments)
            self.result["events"].append([name, len(self.result["poses"]), len(self.result["diagnostics"])])
        return self.result

    def wait_for_node(self, with_clouds: bool = True) -> None:
        """Until the node listens, and is heard."""
        if with_clouds:
            self.publish_clouds()
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            publishers = [*self.out.values(), *([self.points] if with_clouds else [])]
            if all(self.ros.readers(publisher) for publisher in publishers) and self.result["diagnostics"]:
                time.sleep(0.5)
                return
            time.sleep(0.05)
        raise TimeoutError("the node does not listen")

    def wait_for_poses(self, count: int, limit_s: float) -> None:
        """Somebody else plays."""
        until = time.monotonic() + limit_s
        while len(self.result["poses"]) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self.result['poses'])} poses")
            time.sleep(0.05)

    def change_state(self, transition: str) -> None:
        """Of a lifecycle node, the way that a manager does it."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition.upper()}")
        answer = self.ros.ask(ChangeState, "/bevfusion/change_state", request)
        self.result["calls"].append(["change_state", transition, answer.success, ""])

    def set_parameter(self, name: str, value: float) -> None:
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        answer = self.ros.ask(SetParameters, "/bevfusion/set_parameters", request).results[0]
        self.result["calls"].append(["set_parameter", name, answer.successful, answer.reason])

    def describe_parameter(self, name: str) -> None:
        from rcl_interfaces.srv import DescribeParameters

        request = DescribeParameters.Request(names=[name])
        (found,) = self.ros.ask(DescribeParameters, "/bevfusion/describe_parameters", request).descriptors
        bounds = [[bound.from_value, bound.to_value] for bound in found.floating_point_range]
        self.result["calls"].append(["describe_parameter", name, found.type, [found.description, bounds]])

    def send_map(self, path: str) -> None:
        """A picture as the map."""
        from sensor_msgs.msg import Image

        from bevfusion.ros.publishers import image_message

        publisher = self.ros.advertise(Image, "/bevfusion/map_image")
        self._until_read(publisher)
        publisher.publish(image_message(np.load(path), "map", 0))

    def send_fix(self, lat_deg: float, lon_deg: float) -> None:
        from sensor_msgs.msg import NavSatFix

        publisher = self.ros.advertise(NavSatFix, "/bevfusion/fix")
        self._until_read(publisher)
        message = NavSatFix()
        message.latitude, message.longitude, message.status.status = lat_deg, lon_deg, 0
        publisher.publish(message)
        time.sleep(0.5)

    def send_route(self, places: list[list[float]], frame: str = "map") -> None:
        """A route on the map; an empty one ends it."""
        from geometry_msgs.msg import PoseStamped
        from nav_msgs.msg import Path

        publisher = self.ros.advertise(Path, "/bevfusion/route")
        self._until_read(publisher)
        message = Path()
        message.header.frame_id = frame
        for x_m, y_m in places:
            stamped = PoseStamped()
            stamped.pose.position.x, stamped.pose.position.y, stamped.pose.orientation.w = x_m, y_m, 1.0
            message.poses.append(stamped)
        publisher.publish(message)
        time.sleep(0.5)

    def send_goal(self, x_m: float, y_m: float) -> None:
        """A goal on the map."""
        from geometry_msgs.msg import PoseStamped

        publisher = self.ros.advertise(PoseStamped, "/bevfusion/goal")
        self._until_read(publisher)
        message = PoseStamped()
        message.header.frame_id, message.pose.orientation.w = "map", 1.0
        message.pose.position.x, message.pose.position.y = x_m, y_m
        publisher.publish(message)
        time.sleep(0.5)

    def wait_for_state(self, state: str) -> None:
        until = time.monotonic() + 30.0
        while not self.result["diagnostics"] or self.result["diagnostics"][-1][2]["state"] != state:
            if time.monotonic() > until:
                raise TimeoutError(f"the node is not {state}")
            time.sleep(0.05)

    def _until_read(self, publisher: Any) -> None:
        until = time.monotonic() + 20.0
        while not self.ros.readers(publisher):
            assert time.monotonic() < until, "nobody reads"
            time.sleep(0.05)
        time.sleep(0.3)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def publish_clouds(self) -> None:
        if self.points is None:
            self.points = self.ros.advertise(self.kinds["points"], CLOUD, self.best_effort)

    def stop_publishing(self) -> None:
        self.ros.withdraw(self.points)
        self.points = None

    def wait_for_reader(self) -> None:
        self._until_read(self.points)

    def start(self, x_m: float, y_m: float, yaw: float) -> None:
        from bevfusion.geometry.se2 import SE2
        from bevfusion.ros.player import start_message

        self.out["initialpose"].publish(start_message(SE2(x_m, y_m, yaw), int(self.drive["stamps"][0])))
        time.sleep(0.5)

    def cloud(self, position: int, change: str = "") -> None:
        """One frame, as it is or spoilt."""
        from bevfusion.geometry.se2 import SE2
        from bevfusion.ros.player import cloud_message, odometry_message
        from bevfusion.structures import Scan

        stamp = int(self.drive["stamps"][position])
        self._tick(stamp)
        odom = self.drive["odom_from_base"][position]
        if not self.script.get("no_odometry") and np.isfinite(odom).all():
            self.out["odom"].publish(odometry_message(SE2(*odom.tolist()), stamp))
        first, last = self.drive["bounds"][position : position + 2]
        points = self.drive["points"][first:last].astype(np.float32)
        if change == "nan":
            points = np.full_like(points, np.nan)
        if change == "empty":
            points = points[:0]
        lidar_from_base_turn = self.base_from_lidar[:3, :3].T
        xyz = (points[:, :3].astype(np.float64) @ lidar_from_base_turn.T).astype(np.float32)
        message = cloud_message(Scan(xyz, points[:, 3]), stamp, "nowhere" if change == "frame" else "lidar")
        if change == "sizes":
            message.width = 4_000_000
        self.result["sent_s"][str(stamp)] = time.monotonic()
        self.points.publish(message)

    def answered(self, position: int, change: str = "", limit_s: float = 30.0) -> None:
        """One frame, and wait until the node has dealt with it."""
        done = len(self.result["timing"])
        self.cloud(position, change)
        until = time.monotonic() + limit_s
        while len(self.result["timing"]) == done and time.monotonic() < until:
            time.sleep(0.005)
        if len(self.result["timing"]) == done:
            raise TimeoutError(f"no answer to frame {position}")

    def answered_frames(self, first: int, last: int, limit_s: float = 30.0) -> None:
        for position in range(first, last):
            self.answered(position, limit_s=limit_s)

    def until_found(self, first: int, last: int, after: int, limit_s: float) -> None:
        """Frames one by one until there is a pose, and so many more."""
        before = len(self.result["poses"])
        for position in range(first, last):
            self.answered(position, limit_s=limit_s)
            time.sleep(0.05)
            if len(self.result["poses"]) - before > after:
                return

    def refused(self, position: int, change: str) -> None:
        """A spoilt frame: wait until the diagnostics tell of it."""
        self.cloud(position, change)
        time.sleep(1.7)

    def in_real_time(self, first: int, last: int, rate_hz: float) -> None:
        began = time.monotonic()
        for number, position in enumerate(range(first, last)):
            time.sleep(max(0.0, began + number / rate_hz - time.monotonic()))
            self.cloud(position)
        time.sleep(3.0)

    def call(self, service: str, data: bool | None) -> None:
        from std_srvs.srv import SetBool, Trigger

        answer = self.ros.call(Trigger if data is None else SetBool, f"/bevfusion/{service}", data)
        self.result["calls"].append([service, data, *answer])

    def _tick(self, stamp: int) -> None:
        from rosgraph_msgs.msg import Clock

        message = Clock()
        seconds, rest_ns = divmod(stamp, 10**9)
        if hasattr(message.clock, "nanosec"):
            message.clock.sec, message.clock.nanosec = seconds, rest_ns
        else:
            message.clock.secs, message.clock.nsecs = seconds, rest_ns
        self.clock.publish(message)

    def _static_transform(self) -> Any:
        from geometry_msgs.msg import TransformStamped

        message = TransformStamped()
        message.header.frame_id, message.child_frame_id = "base_link", "lidar"
        shift, turn = self.base_from_lidar[:3, 3], self.base_from_lidar[:3, :3]
        yaw = math.atan2(turn[1, 0], turn[0, 0])
        to = message.transform
        to.translation.x, to.translation.y, to.translation.z = shift.tolist()
        to.rotation.z, to.rotation.w = math.sin(0.5 * yaw), math.cos(0.5 * yaw)
        return message


def stamp_ns(message: Any) -> int:
    from bevfusion.datasets.pointcloud2 import header_stamp_ns

    return header_stamp_ns(message)


def yaw_rad(quaternion: Any) -> float:
    return 2.0 * math.atan2(quaternion.z, quaternion.w)


def transform_row(message: Any) -> list[Any]:
    shift = message.transform.translation
    pose = [shift.x, shift.y, yaw_rad(message.transform.rotation)]
    return [stamp_ns(message), message.header.frame_id, message.child_frame_id, *pose]


def main() -> None:
    which, script_path, result_path = sys.argv[1:]
    script = json.loads(Path(script_path).read_text())
    ros = {"ros1": Ros1, "ros2": Ros2}[which]()
    robot = Robot(ros, script)
    try:
        robot.run()
        robot.result["problem"] = ""
    except Exception as error:  # noqa: BLE001 - what was recorded tells more than the exception
        robot.result["problem"] = f"{type(error).__name__}: {error}"
    Path(result_path).write_text(json.dumps(robot.result))
    ros.close()


if __name__ == "__main__":
    main()
