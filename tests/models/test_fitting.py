"""What a state dict is judged to be of: network, flavour, head, part; and every refusal."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekit.errors import CheckpointError
from edgekit.models import fitting
from edgekit.models.fitting import (
    Fit,
    Given,
    build_network,
    fit,
    list_parts,
    suggestion,
    variant_shapes,
)
from edgekit.models.naming import COUNTER, Shapes, in_module, tables
from edgekit.models.zoo import VARIANTS, Variant, get_variant
from tests.models.test_naming import keys_of

State = dict[str, Tensor]


def state_of(shapes: Shapes) -> State:
    """A state dict of those shapes that takes no memory."""
    counter = torch.zeros((), dtype=torch.int64)
    return {
        key: counter if key.endswith(COUNTER) else torch.ones(()).expand(shape)
        for key, shape in shapes.items()
    }


def own(model_id: str, outputs: int | None = None, head: str | None = None) -> State:
    """A checkpoint in the network's own names."""
    return state_of(variant_shapes(get_variant(model_id), outputs, head=head))


def given(state: State, **facts: Any) -> Given:
    return Given(state, **{"name": "w.pth", "spec": "dir/w.pth", "source": "file w.pth", **facts})


def refusal(state: State, model_id: str, classes: int | None = None, **facts: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        fit(given(state, **facts), get_variant(model_id), classes)
    message = str(caught.value)
    assert message.startswith("w.pth ")
    assert "\n" not in message
    return message


def fitted(state: State, model_id: str, classes: int | None = None, **facts: str) -> Fit:
    return fit(given(state, **facts), get_variant(model_id), classes)


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{key}": tensor for key, tensor in state.items()}


def without_head(state: State, head: str) -> State:
    return {key: tensor for key, tensor in state.items() if not in_module(key, head)}


# ---------------------------------------------------------------------------
# Names and flavours
# ---------------------------------------------------------------------------

ACCEPTED = {
    "torchvision_mobilenet_v3_large": "mobilenetv3-large",
    "timm_mobilenetv3_large_100": "mobilenetv3-large-timm",
    "seed_student_mobilenetv3_large": "mobilenetv3-large-seed",
    "torchvision_efficientnet_b1": "efficientnet-b1",
    "timm_efficientnet_b1": "efficientnet-b1",
    "seed_student_efficientnet_b1": "efficientnet-b1-seed",
    "timm_resnet34": "resnet34",
    "seed_student_resnet34": "resnet34",
}


@pytest.mark.parametrize(("name", "model_id"), ACCEPTED.items())
def test_what_is_accepted_has_the_networks_own_keys_and_shapes(name: str, model_id: str) -> None:
    found = fitted(state_of(keys_of(name)), model_id)
    shapes = {key: tuple(tensor.shape) for key, tensor in found.state.items()}
    assert shapes == variant_shapes(get_variant(model_id), found.outputs, head=found.head)


def test_every_tensor_lands_where_its_name_says() -> None:
    """Each tensor is marked with its own key, and the mark is looked for under the other's."""
    state = state_of(keys_of("seed_student_mobilenetv3_large"))
    marks = {
        key: torch.full(tensor.shape, float(i)) for i, (key, tensor) in enumerate(state.items())
    }
    found = fitted(marks, "mobilenetv3-large-seed").state
    pairs = {
        "features.0.0.weight": "features.0.0.weight",
        "features.1.block.1.0.weight": "features.1.conv.4.weight",
        "features.4.block.2.fc2.weight": "features.4.conv.5.fc.2.weight",
        "features.15.block.3.1.running_var": "features.15.conv.8.running_var",
        "features.16.1.bias": "conv.1.bias",
        "classifier.0.weight": "classifier.0.weight",
        "classifier.3.2.bias": "fc.2.bias",
    }
    for mine, theirs in pairs.items():
        assert found[mine].flatten()[0] == marks[theirs].flatten()[0], mine
    assert found["features.4.block.2.fc1.weight"].shape == (24, 72, 1, 1)


REFUSED = [
    (
        "torchvision_mobilenet_v3_large",
        "mobilenetv3-large-timm",
        "It looks like mobilenetv3-large.",
    ),
    (
        "torchvision_mobilenet_v3_large",
        "mobilenetv3-large-seed",
        "It looks like mobilenetv3-large.",
    ),
    (
        "timm_mobilenetv3_large_100",
        "mobilenetv3-large",
        "mobilenetv3-large-timm or mobilenet",
    ),
    ("timm_mobilenetv3_large_100", "mobilenetv3-large-seed", "mobilenetv3-large-timm or mobilenet"),
    ("seed_student_mobilenetv3_large", "mobilenetv3-large", "looks like mobilenetv3-large-seed."),
    ("seed_student_mobilenetv3_large", "mobilenetv3-large-tf", "like mobilenetv3-large-seed."),
    ("torchvision_efficientnet_b0", "efficientnet-b0-tf", "It looks like efficientnet-b0."),
    ("timm_efficientnet_b0", "efficientnet-b0-seed", "efficientnet-b0 or efficientnet-b0-tf."),
    ("seed_student_efficientnet_b0", "efficientnet-b0", "It looks like efficientnet-b0-seed."),
]


@pytest.mark.parametrize(("name", "model_id", "words"), REFUSED)
def test_another_flavours_file_is_refused_by_name(name: str, model_id: str, words: str) -> None:
    message = refusal(state_of(keys_of(name)), model_id)
    assert words in message
    assert "shape-compatible is not function-compatible" in message
    assert ("save_checkpoint" in message) == name.startswith("torchvision")


def test_the_whole_message_about_a_flavour() -> None:
    assert refusal(own("mobilenetv3-small"), "mobilenetv3-small-tf") == (
        "w.pth has torchvision's names and so weights for torchvision's function; "
        "mobilenetv3-small-tf computes TensorFlow's function (timm's tf_ files), and "
        "shape-compatible is not function-compatible. It looks like mobilenetv3-small. A file of "
        "edgekit's own says what it is for: see edgekit.models.checkpoint.save_checkpoint."
    )


def test_a_file_of_edgekits_own_is_for_the_id_in_it_and_for_no_other() -> None:
    state = own("mobilenetv3-small-tf")
    assert fitted(state, "mobilenetv3-small-tf", recorded="mobilenetv3-small-tf").notes == ()
    assert refusal(state, "mobilenetv3-small", recorded="mobilenetv3-small-tf") == (
        "w.pth was saved by edgekit as mobilenetv3-small-tf, and is not for mobilenetv3-small: "
        "use mobilenetv3-small-tf."
    )
    later = refusal(state, "mobilenetv3-small", recorded="something-later" * 100)
    assert "this edgekit has no such network" in later
    assert len(later) < 250
    bent = {key: tensor for key, tensor in state.items() if key != "features.0.0.weight"}
    assert "1 keys missing" in refusal(
        bent, "mobilenetv3-small-tf", recorded="mobilenetv3-small-tf"
    )


def test_of_a_file_of_hundreds_of_networks_a_few_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    match = fitting.match

    def counting(variant: Variant, got: Shapes) -> fitting.Match:
        compared.append(variant)
        return match(variant, got)

    monkeypatch.setattr(fitting, "match", counting)
    state = own("mobilenetv3-small")
    copies = {f"n{i}.{key}": tensor for i in range(300) for key, tensor in state.items()}
    message = refusal(copies, "mobilenetv3-small")
    assert message.count(" --weights ") == 8
    assert len(compared) < 20
    assert len(message) < 1000


def test_a_name_that_tells_nothing_is_a_warning_for_both_flavours() -> None:
    state = state_of(keys_of("timm_efficientnet_b0"))
    for model_id in ("efficientnet-b0", "efficientnet-b0-tf"):
        (note,) = fitted(state, model_id, name="model.safetensors", spec="model.safetensors").notes
        assert f"predictions of {model_id} are right only if" in note
    folder = "models--timm--tf_efficientnet_b0.ns_jft_in1k/snapshots/0/model.safetensors"
    assert fitted(state, "efficientnet-b0-tf", name="model.safetensors", spec=folder).notes == ()
    (note,) = fitted(state, "efficientnet-b0", name="model.safetensors", spec=folder).notes
    assert "for efficientnet-b0-tf" in note


TIMM_FILES = [
    ("mobilenetv3-large-timm", "tf_mobilenetv3.pth", "has the tf_", "mobilenetv3-large-tf"),
    ("mobilenetv3-large-tf", "mobilenetv3.pth", "lacks the tf_", "mobilenetv3-large-timm"),
    ("mobilenetv3-large-timm", "mobilenetv3.pth", "", ""),
    ("mobilenetv3-large-tf", "TF_mobilenetv3.pth", "", ""),
    ("mobilenetv3-large-timm", "netf_mobilenetv3.pth", "", ""),
]


@pytest.mark.parametrize(("model_id", "file", "words", "better"), TIMM_FILES)
def test_a_name_that_says_another_flavour_is_a_warning_and_no_proof(
    model_id: str, file: str, words: str, better: str
) -> None:
    state = state_of(keys_of("timm_mobilenetv3_large_100"))
    notes = fitted(state, model_id, source=f"file {file}", name=file).notes
    if not words:
        assert notes == ()
        return
    assert len(notes) == 1
    assert words in notes[0]
    assert f"if its weights are for {better}," in notes[0]


def test_the_path_of_a_hub_counts_as_name() -> None:
    state = state_of(keys_of("timm_efficientnet_b0"))
    source = "hf://timm/tf_efficientnet_b0.aa_in1k/model.safetensors"
    assert fitted(state, "efficientnet-b0-tf", source=source).notes == ()
    (note,) = fitted(state, "efficientnet-b0", source=source).notes
    assert "if its weights are for efficientnet-b0-tf," in note


def test_dcd_built_without_dropout_has_another_number_on_its_classifier() -> None:
    state = own("dcd-mobilenetv2-x0.35")
    moved = {key.replace("classifier.1.", "classifier.0."): t for key, t in state.items()}
    assert moved.keys() != state.keys()
    assert fitted(moved, "dcd-mobilenetv2-x0.35").state.keys() == state.keys()
    assert "It fits dcd-mobilenetv2-x0.35 with" in refusal(moved, "dcd-mobilenetv2-x0.35-fs8")


# ---------------------------------------------------------------------------
# Counts of batches
# ---------------------------------------------------------------------------


def test_files_older_than_counts_of_batches_are_whole() -> None:
    state = {key: tensor for key, tensor in own("micronet-m0").items() if COUNTER not in key}
    assert fitted(state, "micronet-m0").state.keys() == state.keys()
    assert suggestion({k: tuple(t.shape) for k, t in state.items()}).startswith(
        "It fits micronet-m0"
    )


def test_counts_of_batches_missing_in_some_places_are_missing() -> None:
    state = own("resnet18")
    del state["layer2.0.bn1.num_batches_tracked"]
    assert "1 keys missing (layer2.0.bn1.num_batches_tracked)" in refusal(state, "resnet18")


# ---------------------------------------------------------------------------
# Heads
# ---------------------------------------------------------------------------


def test_the_head_in_the_file_decides() -> None:
    projected = fitted(own("resnet18", 64, "projection"), "resnet18")
    assert (projected.head, projected.outputs) == ("projection", 64)
    assert projected.notes == (
        "w.pth has a projection head of 64 outputs, and the network is built with it; resnet18 as "
        "published has a linear head of 1000",
    )
    seed = "mobilenetv3-large-seed"
    linear = fitted(own(seed, 10, "linear"), seed, recorded=seed)
    assert (linear.head, linear.outputs) == ("linear", 10)
    assert "as published has a projection head of 128" in linear.notes[0]


def test_a_head_as_published_is_nothing_to_tell() -> None:
    assert fitted(own("resnet18"), "resnet18").notes == ()
    assert (
        fitted(state_of(keys_of("seed_student_efficientnet_b0")), "efficientnet-b0-seed").notes
        == ()
    )


def test_an_embedding_of_another_width_is_told() -> None:
    state = own("efficientnet-b0-seed", 256)
    found = fitted(state, "efficientnet-b0-seed", recorded="efficientnet-b0-seed")
    assert (found.outputs, len(found.notes)) == (256, 1)


WRONG_CLASSES = [
    ("resnet18", 10, None, "is to have 1000: use --num-classes 10, or --drop-head"),
    ("resnet18", 10, 7, "has a linear head of 10 classes, and resnet18 is to have 7: use --num-cl"),
    ("resnet18", 1000, 7, "is to have 7: leave out --num-classes, or --drop-head"),
    ("micronet-m0", 3, None, "use --num-classes 3, or --drop-head"),
    ("dcd-resnet18", 3, None, "use --num-classes 3, or --drop-head"),
]


@pytest.mark.parametrize(("model_id", "there", "asked", "words"), WRONG_CLASSES)
def test_another_number_of_classes_is_refused_with_both_ways_out(
    model_id: str, there: int, asked: int | None, words: str
) -> None:
    assert words in refusal(own(model_id, there), model_id, asked)


def test_a_projection_of_another_width_than_asked_is_refused() -> None:
    message = refusal(own("resnet18", 128, "projection"), "resnet18", 10)
    assert "has a projection head of 128 outputs, and resnet18 is to have 10" in message
    assert "leave out --num-classes" in message
    assert fitted(own("resnet18", 128, "projection"), "resnet18", 128).outputs == 128


@pytest.mark.parametrize("model_id", ["resnet18", "mobilenetv3-small", "micronet-m0"])
def test_a_file_without_head_is_offered_a_random_one(model_id: str) -> None:
    head = {"resnet18": "fc", "mobilenetv3-small": "classifier.3", "micronet-m0": "classifier.2"}
    message = refusal(without_head(own(model_id), head[model_id]), model_id)
    assert message == (
        f"w.pth has the body of {model_id} and no head: use --drop-head to keep its body and draw "
        "a head at random."
    )


def test_a_head_that_no_network_has_is_named() -> None:
    deeper = {**keys_of("torchvision_resnet50")}
    head = {f"fc.{n}.{leaf}": deeper.pop(f"fc.{leaf}") for n in (0,) for leaf in ("weight", "bias")}
    deeper |= head | {"fc.2.weight": (9, 1000), "fc.4.weight": (5, 9)}
    message = refusal(state_of(deeper), "resnet50")
    assert "a head that it cannot have (fc.0.weight, fc.0.bias, fc.2.weight and" in message
    assert "--drop-head" in message
    two = {**keys_of("torchvision_resnet50"), **keys_of("seed_teacher_swav_resnet50")}
    assert "a head that it cannot have (fc.weight" in refusal(state_of(two), "resnet50")


def test_the_projection_of_swav_lands_in_the_head_and_its_prototypes_nowhere() -> None:
    swav = state_of(keys_of("seed_teacher_swav_resnet50"))
    found = fitted({**swav, "prototypes.weight": torch.zeros(3000, 128)}, "resnet50")
    assert (found.head, found.outputs) == ("projection-bn", 128)
    shapes = {key: tuple(tensor.shape) for key, tensor in found.state.items()}
    assert shapes == variant_shapes(get_variant("resnet50"), 128, head="projection-bn")
    assert found.state["fc.3.weight"] is swav["projection_head.3.weight"]


@pytest.mark.parametrize("name", ["seed_teacher_swav_resnet50", "torchvision_resnet50"])
def test_a_dropped_head_leaves_the_body(name: str) -> None:
    whole = fit(given(state_of(keys_of(name))), get_variant("resnet50"), 10, drop_head=True)
    assert (whole.head, whole.outputs, whole.dropped) == ("linear", 10, "fc")
    expected = variant_shapes(get_variant("resnet50"))
    assert whole.state.keys() == {key for key in expected if not in_module(key, "fc")}


def test_dropping_the_head_forgives_nothing_else() -> None:
    with pytest.raises(CheckpointError, match="shape-compatible is not function-compatible"):
        fit(given(own("mobilenetv3-small")), get_variant("mobilenetv3-small-tf"), drop_head=True)
    with pytest.raises(CheckpointError, match="does not fit resnet34.*It fits resnet18"):
        fit(given(own("resnet18")), get_variant("resnet34"), drop_head=True)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_outputs_of_every_head_of_every_network_are_told(variant: Variant) -> None:
    for head in variant.heads:
        state = own(variant.id, 37, head)
        found = fitting.match(variant, {key: tuple(t.shape) for key, t in state.items()})
        assert (found.head, found.outputs) == (head, 37)


# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------


def test_seeds_whole_file_offers_its_student() -> None:
    whole = state_of(keys_of("seed_full_resnet18_from_moco_resnet50"))
    message = refusal(whole, "resnet18")
    assert message.startswith(
        "w.pth as a whole does not fit resnet18: it holds teacher (322 tensors), student (124 "
        "tensors), queue, queue_ptr. Use "
    )
    assert message.endswith("Use --weights dir/w.pth#student.")
    assert refusal(whole, "resnet50").endswith("Use --weights dir/w.pth#teacher.")
    other = refusal(whole, "resnet34")
    assert "Part student: It fits resnet18 with a projection head of 128 outputs." in other
    assert "Part teacher: It fits resnet50 with a projection head" in other


def test_what_is_offered_can_be_typed() -> None:
    whole = state_of(keys_of("seed_full_resnet18_from_moco_resnet50"))
    assert refusal(whole, "resnet18", spec="my dir/a.pth").endswith("'my dir/a.pth#student'.")
    inner = refusal(under("net", whole), "resnet18", spec="a.pth")
    assert inner.endswith("--weights a.pth#net.student.")
    assert refusal(whole, "resnet18", spec="a.pth#x").endswith("--weights a.pth#x.student.")


def test_mocos_file_offers_both_of_its_encoders() -> None:
    encoder = own("resnet50", 128, "projection")
    queue = {"queue": torch.ones(128, 8), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    whole = {**under("encoder_q", encoder), **under("encoder_k", encoder), **queue}
    message = refusal(whole, "resnet50")
    assert "--weights dir/w.pth#encoder_q or --weights dir/w.pth#encoder_k." in message


def test_a_part_of_another_flavour_is_not_offered_but_named() -> None:
    student = state_of(keys_of("seed_student_mobilenetv3_large"))
    message = refusal({**under("student", student), "queue": torch.ones(2)}, "mobilenetv3-large")
    assert "Part student: It fits mobilenetv3-large-seed with a projection head of" in message
    assert "Use --weights" not in message


def test_parts_are_listed_by_size_and_not_for_ever() -> None:
    keys = [f"part{n}.{i}" for n in range(9) for i in range(n + 1)]
    assert list_parts(keys).startswith("part8 (9 tensors), part7 (8 tensors)")
    assert list_parts(keys).endswith("and 3 more")
    assert list_parts(["x" * 500]) == "x" * 40


# ---------------------------------------------------------------------------
# Suggestions
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_network_is_recognised(variant: Variant) -> None:
    if variant.flavour in ("tf", "timm", "seed"):
        table = next(
            t
            for t in tables(variant.family, variant_shapes(variant))
            if variant.flavour in t.naming.flavours
        )
        head = {table.own_head + k: v for k, v in _head(variant, table.own_head).items()}
        keys = {**table.keys, **{k: table.naming.head + k[len(table.own_head) :] for k in head}}
        own_shapes = variant_shapes(variant)
        got = {theirs: own_shapes[mine] for mine, theirs in keys.items()}
    else:
        got = variant_shapes(variant)
    words = suggestion(got)
    assert variant.id in words.replace(",", " ").split()


def _head(variant: Variant, prefix: str) -> Shapes:
    shapes = variant_shapes(variant)
    return {k[len(prefix) :]: s for k, s in shapes.items() if in_module(k, prefix)}


SUGGESTED = [
    (own("micronet-m0", 37), "It fits micronet-m0 with another head: use --num-classes 37."),
    (own("resnet34"), "It fits resnet34 with 1000 classes, which needs no --num-classes."),
    (own("resnet18", 8, "projection"), "It fits resnet18 with a projection head of 8 outputs."),
    (
        without_head(own("resnet18"), "fc"),
        "It fits resnet18 but for the head: use --drop-head to draw that at random.",
    ),
    ({"a.weight": torch.ones(1)}, "It fits no network of the zoo."),
]


@pytest.mark.parametrize(("state", "words"), SUGGESTED, ids=[words[:20] for _, words in SUGGESTED])
def test_suggestions_in_full(state: State, words: str) -> None:
    assert suggestion({key: tuple(tensor.shape) for key, tensor in state.items()}) == words


def test_a_file_of_another_network_is_told_apart_within_seconds() -> None:
    fitting._own_shapes.cache_clear()
    fitting._tables.cache_clear()
    got = variant_shapes(get_variant("dcd-resnet152"))
    before = time.process_time()
    assert suggestion(got).startswith("It fits dcd-resnet152 with 1000 classes")
    assert time.process_time() - before < 8, "with room for a slow machine; about 2 on a fast one"


def test_what_is_expected_was_not_changed_by_building_it_without_values() -> None:
    network = build_network(get_variant("resnet18"), 5)
    assert variant_shapes(get_variant("resnet18"), 5) == {
        key: tuple(tensor.shape) for key, tensor in network.state_dict().items()
    }
    assert float(network.get_parameter("fc.weight").detach().std()) > 0
