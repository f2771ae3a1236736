"""Architectures from outside the package."""

import sys

import pytest
from architectures import EXAMPLE
from torch import nn

import charlm
from charlm import models, recipes
from charlm.data.corpus import make_corpus
from charlm.errors import InputNotFoundError, UsageError
from charlm.models import GRU, MODELS
from charlm.recipe import Recipe
from charlm.training import session

SOURCE = '''"""A GRU of my own."""
from charlm.models import GRU

class Mine(GRU):
    default_learning_rate = 1e-3

other = 3
'''


@pytest.fixture(autouse=True)
def own_models(monkeypatch, tmp_path):
    """Restore MODELS after the test, and work in a folder with a file of one's own."""
    for name in [name for name in MODELS if ":" in name]:
        monkeypatch.delitem(MODELS, name)
    monkeypatch.setattr(models, "MODELS", dict(MODELS))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)


def test_a_class_of_a_file_is_found_after_a_user_named_it():
    with pytest.raises(UsageError, match=r"mine\.py:Mine is code outside the package, .* give --model mine\.py:Mine"):
        models.find("mine.py:Mine")
    models.use("mine.py:Mine")
    assert issubclass(models.find("mine.py:Mine"), GRU)
    model = models.build("mine.py:Mine", 5, n_hidden=7)
    assert (model.name, model.config["n_hidden"]) == ("mine.py:Mine", 7)


def test_a_file_may_have_moved(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "mine.py").rename(tmp_path / "sub" / "mine.py")
    models.use("sub/mine.py:Mine")
    assert models.find("mine.py:Mine") is models.find("sub/mine.py:Mine")


OPTIONS = """
class Options(GRU):
    def __init__(self, vocab_size, scale=None, kernel=(3, 5), **options):
        super().__init__(vocab_size, **options)
        self.kernel = kernel
"""


@pytest.mark.parametrize(
    "given", [{}, {"scale": None}, {"kernel": [7, 9]}], ids=["defaults", "None", "a list, as in TOML"]
)
def test_options_that_are_tuples_or_none_are_stored_and_loaded(given, tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE + OPTIONS)
    options = {"n_hidden": 4, "n_embed": 4} | given
    recipe = Recipe(model="mine.py:Options", options=options, epochs=1, bptt=8, batch_size=4, device="cpu")
    models.use(recipe.model)
    trained = session.train(recipe, make_corpus(b"one two three " * 30, "text"), tmp_path / "run")
    loaded = charlm.load(tmp_path / "run")
    assert trained.model.kernel == loaded.model.kernel == tuple(given.get("kernel", (3, 5)))
    again = recipes.load(str(tmp_path / "run" / "recipe.toml"))
    assert models.build(again.model, 5, **again.options).kernel == loaded.model.kernel


def test_an_embedding_of_another_kind_is_not_logged(tmp_path, monkeypatch):
    class WithDropout(GRU):
        def __init__(self, vocab_size, **options):
            super().__init__(vocab_size, **options)
            self.embed = nn.Sequential(self.embed, nn.Dropout(0.1))

    monkeypatch.setitem(models.MODELS, "mine", WithDropout)
    recipe = Recipe(model="mine", options={"n_hidden": 4}, epochs=1, bptt=8, batch_size=4, device="cpu")
    model = session.train(recipe, make_corpus(b"one two three " * 30, "text"), tmp_path / "run")
    assert model.metadata.result["test_nats"] > 0


def test_a_class_of_a_module_is_found():
    models.use("charlm.models.gru:GRU")
    assert models.find("charlm.models.gru:GRU") is GRU


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none.py:Mine", InputNotFoundError, "there is no file none.py"),
        ("mine.py:Nine", UsageError, "cannot be imported: AttributeError"),
        ("mine.py:other", UsageError, "is not a subclass of charlm.models.CharModel"),
        ("no_such_module:Mine", UsageError, "cannot be imported: ModuleNotFoundError"),
        ("broken.py:Mine", UsageError, "cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_imported_is_reported(name, error, message, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(error, match=message):
        models.use(name)


def test_a_model_of_an_installed_package_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(SOURCE)
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[charlm.models]\nmy-gru = my_package:Mine\nbroken = my_package:none\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert issubclass(models.find("my-gru"), GRU)
    assert models.options_of("my-gru") == models.options_of("gru")
    with pytest.raises(UsageError, match="model broken: my_package:none cannot be imported"):
        models.find("broken")
    del sys.modules["my_package"]


def test_names_of_the_package_come_first(monkeypatch):
    monkeypatch.setitem(models.MODELS, "mine", EXAMPLE)
    assert models.find("mine") is EXAMPLE
