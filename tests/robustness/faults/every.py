"""All kinds of fault, in the order in which a campaign injects them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.robustness.faults import (
    bundles,
    callers,
    clock,
    hostile,
    models,
    nan,
    network,
    none,
    processes,
    security,
    together,
)
from tests.robustness.faults.fault import Fault

EVERY: Sequence[Fault] = (
    callers.CancelStorm(),
    callers.DeadlineStorm(),
    callers.SlowReader(),
    callers.ClientKilled(),
    callers.QueueOverflow(),
    network.SlowNetwork(),
    network.ResetInMidStream(),
    network.ConnectionFlood(),
    network.GarbageBytes(),
    hostile.OversizedMessage(),
    hostile.OversizedMetadata(),
    hostile.MalformedMessage(),
    hostile.InvalidRequests(),
    models.ModelReloaded(),
    models.ModelUnloaded(),
    bundles.CorruptVersion(),
    bundles.MissingExternalData(),
    bundles.PathLeavesBundle(),
    bundles.DiskFull(),
    nan.NanLogits(),
    security.BadTokens(),
    security.TokensRotated(),
    security.CertificateRotated(),
    processes.ReplicaKilled(),
    processes.ServerTerminated(),
    processes.ServerKilledAndStarted(),
    processes.ServerPaused(),
    processes.DescriptorsExhausted(),
    clock.ClockJumps(),
    callers.ClientSilent(),
    together.ManyAtOnce(),
    none.NoFault(),
)
