"""Types of command line options."""

from argparse import ArgumentTypeError

import pytest

from shop.arguments import count, positive


def test_numbers_are_returned():
    assert (positive("2.5"), count("99999")) == (2.5, 99_999)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e6", "many", ""])
def test_what_is_not_positive_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="not a number above 0"):
        positive(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "100000", "٣", ""])
def test_what_is_not_a_count_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="not a whole number"):
        count(text)
