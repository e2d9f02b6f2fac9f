"""Where the LiDAR sits on the vehicle: clouds into the axes of the vehicle, poses of the LiDAR into its own."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.cloud import Cloud
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.transforms import TransformBuffer
from bevfusion.structures import DataError, PoseEstimate


class Extrinsics:
    """The extrinsics, from the parameter or from TF."""

    def __init__(self, parameters: NodeParameters, transforms: TransformBuffer) -> None:
        self._fixed = parameters.base_from_lidar
        self._base, self._lidar = parameters.base_frame, parameters.lidar_frame
        self._wait_s = parameters.transform_wait_s
        self._transforms = transforms

    def base_from_lidar(self, frame: str, stamp_ns: int) -> Float[np.ndarray, "4 4"]:
        """The LiDAR's pose on the vehicle at the stamp of a cloud.

        Args:
            frame: of the cloud.
            stamp_ns: of the cloud.

        Raises:
            DataError: if it is not known: it is never taken to be the identity.
        """
        if self._lidar and frame != self._lidar:
            raise DataError(f"the cloud is in the frame {frame!r}, expected {self._lidar!r}")
        if self._fixed is not None:
            return self._fixed
        return self._transforms.lookup(self._base, frame, stamp_ns, self._wait_s)

    def ego_cloud(self, cloud: Cloud, base_from_lidar: Float[np.ndarray, "4 4"]) -> tuple[Cloud, SE2]:
        """The points in the axes of the vehicle about the LiDAR, as the network knows them, and `base_from_ego`."""
        turn = base_from_lidar[:3, :3]
        turned = cloud if np.array_equal(turn, np.eye(3)) else cloud.turned(turn)
        return turned, SE2(float(base_from_lidar[0, 3]), float(base_from_lidar[1, 3]), 0.0)


@dataclass(frozen=True, slots=True)
class PlanarPose:
    """The vehicle on the map."""

    map_from_base: SE2
    covariance: Float[np.ndarray, "3 3"]  # x, y in m, yaw in rad, map axes

    @classmethod
    def of_base(cls, estimate: PoseEstimate, base_from_ego: SE2) -> "PlanarPose":
        """From the LiDAR's pose: p_base = p_ego + R(yaw) t, with t the vehicle in the LiDAR's frame.

        The covariance goes through the Jacobian of that: a doubtful heading moves the vehicle about its LiDAR.
        """
        ego_from_base = base_from_ego.inverse()
        yaw_rad = estimate.map_from_ego.yaw_rad
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        jacobian = np.eye(3)
        jacobian[0, 2] = -s * ego_from_base.x_m - c * ego_from_base.y_m
        jacobian[1, 2] = c * ego_from_base.x_m - s * ego_from_base.y_m
        return cls(estimate.map_from_ego @ ego_from_base, jacobian @ estimate.covariance @ jacobian.T)
