"""Arguments as text."""

import argparse
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.cli.arguments import batch, comma_list, duration, named_shape, positive, rate, rgb


@given(st.integers(min_value=1))
def test_positive_numbers_are_read(number):
    assert positive(str(number)) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "", "one", "²", "١", "1 "])
def test_others_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a positive whole number"):
        positive(text)


@given(st.text(), st.lists(st.integers(min_value=1), min_size=1))
def test_shapes_have_names_with_anything_in_them(name, shape):
    sizes = ",".join(map(str, shape))
    assert named_shape(f"{name}:{sizes}") == (name, tuple(shape))
    assert named_shape(sizes) == ("", tuple(shape))


@pytest.mark.parametrize("text", ["", "1,3,", "x:", "1,-1", "1,3,a"])
def test_shapes_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a shape like"):
        named_shape(text)


def test_a_batch_is_a_number_or_dynamic():
    assert (batch("1"), batch("12"), batch("dynamic")) == (1, 12, "dynamic")


@pytest.mark.parametrize("text", ["0", "-1", "", "any", "Dynamic", "2.0"])
def test_what_is_no_batch(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give a positive whole number, or dyn"):
        batch(text)


def test_rgb():
    assert rgb("0.485,0.456,0.406") == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("text", ["", "1", "1,2", "1,2,3,4", "1,2,x", "nan,1,1", "1,inf,1"])
def test_rgb_wants_three(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not three numbers"):
        rgb(text)


@given(st.lists(st.integers(min_value=1), min_size=1))
def test_lists_are_of_what_they_are_of(numbers):
    assert comma_list(positive)(", ".join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize("text", ["", ",", "1,", ",1", "1,,2"])
def test_a_list_has_no_holes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a list like a,b"):
        comma_list(positive)(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("90s", 90), ("5m", 300), ("1h", 3600), ("0.5m", 30)]
)
def test_times_have_units(text, seconds):
    assert duration(text) == seconds


@given(st.text())
def test_what_is_no_time_or_rate_is_refused_in_words(text):
    for read in (duration, rate):
        with contextlib.suppress(argparse.ArgumentTypeError):
            assert 0 < read(text) < float("inf")


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "1e999", "fast", ""])
def test_a_rate_is_above_zero_and_finite(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a rate"):
        rate(text)
