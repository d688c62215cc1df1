"""The house's walls: imports run downward only, heavy libraries stay in their rooms, nothing a model wrote is ever executed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "filters", "generators", "pipelines", "flows")  # each may import itself and those before it

MAY_IMPORT = {
    "prefect": ("flows/",),
    "ray": ("flows/",),
    "vllm": ("generators/engines/",),
    "torch": (
        "generators/engines/",  # the embedded engine; the files below speak for every engine and stay light
        "pipelines/grpo/",
        "pipelines/pretrain.py",
        "pipelines/tokenizer.py",
        "flows/cli/doctor.py",  # asks which devices there are
    ),
    "duckdb": ("data/", "flows/cli/doctor.py", "synth.py"),  # the public face hands out DuckDB relations and names their type
}
MAY_IMPORT["transformers"] = MAY_IMPORT["torch"]
MAY_IMPORT["safetensors.torch"] = MAY_IMPORT["torch"]

WITHOUT_TORCH = tuple(f"generators/engines/{name}.py" for name in ("base", "registry", "ledgered", "replay"))

EXECUTING_CALLS = {"eval", "exec", "compile", "__import__", "sympify", "parse_expr"}
EXECUTING_METHODS = {("torch", "load"), ("yaml", "load"), ("np", "load"), ("numpy", "load"), ("os", "system"), ("os", "popen")}
EXECUTING_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}

INSIDE_THE_SANDBOX = "filters/sandbox/child.py"  # runs as a script in a locked-in process; what it is there for is executing a program

LIGHT = {
    "data.records": ("torch", "duckdb", "polars", "transformers"),
    "filters.verifiers.base": ("torch", "duckdb", "polars", "pydantic", "transformers", "sympy", "jinja2"),
    "filters.verifiers.math": ("torch", "duckdb", "polars", "transformers", "sympy"),
    "filters.verifiers.code": ("torch", "duckdb", "polars", "transformers", "sympy"),
    "filters.sandbox.levels": ("torch", "duckdb", "polars", "transformers", "numpy"),
    "filters.difficulty": ("torch", "duckdb", "transformers"),
    "generators.engines.base": ("torch", "duckdb", "transformers"),
    "generators.strategies.base": ("torch", "duckdb", "transformers"),
    "flows.cli.main": ("torch", "duckdb", "transformers", "prefect", "polars"),
    "synth": ("torch", "transformers", "prefect"),
}


def sources() -> list[Path]:
    found = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]
    return [*found, *([ROOT / "synth.py"] if (ROOT / "synth.py").exists() else [])]


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first if first in ROOMS else "flows"  # synth.py is the public face, above all rooms


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, by statement at any depth or by `import_module` of a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "import_module":
                yield node.lineno, str(node.args[0].value)


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def arrow_faults(path: Path, tree: ast.Module) -> list[str]:
    faults = []
    above = ROOMS[ROOMS.index(room_of(path)) + 1 :]
    where = path.relative_to(ROOT).as_posix()
    for line, name in imported(tree):
        if any(is_under(name, room) for room in above) or is_under(name, "tests"):
            faults.append(f"{where}:{line} imports {name}, a room above")
        for library, places in MAY_IMPORT.items():
            light = where in WITHOUT_TORCH and places == MAY_IMPORT["torch"]
            if is_under(name, library) and (light or not where.startswith(places)):
                faults.append(f"{where}:{line} imports {name}, which only {', '.join(places)} may")
    return faults


def executing_faults(path: Path, tree: ast.Module) -> list[str]:
    where = path.relative_to(ROOT).as_posix()
    faults = [f"{where}:{line} imports {name}" for line, name in imported(tree) if name.split(".")[0] in EXECUTING_MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in EXECUTING_CALLS:
            faults.append(f"{where}:{node.lineno} calls {node.func.id}")
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if (owner, node.func.attr) in EXECUTING_METHODS or node.func.attr in ("sympify", "parse_expr"):
                faults.append(f"{where}:{node.lineno} calls {owner}.{node.func.attr}")
        given = {k.arg: k.value for k in node.keywords if k.arg in ("shell", "allow_pickle", "trust_remote_code")}
        faults.extend(f"{where}:{node.lineno} passes {name}" for name, value in given.items() if ast.unparse(value) != "False")
    return faults


def test_imports_run_downward_and_heavy_libraries_stay_in_their_rooms() -> None:
    assert len(sources()) > 30
    assert [fault for path in sources() for fault in arrow_faults(path, ast.parse(path.read_text(encoding="utf-8")))] == []


def test_nothing_is_evaluated_executed_or_unpickled() -> None:
    paths = [p for p in sources() if p != ROOT / INSIDE_THE_SANDBOX]
    assert [fault for path in paths for fault in executing_faults(path, ast.parse(path.read_text(encoding="utf-8")))] == []


def test_the_one_file_that_executes_is_never_imported_in_process() -> None:
    """`child.py` calls exec and eval, nothing else of the list; only the zygote, itself a script, loads it (by its bare name)."""
    assert {fault.split()[-1] for fault in executing_faults(ROOT / INSIDE_THE_SANDBOX, ast.parse((ROOT / INSIDE_THE_SANDBOX).read_text()))} == {
        "exec",
        "eval",
    }
    scripts = {ROOT / "filters/sandbox" / name for name in ("child.py", "zygote.py", "keeper.py", "launch.py")}
    every = [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]
    for path in every:
        names = {name for _, name in imported(ast.parse(path.read_text(encoding="utf-8")))}
        inside = {f"filters.sandbox.{p.stem}" for p in scripts}
        assert not {n for n in names if any(is_under(n, s) for s in inside)}, path
        assert path in scripts or not names & {"child", "zygote", "keeper", "launch"}, path
    ends = (".child", ".zygote", ".keeper")
    code = f"import sys, filters.verifiers.code, filters.sandbox.levels; print(*[m for m in sys.modules if m.endswith({ends})])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("file", "code", "faults"),
    [
        ("data/x.py", "from filters.dedup import y", 1),
        ("data/x.py", "def f():\n    import flows.cli", 1),
        ("filters/x.py", "import importlib\nimportlib.import_module('generators.engines.local')", 1),
        ("generators/x.py", "import torch.nn as nn", 1),
        ("pipelines/x.py", "from prefect import flow", 1),
        ("pipelines/x.py", "from safetensors import torch", 1),
        ("generators/engines/base.py", "import torch", 1),
        ("generators/engines/local.py", "import torch", 0),
        ("filters/x.py", "from data.records import Problem\nfrom . import y", 0),
        ("filters/x.py", "import database", 0),
    ],
)
def test_the_arrow_test_finds_faults(file: str, code: str, faults: int) -> None:
    assert bool(arrow_faults(ROOT / file, ast.parse(code))) == bool(faults)


@pytest.mark.parametrize(
    "code", ["eval('1')", "import pickle", "torch.load(f)", "np.load(f, allow_pickle=True)", "sympy.sympify(t)", "run(c, shell=True)"]
)
def test_the_execution_test_finds_faults(code: str) -> None:
    assert executing_faults(ROOT / "filters/x.py", ast.parse(code))
    assert not executing_faults(ROOT / "filters/x.py", ast.parse("model.eval()\nre.compile('x')\nast.literal_eval('1')\nrun(c, shell=False)"))


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_light_modules_import_nothing_heavy(module: str) -> None:
    """What is imported on the way counts too, so a fresh interpreter is asked."""
    if not (ROOT / (module.replace(".", "/") + ".py")).exists():
        pytest.skip(f"{module} is not there")
    code = f"import sys, {module}; print(*[m for m in {LIGHT[module]!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.split() == []
