"""What the rooms may know of one another."""

import ast
import subprocess
import sys
from pathlib import Path

import privacy

FOLDER = Path(privacy.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__") for path in FOLDER.rglob("*.py")
)
FORBIDDEN = ("apache_beam", "transforms", "pipelines", "tests")


def test_the_fixture_holds_every_module() -> None:
    """The list is not empty, and has modules of both levels."""
    assert {"privacy", "privacy.plan", "privacy.noise", "privacy.metrics.mean"} <= set(MODULES)


def test_importing_the_mathematics_loads_no_beam() -> None:
    """Neither directly nor through others: looked up in a process that has imported nothing else."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split(','): importlib.import_module(name)\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(MODULES)],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = set(done.stdout.split())
    assert {"privacy", "numpy"} <= loaded
    assert not loaded & set(FORBIDDEN)


def _imports(path: Path) -> set[str]:
    """The packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_no_import_of_beam_hides_in_a_function() -> None:
    """The source has no import of Beam or of the other rooms, wherever it stands."""
    for path in FOLDER.rglob("*.py"):
        assert not _imports(path) & set(FORBIDDEN), path.name


def test_n3_one_door_to_noise() -> None:
    """OpenDP is imported by noise.py alone; nobody makes a generator; only ids.py and the sampler take entropy for themselves."""
    for path in FOLDER.rglob("*.py"):
        imported = _imports(path) & {"opendp", "random", "secrets", "scipy"}
        assert imported <= ({"opendp"} if path.name == "noise.py" else set()), path.name
        text = path.read_text()
        assert "np.random" not in text, path.name
        assert "default_rng" not in text, path.name
        assert path.name in ("ids.py", "sampler.py") or "urandom" not in text, path.name
