"""Transfer of weights to another vocabulary, and the recipe of a training that begins with them."""

import pytest
import torch
from architectures import ARCHITECTURES, known_options, make_model

from charlm.data.vocab import Vocab
from charlm.errors import CheckpointError, UsageError
from charlm.models import build
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.storage.transfer import resolve_recipe, transfer_weights

pytestmark = pytest.mark.usefixtures("example_model")
SIZES = {"n_embed": 8, "n_hidden": 16, "n_layers": 2, "window_size": 8, "order": 3}
OLD, SHARED = Vocab(map(ord, "bcdx")), "cdcddccdccdcdcdd" * 4
FOLDED = "lstm-ngram", {"folded_words": True}
GRADIENTS = [name for name, cls in ARCHITECTURES.items() if cls.uses_gradients]


def save(path, model, vocab=OLD, **recipe):
    metadata = checkpoint.Metadata(
        model.name, model.config, len(vocab), vocab.codepoints.tolist(), vocab.is_bytes, model.n_context, recipe=recipe
    )
    checkpoint.save(path, model, metadata)
    return Recipe(model=model.name, options=model.config, init_from=str(path))


@pytest.fixture
def gru(tmp_path):
    """Return a saved GRU, and the recipe that begins with it."""
    model = build("gru", len(OLD), n_embed=4, n_hidden=6)
    return model, save(tmp_path / "gru.safetensors", model, minutes=3.0, seed=5, freeze=["embed"], corpus=["a.txt"])


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in GRADIENTS), FOLDED])
def test_shared_characters_keep_their_logits_in_another_vocabulary(name, options, tmp_path):
    old = make_model(name, len(OLD), **known_options(name, SIZES), **options)
    recipe = save(tmp_path / "old.safetensors", old)
    vocab = Vocab(map(ord, "acdy" if hasattr(old, "counts") else "acdyz"))  # 1 / V is a probability of the n-grams
    new = build(name, len(vocab), **old.config)
    found = transfer_weights(new, vocab, recipe)
    assert (found.lost, found.new) == ("bx", "".join(sorted(set(vocab.symbols) - set("cd"))))
    logits = []
    for model, its in ((old, OLD), (new, vocab)):
        ids = torch.from_numpy(its.encode(SHARED)).long()
        fit_counts(model, ids)
        with torch.no_grad():
            out = model.eval()(ids[None, : model.n_context or None])[0]
        logits.append(out[..., its.encode("cd").tolist()])
    assert logits[0].std() > 0
    torch.testing.assert_close(*logits)


def test_rows_of_new_characters_are_the_mean_of_the_trained_ones(gru):
    old, recipe = gru
    vocab = Vocab(map(ord, "bcdxz"))
    new = build("gru", len(vocab), n_embed=4, n_hidden=6)
    transfer_weights(new, vocab, recipe)
    torch.testing.assert_close(new.embed.weight[5], old.embed.weight[1:].mean(0))
    torch.testing.assert_close(new.head[-1].bias[5], old.head[-1].bias[1:].mean())
    assert torch.equal(new.embed.weight[:5], old.embed.weight)


def test_tied_weights_stay_tied(tmp_path):
    recipe = save(tmp_path / "tied.safetensors", build("gru", len(OLD), n_embed=4, n_hidden=6, tied=True))
    new = build("gru", 4, **recipe.options)
    transfer_weights(new, Vocab(map(ord, "cdy")), recipe)
    assert new.head[-1].weight is new.embed.weight


def test_another_size_another_model_or_another_kind_of_symbol_is_refused(gru):
    _, recipe = gru
    with pytest.raises(UsageError, match=r"leave out the options that change sizes"):
        transfer_weights(build("gru", 5, n_embed=4, n_hidden=7), OLD, recipe)
    with pytest.raises(UsageError, match=r"has weights of model gru, not lstm; leave out --model"):
        transfer_weights(build("lstm", 5, n_embed=4, n_hidden=6), OLD, recipe.replace(model="lstm"))
    with pytest.raises(UsageError, match=r"has characters as symbols; give --no-bytes"):
        transfer_weights(build("gru", 257, n_embed=4, n_hidden=6), Vocab.of_bytes(), recipe)


def test_the_recipe_is_the_trained_one_where_nothing_is_said(gru, tmp_path):
    _, start = gru
    given = {"init_from": start.init_from}
    found = resolve_recipe(None, given)
    assert (found.model, found.options["n_hidden"], found.seed, found.corpus) == ("gru", 6, 5, ("a.txt",))
    assert (found.minutes, found.epochs) == (3.0, None)
    assert found.freeze == ()  # each start gives its own
    (tmp_path / "r.toml").write_text("clip = 2.0\nseed = 6")
    found = resolve_recipe(str(tmp_path / "r.toml"), given | {"seed": 7, "epochs": 2})
    assert (found.clip, found.seed, found.minutes, found.epochs) == (2.0, 7, None, 2)


def test_a_recipe_that_names_the_trained_model_inherits_its_recipe(gru, tmp_path):
    _, start = gru
    (tmp_path / "r.toml").write_text(f'init_from = "{start.init_from}"\nclip = 2.0')
    found = resolve_recipe(str(tmp_path / "r.toml"), {"seed": 7})
    assert (found.model, found.corpus, found.clip, found.seed) == ("gru", ("a.txt",), 2.0, 7)
    assert found.init_from == start.init_from


@pytest.mark.parametrize("keys", ["init_from = 5", "init_from = 'a'\noptions = 5", "init_from = 'a'\nclip = 'x'"])
def test_a_recipe_that_names_a_model_is_checked_before_that_is_read(keys, tmp_path):
    (tmp_path / "r.toml").write_text(keys)
    with pytest.raises(UsageError):
        resolve_recipe(str(tmp_path / "r.toml"), {})


def test_a_text_that_was_standard_input_must_be_named(tmp_path):
    save(tmp_path / "a.safetensors", build("gru", len(OLD)), corpus=["-"])
    with pytest.raises(UsageError, match="name a text with --corpus"):
        resolve_recipe(None, {"init_from": str(tmp_path / "a.safetensors")})


def test_a_recipe_that_cannot_be_used_is_reported_with_its_file(tmp_path):
    save(tmp_path / "a.safetensors", build("gru", len(OLD)), epochs=0)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .*recipe.* epochs must be at least 1"):
        resolve_recipe(None, {"init_from": str(tmp_path / "a.safetensors")})
