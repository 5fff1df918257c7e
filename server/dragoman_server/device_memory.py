"""The memory of a lane's rows on a device: the host tells it what to do, and gets a step's candidates, nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from dragoman_server.captures import CAPTURES, Captures
from dragoman_server.cell_moves import MOST_NUMBERS, CellMover, Cells, Places, mover_type
from dragoman_server.device import Device
from dragoman_server.row_copies import Lengths
from dragoman_server.row_memory import Array, Ints, Part, RowCaches
from dragoman_server.rows import Moves

_WIDEST_CELL = 32
"""Numbers of a vector that one thread of a kernel copies."""
_NO_CAPTURE = "-1"
_numbers = itertools.count(1)
"""Of all bindings of a process: a session may be bound by several memories, and keeps captures by number."""


class DeviceCaches:
    """``RowCaches`` of a device: a cell is a position of a head. A tensor has ``most`` numbers."""

    def __init__(
        self, device: Device, mover: CellMover, shape: Sequence[int], element: str, *, most: int = MOST_NUMBERS
    ) -> None:
        self.device, self.mover, self.shape, self.element = device, mover, shape, np.dtype(element)
        layers, rows, self._heads, self._time, size = shape
        self._width = size * self.element.itemsize // mover.element.itemsize
        self._row = self._heads * self._time
        """Cells of a row in one layer, all heads'."""
        fitting = most // (rows * self._row * self._width)
        if not fitting:
            raise ValueError(f"{rows} rows of {self._time} positions: more than a GPU's kernels can count in a layer")
        # A power of two, so that the parts of other caches of fewer rows end where these do.
        self._together = 1 << (min(fitting, layers).bit_length() - 1) if fitting < layers else layers
        """Layers that lie in one piece of memory."""
        self._values = [
            mover.zeros(min(self._together, layers - first) * rows * self._row, self._width)
            for first in range(0, layers, self._together)
        ]
        self._parts = _parts(self._together, rows * self._row, self._heads, self._time)

    def layer(self, number: int) -> int:
        """Where a layer begins: its first rows are the first of its memory."""
        piece, within = divmod(number, self._together)
        address: int = self._values[piece].data_ptr()
        return address + within * self.shape[1] * self._row * self._width * self.mover.element.itemsize

    def like(self, rows: int) -> list[int]:
        """The shape with another number of rows."""
        return [self.shape[0], rows, *self.shape[2:]]

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """As ``RowCaches`` says, together; some positions more are copied, which are alike or mean nothing."""
        some = begins < ends
        if some.any():
            self._move(self, sources[some], targets[some], (int(begins[some].min()), int(ends[some].max())))

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """As ``RowCaches`` says."""
        self.copy(moves.sources, moves.targets, moves.kept, lengths[moves.sources])

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Any) -> None:
        """As ``RowCaches`` says."""
        self.write_from(values.data_ptr(), int(values.shape()[2]), rows, begins, lengths)

    def write_from(self, address: int, tokens: int, rows: Sequence[int], begins: Ints, lengths: Ints) -> None:
        """``write`` of values with so many tokens, which lie there."""
        spans = list(zip(rows, begins.tolist(), lengths.tolist(), strict=True))
        origins = np.concatenate([np.arange(begin, begin + length) for _, begin, length in spans])
        goals = np.concatenate([row * self._row + np.arange(length) for row, _, length in spans])
        cells = self._heads * tokens
        parts = _parts(self._together, cells, self._heads, tokens)
        for first, count in self._pieces(self._together):
            given = address + first * cells * self._width * self.mover.element.itemsize
            self.mover.move(
                Cells(given, count * cells, self._width),
                self._cells(first, count),
                Places(origins, parts[: count * self._heads]),
                Places(goals, self._parts[: count * self._heads]),
            )

    def take(self, row: int, staging: RowCaches, length: int) -> None:
        """As ``RowCaches`` says."""
        assert isinstance(staging, DeviceCaches)
        if length:
            self._move(staging, np.zeros(1, np.int64), np.array([row]), (0, length))

    def read(self, row: int, length: int) -> Array:
        """As ``RowCaches`` says."""
        scratch = DeviceCaches(self.device, self.mover, self.like(1), self.element.name)
        scratch._move(self, np.array([row]), np.zeros(1, np.int64), (0, self._time))
        found: Array = np.concatenate([value.numpy() for value in scratch._values])
        return found.view(self.element).reshape(scratch.shape)[:, 0, :, :length].copy()

    def _move(self, source: DeviceCaches, sources: Ints, targets: Ints, run: tuple[int, int]) -> None:
        """Copy positions of rows."""
        for first, count in self._pieces(min(self._together, source._together)):
            self.mover.move(
                source._cells(first, count),
                self._cells(first, count),
                Places(sources * source._row, source._parts[: count * self._heads]),
                Places(targets * self._row, self._parts[: count * self._heads]),
                run,
            )

    def _pieces(self, together: int) -> Iterator[tuple[int, int]]:
        """All layers, so many together: the first, and how many they are."""
        layers = self.shape[0]
        return ((first, min(together, layers - first)) for first in range(0, layers, together))

    def _cells(self, first: int, count: int) -> Cells:
        """Those of some layers in one piece of memory."""
        return Cells(self.layer(first), count * self.shape[1] * self._row, self._width)


class DeviceVectors:
    """``RowVectors`` of a device: caches of one head, whose positions are parts of the vectors."""

    def __init__(self, device: Device, mover: CellMover, shape: Sequence[int], element: str) -> None:
        self.shape, self.element = shape, np.dtype(element)
        ratio = mover.element.itemsize // self.element.itemsize
        numbers = shape[-1] // ratio
        cell = next(size for size in range(min(_WIDEST_CELL, numbers), 0, -1) if numbers % size == 0)
        self._time = numbers // cell
        self._caches = DeviceCaches(device, mover, (*shape[:2], 1, self._time, cell * ratio), element)

    def layer(self, number: int) -> int:
        """Where a layer begins."""
        return self._caches.layer(number)

    def like(self, rows: int) -> list[int]:
        """The shape with another number of rows."""
        return [self.shape[0], rows, *self.shape[2:]]

    def copy(self, sources: Ints, targets: Ints) -> None:
        """As ``RowVectors`` says."""
        self._caches.copy(sources, targets, np.zeros(len(sources), np.int64), np.full(len(sources), self._time))

    def write(self, rows: Sequence[int], values: Any) -> None:
        """As ``RowVectors`` says."""
        count = len(rows)
        begins = np.arange(count) * self._time
        self._caches.write_from(
            values.data_ptr(), count * self._time, rows, begins, np.full(count, self._time, np.int64)
        )

    def read(self, row: int) -> Array:
        """As ``RowVectors`` says."""
        found = self._caches.read(row, self._time)
        return found.reshape(self.shape[0], *self.shape[2:])


class DeviceBinding:
    """A binding to a device's memory: what the host has changed is sent, what the step has chosen is fetched.

    ``number``: of the capture that its first run makes; None: its runs are not captured.
    """

    def __init__(self, session: Any, device: Device, number: int | None, captures: Captures) -> None:
        self._session, self._device, self._captures = session, device, captures
        self.values = session.io_binding()
        self._sent: list[tuple[Array, Array, Any]] = []
        """What the host writes, what of it was sent last, and where it is on the device."""
        self._fetched: list[tuple[Array, Any]] = []
        self._steady = number is not None
        self._to_capture = device.cuda_graphs and self._steady
        self._options, self._uncaptured = ort.RunOptions(), ort.RunOptions()
        if device.cuda_graphs:
            self._options.add_run_config_entry("gpu_graph_id", _NO_CAPTURE if number is None else str(number))
            self._uncaptured.add_run_config_entry("gpu_graph_id", _NO_CAPTURE)

    def sends(self, name: str, array: Array) -> None:
        """An input that the host writes."""
        if not array.shape:
            # The operators read scalars on the processor.
            self.values.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
            return
        value = self._new(array)
        value.update_inplace(array)
        self._sent.append((array, array.copy(), value))
        self.values.bind_ortvalue_input(name, value)

    def fetches(self, name: str, array: Array) -> None:
        """An output that the host reads."""
        if not self._steady:
            # No address of the device has to stay: none is held there between two runs, however large the output.
            self.values.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
            return
        value = self._new(array)
        self._fetched.append((array, value))
        self.values.bind_ortvalue_output(name, value)

    def run(self) -> None:
        """As ``Binding`` says."""
        with self._captures.alone() if self._to_capture else self._captures.beside():
            self._run(self._options)
        self._to_capture = False

    def run_for(self, name: str) -> Array:
        """As ``Binding`` says."""
        self.values.bind_output(name, "cpu")  # as large as it turns out to be: comes after all others
        with self._captures.beside():
            self._run(self._uncaptured)
        found: Array = self.values.get_outputs()[-1].numpy()
        return found

    def _run(self, options: ort.RunOptions) -> None:
        for array, sent, value in self._sent:
            if not np.array_equal(array, sent):
                value.update_inplace(array)
                sent[...] = array
        # Returns when the device has finished.
        self._session.run_with_iobinding(self.values, options)
        for array, value in self._fetched:
            array[...] = value.numpy()

    def _new(self, array: Array) -> Any:
        device = self._device
        return ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, device.kind, device.number)


class DeviceMemory:
    """A device's memory. ``captures``: those that its runs stay clear of."""

    fixed_lengths = True

    def __init__(self, device: Device, captures: Captures = CAPTURES) -> None:
        self._device, self._captures = device, captures
        self._movers: dict[str, CellMover] = {}

    def caches(self, shape: tuple[int, int, int, int, int], element: str) -> DeviceCaches:
        """As ``RowMemory`` says."""
        return DeviceCaches(self._device, self._mover(shape[-1], element), shape, element)

    def vectors(self, shape: tuple[int, int, int, int], element: str) -> DeviceVectors:
        """As ``RowMemory`` says."""
        return DeviceVectors(self._device, self._mover(shape[-1], element), shape, element)

    def bind(
        self,
        session: Any,
        rows: int,
        inputs: Mapping[str, Array],
        parts: Iterable[Part],
        outputs: Mapping[str, Array],
        *,
        steady: bool = True,
    ) -> DeviceBinding:
        """As ``RowMemory`` says. A steady binding's addresses never change, so that its runs may be captured."""
        device = self._device
        binding = DeviceBinding(session, device, next(_numbers) if steady else None, self._captures)
        with self._captures.beside():
            for name, array in inputs.items():
                binding.sends(name, array)
            for name, array in outputs.items():
                binding.fetches(name, array)
        for past, present, whole, number in parts:
            assert isinstance(whole, DeviceCaches | DeviceVectors)
            place = device.kind, device.number, whole.element, whole.like(rows)[1:], whole.layer(number)
            binding.values.bind_input(past, *place)
            if present is not None:
                binding.values.bind_output(present, *place)
        return binding

    def run(self, session: Any, names: Sequence[str], feeds: dict[str, Array]) -> list[Any]:
        """As ``RowMemory`` says: values of the device."""
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name, self._device.kind, self._device.number)
        with self._captures.beside():
            session.run_with_iobinding(binding)
        return list(binding.get_outputs())

    def _mover(self, size: int, element: str) -> CellMover:
        """For cells of so many of ``element``."""
        kind = mover_type(size, element)
        if kind not in self._movers:
            self._movers[kind] = CellMover(self._device, kind, captures=self._captures)
        return self._movers[kind]


def _parts(layers: int, layer: int, heads: int, head: int) -> npt.NDArray[np.int64]:
    """Where the part of each layer and head begins, heads within layers: (layers * heads,)."""
    return (np.arange(layers)[:, None] * layer + np.arange(heads) * head).reshape(-1)
