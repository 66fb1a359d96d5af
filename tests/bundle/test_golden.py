from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest

from edgekit.bundle import TensorSpec, golden_bytes
from edgekit.bundle import golden as module
from edgekit.bundle.golden import read_golden
from edgekit.errors import BundleError

X = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
Y = np.array([[1.5, -2.0]], np.float32)
INPUTS = (TensorSpec("x", "float32", (1, 3, 2, 2)),)
OUTPUTS = (TensorSpec("y:0/out", "float32", (1, 2)),)
DATA = golden_bytes({"x": X}, {"y:0/out": Y})


def test_the_bytes_are_the_same_everywhere():
    # The figure is part of the format: numpy, zlib and the clock must not show in it.
    assert hashlib.sha256(DATA).hexdigest() == (
        "9f462f14444184dd21481074fc107202c34149c6ab1bbdeb0eb4a21293b082d9"
    )


def test_tensors_come_back_as_they_went():
    golden = read_golden(DATA, INPUTS, OUTPUTS)
    assert golden.inputs["x"].tobytes() == X.tobytes()
    assert golden.outputs["y:0/out"].tobytes() == Y.tobytes()
    assert golden.inputs["x"].dtype == np.float32


def test_views_are_written_as_what_they_show():
    view = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert golden_bytes({"x": view}, {"y:0/out": Y}) == DATA
    assert golden_bytes({"x": np.asfortranarray(X)}, {"y:0/out": Y}) == DATA


def test_numpy_opens_it():
    with np.load(io.BytesIO(DATA)) as archive:
        assert sorted(archive.files) == ["inputs/x", "outputs/y:0/out"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((TensorSpec("z", "float32", (1,)),), OUTPUTS, "lacks inputs/z"),
        (INPUTS, (), "has tensors the manifest lacks: outputs/y:0/out"),
        ((TensorSpec("x", "float32", (1, 2, 2, 3)),), OUTPUTS, r"x is float32 \(1, 3, 2, 2\), the"),
        ((TensorSpec("x", "int8", (1, 3, 2, 2)),), OUTPUTS, "the manifest says int8"),
    ],
)
def test_other_tensors_than_the_manifests_are_refused(inputs, outputs, message):
    with pytest.raises(BundleError, match=message):
        read_golden(DATA, inputs, outputs)


def test_a_free_axis_takes_any_size():
    spec = (TensorSpec("x", "float32", (-1, 3, 2, 2)),)
    assert read_golden(DATA, spec, OUTPUTS).inputs["x"].shape == X.shape


def test_pickles_are_refused():
    buffer = io.BytesIO()
    member = io.BytesIO()
    np.save(member, np.array([{}], object), allow_pickle=True)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inputs/x.npy", member.getvalue())
    with pytest.raises(BundleError, match="cannot be read: Object arrays"):
        read_golden(buffer.getvalue(), INPUTS, OUTPUTS)


@pytest.mark.parametrize("data", [b"", b"PK", DATA[:-30], DATA[:200], b"\0" * 400])
def test_damage_is_refused(data: bytes):
    with pytest.raises(BundleError, match=r"golden.npz (is not an .npz file|cannot be read)"):
        read_golden(data, INPUTS, OUTPUTS)


def test_a_flipped_byte_is_refused():
    data = bytearray(DATA)
    data[DATA.index(X.tobytes()) + 5] ^= 1
    with pytest.raises(BundleError, match="cannot be read: Bad CRC"):
        read_golden(bytes(data), INPUTS, OUTPUTS)


def test_bombs_are_refused_before_numpy_reads_them(monkeypatch: pytest.MonkeyPatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs/x.npy", bytes(1 << 20))
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 19)
    with pytest.raises(BundleError, match="unpacks to 1 tensors and 1048576 bytes: at most"):
        read_golden(buffer.getvalue(), INPUTS, OUTPUTS)


def test_a_header_that_lies_about_its_size_is_refused():
    # The .npy header says 2**40 values; the member has none.
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(member, header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inputs/x.npy", member.getvalue())
    with pytest.raises(BundleError, match="cannot be read"):
        read_golden(buffer.getvalue(), INPUTS, OUTPUTS)
