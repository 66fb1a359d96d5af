"""The network in pieces, as they work together in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.bundle import Manifest, WeightsFacts
from edgekit.bundle.assembly import VlmSettings
from edgekit.export.vision_language.agreement import drawn_images, tell_all
from edgekit.export.vision_language.graphs import graphs_of, tables_of
from edgekit.models.minivlm.network import CreatedVlm
from edgekit.runtimes.vision_language.model import Arrays, Names, Stage, VisionLanguage
from edgekit.runtimes.vision_language.text import Vocabulary


class Whole:
    """The network in pieces, how they work together in torch, and what each was fed."""

    def __init__(self, created: CreatedVlm, vocabulary: Vocabulary, settings: VlmSettings) -> None:
        network = created.module
        self.created, self.vocabulary, self.settings = created, vocabulary, settings
        self.parts: dict[str, Manifest] = {}
        self.weights = _weights_facts(created)
        self.tables = tables_of(network)
        self.graphs, self.outputs = graphs_of(network, settings)
        self.samples: dict[str, list[dict[str, NDArray[Any]]]] = {name: [] for name in self.graphs}
        stages = {name: self._recording(name) for name in self.graphs}
        names = Names(created.facts.answers, created.facts.objects)
        self.model = VisionLanguage(stages, settings, vocabulary, self.tables, names)
        self.images = drawn_images()
        self.seen = [self.model.look(image) for image in self.images]
        self.told = tell_all(self.model, self.seen)
        self.samples = {
            name: _spread(kept, len(self.images)) for name, kept in self.samples.items()
        }

    def _recording(self, name: str) -> Stage:
        """The graph in torch, which remembers what it is given."""
        module, outputs = self.graphs[name].eval(), self.outputs[name]

        def run(inputs: Arrays) -> Arrays:
            given = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
            self.samples[name].append({key: value.copy() for key, value in given.items()})
            with torch.no_grad():
                results = module(*(torch.from_numpy(value) for value in given.values()))
            pairs = zip(outputs, results, strict=True)
            return {key: result.numpy() for key, result in pairs}

        return run


def _spread(samples: list[dict[str, NDArray[Any]]], count: int) -> list[dict[str, NDArray[Any]]]:
    """``count`` of them, from the first to the last: other images, texts and places."""
    return [samples[round(at)] for at in np.linspace(0, len(samples) - 1, count)]


def _weights_facts(created: CreatedVlm) -> WeightsFacts:
    info = created.weights
    return WeightsFacts(info.source, info.sha256, info.random, note=info.note)
