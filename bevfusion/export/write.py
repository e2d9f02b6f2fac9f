"""A checkpoint as a file for another runtime: ONNX, or a package of torch.export."""

import hashlib
import json
import logging
import math
from importlib.util import find_spec
from pathlib import Path

import torch

from bevfusion.export.network import PointsToBeliefs, example_inputs, export_tile_grid
from bevfusion.files import atomic_file
from bevfusion.localizer import open_network
from bevfusion.maps.schema import LAYERS
from bevfusion.structures import DataError

INPUTS = ("xyz", "height_m", "intensity", "tile", "prior_yaw_rad", "contrast")
OUTPUTS = ("log_prob", "log_odds")
METADATA_KEY = "bevfusion"  # under which a file says what it was made from
FORMAT = "bevfusion-export-4"
NO_DIGEST = b"0" * 64  # stands in a file where its digest will, while that is taken
SUFFIXES = (".onnx", ".pt2")
_EXAMPLE_POINTS = 5000
_MOST_POINTS = 2**24


def write_export(checkpoint: str, output: Path, offset_m: float, offset_deg: float) -> None:
    """Write the whole network for priors within +-offset_m and +-offset_deg; the file appears whole or not at all.

    Raises:
        DataError: if the suffix is neither .onnx nor .pt2, the checkpoint cannot be used, or a package is missing.
    """
    if output.suffix not in SUFFIXES:
        raise DataError(f"{output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    missing = [name for name in ("onnx", "onnxscript") if output.suffix == ".onnx" and find_spec(name) is None]
    if missing:
        raise DataError(f"writing ONNX needs the package {missing[0]}: pip install -e '.[onnx]'")
    model, loaded = open_network(checkpoint)
    if loaded.config.model.encoder == "sparse":
        raise DataError(
            f"{checkpoint}: sparse convolutions have no form in ONNX; export a network with encoder: raster"
        )
    network = PointsToBeliefs(model, loaded.config, offset_m, math.radians(offset_deg)).eval()
    tile_cells = export_tile_grid(loaded.config, offset_m).height
    inputs = example_inputs(_EXAMPLE_POINTS, len(LAYERS), tile_cells, model.feature_grid.height)
    points = {0: torch.export.Dim("points", min=2, max=_MOST_POINTS)}
    program = torch.export.export(network, inputs, dynamic_shapes=(points, points, points, None, None, None))
    about = json.dumps(
        {
            "format": FORMAT,
            "offset_m": offset_m,
            "offset_deg": offset_deg,
            "config": loaded.config.model_dump(mode="json"),
            "sha256": loaded.sha256,
            "digest": NO_DIGEST.decode(),  # of this file
        }
    )
    if output.suffix == ".pt2":
        with atomic_file(output) as draft:
            torch.export.save(program, draft, extra_files={METADATA_KEY: about})
        return
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    onnx = torch.onnx.export(
        program, (), input_names=INPUTS, output_names=OUTPUTS, dynamo=True, external_data=False, verbose=False
    )
    if onnx is None:
        raise RuntimeError("torch.onnx.export returned no program")
    onnx.model.metadata_props[METADATA_KEY] = about
    with atomic_file(output) as draft:
        onnx.save(draft, external_data=False)
        content = draft.read_bytes()
        draft.write_bytes(content.replace(NO_DIGEST, hashlib.sha256(content).hexdigest().encode(), 1))


def is_as_written(content: bytes, digest: str) -> bool:
    """Whether the bytes of an ONNX file are those that `write_export` wrote, by the digest that stands among them."""
    return hashlib.sha256(content.replace(digest.encode(), NO_DIGEST, 1)).hexdigest() == digest
