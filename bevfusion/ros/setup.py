"""What `colcon build` installs (package.xml: ament_python): programs, launch files, parameters and views.

The Python code is not among them: pip installs it, with torch and all else that it needs.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import setup

FOLDER = Path(__file__).resolve().parent
MANIFEST = ET.parse(FOLDER / "package.xml").getroot()
NAME = str(MANIFEST.findtext("name"))


def files_of(folder: str) -> list[str]:
    """Files of a folder beside this one."""
    return sorted(str(path.relative_to(FOLDER)) for path in (FOLDER / folder).iterdir() if path.is_file())


setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    packages=[],
    py_modules=[],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "fastdds.xml"]),
        *((f"share/{NAME}/{folder}", files_of(folder)) for folder in ("config", "launch", "rviz")),
        (f"lib/{NAME}", files_of("scripts")),
    ],
)
