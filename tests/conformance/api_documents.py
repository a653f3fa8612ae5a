"""Official API documents as judges: what an adapter sends and what an emulator answers must both fit them.

`GPUPLAN_API_DOCUMENTS` names the folder they are in.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4, DRAFT202012

from gpuplan.testing.emulated import Exchange

VARIABLE = "GPUPLAN_API_DOCUMENTS"
_ROOT = "urn:document"
_METHODS = ("get", "put", "post", "delete", "patch")


class ApiDocument:
    """One OpenAPI document, 2.0 to 3.1. `errors` is where it describes errors, when it does not say so itself."""

    def __init__(self, document: dict[str, Any], *, errors: str = "") -> None:
        if "swagger" in document:
            document = _of_today(document, errors)
        is_old = str(document["openapi"]).startswith("3.0")
        self._document = _with_null(document) if is_old else document
        specification = DRAFT4 if is_old else DRAFT202012
        resource = Resource(contents=self._document, specification=specification)
        self._registry: Registry[Any] = Registry().with_resource(_ROOT, resource)
        self._validator = jsonschema.Draft4Validator if is_old else jsonschema.Draft202012Validator

    @classmethod
    def named(
        cls, name: str, *, errors: str = "", mended: Mapping[str, str] = MappingProxyType({})
    ) -> "ApiDocument | None":
        """The document in the folder the environment names; None without a folder, so that a test can say so.

        `mended` are texts that it has wrong, such as patterns, and what is meant.
        """
        folder = os.environ.get(VARIABLE)
        if not folder:
            return None
        path = Path(folder) / name
        text = path.read_text()
        for wrong, meant in mended.items():
            text = text.replace(json.dumps(wrong), json.dumps(meant))
        return cls(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text), errors=errors)

    def judge(self, exchanges: Iterable[Exchange], prefix: str) -> set[str]:
        """What does not fit, each finding once. `prefix` is what stands before the document's own paths."""
        findings: set[str] = set()
        for exchange in exchanges:
            request = exchange.request
            if request.path.startswith(prefix):
                findings |= set(self._judge(exchange, request.path.removeprefix(prefix)))
        return findings

    def _judge(self, exchange: Exchange, path: str) -> Iterator[str]:
        method = exchange.request.method.lower()
        found = self._operation(method, path)
        if found is None:
            yield f"{method.upper()} {path}: not in the document"
            return
        template, pointer, operation = found
        name = f"{method.upper()} {template}"
        known = {self._resolved(parameter)["name"] for parameter in operation.get("parameters", ())}
        for parameter in exchange.request.query.keys() - known:
            yield f"{name}: parameter {parameter}: not in the document"
        yield from (f"{name}: {finding}" for finding in self._judge_request(exchange, operation, pointer))
        yield from (f"{name}: {finding}" for finding in self._judge_response(exchange, operation, pointer))

    def _judge_request(self, exchange: Exchange, operation: Mapping[str, Any], pointer: str) -> Iterator[str]:
        if not exchange.request.content:
            return
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            yield "a body that the document has not"
            return
        body = exchange.request.json()
        for field in body.keys() - self._fields(schema):
            yield f"sends {field}: not in the document"
        yield from (f"sends {f}" for f in self._errors(f"{pointer}/requestBody/content/application~1json/schema", body))

    def _judge_response(self, exchange: Exchange, operation: Mapping[str, Any], pointer: str) -> Iterator[str]:
        status, answers = str(exchange.response.status), operation["responses"]
        ranges = (status, f"{status[0]}XX", f"{status[0]}xx", "default")
        key = next((each for each in ranges if each in answers), None)
        if key is None:
            yield f"answers {status}: not in the document"
            return
        # A described answer may be kept elsewhere in the document, and an error be JSON of a kind of its own.
        place = answers[key].get("$ref", f"{pointer}/responses/{key}")
        kinds = (kind for kind in self._resolved(answers[key]).get("content", {}) if kind.endswith("json"))
        content, kind = exchange.response.content, next(kinds, None)
        if content and kind:
            path = f"{place}/content/{kind.replace('/', '~1')}/schema"
            yield from (f"answers {f}" for f in self._errors(path, json.loads(content)))

    def _operation(self, method: str, path: str) -> tuple[str, str, dict[str, Any]] | None:
        """The template with the fewest parameters that matches, so that `/a/list` is not taken for `/a/{id}`."""
        matching = [
            template
            for template, item in self._document["paths"].items()
            if method in item and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template).rstrip("/") + "/?", path)
        ]
        if not matching:
            return None
        template = min(matching, key=lambda each: each.count("{"))
        item = self._document["paths"][template]
        operation = {**item[method], "parameters": [*item.get("parameters", ()), *item[method].get("parameters", ())]}
        return template, f"#/paths/{template.replace('~', '~0').replace('/', '~1')}/{method}", operation

    def _errors(self, pointer: str, value: object) -> Iterator[str]:
        schema = {"$ref": f"{_ROOT}{pointer.replace('{', '%7B').replace('}', '%7D')}"}
        for error in self._validator(schema, registry=self._registry).iter_errors(value):
            where = re.sub(r"\[\d+\]", "[]", error.json_path)
            # Of what is required the message alone names the one that is missing.
            rule = f"{error.validator} {json.dumps(error.validator_value, default=str)[:80]}"
            yield f"{where}: {error.message if error.validator == 'required' else rule}"

    def _fields(self, schema: dict[str, Any]) -> set[str]:
        """The names of an object's fields, in all the parts it is made of."""
        whole = self._resolved(schema)
        parts = [self._fields(part) for part in whole.get("allOf", ())]
        return {*whole.get("properties", {}), *(name for part in parts for name in part)}

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            target: Any = self._document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
            schema = target
        return schema


def _of_today(document: dict[str, Any], errors: str) -> dict[str, Any]:
    """An OpenAPI 2.0 document in the words of 3.0: bodies beside parameters, answers by their type."""
    paths = {}
    for template, item in document["paths"].items():
        shared = [_found(document, parameter) for parameter in item.get("parameters", ())]
        paths[template] = {
            name: _operation_of_today(document, item[name], shared, errors) for name in item if name in _METHODS
        }
    return {**document, "openapi": "3.0.0", "paths": paths, "definitions": _either(document["definitions"])}


def _operation_of_today(
    document: dict[str, Any], operation: dict[str, Any], shared: list[dict[str, Any]], errors: str
) -> dict[str, Any]:
    parameters = [*shared, *(_found(document, parameter) for parameter in operation.get("parameters", ()))]
    body = next((each["schema"] for each in parameters if each["in"] == "body"), None)
    if body is not None and body.get("$ref", "").endswith(".Patch"):
        # Of a patch it says no more than that it is an object: what is applied is a part of what comes back.
        body = operation["responses"]["200"]["schema"]
    answers = {status: {"content": _content(answer.get("schema"))} for status, answer in operation["responses"].items()}
    if errors:
        answers |= {"4XX": {"content": {"application/json": {"schema": {"$ref": errors}}}}}
    found: dict[str, Any] = {"parameters": [each for each in parameters if each["in"] != "body"], "responses": answers}
    return {**found, "requestBody": {"content": {"application/json": {"schema": body}}}} if body else found


def _content(schema: dict[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {}
    return {"text/plain" if schema.get("type") == "string" else "application/json": {"schema": schema}}


def _found(document: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = (
        document["parameters"][parameter["$ref"].rpartition("/")[2]] if "$ref" in parameter else parameter
    )
    return named


def _either(value: Any) -> Any:
    """What may be a number or a text is written down as a text there."""
    if isinstance(value, list):
        return [_either(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {} if value.get("format") == "int-or-string" else {name: _either(item) for name, item in value.items()}


def _with_null(value: Any) -> Any:
    """`nullable: true` of OpenAPI 3.0 in the words of JSON Schema."""
    if isinstance(value, list):
        return [_with_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {name: _with_null(item) for name, item in value.items()}
    if converted.get("nullable") is True and isinstance(converted.get("type"), str):
        converted["type"] = [converted["type"], "null"]
        if "enum" in converted:
            converted["enum"] = [*converted["enum"], None]
    return converted
