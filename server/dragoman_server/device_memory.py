"""The memory of a lane's rows on a device: the host tells it what to do, and gets a step's candidates, nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from dragoman_server.cell_moves import CellMover, Cells, Places
from dragoman_server.device import Device
from dragoman_server.row_copies import Lengths
from dragoman_server.row_memory import Array, Ints, Part, RowCaches
from dragoman_server.rows import Moves

_LONGEST_BLOCK = 16
"""Positions that are copied together."""
_NO_CAPTURE = "-1"


class _Layers:
    """Memory of the device (layers, rows, ...): a row of a layer is ``size`` elements at one place."""

    def __init__(self, device: Device, mover: CellMover, shape: Sequence[int], element: str) -> None:
        self.device, self.mover, self.shape, self.element = device, mover, shape, np.dtype(element)
        self.value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), self.element, device.kind, device.number)
        self.address: int = self.value.data_ptr()
        self.size = int(np.prod(shape[2:]))
        for layer in range(shape[0]):
            mover.zero(Cells(self.layer(layer), shape[1], self.size))

    def layer(self, number: int) -> int:
        """Where a layer begins: its first rows are the first of its memory."""
        return self.address + number * self.shape[1] * self.size * self.element.itemsize

    def cells(self, width: int) -> Cells:
        """All of it."""
        return Cells(self.address, self.shape[0] * self.shape[1] * self.size // width, width)

    def like(self, rows: int) -> list[int]:
        """The shape with another number of rows."""
        return [self.shape[0], rows, *self.shape[2:]]


class DeviceCaches(_Layers):
    """``RowCaches`` of a device."""

    def __init__(self, device: Device, mover: CellMover, shape: Sequence[int], element: str) -> None:
        super().__init__(device, mover, shape, element)
        layers, rows, self._heads, self._time, self._width = shape
        self._block = next(size for size in range(min(_LONGEST_BLOCK, self._time), 0, -1) if self._time % size == 0)
        self._row = self._heads * self._time
        """Positions of a row in one layer, all heads'."""
        self._parts = _parts(layers, rows * self._row, self._heads, self._time)

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """As ``RowCaches`` says, together; some positions more are copied, which are alike or mean nothing."""
        some = begins < ends
        if some.any():
            blocks = int(begins[some].min()) // self._block, -(-int(ends[some].max()) // self._block)
            self._move(self, sources[some], targets[some], blocks)

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """As ``RowCaches`` says."""
        self.copy(moves.sources, moves.targets, moves.kept, lengths[moves.sources])

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Any) -> None:
        """As ``RowCaches`` says."""
        spans = list(zip(rows, begins.tolist(), lengths.tolist(), strict=True))
        tokens = int(values.shape()[2])
        origins = np.concatenate([np.arange(begin, begin + length) for _, begin, length in spans])
        goals = np.concatenate([row * self._row + np.arange(length) for row, _, length in spans])
        layers = len(self._parts) // self._heads
        given = Cells(values.data_ptr(), len(self._parts) * tokens, self._width)
        self.mover.move(
            given,
            self.cells(self._width),
            Places(origins, _parts(layers, self._heads * tokens, self._heads, tokens)),
            Places(goals, self._parts),
        )

    def take(self, row: int, staging: RowCaches, length: int) -> None:
        """As ``RowCaches`` says."""
        assert isinstance(staging, DeviceCaches)
        if length:
            self._move(staging, np.zeros(1, np.int64), np.array([row]), (0, -(-length // self._block)))

    def read(self, row: int, length: int) -> Array:
        """As ``RowCaches`` says."""
        scratch = DeviceCaches(self.device, self.mover, self.like(1), self.element.name)
        scratch._move(self, np.array([row]), np.zeros(1, np.int64), (0, self._time // self._block))
        found: Array = scratch.value.numpy()[:, 0, :, :length]
        return found.copy()

    def _move(self, source: DeviceCaches, sources: Ints, targets: Ints, blocks: tuple[int, int]) -> None:
        """Copy blocks of rows; in cells of one block each."""
        row, width = self._row // self._block, self._width * self._block
        self.mover.move(
            source.cells(width),
            self.cells(width),
            Places(sources * row, source._parts // self._block),
            Places(targets * row, self._parts // self._block),
            blocks,
        )


class DeviceVectors(_Layers):
    """``RowVectors`` of a device."""

    def __init__(self, device: Device, mover: CellMover, shape: Sequence[int], element: str) -> None:
        super().__init__(device, mover, shape, element)
        self._parts = np.arange(shape[0]) * shape[1]

    def copy(self, sources: Ints, targets: Ints) -> None:
        """As ``RowVectors`` says."""
        whole = self.cells(self.size)
        self.mover.move(whole, whole, Places(sources, self._parts), Places(targets, self._parts))

    def write(self, rows: Sequence[int], values: Any) -> None:
        """As ``RowVectors`` says."""
        given = Cells(values.data_ptr(), self.shape[0] * len(rows), self.size)
        origins = Places(range(len(rows)), np.arange(self.shape[0]) * len(rows))
        self.mover.move(given, self.cells(self.size), origins, Places(rows, self._parts))

    def read(self, row: int) -> Array:
        """As ``RowVectors`` says."""
        scratch = DeviceVectors(self.device, self.mover, self.like(1), self.element.name)
        origins, goals = Places([row], self._parts), Places([0], scratch._parts)
        self.mover.move(self.cells(self.size), scratch.cells(self.size), origins, goals)
        found: Array = scratch.value.numpy()[:, 0]
        return found.copy()


class DeviceBinding:
    """A binding to a device's memory: what the host has changed is sent, what the step has chosen is fetched."""

    def __init__(self, session: Any, device: Device, number: int | None) -> None:
        self._session, self._device = session, device
        self.values = session.io_binding()
        self._sent: list[tuple[Array, Array, Any]] = []
        """What the host writes, what of it was sent last, and where it is on the device."""
        self._fetched: list[tuple[Array, Any]] = []
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
        value = self._new(array)
        self._fetched.append((array, value))
        self.values.bind_ortvalue_output(name, value)

    def run(self) -> None:
        """As ``Binding`` says."""
        self._run(self._options)

    def run_for(self, name: str) -> Array:
        """As ``Binding`` says."""
        self.values.bind_output(name, "cpu")  # as large as it turns out to be: comes after all others
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
    """A device's memory."""

    fixed_lengths = True

    def __init__(self, device: Device) -> None:
        self._device = device
        self._movers: dict[str, CellMover] = {}
        self._numbers = itertools.count(1)

    def caches(self, shape: tuple[int, int, int, int, int], element: str) -> DeviceCaches:
        """As ``RowMemory`` says."""
        return DeviceCaches(self._device, self._mover(element), shape, element)

    def vectors(self, shape: tuple[int, int, int, int], element: str) -> DeviceVectors:
        """As ``RowMemory`` says."""
        return DeviceVectors(self._device, self._mover(element), shape, element)

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
        binding = DeviceBinding(session, device, next(self._numbers) if steady else None)
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
        session.run_with_iobinding(binding)
        return list(binding.get_outputs())

    def _mover(self, element: str) -> CellMover:
        if element not in self._movers:
            self._movers[element] = CellMover(self._device, element)
        return self._movers[element]


def _parts(layers: int, layer: int, heads: int, head: int) -> npt.NDArray[np.int64]:
    """Where the part of each layer and head begins, heads within layers: (layers * heads,)."""
    return (np.arange(layers)[:, None] * layer + np.arange(heads) * head).reshape(-1)
