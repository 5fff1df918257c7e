"""TranslateMany: items in, answers out as they finish, with a bounded number under way.

No task and no future for an item: one reader submits, the mailbox settles, one writer sends all that is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import InvalidArgument, Overloaded, Unavailable, Violation
from dragoman_server.gate import Gate
from dragoman_server.service.gathering import pause
from dragoman_server.service.jobs import Job
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.receipt import receipt_message
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.responses import joined_receipt, translate_response
from dragoman_server.service.status import item_error
from dragoman_server.service.translations import Translation
from dragoman_server.service.validation import Draft, drafted, finished

MOST_ITEMS = 256
"""In one message."""
_ANSWERS = 64
_ANSWER_TOKENS = 16_384
"""In one message, of several answers together."""
_INLINE_BYTES = 16_384
"""Items up to this size together take a millisecond or two; more are looked at in another thread."""

_MANY = 64
"""Segments under way from which on answers are taken some together: a message costs as much as several answers."""
_SHARE = 16
"""One of so many segments under way may be an answer that waits for others; the lanes do not feel the lack of it."""
_LINGER_SECONDS = 0.01
"""That an answer waits for others at most. With so many under way each takes many times as long."""
_LONGEST_WAIT = 1.0
"""Seconds until a used-up quota is looked at again, at most."""

_Prepared = Translation | Exception


class BulkCall:
    """One call; belongs to the event loop's thread.

    ``window`` bounds the segments that are submitted and not yet written; an item of more of them goes alone.
    ``charge`` takes the items off the caller's quota, which is waited for. When the gate closes, what is under way is
    answered, then the call ends with UNAVAILABLE. Each item is translated by the model that is served when it comes.
    """

    def __init__(
        self,
        gate: Gate,
        recipes: Recipes,
        mailbox: Mailbox,
        *,
        window: int,
        deadline: float | None,
        charge: Callable[[int], None] = lambda items: None,
    ) -> None:
        self._gate = gate
        self._recipes = recipes
        self._mailbox = mailbox.another()
        self._window = window
        self._deadline = deadline
        self._charge = charge
        self._jobs: dict[Job, tuple[int, Catalogue]] = {}
        """Under way, with their items' ids and what keeps their models."""
        self._held: set[Catalogue] = set()
        """One for each item that needs a model still."""
        self._ready: deque[tuple[int, Job | Exception, int]] = deque()
        """Ids and results to write, with their weights."""
        self._under_way = 0
        """Segments submitted and not yet written."""
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._error: Exception | None = None
        """What the call is to end with."""

    async def answers(
        self, requests: AsyncIterator[inference_pb2.TranslateManyRequest]
    ) -> AsyncGenerator[inference_pb2.TranslateManyResponse, None]:
        """The answers; raises what the call fails with. What is under way is cancelled when this is closed."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._news.set())
        watcher = asyncio.create_task(self._watch(reader))
        try:
            while not (reader.done() and not self._under_way):
                await self._news.wait()
                self._news.clear()
                while self._ready:
                    outcomes, weight = self._batch()
                    if outcomes:
                        yield inference_pb2.TranslateManyResponse(outcomes=outcomes)
                    self._under_way -= weight
                    self._room.set()
                if self._error is not None:
                    reader.cancel()
            if self._error is not None:
                raise self._error
        finally:
            for job in self._jobs:
                job.cancel()
            for task in (reader, watcher):
                task.cancel()
            await asyncio.gather(reader, watcher, return_exceptions=True)
            for catalogue in self._held:
                self._gate.release(catalogue)

    async def _watch(self, reader: asyncio.Task[None]) -> None:
        await self._gate.wait_closed()
        self._end(Unavailable("the server is shutting down"))
        reader.cancel()

    def _end(self, error: Exception) -> None:
        self._error = self._error or error

    async def _read(self, requests: AsyncIterator[inference_pb2.TranslateManyRequest]) -> None:
        try:
            async for message in requests:
                await self._until_room(1)
                if self._error is not None:
                    return
                if not 1 <= len(message.items) <= MOST_ITEMS:
                    fault = Violation("items", f"{len(message.items)} items", f"1 to {MOST_ITEMS}")
                    self._end(InvalidArgument([fault]))
                    return
                await self._afford(len(message.items))
                catalogues = [self._hold() for _ in message.items]
                prepared = await self._prepared(message.items, catalogues)
                for item, one, catalogue in zip(message.items, prepared, catalogues, strict=True):
                    await self._submit(item.id, one, catalogue)
        except Exception as error:  # faults of an item are its answer: these are the call's
            self._end(error)

    async def _afford(self, items: int) -> None:
        while True:
            try:
                self._charge(items)
            except Overloaded as refusal:
                await asyncio.sleep(min(refusal.retry_after, _LONGEST_WAIT))
            else:
                return

    def _hold(self) -> Catalogue:
        catalogue = self._gate.hold()
        self._held.add(catalogue)
        return catalogue

    def _release(self, catalogue: Catalogue) -> None:
        self._held.discard(catalogue)
        self._gate.release(catalogue)

    async def _prepared(
        self, items: Sequence[inference_pb2.TranslateItem], catalogues: Sequence[Catalogue]
    ) -> list[_Prepared]:
        """A translation for each item, or why there is none; all texts are tokenised together."""
        if sum(item.ByteSize() for item in items) <= _INLINE_BYTES:
            return self._prepare(items, catalogues)
        return await asyncio.to_thread(self._prepare, items, catalogues)

    def _prepare(
        self, items: Sequence[inference_pb2.TranslateItem], catalogues: Sequence[Catalogue]
    ) -> list[_Prepared]:
        return _finished([self._draft(item.request, own) for item, own in zip(items, catalogues, strict=True)])

    def _draft(self, request: inference_pb2.TranslateRequest, catalogue: Catalogue) -> Draft | Exception:
        try:
            return drafted(request, catalogue, self._recipes)
        except Exception as error:
            return error

    async def _submit(self, item_id: int, prepared: _Prepared, catalogue: Catalogue) -> None:
        if isinstance(prepared, Exception):
            self._release(catalogue)
            await self._until_room(1)
            self._under_way += 1
            self._ready.append((item_id, prepared, 1))
            self._news.set()
            return
        job = Job(prepared, self._deadline, self._mailbox, self._done)
        await self._until_room(job.weight)
        self._under_way += job.weight
        self._jobs[job] = item_id, catalogue
        try:
            while (refusal := job.submit()) is not None:
                # The queue is full, most likely with this call's own items: an answer makes room sooner.
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause(refusal)):  # as wait_for, which may lose a cancellation
                        await self._room.wait()
        except Exception as error:
            if self._ended(job) is not None:
                self._ready.append((item_id, error, job.weight))
                self._news.set()
        except asyncio.CancelledError:
            # Some of its segments are not submitted and never will be.
            if self._ended(job) is not None:
                self._under_way -= job.weight
                job.cancel()
            raise

    async def _until_room(self, weight: int) -> None:
        while self._under_way and self._under_way + weight > self._window:
            self._room.clear()
            await self._room.wait()

    def _done(self, job: Job) -> None:
        item_id = self._ended(job)
        if item_id is None:  # it was given up
            return
        self._ready.append((item_id, job, job.weight))
        self._news.set()
        if self._under_way >= _MANY:
            self._mailbox.rest(_LINGER_SECONDS, self._under_way // _SHARE)

    def _ended(self, job: Job) -> int | None:
        """The item's id, where the job was under way; its model is not needed any more."""
        item_id, catalogue = self._jobs.pop(job, (None, None))
        if catalogue is not None:
            self._release(catalogue)
        return item_id

    def _batch(self) -> tuple[list[inference_pb2.TranslateOutcome], int]:
        """Answers for one message, and the weight of what was taken off for it."""
        outcomes: list[inference_pb2.TranslateOutcome] = []
        weight = tokens = 0
        while self._ready and len(outcomes) < _ANSWERS and tokens < _ANSWER_TOKENS:
            item_id, result, its_weight = self._ready.popleft()
            weight += its_weight
            error = result.error if isinstance(result, Job) else result
            if isinstance(error, Unavailable):  # not this item's fault: its caller sends it again, elsewhere
                self._end(error)
                continue
            outcome = _failed(item_id, error) if error else _succeeded(item_id, result)
            outcomes.append(outcome)
            tokens += outcome.response.usage.target_tokens
        return outcomes, weight


def _finished(drafts: Sequence[Draft | Exception]) -> list[_Prepared]:
    # Items of one call nearly always name one model; each model's texts are tokenised together.
    encoded: dict[int, list[list[int]]] = {}
    codecs = {id(d.recipe.host.codec): d.recipe.host.codec for d in drafts if isinstance(d, Draft)}
    for key, codec in codecs.items():
        texts = [t for d in drafts if isinstance(d, Draft) and id(d.recipe.host.codec) == key for t in d.texts]
        encoded[key] = codec.encode_batch(texts)[::-1]
    results: list[_Prepared] = []
    for draft in drafts:
        if isinstance(draft, Exception):
            results.append(draft)
            continue
        mine = encoded[id(draft.recipe.host.codec)]
        ids = [mine.pop() for _ in draft.spans]
        try:
            results.append(finished(draft, ids))
        except Exception as error:
            results.append(error)
    return results


def _succeeded(item_id: int, result: Job | Exception) -> inference_pb2.TranslateOutcome:
    assert isinstance(result, Job)
    try:
        completions, translation = result.finished(), result.translation
        return inference_pb2.TranslateOutcome(
            id=item_id,
            response=translate_response(translation, completions),
            receipt=receipt_message(joined_receipt(completions), translation.host),
        )
    except Exception as error:
        return _failed(item_id, error)


def _failed(item_id: int, error: Exception) -> inference_pb2.TranslateOutcome:
    return inference_pb2.TranslateOutcome(id=item_id, error=item_error(error))
