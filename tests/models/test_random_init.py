"""Random weights: alive everywhere, the same bits for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.models.building import CreatedModel, create
from edgekit.models.random_init import (
    calibration_count,
    calibration_images,
    randomise,
    state_sha256,
)
from edgekit.models.zoo import VARIANTS
from tests.variants import every_variant


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


MICRONETS = [row.id for row in VARIANTS.values() if row.family == "micronet"]


def test_all_micronets_are_here() -> None:
    assert len(MICRONETS) == 8


def check_alive(outputs: dict[str, Tensor]) -> None:
    for name, output in outputs.items():
        assert bool(output.isfinite().all()), name
        assert 0.02 < float(output.std()) < 10, name
        assert float(output.abs().max()) < 100, name


def distances(logits: Tensor) -> Tensor:
    """Of each image's logits from each other's."""
    return torch.cdist(logits, logits)[~torch.eye(len(logits), dtype=torch.bool)]


@pytest.mark.parametrize("model_id", every_variant())
def test_every_layer_is_alive_and_logits_differ(model_id: str) -> None:
    outputs = layer_outputs(create(model_id, "random", image_size=96), images(96))
    check_alive(outputs)
    logits = outputs["logits"]
    assert float(logits.std(1).min()) > 0.2
    # An EfficientNet's or a DCD's depends less on the image: swish and dynamic classifiers.
    assert float(logits.std(0).mean()) > 0.08
    assert float(logits.abs().amax(1).min()) > 0.5
    # Relatively, for there are 1000 logits or 128 numbers of an embedding.
    assert float(distances(logits).min() / logits.norm(dim=1).mean()) > 0.02


@pytest.mark.parametrize("model_id", MICRONETS)
def test_small_images_and_few_classes_are_alive_too(model_id: str) -> None:
    check_alive(layer_outputs(create(model_id, "random", num_classes=2, image_size=32), images(32)))


@pytest.mark.parametrize("model_id", MICRONETS)
def test_logits_differ_between_classes_and_between_images(model_id: str) -> None:
    logits = layer_outputs(create(model_id, "random", image_size=64), images(64))["logits"]
    assert float(logits.std(1).min()) > 0.2
    assert float(logits.std(0).mean()) > 0.2
    assert float(logits.abs().amax(1).min()) > 0.5
    assert float(distances(logits).min()) > 1


BITS = {
    ("micronet-m0", 224): "8e5cc22f1d82b6bd8938cdb7836bbe75dc7961feb0a9fad410a2ad85c8ec8cd2",
    ("micronet-m3", 96): "3ccc0c693089a604068469d194a40052101b9a5c1e8912c7c4c1a116a7e84904",
    ("mobilenetv3-small", 64): "3b9c736f63e635e9681e6f4423bc2062c333f16f3115a3f9965bb6f13131dc81",
}


@pytest.mark.parametrize(("model_id", "size"), BITS)
def test_bits_are_those_of_the_first_release(model_id: str, size: int) -> None:
    """Bundles with random weights made then and now are the same."""
    assert create(model_id, "random", image_size=size).weights.sha256 == BITS[model_id, size]


@pytest.mark.parametrize(
    ("size", "macs", "count"),
    [
        (96, 10_000_000, 32),
        (224, 20_000_000, 16),
        (224, 4_089_000_000, 15),
        (224, 11_514_000_000, 5),
        (640, 40_000_000, 8),
        (1024, 240_000_000_000, 4),
    ],
)
def test_calibration_is_seconds_of_work(size: int, macs: int, count: int) -> None:
    assert calibration_count(size, macs) == count


@pytest.mark.parametrize("only", ["1", "1.2"])
def test_one_part_can_be_drawn_alone(only: str) -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 5)),
    )
    randomise(network, calibration_images(8, 32), 0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    randomise(network, calibration_images(8, 32), 1, only)
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == {
        key for key in before if key.startswith(f"{only}.") and "num_batches" not in key
    }
    assert len(changed) == (8 if only == "1" else 2)


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


def test_a_body_that_overflows_stops_nothing() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 3))
    nn.init.constant_(network.get_parameter("1.weight"), 3e38)
    randomise(network.eval(), calibration_images(4, 2), 0, only="2")
    assert bool(network.get_parameter("2.weight").isfinite().all())


@pytest.mark.parametrize(
    ("model_id", "size"), [("dcd-mobilenetv2-x0.35", 224), ("dcd-resnet50", 96), ("resnet50", 96)]
)
def test_rounding_to_float32_stays_far_below_what_parity_allows(model_id: str, size: int) -> None:
    """On images unlike those of the calibration: deep and dynamic networks can be chaotic."""
    network, x = create(model_id, "random", image_size=size).module, images(size)
    with torch.no_grad():
        single = network(x).double()
        double = network.double()(x.double())
    assert float((single - double).abs().max() / double.abs().max()) < 3e-5
