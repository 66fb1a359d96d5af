"""Ratios to known networks: exact by a scripted clock, blind to what slows both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Artifact, Figure, ModelFacts, TensorSpec, golden_bytes, open_bundle
from edgekit.errors import EdgekitError, UsageError
from edgekit.models.zoo import VARIANTS
from edgekit.profiling import references
from edgekit.profiling.job import Job
from edgekit.profiling.latency import warm_up
from edgekit.profiling.opening import open_model
from edgekit.profiling.references import (
    LEAST_TURNS,
    REFERENCES,
    Net,
    accuracy_note,
    inferences_per_block,
    name_of,
    published_accuracy,
    reference_rows,
    reference_warnings,
    rotated,
    sentence,
    take_turns,
    work,
)
from edgekit.profiling.worker import KINDS
from tests.bundle import sample_bundle
from tests.profiling import sample_results
from tests.profiling.scripted import QUIET, ScriptedClock, takes, usages

MS = 1_000_000
JOB = Job("turns", "model", "null", seconds=1.0, most_seconds=2.0)


def net(clock: ScriptedClock, name: str, *, ms: float, drift: float = 0.0, block: int = 3) -> Net:
    """``drift``: so much longer for every second on the clock."""

    def call() -> None:
        clock.advance(ms * MS * (1 + drift * clock.now / 1e9))

    facts = {"name": name, "accuracy": "51.2 %", "source": "a paper", "macs": 7}
    return Net(facts, call, block)


def document(nets: list[Net], clock: ScriptedClock, job: Job = JOB) -> dict[str, Any]:
    return {
        "runtime": job.runtime,
        "threads": job.threads,
        "nets": [dict(one.facts) for one in nets],
        "turns_ns": take_turns(nets, clock, job),
        "warnings": [],
    }


def test_the_ratio_is_exact() -> None:
    clock = ScriptedClock()
    nets = [net(clock, "m", ms=3), net(clock, "a", ms=2), net(clock, "b", ms=12, block=1)]
    a, b = reference_rows(document(nets, clock))
    assert (a.name, a.ratio, a.ratio_interval) == ("a", 1.5, (1.5, 1.5))
    assert (b.name, b.ratio, b.ratio_interval) == ("b", 0.25, (0.25, 0.25))
    assert (a.p50_ms, a.model_p50_ms, b.p50_ms, b.model_p50_ms) == (2, 3, 12, 3)
    assert (a.accuracy, a.source, a.macs) == ("51.2 %", "a paper", 7)
    assert (a.runtime, a.threads) == ("null", 1)
    assert a.turns == LEAST_TURNS


def test_drift_of_the_machine_does_not_move_the_ratio() -> None:
    clock = ScriptedClock()
    # Twice as slow after a second: the turns cover several.
    nets = [net(clock, "m", ms=3, drift=1.0), net(clock, "a", ms=2, drift=1.0)]
    (row,) = reference_rows(document(nets, clock))
    assert row.p50_ms > 2.5
    assert row.ratio == pytest.approx(1.5, rel=0.01)


def test_drift_of_one_network_moves_it() -> None:
    clock = ScriptedClock()
    nets = [net(clock, "m", ms=3, drift=1.0), net(clock, "a", ms=2)]
    (row,) = reference_rows(document(nets, clock))
    assert row.ratio > 1.6
    assert row.ratio_interval[0] < row.ratio < row.ratio_interval[1]


def test_a_spike_in_a_block_is_in_no_median() -> None:
    clock = ScriptedClock()
    facts = {"name": "a", "accuracy": "", "source": "", "macs": 1}
    spiky = takes(clock, [*[2 * MS, 900 * MS, 2 * MS] * 500, 2 * MS])
    nets = [net(clock, "m", ms=3), Net(facts, spiky, 3)]
    (row,) = reference_rows(document(nets, clock, replace(JOB, most_seconds=1e4)))
    assert row.ratio == 1.5


def test_noise_widens_the_interval_around_the_ratio() -> None:
    clock = ScriptedClock()
    rng = np.random.default_rng(1)
    facts = {"name": "a", "accuracy": "", "source": "", "macs": 1}
    noisy = Net(facts, takes(clock, [*(2 * MS * rng.lognormal(0, 0.2, 5000)), 2 * MS]), 3)
    (row,) = reference_rows(document([net(clock, "m", ms=3), noisy], clock))
    low, high = row.ratio_interval
    assert low < 1.5 < high
    assert 0.01 < high - low < 0.5


def test_every_turn_starts_with_another_network() -> None:
    assert [rotated(3, turn) for turn in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
    clock, order = ScriptedClock(), []
    facts = {"name": "", "accuracy": "", "source": "", "macs": 1}

    def logging(name: str) -> Net:
        def call() -> None:
            order.append(name)
            clock.advance(10 * MS)

        return Net(facts, call, 2)

    take_turns([logging("m"), logging("a")], clock, JOB)
    assert "".join(order[:12]) == "mmaaaammmmaa"


def test_it_goes_on_for_the_seconds_asked_and_ends_with_slow_networks() -> None:
    clock = ScriptedClock()
    quick = [net(clock, "m", ms=0.1), net(clock, "a", ms=0.1)]
    turns = len(take_turns(quick, clock, JOB))
    assert turns * 0.6e-3 == pytest.approx(JOB.seconds, rel=0.01)
    slow = [net(clock, "m", ms=500, block=1), net(clock, "a", ms=500, block=1)]
    assert len(take_turns(slow, clock, JOB)) == 4  # most_seconds, for each of the two


@pytest.mark.parametrize(("ms", "block"), [(0.3, 100), (2, 15), (29, 1), (400, 1)])
def test_a_block_takes_thirty_milliseconds_or_one_inference(ms: float, block: int) -> None:
    clock = ScriptedClock()
    assert inferences_per_block(takes(clock, [ms * MS]), clock) == block


# ---- with bundles ----------------------------------------------------------------------------


class TickingClock(ScriptedClock):
    """Each reading takes a while, so that a measurement ends whatever is timed."""

    def now_ns(self) -> int:
        self.advance(0.2 * MS)
        return super().now_ns()


def quiet_work(job: Job) -> dict[str, Any]:
    return work(job, TickingClock(), usage=lambda: QUIET)


def write_bundle(where: Path, model_id: str, size: int = 224, *, classes: int = 1000) -> Path:
    """A bundle of runtime null that says what the zoo says of a model."""
    row = VARIANTS[model_id]
    figures = tuple(Figure(f.metric, f.value, f.source) for f in row.published)
    shapes = ((1, 3, size, size), (1, classes))
    params = row.params if classes == row.num_classes else row.params - 1000
    return sample_bundle.write(
        where,
        model=ModelFacts(row.id, row.family, row.task, params, row.macs, 0, figures),
        inputs=(TensorSpec("image", "float32", shapes[0], "NCHW"),),
        outputs=(TensorSpec("logits", "float32", shapes[1], "NC"),),
        preprocessing=None,
        labels=None,
        files={
            "golden.npz": golden_bytes(
                {"image": np.zeros(shapes[0], np.float32)},
                {"logits": np.zeros(shapes[1], np.float32)},
            )
        },
    )


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, str]:
    return {
        "m1": str(write_bundle(tmp_path / "m1", "micronet-m1")),
        "v2": str(write_bundle(tmp_path / "v2", "mobilenetv2-x0.5", 96)),
        "v3": str(write_bundle(tmp_path / "v3", "mobilenetv3-small")),
    }


def test_the_work_names_the_references_with_their_published_accuracy(
    bundles: dict[str, str],
) -> None:
    job = replace(JOB, bundle=bundles["m1"], others=(bundles["v2"], bundles["v3"]))
    found = quiet_work(job)
    rows = reference_rows(found)
    assert [(row.name, row.accuracy) for row in rows] == [
        ("MobileNetV2-0.5 @ 96", "51.2 %"),
        ("MobileNetV3-small", "67.668 %"),
    ]
    assert "tensorflow/models" in rows[0].source
    assert "torchvision" in rows[1].source
    assert [row.ratio for row in rows] == [1, 1]
    assert reference_warnings(found) == ()


def test_a_reference_without_the_runtime_or_bundle_is_a_warning(
    bundles: dict[str, str], tmp_path: Path
) -> None:
    others = (str(tmp_path / "none"), bundles["v2"])
    found = quiet_work(replace(JOB, bundle=bundles["m1"], others=others))
    assert [row.name for row in reference_rows(found)] == ["MobileNetV2-0.5 @ 96"]
    (warning,) = reference_warnings(found)
    assert warning.startswith("not timed as a reference: ")
    assert "none" in warning


def test_a_reference_that_lacks_the_jobs_runtime_is_a_warning(
    bundles: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The null runtime stands in for any artifact, so the refusal is onnxruntime's own.
    artifact = Artifact("onnxruntime", ("model.dat",), (), None, 20, {})
    model = sample_bundle.write(tmp_path / "model", artifacts=(artifact,))
    opened = open_model
    as_null = lambda job: opened(replace(job, runtime="null"))  # noqa: E731
    is_model = lambda job: job.bundle == str(model)  # noqa: E731
    monkeypatch.setattr(
        references, "open_model", lambda job: (as_null if is_model(job) else opened)(job)
    )
    job = replace(JOB, bundle=str(model), runtime="onnxruntime", others=(bundles["v2"],))
    found = quiet_work(job)
    assert reference_rows(found) == ()
    assert found["turns_ns"] == []
    (warning,) = reference_warnings(found)
    assert "has no artifact for runtime 'onnxruntime'; it has: null" in warning


def test_a_model_that_cannot_be_opened_is_an_error(bundles: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="none"):
        work(replace(JOB, bundle=str(tmp_path / "none"), others=(bundles["v2"],)), TickingClock())
    with pytest.raises(UsageError, match="no artifact for runtime 'onnxruntime'"):
        quiet_work(replace(JOB, bundle=bundles["m1"], runtime="onnxruntime"))


def test_an_unsettled_warm_up_is_said(
    bundles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = warm_up
    unsettled = lambda *given: replace(honest(*given), settled=False)  # noqa: E731
    monkeypatch.setattr(references, "warm_up", unsettled)
    job = replace(JOB, bundle=bundles["m1"], others=(bundles["v2"],))
    warnings = reference_warnings(quiet_work(job))
    assert len(warnings) == 2
    assert "micronet-m1 still changed after" in warnings[0]


def test_a_busy_machine_is_said(bundles: dict[str, str]) -> None:
    job = replace(JOB, bundle=bundles["m1"], others=(bundles["v2"],))
    later = replace(QUIET, cpu_ns=900 * MS, waiting_ns=100 * MS)
    found = work(job, TickingClock(), usage=usages(QUIET, later))
    (warning,) = reference_warnings(found)
    assert "others had the CPU for 10% of the time" in warning
    later = replace(QUIET, cpu_ns=960 * MS, waiting_ns=40 * MS)
    assert reference_warnings(work(job, TickingClock(), usage=usages(QUIET, later))) == ()


def test_the_worker_knows_this_kind() -> None:
    module, _, function = KINDS["turns"].partition(":")
    assert getattr(references, function) is work
    assert module == references.__name__


# ---- names, accuracies, words ----------------------------------------------------------------


def test_every_reference_is_in_the_zoo_with_an_accuracy_and_its_source(tmp_path: Path) -> None:
    assert [row.name for row in REFERENCES] == ["MobileNetV2-0.5 @ 96", "MobileNetV3-small"]
    for row in REFERENCES:
        path = write_bundle(tmp_path / row.model_id, row.model_id, row.image_size)
        with open_bundle(path) as bundle:
            accuracy, source = published_accuracy(bundle.manifest)
        assert accuracy.endswith(" %")
        assert source


@pytest.mark.parametrize(
    ("model_id", "size", "classes", "accuracy"),
    [
        ("micronet-m1", 224, 1000, "51.4 %"),
        ("micronet-m1", 96, 1000, ""),  # published at 224 only
        ("micronet-m1", 224, 10, ""),
        ("mobilenetv2-x0.5", 224, 1000, "65.4 %"),
        ("mobilenetv2-x0.5", 128, 1000, ""),
    ],
)
def test_an_accuracy_is_given_for_the_size_and_classes_it_was_published_for(
    tmp_path: Path, model_id: str, size: int, classes: int, accuracy: str
) -> None:
    path = write_bundle(tmp_path / "b", model_id, size, classes=classes)
    with open_bundle(path) as bundle:
        assert published_accuracy(bundle.manifest)[0] == accuracy


def test_a_model_of_ones_own_has_no_accuracy(tmp_path: Path) -> None:
    with open_bundle(sample_bundle.write(tmp_path / "b")) as bundle:
        assert published_accuracy(bundle.manifest) == ("", "")


def test_names() -> None:
    assert name_of("mobilenetv2-x0.5", 96) == "MobileNetV2-0.5 @ 96"
    assert name_of("mobilenetv2-x0.5", 224) == "mobilenetv2-x0.5"
    assert name_of("mobilenetv3-small", 160) == "mobilenetv3-small @ 160"
    assert name_of("my-net", 160) == "my-net"


def test_the_comparison_in_words() -> None:
    clock = ScriptedClock()
    nets = [net(clock, "m", ms=1.23), net(clock, "MobileNetV2-0.5 @ 96", ms=0.615)]
    (row,) = reference_rows(document(nets, clock))
    facts = replace(
        sample_results.model(),
        id="micronet-m1",
        params=VARIANTS["micronet-m1"].params,
        inputs={"image": (1, 3, 224, 224)},
        published={"top-1": "51.4 % (README of the authors)"},
    )
    assert sentence(facts, row) == (
        "micronet-m1: 51.4 % at 1.23 ms; on this machine MobileNetV2-0.5 @ 96, 51.2 %, takes "
        "0.615 ms: the model takes 2 times as long (2 to 2)."
    )
    assert accuracy_note(facts, [row, replace(row, name="b", accuracy="")]) == (
        "Accuracies are published, and none is measured here. micronet-m1: README of the authors; "
        "MobileNetV2-0.5 @ 96: a paper."
    )
    smaller = replace(facts, inputs={"image": (1, 3, 96, 96)})
    assert sentence(smaller, replace(row, accuracy="")) == (
        "micronet-m1 @ 96: 1.23 ms; on this machine MobileNetV2-0.5 @ 96, takes 0.615 ms: the "
        "model takes 2 times as long (2 to 2)."
    )
    assert accuracy_note(smaller, [replace(row, accuracy="")]) == ""
    other_head = replace(facts, params=facts.params - 1000)
    assert sentence(other_head, row).startswith("micronet-m1: 1.23 ms; on this machine ")
