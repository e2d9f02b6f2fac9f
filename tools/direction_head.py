"""Train the direction head upon a network that stays as it is, in minutes on one thread.

    python tools/direction_head.py configs/direction.yaml --features FOLDER --output with_head.safetensors

The towers run once over every scan and question, into FOLDER (1.3 MB a question; a folder that is there is read); then
the head alone learns. What is written is the checkpoint of `train.weights` with the head beside it. Simulated drives
are made where the cache lacks them. `tools/train.py` trains the same head within the whole network.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from bevfusion.checkpoint import save_checkpoint
from bevfusion.config import Config, load_config
from bevfusion.direction.targets import Asking, Ways
from bevfusion.heads.direction_field import DirectionFieldHead
from bevfusion.localizer import open_network
from bevfusion.model import FusionNet
from bevfusion.training.direction_features import (
    Changes,
    DirectionFeatures,
    FeatureFolder,
    Scene,
    scenes_of,
    write_features,
)
from bevfusion.training.direction_head import HeadTraining, train_direction_head
from bevfusion.training.drives import drives_for, ways_for


def makers(
    config: Config, model: FusionNet, every: int
) -> Iterator[tuple[str, DirectionFeatures, Ways, Iterator[Scene]]]:
    """The training drives of a configuration, one after the other."""
    pairs = zip(drives_for(config, "train"), ways_for(config, "train"), strict=True)
    for (drive, source), ways in pairs:
        features = DirectionFeatures(model, source, config.bev.slices_m)
        yield drive.name, features, ways, scenes_of(drive, source, ways.way, every)


def main() -> None:
    """Make features where there are none, train, write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--features", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="CHECKPOINT")
    parser.add_argument("--every", type=int, default=4, help="frames of the drives")
    parser.add_argument("--scans", type=int, default=2000, help="at most")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = load_config(words.config)
    model, loaded = open_network(config.train.weights)
    grid, channels = model.feature_grid, loaded.config.model.channels
    if not (words.features / "about.json").is_file():
        drives = makers(config, model, words.every)
        write_features(words.features, drives, Asking(), Changes(), words.scans, grid, channels, words.seed)
    features = FeatureFolder(words.features)
    torch.manual_seed(words.seed)
    head = DirectionFieldHead(channels, grid)
    trained = train_direction_head(model.fusion, head, features, HeadTraining(steps=words.steps, seed=words.seed))
    model.direction = trained.head
    heads = loaded.config.model.heads.model_copy(update={"direction": True})
    own = loaded.config.model_copy(update={"model": loaded.config.model.model_copy(update={"heads": heads})})
    about = f"{words.steps} steps, {features.scans} scans, {len(features)} questions, seed {words.seed}"
    save_checkpoint(words.output, model, own, loaded.provenance | {"direction_head": about}, loaded.layers)


if __name__ == "__main__":
    main()
