// A model that its server runs: items of the text from OpenAI's completions protocol and from /v1/score.
"use strict";

class Remote {
  // name: of the model; isBytes: its symbols are bytes.
  constructor(name, isBytes) {
    Object.assign(this, { name, isBytes, text: "", nContinued: 0, controller: null });
  }

  // Read a text and write on; yield lists of items.
  async *writing(text, nRead, options) {
    this.text = "";
    this.nContinued = 0;
    yield* this.complete(text, nRead, options, options.seed);
  }

  // Write on after the text so far, with the random numbers of the next seed.
  async *continuing(options) {
    yield* this.complete(this.text, 0, options, BigInt.asUintN(64, options.seed + BigInt(++this.nContinued)));
  }

  async *reading(text) {
    this.text = text;
    this.nContinued = 0;
    if (!text) return;
    for await (const lines of this.lines("v1/score", { text }, "")) {
      const rows = lines.map((line) => JSON.parse(line));
      yield rows.filter((row) => "char" in row).map(({ char, ...rest }) => ({ symbol: char, kind: "", ...rest }));
      if (rows.at(-1)?.error) throw new Error(rows.at(-1).error.message);
    }
  }

  async *complete(prompt, nRead, { n, temperature, topP }, seed) {
    const body = { prompt, echo: nRead > 0, max_tokens: n, temperature, top_p: topP, logprobs: N_LIKELY, stream: true };
    let left = nRead; // characters of the prompt that are still to come
    for await (const lines of this.lines("v1/completions", body, `,"seed":${seed}`)) {
      const items = [];
      for (const line of lines) {
        if (!line.startsWith("data: {")) continue;
        const event = JSON.parse(line.slice(6));
        if (event.error) throw new Error(event.error.message);
        const { text, logprobs } = event.choices[0];
        this.text += text;
        logprobs.tokens.forEach((token, i) => items.push(this.item(token, left-- > 0 ? "prompt" : "", logprobs, i)));
      }
      yield items;
    }
  }

  item(token, kind, { token_logprobs: logProbs, top_logprobs: top }, i) {
    const likely = Object.entries(top[i]).map(([each, logProb]) => [this.symbol(each), Math.exp(logProb)]);
    likely.sort((a, b) => b[1] - a[1]);
    const symbol = this.symbol(token), rank = 1 + likely.findIndex(([each]) => each === symbol);
    return { symbol, kind, bits: -logProbs[i] / Math.LN2, rank: rank > N_LIKELY ? `above ${N_LIKELY}` : rank, likely: likely.slice(0, N_LIKELY) };
  }

  symbol(token) {
    return this.isBytes && token.startsWith("bytes:") ? String.fromCharCode(parseInt(token.slice(8), 16)) : token;
  }

  // Post JSON; yield the lines of the response as they come, some together. `rest`: JSON to put at the end of the body.
  async *lines(path, body, rest) {
    this.controller = new AbortController();
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: this.name, ...body }).slice(0, -1) + rest + "}",
      signal: this.controller.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let pending = "", part; !(part = await reader.read()).done;) {
      const lines = (pending + part.value).split("\n");
      pending = lines.pop();
      yield lines;
    }
  }

  stop() {
    this.controller?.abort();
  }
}

// Return a menu of the models of a server, which opens the page of the one that is chosen.
function modelMenu(names, chosen) {
  const menu = element("select"), label = element("label", "", "model ");
  for (const name of names) menu.append(new Option(name, name, name === chosen, name === chosen));
  menu.addEventListener("change", () => { location.search = "?model=" + encodeURIComponent(menu.value); });
  label.append(menu);
  return label;
}
