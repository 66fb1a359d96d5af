"""What do cached keys and values save, when a caption of 20 tokens is written?

    taskset -c 1 python benchmarks/vlm_decoding.py
    python benchmarks/vlm_decoding.py --runtimes litert

The same network with random weights writes the same number of tokens in two ways, in turns: as the
bundle does, one run of ``context`` and one of ``step`` for each token; and without a cache, with a
run of the whole transformer over 21 caption tokens, 30 of tags and 50 regions for each token. Both
are graphs that went through edgekit's passes, in one runtime on one thread; the logits of the first
token must agree. Fails if the cache saves less than a factor of 3.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgekit.export.lowerings import LOWERINGS
from edgekit.export.passes import CANONICAL, choice_passes, run_passes
from edgekit.export.trace import trace
from edgekit.export.vision_language import settings_of
from edgekit.export.vision_language.graphs import graphs_of
from edgekit.models.minivlm.fusion import hide
from edgekit.models.minivlm.network import MiniVlm, random_vlm
from edgekit.models.minivlm.specs import get_vlm
from edgekit.runtimes import open_session
from edgekit.runtimes.session import Session
from edgekit.targets import TARGETS

WANTED = 3.0
TOKENS = 20
ROUNDS = 7
RUNTIMES = {"onnxruntime": "x86", "openvino": "x86", "litert": "arm"}
SAME = 1e-4

Inputs = dict[str, np.ndarray]


class Whole(torch.nn.Module):
    """Without a cache: all tokens, tags and regions, and the words at one place."""

    def __init__(self, network: MiniVlm, caption: int) -> None:
        super().__init__()
        self.fusion, self.caption = network.fusion, caption

    def forward(
        self, text: torch.Tensor, visual: torch.Tensor, seen: torch.Tensor, place: torch.Tensor
    ) -> torch.Tensor:
        """(1, C + G, W), (1, R, V), (1, S, S) and one-hot (1, C) -> (1, vocabulary)."""
        bert = self.fusion.bert
        x = torch.cat([bert.embeddings.normalise(text), bert.regions(visual)], 1)
        hidden, _ = bert.encode(x, hide(seen))
        at_place = place @ hidden[0, : self.caption]
        return self.fusion.words(at_place)


def main() -> int:
    """Build, time in turns and print; 1 if a ratio is below ``WANTED``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    spec = get_vlm("minivlm")
    spec = replace(spec, lengths=replace(spec.lengths, caption=TOKENS + 1))
    created = random_vlm(spec, 0)
    inputs = _inputs(created.module)
    modules = _modules(created.module)
    outputs = {
        "whole": ["words"],
        "context": ["keys", "values"],
        "step": ["words", "keys", "values"],
    }
    graphs = {
        name: run_passes(
            trace(module, [torch.from_numpy(x) for x in inputs[name].values()],
                  list(inputs[name]), outputs[name], opset=18),
            CANONICAL,
        )[0]
        for name, module in modules.items()
    }  # fmt: skip
    print("| runtime | with cache ms | without ms | ratio |\n|-|-:|-:|-:|")
    worst = float("inf")
    for runtime in arguments.runtimes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            sessions = {n: _open(g, runtime, Path(folder) / n) for n, g in graphs.items()}
            runs = [_turn(sessions, inputs) for _ in range(arguments.rounds + 1)][1:]
        cached, plain = (statistics.median(run[i] for run in runs) for i in (0, 1))
        ratio = statistics.median(b / a for a, b in runs)
        print(f"| {runtime} | {cached:.1f} | {plain:.1f} | {ratio:.1f} |", flush=True)
        worst = min(worst, ratio)
    return int(worst < WANTED)


def _modules(network: MiniVlm) -> dict[str, torch.nn.Module]:
    from edgekit.models.building import WeightsInfo
    from edgekit.models.minivlm.network import CreatedVlm, VlmFacts

    facts = VlmFacts(network.spec.id, ("caption",))
    created = CreatedVlm(network, facts, WeightsInfo("random", "", random=True))
    graphs, _ = graphs_of(network, settings_of(created))
    whole = Whole(network, network.spec.lengths.caption)
    return {"whole": whole, "context": graphs["context"], "step": graphs["step"]}


def _inputs(network: MiniVlm) -> dict[str, Inputs]:
    """A first step: [CLS] is known, everything is there to be looked at."""
    rng = np.random.default_rng(0)
    fusion, lengths, regions = network.spec.fusion, network.spec.lengths, network.spec.tee.regions
    caption, tags = lengths.caption, lengths.tags
    words = rng.normal(size=(1, caption + tags, fusion.width)).astype(np.float32)
    visual = rng.normal(size=(1, regions, fusion.visual)).astype(np.float32)
    size = fusion.width // fusion.heads
    cache = (fusion.layers * fusion.heads, caption + tags + regions, size)
    length = caption + tags + regions
    seen = np.zeros((1, length, length), np.float32)
    seen[0, :caption, :caption] = np.tril(np.ones((caption, caption)))
    seen[0, :, caption:] = 1
    place = np.eye(caption, dtype=np.float32)[1:2]
    pair = np.zeros((2, caption + tags + regions + 2), np.float32)
    pair[:, caption:] = 1
    pair[0, -1] = 0
    cached = {f"cached_{k}": np.zeros(cache, np.float32) for k in ("keys", "values")}
    return {
        "whole": {"text": words, "visual": visual, "seen": seen, "place": place},
        "context": {"tags": words[:, caption:], "visual": visual,
                    "seen": np.ones((1, tags + regions), np.float32)},
        "step": {"pair": words[:, :2], "seen": pair, **cached},
    }  # fmt: skip


def _open(graph: object, runtime: str, folder: Path) -> Session:
    shaped, _ = run_passes(graph, choice_passes(TARGETS[RUNTIMES[runtime]].choices[runtime]))  # type: ignore[arg-type]
    folder.mkdir()
    paths = []
    for name, data in LOWERINGS[runtime].lower(shaped).items():
        (folder / name).write_bytes(data)
        paths.append(folder / name)
    return open_session(runtime, paths)


def _turn(sessions: Mapping[str, Session], inputs: Mapping[str, Inputs]) -> tuple[float, float]:
    """Milliseconds of a caption with a cache, and without."""
    begun = time.perf_counter()
    about = sessions["context"].run(inputs["context"])
    step, room = inputs["step"], inputs["step"]["cached_keys"].shape[1] - about["keys"].shape[1]
    for key in ("keys", "values"):
        step[f"cached_{key}"][:, :room] = 0
        step[f"cached_{key}"][:, room:] = about[key]
    first = None
    for place in range(TOKENS):
        out = sessions["step"].run(step)
        first = out["words"] if first is None else first
        for key in ("keys", "values"):
            step[f"cached_{key}"][:, place] = out[key][:, 0]
    cached = (time.perf_counter() - begun) * 1e3
    begun = time.perf_counter()
    whole = [sessions["whole"].run(inputs["whole"])["words"] for _ in range(TOKENS)]
    plain = (time.perf_counter() - begun) * 1e3
    assert first is not None
    apart = float(np.abs(whole[0] - first).max() / np.abs(first).max())
    if apart > SAME:
        raise SystemExit(f"with and without cache the first token's logits differ by {apart:.1e}")
    return cached, plain


if __name__ == "__main__":
    sys.exit(main())
