"""What is listed in pyproject.toml is what is there, and modules import only from below."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"tlkit": "tlkit", "conf": "tlkit.conf", "plugins": "tlkit_plugins"}

# DESIGN: a module may import from its own layer's package or from layers above it in this list.
LAYERS = [
    ["errors"],
    ["ranks"],
    ["registry", "files", "progress", "words"],
    ["tables", "validate", "config"],
    ["data"],
    ["backbones"],
    ["codes", "heads"],
    ["training"],
    ["classifier", "testing"],
    ["ensembles"],
    ["strategies", "evaluation"],
    ["runs", "plugin_list", "plots", "reports"],
    ["diagrams", "charts"],
    ["sources", "results"],
    ["comparison"],
    ["lr_find", "combine", "summaries", "backbone_list", "visualize"],
    ["finish"],
    ["workflow"],
    ["api", "estimators"],
    ["cli"],
]
LIGHT = ["errors", "ranks", "registry", "validate", "cli", "files", "progress"]
HEAVY = {"torch", "timm", "hydra", "omegaconf", "pandas", "sklearn", "torchvision", "pytorch_lightning", "matplotlib"}


def test_every_package_is_listed() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            if "example" not in parts:
                found.add(".".join([package, *parts]))
    assert found == set(setup["packages"])


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, at module level) of each import, but for those that only the type checker sees."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "tlkit" else [node.module]
            found += [(name or "", id(node) in top) for name in names]
    return found


def _modules() -> list[Path]:
    return [p for p in sorted((ROOT / "tlkit").rglob("*.py")) if p.name not in ("__init__.py", "__main__.py")]


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    depth = {name: layer for layer, names in enumerate(LAYERS) for name in names}
    own = path.relative_to(ROOT / "tlkit").with_suffix("").parts[0]
    assert own in depth, f"{own} has no layer"
    for module, at_top in _imports(path):
        parts = module.split(".")
        if parts[0] != "tlkit" or len(parts) == 1 or parts[1] == own:
            continue
        lazy_use_of_a_signature = own == "validate" and not at_top
        assert depth[parts[1]] < depth[own] or lazy_use_of_a_signature, f"{own} imports {module}"


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    heavy = {m for m, at_top in _imports(ROOT / "tlkit" / f"{name}.py") if at_top and m.split(".")[0] in HEAVY}
    assert not heavy


def test_tlkit_reaches_its_plugins_through_entry_points_only() -> None:
    assert not [path for path in _modules() if "tlkit_plugins" in path.read_text()]


def test_nothing_in_the_code_can_unpickle_or_call_what_a_config_names() -> None:
    words = ("import pickle", "torch.load(", "joblib.load", "allow_pickle=True", "hydra.utils.instantiate", "eval(")
    for folder in ("tlkit", "plugins", "conf"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                text = path.read_text().replace(".eval(", "").replace("_eval(", "")
                text = re.sub(r"torch\.load\([^()]*weights_only=True\)", "", text)  # which reads no code
                found = [w for w in words if w in text]
                assert not found, f"{path}: {found}"
