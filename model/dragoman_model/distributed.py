"""One process or many under ``torchrun``: rank, device and the few collective calls that training needs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def leader(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every process's CPU tensor, in the order of ranks."""
        if self.size == 1:
            return [value]
        gathered: list[Tensor] = [value] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.destroy_process_group()


def join_world(device: str = "auto") -> World:
    """Read torchrun's environment; NCCL on GPUs (one each), gloo on CPUs. ``device``: auto, cpu or cuda."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device = cuda, but this torch sees no CUDA device")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(chosen)
    if size > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    return World(rank=int(os.environ.get("RANK", "0")), size=size, device=chosen)
