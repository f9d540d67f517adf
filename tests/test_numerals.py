"""Numbers as people type them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.classroom.numerals import readings


@pytest.mark.parametrize(("typed", "values"), [
    ("8", [8]), (" 0.25 ", [0.25]), ("0,25", [0.25]), (".5", [0.5]), (",5", [0.5]), ("8,", [8]), ("−3", [-3]),
    ("0,667", [0.667]), ("0.0039", [0.0039]), ("5,545", [5545, 5.545]), ("10,000", [10_000, 10]),
    ("2.080", [2.08, 2080]), ("1,234.5", [1234.5]), ("1.234,5", [1234.5]), ("1,000,000", [1e6]),
    ("1.000.000", [1e6]), ("10 000", [10_000]), ("10\u202f000", [10_000]), ("10'000", [10_000]), ("10_000", [10_000]),
    ("1e-3", [0.001]), ("1,5e3", [1500]), ("1/3", [1 / 3]), ("2 / 3", [2 / 3]), ("½", [0.5]), ("50 %", [0.5]),
    ("ln 256", [math.log(256)]), ("ln(256)", [math.log(256)]), ("ln256", [math.log(256)]), ("log2 8", [3]),
    ("３", [3]), ("０．５", [0.5]), ("3，14", [3.14]), ("٣٫", [3]), ("５０％", [0.5]), ("－３", [-3]), ("१२", [12]),
    ("٣", [3]), ("٠٫٥", [0.5]), ("١٫٢٣٤", [1.234]), ("١٬٢٣٤", [1234]), ("١٢٬٣٤٥٫٥", [12_345.5]), ("۰٫۵", [0.5]),
    ("1½", [1.5]), ("1 ½", [1.5]), ("-1½", [-1.5]), ("½ %", [0.005]), ("1½ %", [0.015]), ("⅓", [1 / 3]), ("⅛", [0.125]),
    ("2 1/2", [2.5]), ("-2 1/2", [-2.5]), ("2 11/12", [2 + 11 / 12]), ("1⁄2", [0.5]), ("10 000/3", [10_000 / 3]),
    ("10⁻³", [0.001]), ("2³", [8]), ("-2²", [-4]), ("3·10⁻³", [0.003]), ("2⁻¹⁰", [2 ** -10]), ("log₂ 8", [3]), ("5²/2", [12.5]),
    ("≈ 5", [5]), ("~5", [5]), ("ca. 5", [5]), ("ca. 5,5", [5.5]), ("about 5", [5]), ("About 1,000", [1000, 1]), ("= 8", [8]),
    ("12,34,567", [1_234_567]), ("1,00,000.5", [100_000.5]), ("0,500", [0.5]),
    ("5 tokens", [5]), ("1 token", [1]), ("16 times", [16]), ("10,000 parameters", [10_000, 10]),
    ("3·14", [3.14, 42]), ("3⋅14", [3.14, 42]), ("1·5", [1.5, 5]), ("-1·5 %", [-0.015, -0.05]), ("1,234·5", [1234.5, 6170, 6.17]),
    ("0·25", [0.25]), ("-0·25", [-0.25]), ("0·5·3", [1.5]), ("2·0·5", [0]), ("3 · 14", [42]), ("2·5 × 10⁻³", [0.0025, 0.01]),
    ("3 - 5", [-2]), ("3-5", [-2]), ("‑5", [-5]), ("–5", [-5]), ("—5", [-5]), ("10^–3", [0.001]), ("1e–3", [0.001]),
    ("1´234", [1234]), ("1′234", [1234]), ("1’234", [1234]), ("\u200e5\u200f", [5]), ("\u200e ca. 5", [5]),
    ("10\u200b000", [10_000]), ("1.5 x 10^3", [1500]), ("1.5x10^3", [1500]), ("1.0x10^3", [1000]), ("0x10", [16]),
    ("5 X 3", [15]), ("2⁻¹ x 8", [4]),
    ("64·65/2", [2080]), ("2^10", [1024]), ("√64", [8]), ("-ln 0,5", [math.log(2)]), ("(1+0+1)/3", [2 / 3]),
])
def test_a_number_is_read_in_every_way_that_makes_sense(typed, values):
    assert readings(typed) == pytest.approx(values)


@pytest.mark.parametrize("typed", [
    "", "ten", "nan", "inf", "1/0", "1e999", "1/2/3", "1,2,3", "1.2.3", "12,345,67", "9" * 100_000, "9**9**9**9", "1j",
    "0, 667", "12.34.567", "1,23,45", "101₂", "5₂", "2 3/2", "1,5½", "1,000½", "1½½", "⁻", "²", "2²3", "~~5", "5 ~",
    "ca5", "aboute", "caca 5", "tokens", "5 MB", "5 bits", "5 bytes", "5 tokens 3", "5e tokens", "٣٫٣٫٣", "٬٣", "١٬٢٣",
    "1٬234,5", "Ⅷ",
    "3–5", "3 – 5", "3—5", "½–¾", "2³–1", "50%–60%", "8and 9", "1if", "'\\d'", "3·", "x5", "5x", "5 x",
    "True", "__import__('os')", "(" * 50, "ln -1", "2 3", "3; 4", "<b>3</b>", "a = 3", "[3]",
])
def test_what_is_no_number_is_refused_in_a_sentence(typed):
    with pytest.raises(ValueError, match="Type a number, such as"):
        readings(typed)


@given(st.text(max_size=80))
def test_whatever_is_typed_is_finite_numbers_or_a_sentence(typed):
    try:
        assert all(math.isfinite(value) for value in readings(typed))
    except ValueError as error:
        assert str(error).startswith("Type a number")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_python_writes_is_read_as_it_is(number):
    if len(str(number)) <= 60:
        assert number in readings(str(number))


@pytest.mark.parametrize("typed", ["8and 9", "1if", "'\\d'"])
def test_no_warning_of_pythons_reaches_whoever_types(typed, recwarn):
    with pytest.raises(ValueError, match="Type a number"):
        readings(typed)
    assert not recwarn.list
