"""Whether what a server answers is what its OpenAPI document says."""

from __future__ import annotations

from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.contract.web import events_of

_DOCUMENT = "urn:openapi"


class Described:
    """A document that answers are held against."""

    def __init__(self, document: dict[str, Any]) -> None:
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_DOCUMENT, resource)

    def check_asked(self, path: str, body: dict[str, Any]) -> None:
        """Raises ValidationError where the document does not let a caller send this."""
        self._check(body, "paths", path, "post", "requestBody", "content", "application/json", "schema")

    def check(self, response: httpx.Response, path: str | None = None) -> None:
        """Raises ValidationError where the answer, or an event of it, is not as the document says.

        ``path`` is needed where it has parameters.
        """
        method = response.request.method.lower()
        kind = response.headers["content-type"].partition(";")[0]
        place = (path or response.url.path, method, "responses", str(response.status_code), "content", kind)
        if kind == "application/json":
            self._check(response.json(), "paths", *place, "schema")
            return
        for event in events_of(response.text.replace("data: [DONE]\n\n", "")):
            self._check(event, "paths", *place, "x-event")

    def _check(self, value: object, *where: str) -> None:
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in where)
        Draft202012Validator({"$ref": f"{_DOCUMENT}#/{pointer}"}, registry=self._registry).validate(value)
