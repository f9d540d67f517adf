"""The curve that grows while a model trains: an SVG, read back."""

import re

import pytest

from minigpt.classroom.growing_curve import LEFT, RIGHT, WIDTH, loss_svg


def places(svg: str, name: str) -> list[tuple[float, ...]]:
    points = re.search(f'class="{name}" points="([^"]*)"', svg)[1]
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_the_curve_is_to_scale():
    svg = loss_svg([(0, 2.0), (30, 1.5), (60, 1.0)], [(60, 1.25)], 120)
    (x0, y0), (x1, y1), (x2, y2) = places(svg, "training")
    ((x3, y3),) = places(svg, "held-out")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert x3 == x2 and y1 < y3 < y2
    assert x2 - x0 == pytest.approx((WIDTH - LEFT - RIGHT) / 2, abs=1), "half of the time is half of the width"
    assert "After 60 of 120 seconds the training loss, smoothed, is 1.00" in svg and 'role="img"' in svg


def test_a_long_run_is_drawn_with_few_points_and_ends_where_it_ends():
    svg = loss_svg([(step / 100, 2.0) for step in range(100_000)], [], 2000)
    points = places(svg, "training")
    assert len(points) < 1000 and points[-1][0] == pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) / 2, abs=1)


@pytest.mark.parametrize("losses", [[1.39], [8.3, 8.3], [0.01], [float("nan"), 2.0], [1e6]])
def test_odd_losses_are_drawn_too(losses):
    assert "<svg" in loss_svg([(i, loss) for i, loss in enumerate(losses)], [], 10)


def test_the_references_line_stands_where_it_was_measured_and_nowhere_else():
    with_it, without = (loss_svg([(0, 2.0), (30, 1.5)], [], 60, with_reference=shown) for shown in (True, False))
    assert "reference" in with_it and "reference" not in without


def words(*arguments) -> str:
    return re.search('aria-label="([^"]*)"', loss_svg(*arguments))[1]


def test_what_is_said_of_it_is_true_without_a_step_and_without_a_number():
    nan = float("nan")
    assert words([], [], 10) == "No step has been trained yet."
    assert words([(3, nan)], [], 10) == "After 3 of 10 seconds the training loss, smoothed, is no finite number of nats per byte."
    assert words([(3, 2.0)], [(3, nan)], 10).endswith("is 2.00 nats per byte, on held-out text no finite number.")
    assert "nan" not in loss_svg([(3, nan)], [(3, nan)], 10)
