# %% [markdown]
# # From three characters to an LSTM
#
# This notebook follows fast.ai's 2018 lesson 6: it begins with a network that reads three characters, turns it into a
# loop, and ends with a GRU and an LSTM. All models come from the package. The formulas are shown here; the code of each
# model is one short file in `charlm/models/`.
#
# The networks are small and see only a part of the text, so that the notebook runs in less than a minute on two CPU
# cores. `charlm lesson` trains the full ladder and compares it with the published results.
#
# To run it: `pip install -e '.[lesson]' jupyterlab`, then `jupyter lab docs/lesson.ipynb`. Its source is
# `docs/lesson.py`; `python docs/build_lesson.py` builds it.

# %%
import math
import random
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import charlm
from charlm.api import read_corpus
from charlm.data import Chunks, Stream, Windows
from charlm.data.named_texts import search_path
from charlm.evaluation.metrics import nats_per_char
from charlm.evaluation.protocol import TextRange, evaluate, evaluate_feed
from charlm.generation import LanguageModel
from charlm.inspection import (
    Surprises,
    activations,
    best_units,
    gradient_flow,
    neighbours,
    principal_components,
    score_blocks,
)
from charlm.inspection.properties import PROPERTIES
from charlm.inspection.terminal import coloured
from charlm.models import build
from charlm.recipe import Recipe
from charlm.storage.checkpoint import Metadata
from charlm.training import Callback, TrainState, fit

torch.set_num_threads(1)  # networks this small gain nothing from a second thread
torch.manual_seed(0)
plt.rcParams["figure.figsize"] = (7, 3.2)
plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# ## The text
#
# The text is Nietzsche, as in the lesson; without it, reference pages of Python. Each character gets an index. Index 0
# is kept for unknown characters (in the lesson: padding).

# %%
has_nietzsche = any((folder / "nietzsche.txt").is_file() for folder in search_path())
corpus = read_corpus(Recipe(corpus=("nietzsche" if has_nietzsche else "python-docs",), split="tail20"))
vocab, V = corpus.vocab, len(corpus.vocab)
train_ids, valid_ids = (torch.from_numpy(corpus.part(part)).long() for part in ("train", "valid"))
print(f"{corpus.name}: {len(corpus.ids):,} characters, {V} symbols")
print("".join(vocab.symbols))
print(train_ids[:10].tolist(), repr(vocab.decode(train_ids[:10].tolist())))

# %% [markdown]
# ## A mini-batch in letters
#
# The first network predicts the fourth character from three. A mini-batch has two tensors: `chars` with the shape
# (batch size, 3) and `targets` with the shape (batch size, 1).

# %%
windows_3 = Windows(train_ids, n_context=3, batch_size=512, stride=3)
chars, targets = windows_3.batch(epoch=0, step=0)
print("chars", tuple(chars.shape), "targets", tuple(targets.shape))
for row, target in zip(chars[:5], targets[:5], strict=True):
    print(f"{vocab.decode(row.tolist())!r:>8} -> {vocab.decode(target.tolist())!r}")

# %% [markdown]
# ## Three characters
#
# Each character becomes a vector, its embedding $e_i$. All three pass the same matrices:
#
# $$x_i = \mathrm{relu}(W_{eh}\, e_i) \qquad h_i = \tanh(W_{hh}\,(h_{i-1} + x_i)) \qquad
# \mathrm{logits} = W_{hv}\, h_3$$
#
# The code is in `charlm/models/char3.py`.

# %%
SIZES = {"n_embed": 42, "n_hidden": 128}
char3 = build("char3", V, **SIZES)
logits, _ = char3(chars)
print(char3)
print("logits", tuple(logits.shape))

# %% [markdown]
# There is one number for each of the `V` symbols. The **softmax** turns them into probabilities, and the **loss** is
# the mean of $-\ln p(\text{target})$, in nats per character. Here both are computed by hand.

# %%
with torch.no_grad():
    exponentials = logits[:, -1].exp()
    probs = exponentials / exponentials.sum(dim=1, keepdim=True)
    by_hand = -probs[torch.arange(len(targets)), targets[:, 0]].log().mean()
    print(f"by hand {by_hand:.4f}, in the package {nats_per_char(logits, targets):.4f}, ln V = {math.log(V):.4f}")

# %% [markdown]
# The untrained network is about as good as guessing, whose loss is $\ln V$.
#
# ## Training
#
# `charlm.training.fit` has the loop that you know: forward pass, loss, backward pass, optimiser step. A callback keeps
# the loss of every step and stops the training.


# %%
class Record(Callback):
    """Keep the loss of each step, and stop after `n_steps`."""

    def __init__(self, n_steps):
        self.n_steps, self.nats = n_steps, []

    def on_batch_end(self, state):
        self.nats.append(state.batch.loss.item())
        state.stop = state.step >= self.n_steps


def learn(model, feed, rate, n_steps, optimizer=torch.optim.Adam, **options):
    """Train for `n_steps` steps and return the loss of each."""
    record = Record(n_steps)
    fit(TrainState(model, feed, optimizer(model.parameters(), rate, **options), n_epochs=math.inf), [record])
    return record.nats


def last(nats, n=50):
    """Return the mean of the last steps' losses."""
    return sum(nats[-n:]) / n


for rate, n_steps in ((1e-2, 320), (1e-3, 320)):
    print(f"rate {rate}: {last(learn(char3, windows_3, rate, n_steps)):.3f} nats per character")

# %% [markdown]
# ## What comes next?
#
# A network knows only indices. With its vocabulary it is a `LanguageModel`, which reads and writes text, as
# `charlm.load` returns it. The lesson asked its network for the character after "y. ", "ppl", " th" and "and".


# %%
def language_model(network, n_context=None, vocab=vocab):
    """Return a network with its vocabulary; `n_context` is the length of its windows, None with a carried state."""
    symbols = vocab.codepoints.tolist()
    return LanguageModel(network, Metadata(network.name, network.config, len(vocab), symbols, False, n_context))


three = language_model(char3, n_context=3)
for text in ("y. ", "ppl", " th", "and"):
    print(f"{text!r:>6} ->", *(f"{char!r} {p:.2f} " for char, p in three.next(text, top=4).items()))

# %% [markdown]
# ## A loop, a concatenation, nn.RNN
#
# The three lines become one line in a **loop** over any number of characters:
#
# $$h_t = \tanh(W_{hh}\,(h_{t-1} + x_t))$$
#
# Adding the input to the state mixes the two. **Concatenating** keeps them apart:
#
# $$h_t = \tanh(W_{hh}\, \mathrm{relu}(W\,[h_{t-1}; e_t]))$$
#
# `nn.RNN` has this form, with one nonlinearity less:
#
# $$h_t = \tanh(W_{ih}\, e_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh})$$
#
# The three read windows of eight characters.

# %%
windows_8 = Windows(train_ids, n_context=8, batch_size=256)
for name, rate, n_steps in (("loop", 1e-2, 200), ("concat", 3e-3, 200), ("rnn", 3e-3, 450)):
    torch.manual_seed(0)
    model = build(name, V, **SIZES)
    learn(model, windows_8, rate, n_steps)
    print(f"{name:7} {last(learn(model, windows_8, rate / 5, n_steps // 3)):.3f} nats per character")
rnn = language_model(model, n_context=8)

# %% [markdown]
# ## rnn-scratch is nn.RNN
#
# `charlm/models/rnn_scratch.py` has the loop of `nn.RNN` in Python. With the same weights, both give the same numbers,
# here in double precision.

# %%
scratch = build("rnn-scratch", V, **SIZES).double()
library = build("rnn", V, **SIZES).double()
library.load_state_dict(scratch.state_dict())
chars_8, targets_8 = windows_8.batch(0, 0)
for model in (scratch, library):
    model.zero_grad()
    nats_per_char(model(chars_8, only_last=True)[0], targets_8).backward()
pairs = zip(scratch.parameters(), library.parameters(), strict=True)
differences = [(a.grad - b.grad).abs().max() for a, b in pairs]
print(f"logits differ by {(scratch(chars_8)[0] - library(chars_8)[0]).abs().max():.1e}")
print(f"gradients differ by {max(differences):.1e}")

# %% [markdown]
# ## The most probable character, again and again
#
# To write, append the predicted character and predict the next one. Always taking the most probable one ends in a
# circle: as soon as the last eight characters have occurred before, everything after them repeats. The lesson's network
# wrote "for those the same the same the same".


# %%
def write(model, text, choose, n=160):
    """Append `n` characters, each chosen from the probabilities of the next one."""
    for _ in range(n):
        text += choose(model.probs(text))
    return text


print(write(rnn, "for thos", lambda probs: max(probs, key=probs.get)))

# %% [markdown]
# So one **draws** the next character, each with its probability. The **temperature** $T$ sharpens or flattens the
# probabilities first: $p_i \propto \exp(\mathrm{logit}_i / T) = p_i^{1/T}$. `model.sample` does this, too.


# %%
def draw(temperature):
    """Return a function that draws a character."""
    return lambda probs: random.choices(list(probs), [p ** (1 / temperature) for p in probs.values()])[0]


for temperature in (0.3, 0.7, 1.0, 1.5):
    random.seed(1)
    print(f"T = {temperature}: {write(rnn, 'for thos', draw(temperature), 90)!r}")

# %%
probs = np.array([*rnn.next("for thos", top=15).values()])
for temperature in (0.3, 1.0, 1.5):
    sharpened = probs ** (1 / temperature)
    plt.plot(sharpened / sharpened.sum(), marker="o", label=f"T = {temperature}")
plt.xlabel("symbols, most probable first")
plt.ylabel("probability")
plt.legend()
plt.show()

# %% [markdown]
# ## An output at every step
#
# A window of eight characters has one target, and the next window repeats seven of its characters. It is cheaper to
# predict after *every* character: eight targets for the same work. The text is cut into chunks that do not overlap.

# %%
chunks = Chunks(train_ids, bptt=8, batch_size=128)
chars, targets = chunks.batch(0, 0)
print("chars", tuple(chars.shape), "targets", tuple(targets.shape))
print("chars  ", " ".join(map(repr, vocab.decode(chars[0].tolist()))))
print("targets", " ".join(map(repr, vocab.decode(targets[0].tolist()))))

# %% [markdown]
# The loss is higher than with windows, because the first characters of a chunk have almost nothing before them.

# %%
model = build("rnn", V, **SIZES)
learn(model, chunks, 3e-3, 150)
with torch.no_grad():
    logits = torch.cat([model(chunks.batch(1, step)[0])[0] for step in range(80)])
    targets = torch.cat([chunks.batch(1, step)[1] for step in range(80)])
    by_position = [nats_per_char(logits[:, [t]], targets[:, [t]]).item() for t in range(8)]
plt.bar(range(1, 9), by_position)
plt.xlabel("position in the chunk")
plt.ylabel("nats per character")
plt.show()

# %% [markdown]
# ## Starting from the identity
#
# Each step multiplies the state, and on the way back its gradient, by $W_{hh}$. Most matrices shrink or stretch a
# vector a little; eight times a little is a lot. With $W_{hh} = I$ nothing is lost at the start (Le et al.,
# 2015). Their paper uses ReLU, here `nonlinearity="relu"`; the lesson keeps tanh.
#
# The lesson starts from the identity *and* takes ten times the learning rate; together they improve its loss from 2.00
# to 1.84. The curves separate the two: over only eight steps, the higher rate alone does it. The identity does better
# with ReLU than with tanh, which shrinks the state at every step.


# %%
def smooth(values, beta=0.9):
    """Return the moving average of the values, without its bias towards the initial 0."""
    mean, means = 0.0, []
    for i, value in enumerate(values, start=1):
        mean = beta * mean + (1 - beta) * value
        means.append(mean / (1 - beta**i))
    return means


for init, nonlinearity, rate in (
    ("uniform", "tanh", 1e-3),
    ("uniform", "tanh", 1e-2),
    ("identity", "tanh", 1e-2),
    ("identity", "relu", 1e-2),
):
    torch.manual_seed(0)
    nats = learn(build("rnn", V, init=init, nonlinearity=nonlinearity, **SIZES), chunks, rate, 200)
    plt.plot(smooth(nats), label=f"{init}, {nonlinearity}, rate {rate}: {last(nats):.2f}")
plt.ylim(1.9, 3.5)
plt.xlabel("step")
plt.ylabel("nats per character")
plt.legend()
plt.show()

# %% [markdown]
# ## The state is carried on
#
# A chunk starts from an empty state and forgets what came before it. In a **stream**, the text is cut into 32 lanes.
# Row $i$ of a batch continues row $i$ of the batch before, so the state can be carried on. Only the gradient is cut,
# here after 32 characters (truncated backpropagation through time).

# %%
stream = Stream(train_ids, bptt=32, batch_size=32)
for step in range(3):
    print(f"step {step}:", *(repr(vocab.decode(row.tolist())) for row in stream.batch(0, step)[0][:2]))

# %% [markdown]
# ## Why gates?
#
# Three networks learn from the stream: `nn.RNN`, and a GRU and an LSTM, which have **gates**. First the reason for
# gates, then the formulas. The embedding starts near zero, so that all distances between characters are learned.

# %%
curves, models = {}, {}
for name in ("rnn", "gru", "lstm"):
    torch.manual_seed(0)
    network = build(name, V, **SIZES)
    with torch.no_grad():
        network.embed.weight *= 0.1
    curves[name] = learn(network, stream, 5e-3, 300)
    models[name] = language_model(network)
    print(f"{name:5} {last(curves[name]):.3f} nats per character in training")

# %% [markdown]
# What a network learns about distant characters, it learns through their gradient. The picture shows the norm of the
# gradient of one prediction's loss with respect to the state $k$ characters before. In `nn.RNN` it passes $k$ times
# through $W_{hh}$ and tanh and vanishes exponentially, nearly a straight line here. With gates it vanishes more slowly.

# %%
held_out = TextRange(valid_ids, first=1_000, stop=11_000)
for name, model in models.items():
    flow = gradient_flow(model.model, held_out)
    plt.semilogy(flow.lags, flow.norms[:, 0], marker="o", label=name)
plt.ylim(bottom=1e-12)
plt.xlabel("lag k, characters")
plt.ylabel("norm of the gradient")
plt.legend()
plt.show()

# %% [markdown]
# ## GRU and LSTM
#
# A **GRU** decides with an update gate $z$ what it keeps, and with a reset gate $r$ what it uses
# ($\sigma$ is the logistic function, $\odot$ the elementwise product):
#
# $$n_t = \tanh(W x_t + r_t \odot (W h_{t-1})) \qquad h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}$$
#
# An **LSTM** has a cell state $c$ beside the output, which is only scaled and added to:
#
# $$c_t = f_t \odot c_{t-1} + i_t \odot g_t \qquad h_t = o_t \odot \tanh(c_t)$$
#
# Where $z_t$ or $f_t$ is near 1, the state passes unchanged, and so does its gradient. The loss in training:

# %%
for name, nats in curves.items():
    plt.plot(smooth(nats, 0.97), label=name)
plt.ylim(1.5, 3)
plt.xlabel("step")
plt.ylabel("nats per character")
plt.legend()
plt.show()

# %% [markdown]
# The loss of one batch says little. The curves are **moving averages**: $m_t = \beta\, m_{t-1} + (1 - \beta)\,
# \ell_t$, divided by $1 - \beta^t$, because $m_0 = 0$ pulls the first values down. TensorBoard smooths in the same way.

# %%
plt.plot(curves["gru"], alpha=0.3, label="each batch")
for beta in (0.9, 0.98):
    plt.plot(smooth(curves["gru"], beta), label=f"beta = {beta}")
plt.ylim(1.5, 3)
plt.xlabel("step")
plt.ylabel("nats per character")
plt.legend()
plt.show()

# %% [markdown]
# The first 50,000 characters of the held-out last fifth, each predicted once from those before it (`charlm eval`):

# %%
for name, model in models.items():
    result = evaluate(model.model, TextRange(valid_ids, 0, 50_000))
    print(f"{name:5} {result.nats_per_char:.3f} nats, {result.bits_per_char:.3f} bits per character")

# %% [markdown]
# ## Where is it surprised?
#
# The loss is a mean. For each character alone, $-\log_2 p$ is its **surprise** in bits; the redder, the larger.
# The first letters of a word are hard to predict, its end is easy. In the longest word two letters are swapped.

# %%
far_text = vocab.decode(valid_ids[:50_000].tolist())
start = far_text.index(". ", 40_000) + 2
before, passage = far_text[:start], far_text[start : far_text.index(" ", start + 400)]
longest = max(re.finditer(r"[^\W\d_]+", passage), key=lambda word: len(word[0]))
at = longest.start() + 3
misprinted = passage[:at] + passage[at + 1] + passage[at] + passage[at + 2 :]


def score(model, text):
    """Score a text that follows `before`."""
    ids = torch.from_numpy(model.vocab.encode(before + text)).long()
    codepoints = np.array([*map(ord, text)])
    (block,) = score_blocks([model], [TextRange(ids, len(before), len(ids))], [codepoints])
    return block


gru = models["gru"]
print(coloured(score(gru, misprinted), truecolor=True))

# %% [markdown]
# The better the model, the clearer the misprint. `charlm.load` returns the packaged GRU of 512 units, which was trained
# for longer on the first four fifths of Nietzsche. Its most surprising places (on the command line: `charlm score`):

# %%
packaged = charlm.load("nietzsche")
for name, model in (("trained here", gru), ("packaged", packaged)):
    block, surprises = score(model, misprinted), Surprises(4, model.vocab.symbols)
    surprises.add(block)
    print(f"{name}: {block.scores[0].bits.mean():.2f} bits per character")
    for place in surprises.finish():
        print(f"{place.bits:6.1f} bits: {place.before[-12:]!r:>16} {place.char!r}, expected {place.likely!r}")

# %% [markdown]
# ## Finding a learning rate
#
# Raise the learning rate at every step and watch the loss. A good rate lies where the loss falls steeply, well before
# it rises again. `charlm lr-find --model gru` does this on the command line.

# %%
rates = np.geomspace(1e-5, 1, 120)
model, nats = build("gru", V, **SIZES), []
optimizer = torch.optim.Adam(model.parameters(), lr=rates[0])
for step, rate in enumerate(rates):
    optimizer.param_groups[0]["lr"] = rate
    chars, targets = chunks.batch(0, step)
    loss = nats_per_char(model(chars)[0], targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    nats.append(loss.item())
plt.semilogx(rates, smooth(nats, 0.8))
plt.ylim(2, 6)
plt.xlabel("learning rate")
plt.ylabel("nats per character")
plt.show()

# %% [markdown]
# ## A picture of the embedding
#
# An embedding of two numbers can be drawn as it is; this one starts near zero, too. Characters that are used alike come
# to lie near each other; nothing else tells the network about vowels and capital letters.

# %%
torch.manual_seed(0)
model = build("char3", V, n_embed=2, n_hidden=64)
with torch.no_grad():
    model.embed.weight *= 0.1
learn(model, windows_3, 1e-2, 300)
learn(model, windows_3, 2e-3, 100)


def color_of(char):
    """Return the colour of a kind of characters."""
    if char in "aeiouy":
        return "tab:red"
    return "tab:blue" if char.islower() else "tab:green" if char.isupper() else "gray"


counts = train_ids.bincount(minlength=V)


def draw_map(points):
    """Draw the frequent characters at their points, (V, 2)."""
    plt.figure(figsize=(7, 5))
    for i, char in enumerate(vocab.symbols, start=1):
        if counts[i] > 200 and char.isprintable() and char != " ":
            x, y = points[i].tolist()
            plt.scatter(x, y, s=0)
            plt.text(x, y, char, color=color_of(char), fontsize=13)
    plt.title("red: vowels, blue: consonants, green: capitals, grey: others")


draw_map(model.embed.weight.detach())
plt.show()

# %% [markdown]
# The GRU's embedding has 42 numbers a character. Its **principal components** are the directions in which the
# characters differ most; two of them make a map, which leaves out the rest.

# %%
embedding = gru.model.embed.weight.detach().numpy()
coordinates, shares = principal_components(embedding)
draw_map(coordinates)
plt.xlabel(f"first component, {shares[0]:.0%} of the variance")
plt.ylabel(f"second, {shares[1]:.0%}")
plt.show()

# %% [markdown]
# The **nearest neighbours** use all 42 numbers: the characters whose vectors have the largest cosine.

# %%
nearest, _ = neighbours(embedding[1:], 4)
for char in "aest.,(AT17":
    if char in vocab.symbols:
        print(f"{char!r}:", *(repr(vocab.symbols[i]) for i in nearest[vocab.symbols.index(char)]))

# %% [markdown]
# ## What does a unit tell?
#
# The state of the GRU has 128 numbers, its **units**. For each property of the text, `best_units` takes the unit that
# tells it best on one half of a held-out text and measures it on the other half. The AUC is the probability that the
# unit is higher (for the sign -: lower) at a character with the property than at one without. Chance is 0.5.

# %%
chars = vocab.decode(valid_ids[held_out.first : held_out.stop].tolist())
values = activations(gru, held_out)
truths = {name: has_property(chars) for name, has_property in PROPERTIES.items()}
units = {unit.name: unit for unit in best_units(values, truths)}
for unit in units.values():
    sign = "+" if unit.sign > 0 else "-"
    print(f"{unit.name:33} unit {unit.unit:3} {sign}  AUC {unit.auc:.2f}, shuffled {unit.control:.2f}")

# %% [markdown]
# Words are learned first; quotes, brackets and lines are too long for so short a training. The best unit for the later
# letters of a word, along a line of text:

# %%
unit = units["after the third letter of a word"]
start = chars.index("\n") + 1
line = slice(start, start + 70)
plt.figure(figsize=(11, 2.4))
plt.bar(range(70), values[line, unit.unit], color=np.where(truths[unit.name][line], "tab:orange", "tab:blue"))
plt.xticks(range(70), chars[line].replace("\n", "↵"), family="monospace")
plt.margins(x=0.01)
plt.ylabel(f"unit {unit.unit}")
plt.title(f"orange: {unit.name}")
plt.show()

# %% [markdown]
# `charlm inspect` shows embedding, units and gradient flow of any trained model as a page.

# %% [markdown]
# ## Weight decay and dropout
#
# **Weight decay** adds $\lambda/2\,\lVert w \rVert^2$ to the loss, so its gradient $\lambda w$ pulls each weight
# towards zero. The larger $\lambda$, the smaller the weights.

# %%
for decay in (0, 1e-3, 1e-2):
    torch.manual_seed(0)
    model = build("rnn", V, **SIZES)
    nats = learn(model, stream, 3e-3, 80, weight_decay=decay)
    norm = torch.cat([p.detach().flatten() for p in model.layers.parameters()]).norm()
    print(f"weight decay {decay}: norm of the recurrent weights {norm:.2f}, loss {last(nats):.3f}")

# %% [markdown]
# **Dropout** sets each number to zero with probability $p$ and divides the others by $1 - p$, so that the mean stays.
# In evaluation it does nothing.

# %%
torch.manual_seed(0)
dropout, numbers = nn.Dropout(0.5), torch.ones(10)
print("training  ", dropout.train()(numbers).tolist())
print("evaluation", dropout.eval()(numbers).tolist())
print(f"mean of 100,000 numbers in training: {dropout.train()(torch.ones(100_000)).mean():.3f}")

# %% [markdown]
# ## SGD, momentum and Adam by hand
#
# With the gradient $g$ and the learning rate $\eta$:
#
# - **SGD**: $w \leftarrow w - \eta\, g$
# - **momentum**: $v \leftarrow \mu v + g$, then $w \leftarrow w - \eta\, v$
# - **Adam**: $m \leftarrow \beta_1 m + (1 - \beta_1) g$ and $s \leftarrow \beta_2 s + (1 - \beta_2) g^2$, then
#   $w \leftarrow w - \eta\, \hat m / (\sqrt{\hat s} + \epsilon)$ with $\hat m = m / (1 - \beta_1^t)$,
#   $\hat s = s / (1 - \beta_2^t)$
#
# The paths in a curved valley, by hand and by `torch.optim`:


# %%
def valley(w):
    """A loss with a steep and a flat direction."""
    return (1 - w[0]) ** 2 + 5 * (w[1] - w[0] ** 2) ** 2


def sgd(gradients, rate=0.02):
    return -rate * gradients[-1]


def momentum(gradients, rate=0.005, mu=0.9):
    return -rate * sum(mu**i * g for i, g in enumerate(reversed(gradients)))


def adam(gradients, rate=0.1, beta1=0.9, beta2=0.999):
    m = sum((1 - beta1) * beta1**i * g for i, g in enumerate(reversed(gradients)))
    s = sum((1 - beta2) * beta2**i * g**2 for i, g in enumerate(reversed(gradients)))
    t = len(gradients)
    return -rate * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)).sqrt() + 1e-8)


# %%
def walk(change, make, n_steps=60):
    """Return the path by hand, (n_steps, 2), and its largest distance from that of torch.optim."""
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    theirs = start.clone().requires_grad_()
    optimizer, w, gradients, path, largest = make([theirs]), start, [], [], 0.0
    for _ in range(n_steps):
        here = w.clone().requires_grad_()
        gradients.append(torch.autograd.grad(valley(here), here)[0])
        w = w + change(gradients)
        optimizer.zero_grad()
        valley(theirs).backward()
        optimizer.step()
        path.append(w)
        largest = max(largest, (w - theirs.detach()).abs().max().item())
    return torch.stack(path), largest


RULES = {
    "SGD": (sgd, lambda p: torch.optim.SGD(p, 0.02)),
    "momentum": (momentum, lambda p: torch.optim.SGD(p, 0.005, momentum=0.9)),
    "Adam": (adam, lambda p: torch.optim.Adam(p, 0.1)),
}
grid = torch.meshgrid(torch.linspace(-1.6, 1.6, 80), torch.linspace(-0.5, 2, 80), indexing="xy")
plt.contour(*grid, valley(torch.stack(grid)), levels=np.geomspace(0.1, 40, 12), colors="lightgray")
for name, (change, make) in RULES.items():
    path, largest = walk(change, make)
    plt.plot(*path.T, marker=".", label=name)
    print(f"{name:9} differs from torch.optim by {largest:.1e}")
plt.plot(1, 1, "k*")
plt.legend()
plt.show()

# %% [markdown]
# ## The lesson's names and ours
#
# | lesson | here |
# | --- | --- |
# | `Char3Model` | `charlm train --model char3` |
# | `CharLoopModel` | `charlm train --model loop` |
# | `CharLoopConcatModel` | `charlm train --model concat` |
# | `CharRnn` | `charlm train --model rnn --feed windows` |
# | `CharSeqRnn` | `charlm train --model rnn --feed chunks` |
# | `CharSeqStatefulRnn` | `charlm train --model rnn`, whose feed is `stream` |
# | `CharSeqStatefulRnn2`, with `RNNCell` written out | `charlm train --model rnn-scratch` |
# | `CharSeqStatefulGRU` | `charlm train --model gru`; with `GRUCell` written out: `gru-scratch` |
# | `CharSeqStatefulLSTM` | `charlm train --model lstm` |
# | `RNNCell`, `GRUCell` | `rnn_cell`, `gru_cell` in `charlm/cells/` |
# | `get_next`, `get_next_n` | `model.next`, `model.sample`; `charlm next`, `charlm sample` |
# | `n_fac`, `n_hidden`, `bs`, `bptt` | `n_embed`, `n_hidden`, `batch_size`, `bptt` |
# | `fit`, `set_lrs`, `CosAnneal` | `charlm.training.fit`; recipe keys `learning_rate` and `schedule` |
# | `learn.lr_find` | `charlm lr-find` |
# | `torch.eye` in `h_h.weight` | `--init identity` |
#
# ## Exercises
#
# 1. Which character follows "q"? Does `char3` know it?
# 2. How much does the carried state help the GRU? Empty it before every chunk of eight characters and compare.
# 3. Start the RNN from a random orthogonal matrix instead of the identity. Does the larger rate still work?
# 4. How many parameters has a GRU of 128 units, and how many of them are recurrent?
# 5. How surprising is the passage read backwards? Compare with guessing, $\log_2 V$ bits per character.
# 6. How far does the gradient reach in an RNN that starts from the identity, with ReLU, before any training?
# 7. `brackets:4` is a text of nested brackets. Train an RNN on it. Does a unit tell how deep the nesting is?
#
# Solutions follow.

# %%
# 1. Ask for "seq" and "unq": the answer does not depend on the first two characters.
for text in ("seq", "unq"):
    print(repr(text), "->", *(f"{char!r} {p:.2f} " for char, p in three.next(text, top=2).items()))

# %%
# 2. Without a state the first characters of each chunk are hard to predict.
result = evaluate_feed(gru.model, Chunks(valid_ids[:50_000], bptt=8, batch_size=500))
print(f"state emptied every eight characters: {result.nats_per_char:.3f} nats per character")

# %%
# 3. An orthogonal matrix keeps the length of the state, like the identity.
for init in ("identity", "orthogonal"):
    torch.manual_seed(0)
    print(init, f"{last(learn(build('rnn', V, init=init, **SIZES), chunks, 1e-2, 150)):.3f}")

# %%
# 4. Three gates, each with a matrix from the embedding, one from the state, and two biases.
H, E = SIZES["n_hidden"], SIZES["n_embed"]
print(f"{gru.model.n_parameters:,} parameters, {3 * H * H:,} of them from state to state")
print(3 * (H * E + H * H + 2 * H) + V * E + (H + 1) * V)

# %%
# 5. Not much better than guessing: the letters are the same, but what was learned is their order.
for name, text in (("forwards", passage), ("backwards", passage[::-1])):
    print(f"{name:9} {score(gru, text).scores[0].bits.mean():.2f} bits per character")
print(f"guessing  {math.log2(V):.2f}")

# %%
# 6. It does not vanish: the identity passes it on, and ReLU does not shrink what is positive.
torch.manual_seed(0)
flow = gradient_flow(build("rnn", V, init="identity", nonlinearity="relu", **SIZES), held_out)
print(dict(zip(flow.lags, flow.norms[:, 0].round(3).tolist(), strict=True)))

# %%
# 7. Yes: without the depth, the next bracket cannot be predicted.
brackets = read_corpus(Recipe(corpus=("brackets:4",)))
train_brackets, valid_brackets = (torch.from_numpy(brackets.part(part)).long() for part in ("train", "valid"))
torch.manual_seed(0)
network = build("rnn", len(brackets.vocab), n_embed=16, n_hidden=64)
learn(network, Stream(train_brackets, bptt=32, batch_size=64), 1e-2, 250)
chars = brackets.vocab.decode(valid_brackets[:6_000].tolist())
values = activations(language_model(network, vocab=brackets.vocab), TextRange(valid_brackets, 0, 6_000))
(unit,) = best_units(values, {"two brackets deep": PROPERTIES["two brackets deep"](chars)})
print(f"unit {unit.unit}: AUC {unit.auc:.3f}, {unit.control:.3f} shuffled")
