"""`theory` is light, stands alone and ships its types."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(p.stem for p in (ROOT / "theory").glob("*.py") if p.stem != "__init__")
HEAVY = ("torch", "transformers", "empirics", "matplotlib", "pandas", "sklearn", "dask", "typer", "lark")


def loaded_by(statement: str) -> set[str]:
    report = "import sys, json; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    command = [sys.executable, "-c", f"{statement}; {report}"]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout))


def test_never_torch_nor_empirics():
    assert not set(HEAVY) & loaded_by("import " + ", ".join(f"theory.{m}" for m in MODULES if m != "crosscheck"))


def test_the_bare_package_loads_nothing_but_itself():
    assert not {"numpy", "scipy", "sympy", "mpmath", "flint"} & loaded_by("import theory")


def test_theory_names_no_heavy_import_even_within_functions():
    for path in (ROOT / "theory").glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                assert words[1].partition(".")[0] not in ("torch", "transformers", "empirics"), (path.name, line)


def test_typed_and_versioned():
    for package in ("theory", "empirics"):
        assert resources.files(package).joinpath("py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata.version(project["name"]) == project["version"]
    assert not any(name in " ".join(project["dependencies"]) for name in HEAVY)
