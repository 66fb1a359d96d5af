"""Both stages together: everything is trained, and what is learnt is found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.models.minivlm.network import VlmFacts
from edgekit.models.minivlm.specs import get_vlm
from edgekit.training.data.scenes import COLOURS, SHAPES
from edgekit.training.detection.drawn import Drawn
from edgekit.training.detection.evaluation import detect, figures, judge
from edgekit.training.detection.loading import DetectionBatch, Normalise, Views, placed, stacked
from edgekit.training.detection.objective import Detect
from edgekit.training.detection.recipe import USUAL
from edgekit.training.detection.start import begin
from edgekit.training.seeding import seed_step

CANVAS = (128, 128)
SAMPLING = USUAL["minivlm-tiny"].sampling
FACTS = VlmFacts("minivlm-tiny", (), (), SHAPES, tuple(COLOURS))


def objective(facts: VlmFacts = FACTS, weight: float = 0.5) -> Detect:
    tee = begin(get_vlm("minivlm-tiny"), facts, "random", 0).module.tee
    for module in tee.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return Detect(tee, CANVAS, SAMPLING, weight)


def batch(count: int) -> DetectionBatch:
    source = Drawn(0, count)
    views = Views(CANVAS)
    return stacked([placed(*source.read(number), views, None) for number in range(count)])


def inputs(of: DetectionBatch) -> tuple[Tensor, ...]:
    return of.inputs([Normalise()], torch.device("cpu"))


def test_a_few_scenes_are_learnt_by_heart() -> None:
    """Matching, coding, reading of regions and judging must agree, or this comes to nothing."""
    few = batch(4)
    detector = objective()
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    losses = []
    for step in range(60):
        seed_step(0, step, 0)
        loss = detector(*inputs(few))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
    found = figures(judge(detector.tee, [few]))
    assert found["mAP50"] > 0.8 and found["attributes"] > 0.9
    assert detector.tee.training, "it is left as it was"


def test_the_loss_is_of_the_step_and_of_nothing_else() -> None:
    few, detector = inputs(batch(2)), objective()
    found: list[float] = []
    for step in (3, 3, 4):
        np.random.seed(len(found))
        seed_step(0, step, 0)
        found.append(float(detector(*few).detach()))
    assert found[0] == found[1] != found[2]


def test_every_weight_gets_a_gradient_even_where_nothing_is_to_be_found() -> None:
    few = batch(2)
    empty = few.targets._replace(classes=torch.zeros_like(few.targets.classes))
    bare = few.targets._replace(
        boxes=few.targets.boxes[:, :0], classes=few.targets.classes[:, :0],
        attributes=few.targets.attributes[:, :0],
    )  # fmt: skip
    for targets in (few.targets, empty, bare):
        detector = objective()
        detector(*inputs(few._replace(targets=targets))).backward()
        without = [key for key, one in detector.tee.named_parameters() if one.grad is None]
        assert without == []


def test_attributes_count_by_their_weight_and_may_be_missing() -> None:
    few = inputs(batch(2))

    def loss(of: Detect) -> float:
        seed_step(0, 0, 0)
        return float(of(*few).detach())

    none, half, whole = (loss(objective(weight=weight)) for weight in (0.0, 0.5, 1.0))
    assert whole - none == pytest.approx(2 * (half - none), rel=1e-3) and whole > none + 0.5
    assert loss(objective(replace(FACTS, attributes=()))) > 0


def test_regions_are_cut_at_their_image_and_not_at_the_canvas() -> None:
    detector = objective()
    torch.manual_seed(0)
    logits = torch.randn(2, len(detector.anchors))
    sizes = torch.tensor([[100.0, 128.0], [128.0, 50.0]])
    nothing = torch.zeros(0, 4)
    regions, image, number = detector._regions(
        logits, torch.zeros(*logits.shape, 4), sizes, [nothing, nothing]
    )
    assert set(number.tolist()) == {-1}
    for row, (height, width) in enumerate(sizes.tolist()):
        own = regions[image == row]
        assert (float(own[:, 0::2].max()), float(own[:, 1::2].max())) == (width, height)
        assert float(own.min()) == 0


def test_an_image_of_which_nothing_is_found_has_no_regions() -> None:
    detector = objective()
    detector.tee.eval()
    found = detect(detector.tee, torch.zeros(1, 3, *CANVAS), torch.tensor([[0.0, 0.0]]))
    assert len(found[0].boxes) == 0 and found[0].attributes.shape == (0, len(COLOURS))
