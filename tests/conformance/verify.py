"""Has the Python libraries verify the requests in a folder (see capture.py): as they came, and tampered."""

import base64
import json
import os
import pathlib
import sys
from datetime import datetime
from importlib.metadata import version

import standardwebhooks
import svix.webhooks
from cloudevents.core.bindings import http as binding
from cloudevents.v1.http import from_http, from_json

STANDARD = "standardwebhooks", standardwebhooks.Webhook, standardwebhooks.WebhookVerificationError
SVIX = "svix", svix.webhooks.Webhook, svix.webhooks.WebhookVerificationError
SECRETS = {
    "/spec-kit": [os.environ["CURRENT"], os.environ["PREVIOUS"]],
    "/cloudevents": [os.environ["CLOUDEVENTS"]],
}
OTHER = {"/spec-kit": os.environ["CLOUDEVENTS"], "/cloudevents": os.environ["CURRENT"]}
TYPES = ["spec-auto.stage.completed", "spec-kit.task.completed", "spec-kit.webhook.test"]

failures = 0
checks = 0


def check(library: str, what: str, problem: str | None) -> None:
    global failures, checks
    checks += 1
    failures += problem is not None
    print("ok    " if problem is None else "FAILED", f"PyPI {library} {version(library)}: {what}", problem or "")


def equal(library: str, what: str, value: object, expected: object) -> None:
    check(library, what, None if value == expected else f"{value!r}, not {expected!r}")


def outcome(library: tuple, secret: str, body: bytes, headers: dict) -> str:
    """Accepted, refused, or the error that is neither."""
    _, webhook, refusal = library
    try:
        webhook(secret).verify(body, headers)
    except refusal as error:
        return f"refused: {error}"
    except Exception as error:
        return f"an error: {error!r}"
    return "accepted"


def changed(text: str, old: str, new: str) -> str:
    assert old in text and old != new
    return text.replace(old, new)


def tampered(body: bytes, headers: dict):
    """What is changed, and the request with that."""
    time = int(headers["webhook-timestamp"])
    id = headers["webhook-id"]
    # The first character: at the end, two texts can be the same bytes.
    forged = " ".join(
        f"v1,{'B' if token[3] == 'A' else 'A'}{token[4:]}" for token in headers["webhook-signature"].split(" ")
    )
    yield "another body", changed(body.decode(), "SPEC-KIT-065", "SPEC-KIT-066").encode(), headers
    yield "a body with a space more", body + b" ", headers
    yield "another id", body, headers | {"webhook-id": f"{'1' if id[0] == '0' else '0'}{id[1:]}"}
    yield "another second", body, headers | {"webhook-timestamp": str(time - 1)}
    yield "ten minutes earlier", body, headers | {"webhook-timestamp": str(time - 600)}
    yield "ten minutes later", body, headers | {"webhook-timestamp": str(time + 600)}
    yield "another signature", body, headers | {"webhook-signature": forged}
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"]:
        yield f"no {name}", body, {key: value for key, value in headers.items() if key != name}


def signatures(request: dict) -> None:
    path, headers, body = request["path"], request["headers"], request["body"]
    secrets = SECRETS[path]
    about = f"{path[1:]} {headers['x-speckit-event']}"
    for library in [STANDARD, SVIX]:
        name = library[0]
        tokens = headers["webhook-signature"].split(" ")
        equal(name, f"{about}: one signature for each secret", len(tokens), len(secrets))
        for number, secret in enumerate(secrets, 1):
            with_secret = f"{about}, secret {number}"
            equal(name, f"{with_secret}: accepted", outcome(library, secret, body, headers), "accepted")
            for what, other_body, other_headers in tampered(body, headers):
                result = outcome(library, secret, other_body, other_headers)
                problem = None if result.startswith("refused: ") else result
                check(name, f"{with_secret}: refused with {what}", problem)
        result = outcome(library, OTHER[path], body, headers)
        check(name, f"{about}: refused by another secret", None if result.startswith("refused: ") else result)


def cloud_event(request: dict, spec_kit: dict) -> None:
    """`spec_kit`: the other delivery of the event."""
    name = "cloudevents"
    headers, body = request["headers"], request["body"]
    data = json.loads(body)["data"]
    kind = headers["x-speckit-event"]
    expected = {
        "specversion": "1.0",
        "id": data["event"]["idempotency_key"],
        "source": f"/{data['source']['repo']}",
        "type": kind,
        "subject": data["spec"]["id"],
        "sequence": f"{data['event']['sequence']:020}",
        "datacontenttype": "application/json",
    }
    time = data["event"]["time"]
    equal(name, f"{kind}: media type", headers["content-type"].split(";")[0], "application/cloudevents+json")
    readers = {
        "from_http": lambda: from_http(headers, body),
        "from_json": lambda: from_json(body),
        "from_http_event": lambda: binding.from_http_event(binding.HTTPMessage(headers, body)),
    }
    for reader, read in readers.items():
        try:
            event = read()
        except Exception as error:
            check(name, f"{kind}: {reader} reads it", repr(error))
            continue
        check(name, f"{kind}: {reader} reads it", None)
        attributes = event.get_attributes()
        given = {key: value for key, value in attributes.items() if key != "time"}
        equal(name, f"{kind}: {reader}: attributes", given, expected)
        equal(name, f"{kind}: {reader}: data", event.get_data(), data)
        value = attributes["time"]
        value = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        equal(name, f"{kind}: {reader}: time", value, datetime.fromisoformat(time))
    if kind == "spec-kit.webhook.test":
        return
    equal(name, f"{kind}: data is what spec-kit got", data, json.loads(spec_kit["body"]))


def main() -> int:
    requests = []
    for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        request = json.loads(file.read_text())
        request["headers"] = {name.lower(): value for name, value in request["headers"].items()}
        request["body"] = base64.b64decode(request["body"])
        requests.append(request)
    by = {(request["path"], request["headers"]["x-speckit-event"]): request for request in requests}
    expected = {(path, kind) for path in SECRETS for kind in TYPES}
    if len(requests) != len(expected) or set(by) != expected:
        print("FAILED caught:", [(r["path"], r["headers"]["x-speckit-event"]) for r in requests])
        return 1
    versions = [f"{name} {version(name)}" for name in ["standardwebhooks", "svix", "cloudevents"]]
    print("Python", sys.version.split()[0], *versions)
    for request in by.values():
        signatures(request)
    for kind in TYPES:
        cloud_event(by["/cloudevents", kind], by["/spec-kit", kind])
    print(f"{checks} checks, {failures} failed")
    return 1 if failures else 0


sys.exit(main())
