import pytest

from tests.profiling.remote.remote_boards import FakeBoard


@pytest.fixture
def board(tmp_path, monkeypatch):
    return FakeBoard(tmp_path, monkeypatch)
