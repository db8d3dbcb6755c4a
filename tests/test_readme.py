"""What the README shows runs, and gives the numbers that it shows."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
CODE = re.search(r"```python\n(.*?)```", README, re.S)[1]  # type: ignore[index]
IMPORTS = "\n".join(line for line in CODE.splitlines() if "import" in line)
CALLS = [line for line in CODE.splitlines() if line and "import" not in line]


@pytest.mark.parametrize("line", CALLS)
def test_the_readme_runs(line):
    names: dict = {}
    exec(IMPORTS, names)
    value = eval(line, names)
    shown = re.search(r"# (\d+\.(\d+))", line)
    if shown:
        assert round(float(np.asarray(value)), len(shown[2])) == float(shown[1])


def test_the_readme_has_numbers_to_check():
    assert sum("# 0." in line or "# 2." in line for line in CALLS) >= 3


def test_the_figure_is_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[1] / path).stat().st_size > 10_000
