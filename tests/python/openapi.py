"""Holds a description of calls (OpenAPI 3.1), and answers that calls have given, against what they should be.

Reads one JSON object: `description`, and `answers`, a list of `{ method, path, status, kind, body }`, where `path` is
the one of the description. Writes what is wrong, a line for each thing.
"""

import json
import sys

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def resolved(description, value):
    while "$ref" in value:
        node = description
        for part in value["$ref"].lstrip("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        value = node
    return value


def problems_of(description, schema, value):
    whole = {"allOf": [schema], "components": description["components"]}
    return [error.message for error in OAS31Validator(whole).iter_errors(value)]


def contents(description):
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            places = [operation.get("requestBody", {})]
            places += [resolved(description, answer) for answer in operation["responses"].values()]
            for place in places:
                for kind, content in place.get("content", {}).items():
                    yield f"{method} {path} {kind}", content


def main():
    given = json.load(sys.stdin)
    description = given["description"]
    for error in OpenAPIV31SpecValidator(description).iter_errors():
        print("description:", error.message, list(error.absolute_path))
    for where, content in contents(description):
        if "example" in content:
            for problem in problems_of(description, content["schema"], content["example"]):
                print(f"example of {where}: {problem}")
        elif "json" in where or "event-stream" in where:
            if "problem+json" not in where:
                print(f"{where} has no example")
    for answer in given["answers"]:
        where = f"{answer['method']} {answer['path']}"
        operation = description["paths"][answer["path"]][answer["method"].lower()]
        told = operation["responses"].get(str(answer["status"]))
        if told is None:
            print(f"{where}: {answer['status']} is not described: {answer['body']}")
            continue
        content = resolved(description, told).get("content", {})
        if answer["kind"] is None and not content:
            continue
        if answer["kind"] not in content:
            print(f"{where}: {answer['kind']} is not described")
        elif "json" in answer["kind"]:
            for problem in problems_of(description, content[answer["kind"]]["schema"], answer["body"]):
                print(f"{where}: {problem}")


main()
