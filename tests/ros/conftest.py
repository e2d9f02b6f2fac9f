"""Real middleware, found or refused, and the drives that are played to it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bevfusion.datasets.odometry import TruthOdometry
from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.maps.source import open_map
from bevfusion.simulate.drive import DriveOptions
from bevfusion.simulate.town import write_town
from tests.ros.processes import KIDNAPPED_AT, REPOSITORY, Joined, Middleware, Played, pack

MODULES = {"ros2": "rclpy", "ros1": "rospy"}
PYTHONS = {"ros2": "BEVFUSION_ROS2_PYTHON", "ros1": "BEVFUSION_ROS1_PYTHON"}  # .ci/run sets them


@pytest.fixture(scope="session", params=["ros2", "ros1"])
def middleware(request: pytest.FixtureRequest) -> "Middleware":
    """A ROS that runs here."""
    name = request.param
    python = os.environ.get(PYTHONS[name], sys.executable)
    found = subprocess.run([python, "-c", f"import {MODULES[name]}, torch"], capture_output=True, text=True)
    if found.returncode != 0:
        reason = f"no {MODULES[name]} in {python}; {PYTHONS[name]} names a Python that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    if name == "ros1":
        return request.getfixturevalue("ros1_master")(python)
    # a domain of one's own: other tests on this machine are not heard
    domain = str(1 + os.getpid() % 100)
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": domain}
    profile = REPOSITORY / "bevfusion" / "ros" / "fastdds.xml"
    return Middleware(name, python, environment | {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)})


@pytest.fixture(scope="session")
def ros1_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], "Middleware"]]:
    """Starts a master when the first test asks for it."""
    masters = []

    def start(python: str) -> Middleware:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path_factory.mktemp("ros1")
        environment = {
            "ROS_MASTER_URI": f"http://127.0.0.1:{port}",
            "ROS_IP": "127.0.0.1",
            "ROS_HOME": str(folder),
            "ROS_PACKAGE_PATH": str(REPOSITORY / "bevfusion" / "ros"),
        }
        log = (folder / "master.log").open("w")
        program = shutil.which("rosmaster") or "rosmaster"
        masters.append(
            subprocess.Popen([program, "--core", "-p", str(port)], env=os.environ | environment, stdout=log, stderr=log)
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return Middleware("ros1", python, environment)
            time.sleep(0.05)
        raise TimeoutError("no ROS master")

    yield start
    for master in masters:
        master.terminate()  # it ignores SIGINT where its parent did, as under a shell's background jobs
        master.wait(20)


@pytest.fixture(scope="session")
def minute(request: pytest.FixtureRequest) -> Played:
    """Sixty seconds at ten frames a second through a town that no network has seen; kept between runs."""
    cache = Path(request.config.cache.mkdir("bevfusion-ros"))
    seed = 0
    # the speed that the simulation is going to draw, so that frames are a tenth of a second apart
    speed_m_s = float(np.random.default_rng(np.random.SeedSequence(seed).spawn(5)[3]).uniform(6.0, 11.0))
    options = DriveOptions(sensor="hdl64e", frames=601, spacing_m=0.1 * speed_m_s, columns=256, seed=seed)
    drive = TruthOdometry(simulated_drive("town:501", options, cache))
    path = map_file("town:501", cache)
    return Played(drive, open_map(path), path, pack(cache / "minute.npz", drive))


@pytest.fixture(scope="session")
def kidnapped(request: pytest.FixtureRequest) -> Played:
    """Twenty frames of one drive, then eighty of another that begins far from there, in an invented town of 600 m."""
    cache = Path(request.config.cache.mkdir("bevfusion-ros"))
    path = cache / "town_501_600_m.osm.gz"
    if not path.is_file():
        write_town(path, 501, 600.0)
    parts = [
        TruthOdometry(
            simulated_drive(
                str(path), DriveOptions(sensor="hdl64e", frames=frames, spacing_m=1.5, columns=512, seed=seed), cache
            )
        )
        for seed, frames in ((2, KIDNAPPED_AT), (3, 80))
    ]
    drive = Joined(*parts, start_ns=1_700_000_000 * 10**9, period_ns=2 * 10**8)
    return Played(drive, open_map(path), path, pack(cache / "kidnapped.npz", drive))
