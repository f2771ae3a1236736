"""`import charlm`: train, load, sample, score."""

import math
import random

import numpy as np
import pytest
import torch

import charlm
from charlm.data.generated_texts import human_numbers, spell
from charlm.errors import CharlmError, DataError, InputNotFoundError, OutputError, UsageError
from charlm.recipe import Recipe
from charlm.recipes import DEFAULT_RECIPE

TINY = {"options": {"n_embed": 8, "n_hidden": 16}, "bptt": 16, "batch_size": 8, "epochs": 1}
VARIANTS = [
    {"model": "char3", "lower": True},
    {"model": "loop"},
    {"model": "rnn", "feed": "windows", "n_context": 5},
    {"model": "gru", "feed": "chunks"},
    {"model": "lstm", "bytes": True},
    {"model": "lstm", "options": {**TINY["options"], "n_layers": 2, "dropout": 0.5}},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def model(request):
    return charlm.train("human-numbers:100", **TINY | request.param)


@pytest.fixture(scope="module")
def gru():
    return charlm.train("human-numbers:100", model="gru", **TINY)


def test_a_trained_model_has_its_losses_and_cost_in_its_metadata(model):
    result = model.metadata.result
    assert 0 < result["test_nats"] < 5.6 and 0 < result["valid_nats"] < 5.6
    assert result["n_parameters"] == sum(parameter.numel() for parameter in model.model.parameters())
    assert result["n_chars"] == model.metadata.counters["n_chars"] > 0
    assert result["interrupted"] is False
    assert not model.model.training


def test_bits_per_character_equal_a_loop_over_the_text(model):
    text = "one hundred\nTWENTY-two"
    ids = model.vocab.encode(model.preprocess(text, "map")).tolist()
    n_context = model.metadata.n_context
    nats, state = 0.0, None
    past = [model.vocab.bos_id] * (n_context or 1)
    for code in ids:
        with torch.no_grad():
            if n_context is None:
                logits, state = model.model(torch.tensor([past[-1:]]), state)
            else:
                logits, _ = model.model(torch.tensor([past[-n_context:]]))
        nats -= float(torch.log_softmax(logits[0, -1].double(), dim=0)[code])
        past.append(code)
    assert model.bits_per_char(text) == pytest.approx(nats / len(ids) / math.log(2), rel=1e-5)
    score = model.score(text)
    assert score.n_chars == len(ids) and score.nats == pytest.approx(nats, rel=1e-5)


def test_a_loaded_model_samples_and_scores_as_before(model, tmp_path):
    model.save(tmp_path / "x.safetensors")
    loaded = charlm.load(tmp_path / "x.safetensors")
    assert isinstance(loaded, charlm.LanguageModel)
    assert loaded.metadata == model.metadata and loaded.vocab == model.vocab
    assert loaded.sample("one\n", length=40, seed=3) == model.sample("one\n", length=40, seed=3)
    assert loaded.bits_per_char("seventy-two\n") == model.bits_per_char("seventy-two\n")


def test_training_twice_with_one_seed_gives_bit_identical_weights():
    options = TINY | {"options": {**TINY["options"], "n_layers": 2, "dropout": 0.3}}
    first, again, other = (charlm.train("human-numbers:100", model="lstm", seed=seed, **options) for seed in (3, 3, 4))
    weights = [lm.model.state_dict() for lm in (first, again, other)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert not any(torch.equal(weight, weights[2][name]) for name, weight in weights[0].items() if weight.dim() > 1)


def test_the_random_generators_of_the_caller_are_unchanged(tmp_path):
    def draw():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()

    def seed():
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)

    seed()
    expected = draw()
    seed()
    lm = charlm.train("human-numbers:100", folder=tmp_path / "run", **TINY)
    lm.sample(length=5, seed=1)
    lm.sample(length=5)
    charlm.load(tmp_path / "run").bits_per_char("one")
    assert draw() == expected


def test_training_does_not_depend_on_the_random_generators_of_the_caller():
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights.append(charlm.train("human-numbers:100", **TINY).model.state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_run_in_a_folder_is_loaded_by_its_name_and_the_newest_without_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        charlm.train("human-numbers:100", folder=f"checkpoints/{name}", seed=len(name), **TINY)
    assert charlm.load("first").metadata.recipe["seed"] == 5
    assert charlm.load().metadata == charlm.load("second").metadata == charlm.load("checkpoints/second").metadata


def test_training_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    charlm.train("human-numbers:100", **TINY)
    assert list(tmp_path.iterdir()) == []


def test_a_text_can_be_a_path_and_a_recipe_a_name_or_an_object(tmp_path):
    (tmp_path / "text.txt").write_text(human_numbers("100"))
    by_name = charlm.train(tmp_path / "text.txt", "lesson-multi", epochs=1, options={"n_hidden": 8})
    assert by_name.metadata.recipe["feed"] == "chunks"
    assert by_name.metadata.corpus["n_chars"] == len(human_numbers("100"))
    assert by_name.metadata.recipe["corpus"] == [str(tmp_path / "text.txt")]
    made = Recipe().replace(model="rnn", **TINY)
    assert charlm.train("human-numbers:100", made, seed=2).metadata.recipe["seed"] == 2


def test_a_model_of_many_files_is_loaded_and_too_many_names_are_refused(tmp_path):
    files = [tmp_path / f"{i:05}{'x' * 80}.py" for i in range(1000)]
    for i, file in enumerate(files):
        file.write_text(spell(i))
    model = charlm.train(files, folder=tmp_path / "run", model="ngram")
    loaded = charlm.load(tmp_path / "run")
    assert loaded.metadata == model.metadata and loaded.metadata.corpus["name"].endswith(" + 990 more")
    assert loaded.metadata.recipe["corpus"] == [str(file) for file in files]
    for names in (["a"] * 10_001, ["a" * 4000] * 200):
        with pytest.raises(UsageError, match="names, more than a checkpoint can store; name a folder"):
            charlm.train(names)


def test_without_a_recipe_the_size_of_the_text_decides_what_is_not_given():
    named = charlm.train("human-numbers:100", DEFAULT_RECIPE, **TINY).metadata.recipe
    chosen = charlm.train("human-numbers:100", **TINY).metadata.recipe
    assert chosen["model"] == named["model"]
    assert chosen["options"]["head_dropout"] > named["options"]["head_dropout"]
    assert (chosen["epochs"], chosen["batch_size"], chosen["options"]["n_hidden"]) == (1, 8, 16)


def test_streaming_yields_the_text_that_sampling_returns(model):
    pieces = list(model.stream("one\n", length=50, seed=1))
    assert "".join(pieces) == model.sample("one\n", length=50, seed=1)
    assert len(pieces) >= 50
    assert model.metadata.is_bytes or len("".join(pieces)) == 50  # the length is in bytes there


def test_texts_without_a_seed_are_all_different_however_many(gru):
    texts = gru.generate_many(10**12, length=20)
    assert len({"".join(next(texts)) for _ in range(3)}) == 3
    with pytest.raises(UsageError, match="n_texts must be at least 1, got 0"):
        next(gru.generate_many(0))


def test_a_stop_text_ends_a_sample_before_it_also_where_it_begins_like_the_text_before(gru):
    whole = gru.sample("one", length=300, seed=1)
    for at, length in ((0, 1), (5, 1), (17, 3), (40, 5), (290, 10)):
        stop = whole[at : at + length]
        assert gru.sample("one", length=300, seed=1, stop=stop) == whole[: whole.index(stop)]
    assert gru.sample("one", length=300, seed=1, stop="\u2603") == whole


def test_unknown_characters_are_an_error_by_default(gru):
    with pytest.raises(DataError, match="vocabulary: '#', 'É'"):
        gru.sample("onÉ#", length=5)
    assert gru.sample("onÉ#e", length=20, seed=1, unknown="skip") == gru.sample("one", length=20, seed=1)
    assert gru.probs("on\nÉ#", unknown="map") != gru.probs("on\n")
    assert gru.score("onÉ").n_chars == 3
    assert gru.score("onÉ", unknown="skip").n_chars == 2


def test_a_byte_order_mark_at_the_start_of_a_text_or_prompt_is_dropped_except_by_a_model_of_bytes(gru):
    text, marked = human_numbers("100"), "\ufeff" + human_numbers("100")
    model = charlm.train(text=marked, model="ngram")
    assert model.vocab == charlm.train(text=text, model="ngram").vocab
    assert gru.sample("\ufeffone", length=9, seed=1) == gru.sample("one", length=9, seed=1)
    assert gru.bits_per_char("\ufeffone") == gru.bits_per_char("one")
    assert charlm.train(text=marked, model="ngram", bytes=True).metadata.corpus["n_chars"] == len(text) + 3


@pytest.mark.parametrize("text", ["", "É"])
def test_an_empty_text_cannot_be_scored(gru, text):
    with pytest.raises(DataError, match="text to score is empty"):
        gru.score(text, unknown="skip")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"corpus": "no/such.txt"}, InputNotFoundError),
        ({"base": "no-such-recipe"}, InputNotFoundError),
        ({"modle": "gru"}, UsageError),
        ({"model": "gro"}, UsageError),
        ({"options": {"n_hiden": 3}}, UsageError),
        ({"epochs": 0}, UsageError),
        ({"model": "char3", "feed": "stream"}, UsageError),
        ({"folder": "."}, OutputError),
    ],
    ids=str,
)
def test_invalid_arguments_raise_a_charlm_error_of_one_line(arguments, error):
    with pytest.raises(error) as raised:
        charlm.train(**{"corpus": "human-numbers:100"} | TINY | arguments)
    assert isinstance(raised.value, CharlmError) and "\n" not in str(raised.value)


def test_an_unavailable_device_is_an_error():
    with pytest.raises(UsageError, match="device 'gpu' is not available; available: "):
        charlm.load("nietzsche", device="gpu")


@pytest.mark.parametrize(
    "option",
    [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"min_p": 2}, {"seed": 2**70}, {"unknown": "Map"}],
    ids=str,
)
def test_an_option_out_of_range_is_an_error_before_sampling(gru, option):
    with pytest.raises(UsageError):
        gru.stream("one", **option)


def test_several_files_are_joined(tmp_path):
    for name, first in (("a.txt", 1), ("b.txt", 101)):
        (tmp_path / name).write_text("\n".join(map(spell, range(first, first + 100))))
    model = charlm.train([tmp_path / "a.txt", str(tmp_path / "b.txt")], model="ngram")
    assert (
        model.metadata.corpus["n_chars"] == sum(len((tmp_path / name).read_text()) for name in ("a.txt", "b.txt")) + 1
    )


def test_a_text_in_memory_is_trained_on():
    text = human_numbers("100")
    model, same = charlm.train(text=text, model="ngram"), charlm.train("human-numbers:100", model="ngram")
    assert model.metadata.result["test_nats"] == same.metadata.result["test_nats"]
    assert model.metadata.corpus["name"] == "text in memory"
    with pytest.raises(UsageError, match="corpus and text are both given"):
        charlm.train("human-numbers:100", text=text)


def test_the_text_of_a_recipe_is_trained_on_unless_another_is_named(tmp_path):
    (tmp_path / "r.toml").write_text('model = "ngram"\ncorpus = ["human-numbers:100"]')
    named = [charlm.train(base=base) for base in (tmp_path / "r.toml", Recipe(model="ngram", corpus=("python-docs",)))]
    named.append(charlm.train("human-numbers:200", base=tmp_path / "r.toml"))
    assert [model.metadata.corpus["name"] for model in named] == [
        "human-numbers:100",
        "python-docs",
        "human-numbers:200",
    ]


def test_a_training_begins_with_the_weights_of_a_run(tmp_path, gru):
    gru.save(tmp_path / "gru.safetensors")
    model = charlm.train(init_from=str(tmp_path / "gru.safetensors"), learning_rate=1e-9, epochs=1)
    base = Recipe(init_from=str(tmp_path / "gru.safetensors")).replace(**TINY)
    assert charlm.train(base=base).metadata.corpus["name"] == "human-numbers:100"
    assert model.metadata.corpus["name"] == "human-numbers:100"
    assert model.metadata.options == gru.metadata.options
    assert model.metadata.result["test_nats"] == pytest.approx(gru.metadata.result["test_nats"], abs=1e-4)
