"""The network in pieces, as they work together in torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.bundle import Manifest, WeightsFacts
from edgekit.bundle.assembly import VlmSettings
from edgekit.export.vision_language.agreement import drawn_images, steady_regions, tell_all
from edgekit.export.vision_language.graphs import graphs_of, tables_of
from edgekit.models.minivlm.network import CreatedVlm
from edgekit.runtimes.vision_language.model import (
    BOX_HEAD,
    DETECTOR,
    Arrays,
    Names,
    Stage,
    VisionLanguage,
)
from edgekit.runtimes.vision_language.text import Vocabulary


class Whole:
    """The network in pieces, how they work together in torch, and what each was fed.

    Args:
        created: the network.
        vocabulary: of its texts.
        settings: what stands between the pieces.
        tolerance: that each graph will be allowed to differ by, relative.
    """

    def __init__(
        self, created: CreatedVlm, vocabulary: Vocabulary, settings: VlmSettings, tolerance: float
    ) -> None:
        self.tolerance = tolerance
        network = created.module
        self.created, self.vocabulary, self.settings = created, vocabulary, settings
        self.parts: dict[str, Manifest] = {}
        self.weights = _weights_facts(created)
        self.tables = tables_of(network)
        self.graphs, self.outputs = graphs_of(network, settings)
        self._records = True
        self.samples: dict[str, list[dict[str, NDArray[Any]]]] = {name: [] for name in self.graphs}
        stages = {name: self._recording(name) for name in self.graphs}
        names = Names(created.facts.answers, created.facts.objects)
        # Every region that is found, however unsure: few of a drawn image are likely ones.
        self.settings_compared = settings = replace(settings, min_score=0.0)
        self.model = VisionLanguage(stages, settings, vocabulary, self.tables, names)
        self.images = drawn_images()
        self.seen = [self.model.look(image) for image in self.images]
        self.told = tell_all(self.model, self.seen)
        shaken = VisionLanguage(self._shaken(), settings, vocabulary, self.tables, names)
        self.steady = steady_regions(shaken, self.images, self.seen)
        self.samples = {
            name: _spread(kept, len(self.images)) for name, kept in self.samples.items()
        }
        self._records = False

    def _run(self, name: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The graph in torch."""
        module, given = self.graphs[name].eval(), map(np.ascontiguousarray, inputs.values())
        with torch.no_grad():
            results = module(*(torch.from_numpy(value) for value in given))
        return {key: out.numpy() for key, out in zip(self.outputs[name], results, strict=True)}

    def _recording(self, name: str) -> Stage:
        """As `_run`, and remembers what it is given until the samples are complete."""

        def run(inputs: Arrays) -> Arrays:
            if self._records:
                self.samples[name].append({key: np.array(value) for key, value in inputs.items()})
            return self._run(name, inputs)

        return run

    def _shaken(self) -> dict[str, Stage]:
        """Both stages of `look`, wrong by the tolerance of a graph at most."""
        draw = np.random.default_rng(0)

        def shaken(name: str, inputs: Arrays) -> Arrays:
            outputs = self._run(name, inputs)
            most = {key: self.tolerance * float(np.abs(out).max()) for key, out in outputs.items()}
            return {
                key: (out + draw.uniform(-most[key], most[key], out.shape)).astype(out.dtype)
                for key, out in outputs.items()
            }

        return {name: partial(shaken, name) for name in (DETECTOR, BOX_HEAD)}


def _spread(samples: list[dict[str, NDArray[Any]]], count: int) -> list[dict[str, NDArray[Any]]]:
    """``count`` of them, from the first to the last: other images, texts and places."""
    return [samples[round(at)] for at in np.linspace(0, len(samples) - 1, count)]


def _weights_facts(created: CreatedVlm) -> WeightsFacts:
    info = created.weights
    return WeightsFacts(info.source, info.sha256, info.random, note=info.note)
