"""The server's settings: a flag outranks its environment variable, that the configuration file, that the default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, IPvAnyAddress, TypeAdapter, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dragoman_server.compiled_kernels import Kernels
from dragoman_server.errors import Violation
from dragoman_server.machine import usable_cores
from dragoman_server.version_policy import MODEL_NAME, parse_policies

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["int8", "fp32", "fp16"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]
RepositoryMode = Literal["explicit", "poll"]

_HOST_NAME = TypeAdapter(
    Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*$", max_length=253)]
)
_ADDRESS: TypeAdapter[IPvAnyAddress] = TypeAdapter(IPvAnyAddress)
_ENVIRONMENT_PREFIX = "DRAGOMAN_"
_LONGEST_VALUE = 80


class SettingsError(Exception):
    """Some settings are wrong; ``violations`` names every one, where it came from, and what is allowed."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = violations
        super().__init__("\n".join(f"{v.field} = {v.value}: {v.limit}" for v in violations))


class Settings(BaseSettings):
    """Everything that may be set of a server. Frozen; unknown keys are refused."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_ENVIRONMENT_PREFIX, env_ignore_empty=True, validate_default=True
    )

    models: Path | None = Field(
        default=None, description="Model repository; default: ./models, else the one in the package"
    )
    default_model: str | None = Field(
        default=None, description="Answers requests that name no model", pattern=f"^{MODEL_NAME}$"
    )
    version_policy: str = Field(
        default="latest",
        description="Versions that are served: latest, all or pinned:N; of one model: NAME=latest; with commas",
    )
    repository_mode: RepositoryMode = Field(
        default="explicit", description="poll: the repository is followed; explicit: it is read when somebody asks"
    )
    poll_seconds: float = Field(default=10.0, ge=0.05, le=86_400, description="Between two looks at the repository")
    memory_limit: int | None = Field(
        default=None, ge=1, le=1 << 30, description="MiB that the process may hold; more models are refused"
    )
    admin: bool = Field(default=False, description="Whether models may be loaded and unloaded over the wire")
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=50051, ge=0, le=65535, description="Port to listen on; 0: any free one")
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for the JSON API, metrics and probes over HTTP; 0: any free; default: none",
    )
    otlp_endpoint: str | None = Field(
        default=None, pattern=r"^https?://\S+$", description="Collector of OpenTelemetry traces: http://HOST:PORT"
    )
    device: DeviceName = Field(
        default="auto", description="Where the graphs run; auto: on a GPU where one can be used, else on the processor"
    )
    cuda_graphs: bool = Field(
        default=False, description="On a GPU: a step is captured once for each number of rows, then launched whole"
    )
    gpu_reserve: float = Field(
        default=0.1, ge=0, le=0.9, description="Share of a GPU's memory that is left free when caches are sized"
    )
    precision: Precision = Field(default="int8", description="Which of the bundle's graphs are served")
    kernels: Kernels = Field(
        default="auto", description="Operators of int8 models: compiled, or onnxruntime's (builtin)"
    )
    lanes: int = Field(
        default_factory=usable_cores, ge=1, le=256, description="Engine threads for each model; on a GPU 1"
    )
    lane_threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Threads that compute a lane's step together; where cores are free, a lone caller waits less",
    )
    max_rows: int = Field(default=128, ge=1, le=1024, description="Hypotheses that a lane decodes at once")
    max_waiting: int = Field(default=1024, ge=1, le=1_000_000, description="Requests that may wait for a row")
    max_waiting_tokens: int = Field(
        default=65_536, ge=1, le=100_000_000, description="Source tokens that may wait for a row"
    )
    ageing: float = Field(
        default=1.0, ge=0.001, le=3600, description="Seconds of waiting that are worth one level of priority"
    )
    stream_window: int = Field(
        default=512, ge=1, le=100_000, description="Segments of one TranslateMany call that are under way at once"
    )
    slow_reader_seconds: float = Field(
        default=60.0, ge=0.05, le=3600, description="A stream of which nothing is read for so long is given up"
    )
    keepalive_seconds: float = Field(
        default=30.0, ge=0.1, le=3600, description="Between two pings to a peer; one that answers none is gone"
    )
    keepalive_timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=600, description="For the answer to a ping, until the connection is closed"
    )
    handshake_timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=600, description="For a new connection to say what it is"
    )
    grace: float = Field(default=30.0, ge=0, le=3600, description="Seconds for work in flight when the server stops")
    max_message_bytes: int = Field(default=4 << 20, ge=1024, le=64 << 20, description="Largest message, decompressed")
    max_connections: int = Field(default=4096, ge=1, le=100_000, description="Connections at one time")
    max_streams: int = Field(default=1024, ge=1, le=100_000, description="Calls of one connection at one time")
    tls_certificate: Path | None = Field(default=None, description="The server's certificate chain (PEM)")
    tls_key: Path | None = Field(default=None, description="Its private key (PEM, not encrypted)")
    tls_client_ca: Path | None = Field(
        default=None, description="Authorities (PEM): only clients with a certificate of theirs may connect"
    )
    tokens: Path | None = Field(default=None, description="File with the hashes of bearer tokens; calls need one then")
    insecure: bool = Field(
        default=False, description="Listen where others can reach it without TLS or without asking who calls"
    )
    reflection: bool = Field(default=False, description="Whether clients may ask for the services' descriptions")
    log_level: LogLevel = Field(default="info", description="Least severe messages that are logged")
    log_format: LogFormat = Field(default="auto", description="auto: console on a terminal, else JSON lines")

    @field_validator("host")
    @classmethod
    def _host_is_an_address_or_a_name(cls, host: str) -> str:
        for adapter in (_ADDRESS, _HOST_NAME):
            try:
                adapter.validate_python(host)
            except ValidationError:
                continue
            return host
        raise ValueError("an IPv4 or IPv6 address, or a host name")

    @field_validator("version_policy")
    @classmethod
    def _policies_can_be_read(cls, policy: str) -> str:
        parse_policies(policy)
        return policy

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load_settings`` hands over: it has read the other sources, and knows what came from where."""
        return (init_settings,)


def load_settings(flags: Mapping[str, object], config: Path | None = None) -> Settings:
    """Settings from the command line, the environment, the TOML file ``config`` and the defaults, in this order.

    A flag that is None was not given. Raises SettingsError with every fault of every source.
    """
    file = _read(config) if config is not None else {}
    environment = EnvSettingsSource(Settings)()
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        return Settings(**{**file, **environment, **given})
    except ValidationError as error:
        violations = []
        for fault in error.errors(include_url=False):
            key = str(fault["loc"][0])
            if key in given:
                source = f"--{key.replace('_', '-')}"
            elif key in environment:
                source = f"{_ENVIRONMENT_PREFIX}{key.upper()}"
            else:
                source = f"{key} in {config}"
            violations.append(Violation(source, _shortened(fault["input"]), _limit(fault)))
        raise SettingsError(violations) from error


def _read(config: Path) -> dict[str, object]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([Violation("--config", str(config), f"a readable file: {error.strerror}")]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([Violation("--config", str(config), f"a TOML file: {error}")]) from error


def _limit(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key; known are {', '.join(Settings.model_fields)}"
    return fault["msg"].removeprefix("Value error, ")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
