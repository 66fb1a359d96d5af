"""Weights in and out: edgekit's own files, and those of OSCAR, VinVL and MiniLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgekit.errors import CheckpointError, UsageError
from edgekit.models.minivlm.fusion import Fusion
from edgekit.models.minivlm.network import (
    VlmFacts,
    check_vocabulary,
    create_vlm,
    fitted,
    fresh_vlm,
    load_fusion,
    random_vlm,
    read_facts,
    save_vlm,
)
from edgekit.models.minivlm.specs import FusionSpec, get_vlm

SPEC = FusionSpec(2, 24, 3, 48, 40, 32, 11)
ROW = get_vlm("minivlm-tiny")


def drawn(spec: FusionSpec = SPEC, seed: int = 1) -> Fusion:
    torch.manual_seed(seed)
    return Fusion(spec)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], prefix: str = "") -> bool:
    keys = [key for key in a if key.startswith(prefix)]
    return bool(keys) and all(torch.equal(a[key], b[key]) for key in keys)


# ---- edgekit's own -----------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    facts = VlmFacts(
        ROW.id, ("vqa", "caption"), ("yes", "no"), ("cat", "dog"), ("red",), min_score=0.2
    )
    module = fresh_vlm(fitted(ROW, facts, 50), facts, seed=3)
    path = tmp_path / "a.safetensors"
    save_vlm(module, facts, path)
    created = create_vlm(ROW.id, str(path))
    assert created.facts == facts == read_facts(path) and not created.weights.random
    assert same(module.state_dict(), created.module.state_dict())
    assert created.spec.fusion.vocabulary == 50 and created.spec.tee.classes == 3
    words = created.module.fusion.bert.embeddings.word_embeddings.weight
    assert created.module.fusion.cls["predictions"].decoder.weight is words  # type: ignore[union-attr]
    first = path.read_bytes()
    save_vlm(module, facts, path)
    assert path.read_bytes() == first, "the same weights are the same bytes"


def test_random_weights_are_the_same_each_time() -> None:
    first = random_vlm(ROW, 5)
    for seed in range(5):
        torch.manual_seed(seed)  # of what else is drawn, which must not matter
        assert random_vlm(ROW, 5).weights.sha256 == first.weights.sha256
    assert random_vlm(ROW, 6).weights.sha256 != first.weights.sha256
    assert first.weights.random and "RANDOM" in first.weights.note
    created = create_vlm(ROW.id, "auto")
    assert created.weights.random and "nobody released" in created.weights.why


@pytest.mark.parametrize(
    "written",
    [
        {"variant": 3},
        {"variant": "a\x1b[2J"},
        {"answers": "yes"},
        {"answers": ["a\nb"]},
        {"answers": [1]},
        {"min_score": 2},
        {"min_score": "x"},
        {"other": []},
        [],
    ],
)
def test_facts_that_nobody_could_have_written(written: object, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"edgekit-vlm": json.dumps(written)})
    with pytest.raises(CheckpointError, match="says of itself what cannot be"):
        create_vlm(ROW.id, str(path))


def test_a_decoder_of_its_own_is_refused_in_own_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = {key: each.clone() for key, each in fresh_vlm(ROW, VlmFacts(), 0).state_dict().items()}
    state["fusion.cls.predictions.decoder.weight"] += 1
    save_file(state, path, metadata={"edgekit-vlm": json.dumps({"variant": ROW.id})})
    with pytest.raises(CheckpointError, match="decoder of words that is not its word embeddings"):
        create_vlm(ROW.id, str(path))


@pytest.mark.parametrize(
    ("facts", "trained"),
    [
        (VlmFacts(ROW.id, ("vqa",), ("yes",)), False),
        (VlmFacts(ROW.id, ("detect", "vqa"), ("yes",), ("cat",)), True),
        (VlmFacts(ROW.id, ("vqa",), ("yes",), ("cat",)), True),  # older than "detect"
    ],
)
def test_a_detector_that_nobody_trained_is_said(
    facts: VlmFacts, trained: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_vlm(fresh_vlm(fitted(ROW, facts), facts, 0), facts, path)
    note = create_vlm(ROW.id, str(path)).weights.note
    assert ("its detector was never trained" in note) != trained == facts.detects
    assert facts.speaks


def test_a_part_of_a_network_is_none(tmp_path: Path) -> None:
    facts = VlmFacts(ROW.id)
    path = tmp_path / "a.safetensors"
    facts_text = json.dumps({"variant": ROW.id})
    save_file({"a": torch.zeros(1)}, path, metadata={"edgekit-vlm": facts_text})
    with pytest.raises(CheckpointError, match="no word embeddings"):
        create_vlm(ROW.id, str(path))
    module = fresh_vlm(ROW, facts, 0)
    state = {
        k: v for k, v in module.state_dict().items() if "trunk" not in k and "decoder" not in k
    }
    save_file(state, path, metadata={"edgekit-vlm": facts_text})
    with pytest.raises(CheckpointError, match="does not fit"):
        create_vlm(ROW.id, str(path))


def test_a_vocabulary_of_another_size() -> None:
    check_vocabulary(SPEC, 40, "vocab.txt")
    with pytest.raises(UsageError, match=r"vocab.txt has 30,522 tokens and the network 40"):
        check_vocabulary(SPEC, 30_522, "vocab.txt")


# ---- files of others ---------------------------------------------------------------------------


def save(state: Mapping[str, Tensor], path: Path) -> Path:
    torch.save(dict(state), path)
    return path


def test_oscars_file(tmp_path: Path) -> None:
    spec = replace(SPEC, image_norm=False)
    source = drawn(spec).state_dict()
    module = drawn(spec, seed=2)
    assert load_fusion(module, save(source, tmp_path / "pytorch_model.bin")) == ()
    assert same(source, module.state_dict())


def test_oscars_file_for_a_network_with_image_norm(tmp_path: Path) -> None:
    source = drawn(replace(SPEC, image_norm=False)).state_dict()
    module = drawn(seed=2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    (note,) = load_fusion(module, save(source, tmp_path / "pytorch_model.bin"))
    assert "bert.LayerNorm.weight" in note and "as drawn" in note
    assert same(source, module.state_dict())
    assert torch.equal(
        before["bert.LayerNorm.weight"], module.state_dict()["bert.LayerNorm.weight"]
    )


def test_oscar_plus_matches_in_three_ways(tmp_path: Path) -> None:
    """VinVL's features are 2054 wide, and its matching has three outputs: both stay as drawn."""
    source = drawn(replace(SPEC, visual=13)).state_dict()
    source["cls.seq_relationship.weight"] = torch.zeros(3, SPEC.width)
    source["cls.seq_relationship.bias"] = torch.zeros(3)
    module = drawn(seed=2)
    notes = load_fusion(module, save(source, tmp_path / "a.bin"))
    assert "img_embedding.weight" in notes[0] and "not used" in notes[1]
    assert same(source, module.state_dict(), "bert.encoder.")


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_minilms_file(prefix: str, tmp_path: Path) -> None:
    """Text only, with or without the prefix of a model with heads."""
    parts = ("bert.embeddings.", "bert.encoder.", "bert.pooler.")
    source = {k: v for k, v in drawn().state_dict().items() if k.startswith(parts)}
    renamed = {prefix + key.removeprefix("bert."): value for key, value in source.items()}
    renamed[f"{prefix}embeddings.position_ids"] = torch.arange(32)[None]
    module = drawn(seed=2)
    (note,) = load_fusion(module, save(renamed, tmp_path / "a.bin"))
    assert "as drawn" in note and "img_embedding" in note
    assert same(source, module.state_dict())


def test_a_file_without_the_decoder_which_is_the_embedding(tmp_path: Path) -> None:
    source = drawn().state_dict()
    del source["cls.predictions.decoder.weight"]
    module = drawn(seed=2)
    load_fusion(module, save(source, tmp_path / "a.bin"))
    assert same(source, module.state_dict(), "cls.")


def test_a_decoder_of_its_own_does_not_replace_the_embeddings(tmp_path: Path) -> None:
    source = drawn().state_dict()
    words = source["bert.embeddings.word_embeddings.weight"].clone()
    source["cls.predictions.decoder.weight"] = words + 1
    module = drawn(seed=2)
    (note,) = load_fusion(module, save(source, tmp_path / "a.bin"))
    assert "decoder.weight of its own: the word embeddings are in its place" in note
    assert torch.equal(module.bert.embeddings.word_embeddings.weight, words)
    assert torch.equal(module.cls["predictions"].decoder.weight, words)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if "encoder" not in k}, "no encoder of BERT"),
        (lambda s: {k: v for k, v in s.items() if "layer.1.output.dense" not in k}, "without "),
        (lambda s: {k: v[..., :2] if v.ndim == 2 else v for k, v in s.items()}, "does not fit"),
        (
            lambda s: {**s, "bert.pooler.dense.bias": torch.full((SPEC.width,), torch.nan)},
            "bert.pooler.dense.bias",
        ),
    ],
)
def test_files_that_do_not_fit(change, says: str, tmp_path: Path) -> None:
    path = save(change(drawn().state_dict()), tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match=says):
        load_fusion(drawn(seed=2), path)


# ---- a cache changes nothing -------------------------------------------------------------------


def test_steps_with_a_cache_are_the_whole_without() -> None:
    """In double precision, token by token, with hidden tags and regions among them."""
    torch.manual_seed(0)
    module = drawn().double().eval()
    slots, tags, regions, length = 7, 3, 4, 5
    about = torch.tensor([[1.0, 1, 0, 1, 1, 1, 0]], dtype=torch.float64)
    visual = torch.randn(1, regions, SPEC.visual, dtype=torch.float64)
    tag_text = module.embed(
        torch.randint(5, 40, (1, tags)), torch.ones(1, tags, dtype=torch.long),
        torch.arange(slots, slots + tags)[None],
    )  # fmt: skip
    tokens, mask = torch.randint(5, 40, (1, length)), torch.tensor([[4]])
    shape = 1, SPEC.layers * SPEC.heads, slots, SPEC.width // SPEC.heads
    past = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    context = module.context(tag_text, visual, about)
    for place in range(length):
        pair = torch.cat([tokens[:, place : place + 1], mask], 1)
        types = torch.zeros(1, 2, dtype=torch.long)
        text = module.embed(pair, types, torch.tensor([[place, place + 1]]))
        seen = torch.zeros(1, 2, slots + tags + regions + 2, dtype=torch.float64)
        seen[:, :, :place] = 1
        seen[:, :, slots:-2] = about
        seen[:, 0, -2] = seen[:, 1, -2] = seen[:, 1, -1] = 1
        words, (keys, values) = module.step(text, seen, past, context)
        past[0][:, :, place : place + 1], past[1][:, :, place : place + 1] = keys, values
        count = place + 2
        whole = torch.cat([tokens[:, : place + 1], mask], 1)
        caption = module.embed(whole, torch.zeros(1, count, dtype=torch.long))
        looks = torch.zeros(1, count + tags + regions, count + tags + regions, dtype=torch.float64)
        looks[:, :count, :count] = torch.tril(torch.ones(count, count))
        looks[:, :, count:] = about
        hidden = module(torch.cat([caption, tag_text], 1), visual, looks)
        assert float((module.words(hidden[:, count - 1]) - words).detach().abs().max()) < 1e-9
