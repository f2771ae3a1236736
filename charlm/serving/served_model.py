"""Served model: steppers, scheduler, and the tasks of each kind of request.

Texts are batched where that is faster: with a numpy engine from `MIN_BATCH` texts on, otherwise always (figures:
docs/serving.md). Texts of a model whose states cannot be concatenated are computed one by one: `lstm-ngram` on a GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from charlm.data.vocab import code_points
from charlm.evaluation.protocol import TextRange, eval_mode, scored_logits
from charlm.generation.language_model import LanguageModel
from charlm.generation.line_limit import LineLimit
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.inspection.scores import score_blocks
from charlm.inspection.totals import Totals
from charlm.serving.batch import LaneBatch, batch_axes
from charlm.serving.choice import Choice
from charlm.serving.errors import ApiError
from charlm.serving.lanes import Lane
from charlm.serving.parameters import CompletionRequest
from charlm.serving.scheduler import Job, Scheduler
from charlm.serving.settings import Settings

MIN_BATCH = 4  # texts in progress, from which on those of a numpy engine are batched
LOCKSTEP_CHARS = 64  # at the end of a prompt, which a numpy engine reads in the batch
TORCH_CHUNK = 512  # characters of a prompt in one forward pass


class ServedModel:
    """A model with its scheduler and its limits.

    Args:
        name: model name, the field `model` of a request.
        model: the model.
        settings: of the server.

    Attributes:
        created: start time, Unix seconds.
        n_lanes: texts in progress.
        n_chars: their greatest possible number of characters, prompts included.
    """

    def __init__(self, name: str, model: LanguageModel, settings: Settings) -> None:
        self.name, self.model, self.settings = name, model, settings
        self.created = int(time.time())
        self.n_lanes = self.n_chars = 0
        model.model.eval()
        n_context, bos_id = model.metadata.n_context, model.vocab.bos_id
        self._stepper = make_stepper(model.model, n_context)
        self._batch_stepper = make_stepper(model.model, n_context, n_texts=1)
        axes = None if n_context is not None else batch_axes(self._batch_stepper, bos_id)
        self._can_batch = n_context is not None or axes is not None
        self._min_batch = 1 if isinstance(self._stepper, TorchStepper) else MIN_BATCH
        self.batch = LaneBatch(axes)
        self.scheduler = Scheduler(f"charlm {name}", self.batch)

    def context_ids(self, text: str) -> list[int]:
        """Return the ids of a text, after one `bos_id` or a window of them."""
        ids: list[int] = self.model.vocab.encode(text).tolist()
        return [self.model.vocab.bos_id] * (self.model.metadata.n_context or 1) + ids

    def open_job(self, n_texts: int, n_chars: int) -> Job:
        """Return a new job, which reserves texts and characters until it is closed.

        Args:
            n_texts: number of its texts.
            n_chars: their greatest possible number of characters, including prompts and those that `logprobs` reports.

        Raises:
            ApiError: there would be too many texts or characters in progress.
        """
        settings = self.settings
        for unit, requested, current, limit, remedy in (
            ("texts", n_texts, self.n_lanes, settings.max_lanes, "ask for fewer"),
            ("characters", n_chars, self.n_chars, settings.max_chars_in_progress, "ask for fewer, or fewer logprobs"),
        ):
            if requested > limit:
                raise ApiError(400, f"the request is for {requested:,} {unit}, at most {limit:,}; {remedy}")
            if current + requested > limit:
                message = f"{self.name} has {current:,} {unit} in progress, at most {limit:,}; try again later"
                raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": "1"})
        self.n_lanes += n_texts
        self.n_chars += n_chars

        def release() -> None:
            self.n_lanes -= n_texts
            self.n_chars -= n_chars

        return Job(self.settings.seconds, release)

    def complete(self, job: Job, prompts: Sequence[str], request: CompletionRequest) -> None:
        """Start to sample the texts of a request; the results are the parts that `Choice` returns.

        Args:
            job: of len(prompts) * `request.n` texts.
            prompts: preprocessed.
            request: the request.
        """
        tasks = []
        for i in range(len(prompts) * request.n):
            prompt, seed = prompts[i // request.n], None if request.seed is None else request.seed + i % request.n
            choice = Choice(i, self.model.vocab, request.max_tokens, request.stops, request.n_likely)
            ids, n_context = self.context_ids(prompt), self.model.metadata.n_context
            longest = self.model.metadata.longest_line
            limit = None if longest is None else LineLimit(self.model.vocab, longest, ids)
            lane = Lane(job, choice, ids, request.params, seed, limit, n_context)
            tasks.append(self._sample(lane, prompt, request.echo))
        self.scheduler.submit(job, tasks)

    def _sample(self, lane: Lane, prompt: str, echo: bool) -> Iterator[None]:
        """Sample one text of a request (a task)."""
        if echo:
            yield from self._echo(lane, prompt)
        if lane.choice.max_tokens == 0:
            lane.job.emit(lane.choice.end())
            lane.job.is_urgent = True
            return
        is_batched = self._can_batch and lane.seed is None and self.n_lanes >= self._min_batch
        if not is_batched:
            yield from lane.run_alone(self._stepper.fresh())
            return
        stepper = self._batch_stepper.fresh()
        if isinstance(stepper, TorchStepper):
            yield from lane.read_prompt(stepper, 1, TORCH_CHUNK)
        else:
            yield from lane.read_prompt(stepper, LOCKSTEP_CHARS)
        self.batch.add(lane, stepper)

    def _echo(self, lane: Lane, prompt: str) -> Iterator[None]:
        """Emit a prompt, with log-probabilities by the evaluation protocol if they were asked for."""
        ids, n_read = lane.context_ids[lane.n_context or 1 :], 0
        if lane.choice.n_likely is None or not ids:
            lane.job.emit(lane.choice.echo(prompt))
            return
        for logits in self._logits(ids):
            part = slice(n_read, n_read + len(logits))
            n_read = part.stop
            lane.job.emit(lane.choice.echo_part(ids[part], prompt[part], logits))
            yield

    def _logits(self, ids: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield the logits before each character of a text, chunk by chunk, (N, V)."""
        text = TextRange(torch.tensor(ids), 0, len(ids), self.model.vocab.bos_id)
        chunks = scored_logits(self.model.model, text, self.model.metadata.n_context)
        while True:
            with eval_mode(self.model.model):  # not around `yield`, where other tasks run
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk[0].float().cpu().numpy()

    def score(self, job: Job, text: str) -> None:
        """Start to score a text; the results are the lines of `charlm score --json`.

        Args:
            job: of one text.
            text: preprocessed, at least one character.
        """
        self.scheduler.submit(job, [self._score(job, text)])

    def _score(self, job: Job, text: str) -> Iterator[None]:
        model, vocab = self.model, self.model.vocab
        codepoints = code_points(text) if not vocab.is_bytes else vocab.codepoints[vocab.encode(text) - 1]
        ids = torch.from_numpy(vocab.encode(text))
        totals = Totals(1)
        for block in score_blocks([model], [TextRange(ids, 0, len(ids), vocab.bos_id)], [codepoints]):
            totals.add(block)
            rows = [
                {"offset": offset, "char": char} | row for offset, char, (row,) in block.characters([vocab.symbols])
            ]
            job.emit("".join(json.dumps(row) + "\n" for row in rows))
            yield
        job.emit(json.dumps(totals.rows([self.name])[0]) + "\n")
        job.emit(None)
        job.is_urgent = True
