"""Random weights: alive everywhere, the same bits for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.models.building import CreatedModel, create
from edgekit.models.random_init import calibration_images, randomise, state_sha256
from edgekit.models.zoo import VARIANTS


def images(size: int) -> Tensor:
    """Not those of the calibration: black, noise, ramps, and noise on ramps."""
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    ramp = torch.linspace(-2, 2, size).expand(1, 3, size, size)
    return torch.cat([torch.zeros(1, 3, size, size), noise, ramp, 0.7 * noise + ramp.mT])


def layer_outputs(created: CreatedModel, x: Tensor) -> dict[str, Tensor]:
    """Output of every leaf."""
    outputs: dict[str, Tensor] = {}
    for name, module in created.module.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output)
            )
    with torch.no_grad():
        outputs["logits"] = created.module(x)
    return outputs


@pytest.mark.parametrize(("size", "classes"), [(32, 2), (96, 1000)])
@pytest.mark.parametrize("model_id", VARIANTS)
def test_every_layer_is_alive(model_id: str, size: int, classes: int) -> None:
    created = create(model_id, "random", num_classes=classes, image_size=size)
    outputs = layer_outputs(created, images(size))
    for name, output in outputs.items():
        assert bool(output.isfinite().all()), name
        assert 0.02 < float(output.std()) < 10, name
        assert float(output.abs().max()) < 100, name


@pytest.mark.parametrize("model_id", VARIANTS)
def test_logits_differ_between_classes_and_between_images(model_id: str) -> None:
    logits = layer_outputs(create(model_id, "random", image_size=64), images(64))["logits"]
    assert float(logits.std(1).min()) > 0.2
    assert float(logits.std(0).mean()) > 0.2
    assert float(logits.abs().amax(1).min()) > 0.5
    distances = torch.cdist(logits, logits)[~torch.eye(len(logits), dtype=torch.bool)]
    assert float(distances.min()) > 1


def test_coefficients_depend_on_the_image() -> None:
    outputs = layer_outputs(create("micronet-m0", "random", image_size=64), images(64))
    gates = [output for name, output in outputs.items() if name.endswith("fc.3")]
    assert len(gates) == 15
    assert all(float(gate.std(0).max()) > 0.003 for gate in gates)
    assert all(float(((gate > 0) & (gate < 1)).float().mean()) > 0.9 for gate in gates)


def test_the_same_seed_gives_the_same_bits_whatever_the_threads() -> None:
    hashes = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            hashes.add(create("micronet-m1", "random", image_size=64).weights.sha256)
    finally:
        torch.set_num_threads(before)
    assert len(hashes) == 1


def test_another_seed_gives_other_bits() -> None:
    a, b = (create("micronet-m0", "random", image_size=32, seed=seed) for seed in (0, 1))
    assert a.weights.sha256 != b.weights.sha256
    assert (a.weights.source, b.weights.source) == ("random, seed 0", "random, seed 1")


def test_the_body_does_not_depend_on_the_head() -> None:
    a, b = (create("micronet-m0", "random", image_size=32, num_classes=n) for n in (2, 3))
    body = [key for key in a.module.state_dict() if key.startswith("features")]
    assert all(torch.equal(a.module.state_dict()[k], b.module.state_dict()[k]) for k in body)


def test_the_hash_sees_every_value() -> None:
    module = nn.Linear(2, 2)
    before = state_sha256(module)
    with torch.no_grad():
        module.bias[1] += 1
    assert state_sha256(module) != before


def test_calibrated_statistics_normalise_the_calibration_batch() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    batch = calibration_images(16, 32)
    randomise(network, batch, 0)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        y = (network(batch) - norm.bias.view(-1, 1, 1)) / norm.weight.view(-1, 1, 1)
    assert y.mean((0, 2, 3)).abs().max() < 1e-2
    assert (y.std((0, 2, 3)) - 1).abs().max() < 1e-2


def test_calibration_images_look_like_normalised_photographs() -> None:
    batch = calibration_images(16, 64)
    assert batch.shape == (16, 3, 64, 64)
    assert 0.5 < float(batch.std()) < 2
    assert float(batch.abs().max()) < 10
    assert torch.equal(batch, calibration_images(16, 64))
    assert batch.mean((1, 2, 3)).std() > 0.1
