"""The contract of every architecture: those of MODELS, and the example of README.md as "mine".

A new architecture is tested by its line in MODELS.
"""

import pytest
import torch
from architectures import ARCHITECTURES, OPTIONS, known_options, make_model
from torch import nn

import charlm
from charlm.data.feeds import Chunks, Stream, Windows
from charlm.errors import UsageError
from charlm.evaluation.metrics import nats_per_char
from charlm.evaluation.protocol import evaluate_feed
from charlm.generation.language_model import LanguageModel
from charlm.generation.numpy_engine import ENGINES
from charlm.generation.numpy_generator import load_numpy
from charlm.models import MODELS, build, options_of
from charlm.models.layers.init import init_recurrent
from charlm.storage.checkpoint import Metadata
from charlm.training.loop import TrainState, fit

pytestmark = pytest.mark.usefixtures("example_model")

V, B, T = 11, 3, 6
SMALL = {"n_embed": 5, "n_hidden": 7, "n_layers": 2, "folded_words": True}
WITH_STATE = [name for name, architecture in ARCHITECTURES.items() if architecture.n_context is None]
WITH_GRADIENTS = [name for name, architecture in ARCHITECTURES.items() if architecture.uses_gradients]
TIED = [name for name in OPTIONS if "tied" in OPTIONS[name]]
WITH_DROPOUT = [name for name in OPTIONS if "head_dropout" in OPTIONS[name]]
WITH_INIT = [name for name in OPTIONS if "init" in OPTIONS[name]]


def small(name, **options):
    """Return a small model without dropout."""
    return make_model(name, V, **known_options(name, SMALL) | options)


def n_chars(name):
    return ARCHITECTURES[name].n_context or 2 * T


def random_chars(name):
    return torch.randint(V, (B, n_chars(name)))


@pytest.fixture(params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture(params=WITH_STATE)
def model(request):
    return small(request.param)


def test_logits_are_float32_with_a_row_for_each_predicted_position(name):
    logits, _ = small(name)(random_chars(name))
    assert logits.shape == (B, 1 if ARCHITECTURES[name].n_context else n_chars(name), V)
    assert logits.dtype == torch.float32


def test_only_last_gives_the_logits_of_the_last_position(name):
    model, chars = small(name), random_chars(name)
    last, _ = model(chars, only_last=True)
    torch.testing.assert_close(last, model(chars)[0][:, -1:])


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in WITH_GRADIENTS]
    + [(name, {"tied": True}) for name in TIED]
    + [(name, {"dropout": 0.3, "head_dropout": 0.3}) for name in WITH_DROPOUT],
)
def test_every_parameter_gets_a_gradient(name, options):
    model, chars = small(name, **options).train(), random_chars(name)
    logits, _ = model(chars)
    nats_per_char(logits, chars[:, -logits.shape[1] :]).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_model_without_gradients_has_counts_and_no_parameters():
    for name in set(MODELS) - set(WITH_GRADIENTS):
        assert list(small(name).parameters()) == []
        assert small(name).n_parameters > 0
        assert not small(name)(random_chars(name))[0].requires_grad


def test_two_halves_of_a_text_give_the_logits_of_the_whole(model):
    chars = torch.randint(V, (B, 2 * T))
    whole, state_of_whole = model(chars)
    first, state = model(chars[:, :T])
    second, state = model(chars[:, T:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state, state_of_whole)


def test_single_characters_give_the_logits_of_the_whole(model):
    chars = torch.randint(V, (B, T))
    steps, state = [], None
    for step in range(T):
        logits, state = model(chars[:, step : step + 1], state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(chars)[0])


def test_logits_do_not_depend_on_later_characters(model):
    chars = torch.randint(V, (B, 2 * T))
    other = torch.cat([chars[:, :T], (chars[:, T:] + 1) % V], dim=1)
    torch.testing.assert_close(model(other)[0][:, :T], model(chars)[0][:, :T])


@pytest.mark.parametrize("name", WITH_GRADIENTS)  # n-grams depend on the last `order - 1` characters only
def test_the_last_logits_depend_on_the_first_character(name):
    model, chars = small(name).double(), random_chars(name)
    other = chars.clone()
    other[:, 0] = (chars[:, 0] + 1) % V
    assert ((model(chars)[0] - model(other)[0])[:, -1].abs().amax(dim=1) > 0).all()


def test_a_row_does_not_depend_on_the_other_rows(name):
    model, chars = small(name), random_chars(name)
    logits, _ = model(chars)
    torch.testing.assert_close(model(chars[1:2])[0], logits[1:2])
    others = (chars + torch.tensor([[1], [0], [1]])) % V
    torch.testing.assert_close(model(others)[0][1], logits[1])


def test_a_model_keeps_no_state_between_calls(name):
    model, chars = small(name), random_chars(name)
    before, _ = model(chars)
    model(random_chars(name))
    torch.testing.assert_close(model(chars)[0], before, rtol=0, atol=0)


def test_a_fixed_window_has_no_state():
    for name in set(MODELS) - set(WITH_STATE):
        assert small(name)(random_chars(name))[1] is None


def test_the_same_seed_gives_the_same_weights(name):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(small(name))
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)


def test_training_on_a_repeating_pattern_reaches_a_loss_near_zero(name, cycle):
    model = build(name, 4, **known_options(name, {"n_embed": 8, "n_hidden": 24}))
    feeds = {
        "windows": Windows(cycle(150), model.n_context or 4, batch_size=32),
        "chunks": Chunks(cycle(450), 16, batch_size=7),
        "stream": Stream(cycle(450), 16, batch_size=7),
    }
    feed = feeds[model.default_feed]
    if not model.uses_gradients:
        model.fit_counts(cycle(450), torch.ones(4, dtype=torch.uint8))  # one long word
        feed = Stream(cycle(450), 16, batch_size=1)  # one lane, for the first characters of each are uncertain
        assert evaluate_feed(model, feed).nats_per_char < 0.02
        return
    run = TrainState(model, feed, torch.optim.Adam(model.parameters(), 0.03), n_epochs=0)
    while evaluate_feed(model, feed).nats_per_char >= 0.02:  # the first characters of a stream are uncertain
        run.n_epochs += 30  # attention of so small a size takes more
        assert run.n_epochs <= 150
        fit(run)


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_is_between_layers_and_before_the_head_in_training_only(name):
    for options in ({"dropout": 0.5}, {"head_dropout": 0.5}):
        model, chars = small(name, **options), random_chars(name)
        assert not torch.equal(model.train()(chars)[0], model(chars)[0])
        torch.testing.assert_close(model.eval()(chars)[0], model(chars)[0], rtol=0, atol=0)
    single = small(name, n_layers=1, dropout=0.5).train()
    torch.testing.assert_close(single(chars)[0], single(chars)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("n_embed", [SMALL["n_hidden"], 5])
def test_a_tied_head_shares_the_embedding(name, n_embed):
    model = small(name, n_embed=n_embed, tied=True)
    decoder = [module for module in model.head.modules() if isinstance(module, nn.Linear)][-1]
    assert decoder.weight is model.embed.weight
    untied = small(name, n_embed=n_embed)
    n_saved = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in model.parameters())
    n_between = 0 if n_embed == SMALL["n_hidden"] else (SMALL["n_hidden"] + 1) * n_embed
    assert n_saved == V * SMALL["n_hidden"] - n_between


@pytest.mark.parametrize("name", WITH_INIT)
def test_identity_initialization_gives_identity_matrices_and_zero_biases(name):
    parameters = dict(small(name, init="identity").named_parameters())
    recurrent = [key for key in parameters if "weight_hh" in key or key == "hidden_to_hidden.weight"]
    assert recurrent
    for key in recurrent:
        torch.testing.assert_close(parameters[key].data, torch.eye(SMALL["n_hidden"]))
        bias = parameters[key.replace("weight", "bias")]
        assert not bias.any()


@pytest.mark.parametrize("name", WITH_INIT)
def test_orthogonal_initialization_keeps_the_length_of_a_state(name):
    parameters = dict(small(name, init="orthogonal").named_parameters())
    recurrent = [key for key in parameters if "weight_hh" in key or key == "hidden_to_hidden.weight"]
    assert recurrent
    for key in recurrent:
        weight = parameters[key].data
        torch.testing.assert_close(weight @ weight.T, torch.eye(SMALL["n_hidden"]))
        assert not torch.equal(weight, torch.eye(SMALL["n_hidden"]))
        assert not parameters[key.replace("weight", "bias")].any()


@torch.no_grad()
def test_an_identity_layer_returns_its_input():
    layer = nn.Linear(4, 4)
    init_recurrent(layer, "identity")
    hidden = torch.rand(3, 4)
    torch.testing.assert_close(layer(hidden), hidden)


def test_a_trained_model_is_saved_loaded_and_samples_the_same_text(name, tmp_path):
    options = known_options(name, SMALL) | ({"order": 3} if "order" in OPTIONS[name] else {})
    trained = charlm.train(
        "human-numbers:60", model=name, options=options, epochs=1, batch_size=4, bptt=8, folder=tmp_path / "run"
    )
    text = trained.sample("one", length=40, seed=1)
    assert len(text) == 40
    path = tmp_path / "run" / "best.safetensors"
    assert charlm.load(path).sample("one", length=40, seed=1) == text
    without_torch = load_numpy(path)
    assert (without_torch is not None) == (name in ENGINES)
    assert without_torch is None or without_torch.sample("one", length=40, seed=1) == text


@pytest.mark.parametrize("n_context", [None, 3])
def test_texts_sampled_as_one_batch_are_those_sampled_alone(name, n_context):
    if ARCHITECTURES[name].n_context not in (None, n_context):
        return
    metadata = Metadata(name, {}, V, [*range(97, 96 + V)], is_bytes=False, n_context=n_context)
    model = LanguageModel(small(name), metadata)
    options = {"prompt": "abc", "length": 30, "temperature": 0.9, "top_p": 0.95}
    texts = ["".join(text) for text in model.generate_many(B, seed=5, **options)]
    assert texts == [model.sample(seed=5 + i, **options) for i in range(B)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gruu", {}, "no model 'gruu'; did you mean 'gru'"),
        ("zzz", {}, "no model 'zzz'"),
        ("lstm", {"n_hiden": 8}, "no option 'n_hiden'; did you mean 'n_hidden'"),
        ("char3", {"zzz": 8}, "no option 'zzz'; it has: n_embed, n_hidden"),
        ("loop", {"n_layers": 2}, "no option 'n_layers'"),
        ("gru", {"n_hidden": 8.0}, "n_hidden must be an integer, got 8.0"),
        ("gru", {"n_hidden": "8"}, "n_hidden must be an integer, got '8'"),
        ("gru", {"n_hidden": True}, "n_hidden must be an integer, got True"),
        ("gru", {"n_hidden": None}, "n_hidden must be an integer, got None"),
        ("gru", {"n_layers": 0}, "n_layers must be at least 1 and at most 1,000, got 0"),
        ("gru", {"tied": 1}, "tied must be bool, got 1"),
        ("gru", {"dropout": "much"}, "dropout must be a number, got 'much'"),
        ("gru", {"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ("gru", {"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ("gru", {"head_dropout": 2}, "head_dropout must be at least 0 and below 1, got 2"),
        ("gru", {"dropout": float("nan")}, "dropout must be at least 0 and below 1, got nan"),
        ("rnn", {"init": "eye"}, "init = 'eye' is not known"),
        ("rnn", {"nonlinearity": "gelu"}, "nonlinearity = 'gelu' is not known"),
        ("rnn", {"init": 1}, "init must be str, got 1"),
        ("rnn", {"name": "x"}, "no option 'name'"),
        ("rnn", {"vocab_size": 3}, "no option 'vocab_size'"),
    ],
)
def test_an_invalid_option_is_a_usage_error(name, options, message):
    with pytest.raises(UsageError) as caught:
        build(name, V, **options)
    assert message in str(caught.value)


def test_an_integer_is_accepted_for_a_float():
    assert build("gru", V, dropout=0, n_hidden=4)


def test_options_include_those_of_the_base_class():
    assert options_of("char3") == {"n_embed": 42, "n_hidden": 256}
    assert options_of("rnn-scratch") == options_of("gru") | {"init": "uniform", "nonlinearity": "tanh"}
