"""The commands that need no model."""

import json
import math

import pytest
from typer.testing import CliRunner

from empirics.cli import app


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_rate_of_the_gaussian_is_in_the_bracket():
    found = json.loads(call("rate", "0.1", "--json").stdout)
    exact = math.log2(10) / 2
    assert found["lower"] <= exact <= found["upper"] <= found["lower"] + 1e-6
    assert found["certified"] is False
    assert abs(found["shannon_lower_bound"] - exact) < 1e-12


def test_rate_is_proved_on_request():
    shown = call("rate", "0.1", "--beta", "1", "--certify").stdout
    assert "proved in ball arithmetic" in shown
    assert json.loads(call("rate", "0.1", "--certify", "--json").stdout)["certified"] is True


def test_no_rate_is_needed_at_the_variance():
    found = json.loads(call("rate", "1.5", "--json").stdout)
    assert found["lower"] == found["upper"] == 0


@pytest.mark.parametrize(("arguments", "named"), [(("--", "-1"), "D = -1"), (("0.1", "--beta", "0"), "beta = 0")])
def test_bad_input_is_named(arguments, named):
    result = call("rate", *arguments)
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_bracket_that_is_not_reached_is_no_success():
    assert call("rate", "1e-12").exit_code == 1


def test_audit():
    rows = json.loads(call("audit", "--json").stdout)
    assert [row["number"] for row in rows] == list(range(1, 21))
    assert rows[10]["values"][0] == {"name": "levels at 4 bits", "reported": 16, "true": 17}
    assert "corrected" in call("audit").stdout
