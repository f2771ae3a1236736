"""The page of a server, in a browser: it runs the model itself, or the server does."""

import pytest
from servers import TEXT, running, small_model
from test_batch import wait_until

from charlm.serving import Settings

POLICY = "default-src 'none'; style-src 'sha256-"


def finish(page, button):
    """Press a button and wait for the end of what it starts."""
    page.click(button)
    page.wait_for_selector("#stop:disabled")


def shown_text(page):
    """Return the text of a page."""
    return page.evaluate("() => view.items.map((item) => item.symbol).join('')")


def test_the_page_comes_with_its_policy_in_a_header(client):
    status, headers, data = client.request("GET", "/?model=ngram")
    policy = headers["content-security-policy"]
    assert status == 200 and policy.startswith(POLICY) and "connect-src 'self'" in policy
    assert b"http-equiv" not in data and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["gru", "ngram", "lstm-ngram", "transformer", "lower"])
def test_the_page_writes_the_text_of_the_model(name, client, models, open_page):
    page, events = open_page(f"{client.url}/?model={name}")
    page.fill("#input", "Is there")
    page.fill("#length", "120")
    page.fill("#seed", "18446744073709551615")
    finish(page, "#write")
    prompt = models[name].preprocess("Is there")
    text = prompt + models[name].sample(prompt, 120, seed=2**64 - 1, temperature=0.7)
    assert shown_text(page) == text
    assert page.evaluate("() => view.items.filter((item) => item.kind === 'prompt').length") == len(prompt)
    items = page.evaluate("() => view.items.filter((item) => item.kind === 'prompt').map((item) => item.bits)")
    assert sum(items) / len(items) == pytest.approx(models[name].bits_per_char(prompt), abs=1e-3)
    own = [event for event in events if not event.startswith(f"request: {client.url}/")]
    assert own == []
    assert (len(events) > 1) == (name not in ("gru", "lower"))


def test_the_page_continues_and_measures_by_the_server(client, models, open_page):
    page, events = open_page(f"{client.url}/?model=ngram")
    page.fill("#input", "Is there")
    page.fill("#length", "30")
    finish(page, "#write")
    first = "Is there" + models["ngram"].sample("Is there", 30, seed=1, temperature=0.7)
    finish(page, "#continue")
    assert shown_text(page) == first + models["ngram"].sample(first, 30, seed=2, temperature=0.7)
    page.fill("#input", TEXT)
    finish(page, "#measure")
    bits = models["ngram"].bits_per_char(TEXT)
    assert f"{len(TEXT)} characters, {bits:.3f} bits per character" in page.text_content("#totals")
    page.click("#text")
    page.keyboard.press("Home")
    assert page.inner_text("#details strong") == "S" and "rank" in page.inner_text("#details")
    assert [event for event in events if not event.startswith("request: ")] == []


def test_a_text_that_the_server_writes_can_be_stopped(client, open_page):
    page, _ = open_page(f"{client.url}/?model=lstm-ngram")
    page.fill("#length", "20000")
    page.click("#write")
    page.wait_for_function("() => view.items.length > 20")
    page.click("#stop")
    n = page.evaluate("() => view.items.length")
    page.wait_for_timeout(200)
    assert page.evaluate("() => view.items.length") == n < 20_000
    page.fill("#length", "20")
    finish(page, "#write")
    assert page.evaluate("() => view.items.length") == 20


def test_a_text_that_is_begun_anew_ends_the_request_before(client, models, open_page):
    page, _ = open_page(f"{client.url}/?model=lstm-ngram")
    page.fill("#length", "20000")
    page.click("#write")
    page.wait_for_function("() => view.items.length > 20")
    page.fill("#length", "20")
    page.fill("#seed", "18446744073709551615")
    finish(page, "#write")
    text = models["lstm-ngram"].sample("", 20, seed=2**64 - 1, temperature=0.7)
    assert shown_text(page) == text
    wait_until(lambda: client.n_lanes == 0)
    assert page.evaluate("() => remote.text") == text
    finish(page, "#continue")
    assert shown_text(page) == text + models["lstm-ngram"].sample(text, 20, seed=0, temperature=0.7)


def test_an_error_of_the_server_is_shown(client, open_page):
    page, _ = open_page(f"{client.url}/?model=transformer")
    page.evaluate("() => { remote.name = 'gone'; }")
    finish(page, "#write")
    assert "no model 'gone'; there are: gru" in page.inner_text("#status")


def test_an_error_while_a_text_is_measured_is_shown(open_page):
    with running({"ngram": small_model("ngram")}, Settings(seconds=0.01)) as client:
        page, _ = open_page(client.url)
        page.fill("#input", TEXT * 100)
        finish(page, "#measure")
        assert "not done within 0.01 seconds" in page.inner_text("#status")


def test_another_model_is_chosen_by_the_menu(client, models, open_page):
    page, _ = open_page(client.url)
    assert page.inner_text("#title") == "gru"
    assert page.eval_on_selector_all("header select option", "all => all.map(one => one.value)") == list(models)
    page.select_option("header select", "bytes")
    page.wait_for_function("() => document.getElementById('title')?.textContent === 'bytes'")
    page.fill("#input", "\u00e9")
    finish(page, "#measure")
    assert page.evaluate("() => view.items.length") == 2


def test_a_page_needs_the_key_as_a_password(open_page):
    with running({"ngram": small_model("ngram")}, Settings(api_keys=(b"key",))) as client:
        page, _ = open_page(client.url, http_credentials={"username": "any", "password": "key"})
        page.fill("#length", "30")
        finish(page, "#write")
        assert page.evaluate("() => view.items.length") == 30
