"""What ``locust`` runs: one kind of user for each workload, chosen by name on its command line.

    locust -f tests/load/locustfile.py --host 127.0.0.1:50051 --headless --users 16 --spawn-rate 16 --run-time 60s Day

DRAGOMAN_SERVER names the server where --host does not; DRAGOMAN_TLS_CA and DRAGOMAN_TOKEN_FILE are those of the command
line. Without a name all kinds come in equal numbers. docs/load-testing.md says what the rows mean.
"""

from __future__ import annotations

# First of all: locust makes sockets and threads cooperative, and gRPC's core has to be told so before its
# first call (the stubs of grpc do not know the module).
import locust  # noqa: F401
from grpc.experimental import gevent as grpc_gevent  # type: ignore[attr-defined]

grpc_gevent.init_gevent()

from tests.load.grpc_users import LoadUser  # noqa: E402


class Short(LoadUser):
    """Short sentences."""

    workload = "short"


class Mixed(LoadUser):
    """Sentences of all lengths."""

    workload = "mixed"


class Document(LoadUser):
    """Documents."""

    workload = "document"


class Stream(LoadUser):
    """Translations as streams."""

    workload = "stream"


class Generate(LoadUser):
    """Continued prompts."""

    workload = "generate"


class Classify(LoadUser):
    """Labels."""

    workload = "classify"


class Day(LoadUser):
    """Everything, in shares that change over the run."""

    workload = "day"
