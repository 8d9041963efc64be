"""The house: who may import whom, and what every file and name owes its reader: read from the text, mostly."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reference import REFERENCES

import vecalloc as va
from vecalloc.policies.table import POLICIES

PACKAGE = Path(va.__file__).parent

LINES = [
    ["__main__"],
    ["cli"],
    ["api", "pool", "study"],
    ["report"],
    ["sweep"],
    ["rows", "executors"],
    ["experiment", "store", "batch"],
    ["workload"],
    ["simulate", "process", "swapping"],
    ["emergent"],
    ["metrics", "formats", "spec", "statistics"],
    ["policies"],
    ["loops"],
    ["reclaim"],
    ["mechanisms", "ledger"],
    ["policies.table", "reclaim.table"],
    ["trace", "kernel"],
    ["errors"],
]
"""Top to bottom (design, section 1): a file imports only from a line below its own."""

AMONG_THEMSELVES = {"mechanisms", "formats", "store", "workload", "experiment", "loops", "reclaim"}
"""Folders whose files may import one another, without cycles."""

TEXTS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Module within the package ("__init__" for the package itself) -> text."""

TREES = {module: ast.parse(text) for module, text in TEXTS.items()}


def place_of(module):
    """The entry of LINES that a module belongs to: its own, or its folder's."""
    return module if any(module in line for line in LINES) else module.partition(".")[0]


def line_of(module):
    place = place_of(module)
    found = [k for k, line in enumerate(LINES) if place in line]
    assert found, f"{module} has no line in the house: give it one in the design, and here"
    return found[0]


def imports_of(module):
    """The package's modules that a module imports anywhere in its text; "__init__" is the package itself."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # `from vecalloc.formats import npz` names the module npz, `import TraceError` the package formats.
            names = [
                inner if (inner := f"{node.module}.{alias.name}").removeprefix("vecalloc.") in TEXTS else node.module
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            if name == "vecalloc":
                found.add("__init__")
            elif name.startswith("vecalloc."):
                assert name.removeprefix("vecalloc.") in TEXTS, f"{module} imports {name}, which is no module"
                found.add(name.removeprefix("vecalloc."))
    return found


INNER = sorted(TEXTS.keys() - {"__init__"})


def test_the_package_itself_imports_nothing_of_itself():
    assert imports_of("__init__") == set()


@pytest.mark.parametrize("module", INNER)
def test_arrows_point_down(module):
    for other in imports_of(module):
        if other == "__init__":
            # for the version
            assert module in ("cli", "store.provenance"), f"{module} imports the package that it is part of"
            continue
        same_folder = place_of(module) == place_of(other) and place_of(module) in AMONG_THEMSELVES
        assert same_folder or line_of(module) < line_of(other), f"{module} imports {other}, which is not below it"


def test_no_cycles():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in imports_of(module) - {"__init__"}:
            # A folder's own file may load its files when they are asked for (formats -> npz -> formats.TraceError).
            if not (other.startswith(module + ".") or module.startswith(other + ".")):
                visit(other)
        path.pop()
        done.add(module)

    for module in INNER:
        visit(module)


def test_cycles_with_a_folder_are_broken_by_a_late_import():
    """Where a folder's own file and a file of it import each other, the folder's own does so inside a function."""
    for module in INNER:
        at_the_top = {
            f"{node.module}.{alias.name}".removeprefix("vecalloc.")
            for node in TREES[module].body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for other in imports_of(module):
            if other.startswith(module + ".") and module in imports_of(other):
                assert other not in at_the_top


def test_policies_do_not_know_each_other():
    policies = [module for module in INNER if module.startswith("policies.") and module != "policies.table"]
    assert len(policies) >= len(POLICIES)
    for module in policies:
        others = {other for other in imports_of(module) if other.partition(".")[0] == "policies"}
        assert others == {"policies.table"}, f"{module} imports {others}"
    assert imports_of("policies") == set()


def test_numba_stays_where_it_belongs():
    """kernel.py knows numba's odd corners; bits.py writes LLVM instructions; nobody else imports it."""
    for module in TEXTS:
        for node in ast.walk(TREES[module]):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            if any(name.partition(".")[0] in ("numba", "llvmlite") for name in names):
                assert module in ("kernel", "mechanisms.bits"), f"{module} imports {names}"


def test_no_parallel_kernels():
    """Writes through NamedTuple fields are lost in prange, and OpenMP dies on fork."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.keyword) and node.arg == "parallel"), module
            assert not (isinstance(node, ast.Name) and node.id == "prange"), module
            assert not (isinstance(node, ast.Attribute) and node.attr == "prange"), module
            assert not (isinstance(node, ast.alias) and node.name == "prange"), module


@pytest.mark.parametrize("module", sorted(TEXTS))
def test_everything_public_says_what_it_is(module):
    tree = TREES[module]
    assert ast.get_docstring(tree), f"{module} has no docstring"
    silent = []

    def look(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                if not ast.get_docstring(node):
                    silent.append(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    look(node.body, f"{prefix}{node.name}.")

    look(tree.body, "")
    assert not silent


def test_every_policy_has_a_reference_and_a_file():
    assert REFERENCES.keys() == POLICIES.keys()
    for policy in POLICIES.values():
        for file in [policy.file, *(file for file, _ in policy.variants)]:
            assert f"policies.{file}" in TEXTS


def test_every_policy_file_is_in_the_table():
    used = {file for p in POLICIES.values() for file in [p.file, *(file for file, _ in p.variants)]}
    assert {f"policies.{file}" for file in used} | {"policies", "policies.table"} == {
        module for module in TEXTS if module.partition(".")[0] == "policies"
    }


# --- names -----------------------------------------------------------------------------------------------------------


def test_no_public_name_is_a_modules():
    """Else the import of the module replaces the function, and the second access gives the module."""
    modules = {module.partition(".")[0] for module in TEXTS}
    assert not modules & set(va.__all__)


@pytest.mark.parametrize("package", ["policies", "formats"])
def test_no_function_of_a_folder_is_one_of_its_files(package):
    files = {module.split(".")[1] for module in TEXTS if module.startswith(package + ".")}
    functions = {n.name for n in TREES[package].body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert not files & functions


def test_public_names_work_twice():
    trace = Path(__file__).parents[1] / "experiments" / "traces" / "sqlite3.npz"
    for _ in range(2):
        loaded = va.load_trace(trace)
        part = va.Trace(loaded.slot[:100], loaded.size[:100])
        assert isinstance(va.replay(part, "first-fit", "64KiB"), va.Replay)
        assert va.Pool("1KiB").alloc(10) == 0
        assert issubclass(va.InvalidFree, ValueError) and issubclass(va.InputError, ValueError)
    for name in va.__all__:
        assert getattr(va, name) is getattr(va, name)
        assert not isinstance(getattr(va, name), type(os)), f"va.{name} is a module"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = va.no_such_name


def test_importing_and_complaining_need_no_numba():
    for code in [
        "import vecalloc, vecalloc.spec; dir(vecalloc); vecalloc.InputError",
        "import vecalloc.cli as c, sys\nsys.argv = ['vecalloc', '--help']\ntry: c.main()\nexcept SystemExit: pass",
        "import vecalloc.cli as c, sys\nsys.argv = ['vecalloc', 'policies']\ntry: c.main()\nexcept SystemExit: pass",
        "import vecalloc.cli as c, sys\nsys.argv = ['vecalloc', 'replay', 'x', '--policy', 'worst']\n"
        "try: c.main()\nexcept SystemExit as e: assert e.code == 2",
    ]:
        check = "\nimport sys\nassert not {'numba', 'scipy', 'pyarrow'} & sys.modules.keys()"
        environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run([sys.executable, "-c", code + check], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
