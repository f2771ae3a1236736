"""`/v1/completions`: texts, streams, log-probabilities and limits, by the client `openai` and by plain requests."""

import json
import math

import openai
import pytest
import torch
from servers import TEXT, running, small_model

from charlm.generation.language_model import LanguageModel
from charlm.storage import runs


@pytest.fixture
def api(client):
    """Return a client of the package `openai`."""
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as api:
        yield api


def test_the_openai_client_gets_the_text_of_the_model(api, models):
    for name, model in models.items():
        done = api.completions.create(model=name, prompt="Is", max_tokens=50, seed=7, temperature=0.8)
        assert done.choices[0].text == model.sample("Is", 50, seed=7, temperature=0.8, unknown="map")
        assert done.choices[0].finish_reason == "length" and done.object == "text_completion"
        assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (2, 50, 52)


def test_the_openai_client_streams_the_same_text(api, models):
    for name, model in models.items():
        options = {"model": name, "prompt": "Is", "max_tokens": 300, "seed": 7, "top_p": 0.9}
        events = list(api.completions.create(stream=True, stream_options={"include_usage": True}, **options))
        text = "".join(choice.text for event in events for choice in event.choices)
        assert text == model.sample("Is", 300, seed=7, temperature=1, top_p=0.9, unknown="map")
        assert [choice.finish_reason for event in events for choice in event.choices][-1] == "length"
        assert events[-1].choices == [] and events[-1].usage.completion_tokens == 300


def test_the_openai_client_lists_the_models_and_reports_errors(api, models):
    assert [model.id for model in api.models.list()] == list(models)
    assert api.models.retrieve("gru").owned_by == "charlm"
    with pytest.raises(openai.NotFoundError, match="no model 'no'; there are: gru"):
        api.completions.create(model="no", prompt="x")
    with pytest.raises(openai.BadRequestError, match="temperature must be at least 0") as caught:
        api.completions.create(model="gru", prompt="x", temperature=-1)
    assert caught.value.type == "invalid_request_error"


def test_several_prompts_have_n_texts_each_with_consecutive_seeds(client, models):
    body = client.complete(["Is", "not"], n=3, seed=5, max_tokens=20)
    expected = [
        models["gru"].sample(prompt, 20, seed=5 + i, temperature=1) for prompt in ("Is", "not") for i in (0, 1, 2)
    ]
    assert [choice["text"] for choice in body["choices"]] == expected
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 120, "total_tokens": 125}


@pytest.mark.parametrize("name", ["gru", "bytes", "lower"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_text_ends_before_a_stop(name, stream, client, models):
    whole = models[name].sample("Is", 200, seed=1, temperature=1)
    stop = whole[60:63]
    options = {"model": name, "seed": 1, "max_tokens": 200, "stop": ["never in it", stop], "logprobs": 0}
    body = client.complete("Is", stream=stream, **options)
    choices = [event["choices"][0] for event in body[:-1]] if stream else body["choices"]
    assert "".join(choice["text"] for choice in choices) == whole[: whole.index(stop)]
    assert choices[-1]["finish_reason"] == "stop"
    if name != "bytes":
        tokens = [token for choice in choices for token in choice["logprobs"]["tokens"]]
        assert "".join(tokens) == whole[: whole.index(stop)]


def test_the_log_probabilities_are_those_of_the_model_without_temperature(client, models):
    body = client.complete("Is the", max_tokens=30, seed=3, temperature=0.3, logprobs=4)
    found, text = body["choices"][0]["logprobs"], "Is the"
    assert found["text_offset"] == list(range(30)) and "".join(found["tokens"]) == body["choices"][0]["text"]
    for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        probs = models["gru"].probs(text)
        assert logprob == pytest.approx(math.log(probs[token]), abs=1e-5)
        assert list(top)[:4] == list(probs)[:4] and token in top and len(top) <= 5
        text += token


@pytest.mark.parametrize("stream", [False, True])
def test_echoed_log_probabilities_add_up_to_the_bits_of_the_model(stream, client, models):
    text = (TEXT * 15)[:1400] + "\u00e9 unknown \U0001f600"
    for name, model in models.items():
        options = {"model": name, "max_tokens": 0, "echo": True, "logprobs": 1, "stream": stream}
        body = client.complete(text, **options)
        choices = [event["choices"][0] for event in body[:-1]] if stream else body["choices"]
        logprobs = [logprob for choice in choices for logprob in choice["logprobs"]["token_logprobs"]]
        result = model.score(text)
        assert len(logprobs) == result.n_chars
        assert -sum(logprobs) / math.log(2) / result.n_chars == pytest.approx(result.bits_per_char, abs=1e-6)
        assert "".join(choice["text"] for choice in choices) == model.preprocess(text, "map")
        offsets = [offset for choice in choices for offset in choice["logprobs"]["text_offset"]]
        assert offsets[:50] == list(range(50)) and offsets[-1] == len(text) - 1


def test_the_built_in_model_echoes_the_bits_of_charlm_eval(nietzsche, tmp_path, capsys, exit_code):
    path = tmp_path / "part.txt"
    path.write_text(nietzsche.read_text("utf-8")[-3000:], "utf-8")
    assert exit_code(f"eval nietzsche --corpus {path} --json") == 0
    expected = json.loads(capsys.readouterr().out)
    with running({"nietzsche": LanguageModel.load(runs.packaged_model())}) as client:
        body = client.complete(path.read_text("utf-8"), max_tokens=0, echo=True, logprobs=0)
    logprobs = body["choices"][0]["logprobs"]["token_logprobs"]
    assert len(logprobs) == expected["n_chars"]
    assert -sum(logprobs) / len(logprobs) == pytest.approx(expected["nats_per_char"], abs=1e-6)


def test_an_echo_is_followed_by_the_sampled_text(client, models):
    for name in ("gru", "bytes", "char3"):
        body = client.complete("Is \u00e9", model=name, max_tokens=25, seed=2, echo=True, logprobs=2)
        choice, n_prompt = body["choices"][0], body["usage"]["prompt_tokens"]
        sampled = models[name].sample("Is \u00e9", 25, seed=2, temperature=1, unknown="map")
        assert choice["text"] == "Is \u00e9" + sampled
        assert len(choice["logprobs"]["tokens"]) == n_prompt + 25
    assert client.complete("Is", max_tokens=5, seed=2, echo=True)["choices"][0]["text"].startswith("Is")


def test_tokens_of_a_byte_model_are_bytes(client):
    body = client.complete("\u00e9a", model="bytes", max_tokens=0, echo=True, logprobs=1)
    logprobs = body["choices"][0]["logprobs"]
    assert (logprobs["tokens"], logprobs["text_offset"]) == (["bytes:\\xc3", "bytes:\\xa9", "a"], [0, 0, 1])


def test_a_character_whose_bytes_are_read_in_two_parts_is_whole(client, models):
    prompt = "x" * 1023 + "\u00e9a"  # the model reads 1,024 bytes at a time
    body = client.complete(prompt, model="bytes", max_tokens=20, seed=1, echo=True, logprobs=0)
    choice = body["choices"][0]
    assert choice["text"] == prompt + models["bytes"].sample(prompt, 20, seed=1, temperature=1)
    assert choice["logprobs"]["text_offset"][1022:1027] == [1022, 1023, 1023, 1024, 1025]


def test_lower_case_and_the_line_limit_are_those_of_the_model(client, models):
    body = client.complete("IS THERE", model="lower", max_tokens=100, seed=4, echo=True)
    assert body["choices"][0]["text"] == "is there" + models["lower"].sample("is there", 100, seed=4, temperature=1)


def test_unknown_characters_are_read_as_unknown_or_skipped_or_refused(client, models):
    skipped = client.complete("I\u00e9s", unknown="skip", seed=1, max_tokens=20)
    assert skipped["choices"][0]["text"] == models["gru"].sample("Is", 20, seed=1, temperature=1)
    status, body = client.post("/v1/completions", {"prompt": "I\u00e9s", "unknown": "error"})
    assert status == 400 and "characters outside the model's vocabulary: '\u00e9'" in body["error"]["message"]
    marked = client.complete("\ufeffIs", unknown="error", seed=1, max_tokens=20)
    assert marked["choices"][0]["text"] == models["gru"].sample("\ufeffIs", 20, seed=1, temperature=1)


def test_a_score_has_the_lines_of_charlm_score(tmp_path, capsys, exit_code, models, client):
    model = models["gru"]
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "text.txt").write_text(TEXT * 2)
    assert exit_code(f"score {tmp_path}/model.safetensors {tmp_path}/text.txt --json") == 0
    *expected, totals = map(json.loads, capsys.readouterr().out.splitlines())
    status, (*found, last) = client.post("/v1/score", {"model": "gru", "text": TEXT * 2})
    assert status == 200 and len(found) == len(expected)
    assert found == expected
    assert last["bits"] == pytest.approx(totals["bits"])


def test_a_model_whose_logits_are_not_finite_is_an_error_of_the_server():
    model = small_model()
    with torch.no_grad():
        model.model.embed.weight.fill_(float("nan"))
    with running({"nan": model}) as client:
        for fields in ({}, {"seed": 1}, {"echo": True, "logprobs": 1}):
            status, body = client.post("/v1/completions", {"prompt": "Is"} | fields)
            assert (status, body["error"]["type"]) == (500, "server_error")
            assert "logits are not finite" in body["error"]["message"]
        status, events = client.post("/v1/completions", {"prompt": "Is", "stream": True})
        assert "logits are not finite" in events[-1]["error"]["message"]
        status, lines = client.post("/v1/score", {"text": "Is"})
        assert status == 200 and "logits are not finite" in lines[-1]["error"]["message"]
