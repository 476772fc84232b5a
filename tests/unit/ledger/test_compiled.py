"""The compiled package is what these suites run on when `make test-compiled` says so."""

import importlib
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
    "mypyc"
]
MODULES = [path.strip("/").removesuffix(".py").replace("/", ".") for path in HOOK["include"]]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_compiled_just_where_the_compiled_package_is_tested(name):
    suffix = ".so" if os.environ.get("FARTHING_COMPILED") else ".py"
    assert str(importlib.import_module(name).__file__).endswith(suffix)


@pytest.mark.parametrize("name", MODULES)
def test_no_compiled_module_defines_a_struct(name):
    # The compiler drops the keywords of a class statement: a frozen or array-like struct would silently be neither.
    source = (ROOT / f"{name.replace('.', '/')}.py").read_text()
    assert "(msgspec.Struct" not in source
    assert "import Struct" not in source
