"""A bundle that is quickly exported and has weights enough to be seen in memory."""

from pathlib import Path

import torch

from edgekit.export.pipeline import export_model


def write_bundle(out: Path) -> Path:
    """One wide layer, 8 MB, for ``arm``."""
    net = torch.nn.Sequential(torch.nn.Linear(1000, 2000), torch.nn.ReLU())
    export_model(net, torch.zeros(1, 1000), target="arm", out=out)
    return out
