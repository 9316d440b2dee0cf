// Has the npm libraries verify the requests in a folder (see capture.py): as they came, and tampered.
import { isDeepStrictEqual } from "node:util";
import fs from "node:fs";
import path from "node:path";
import * as standardwebhooks from "standardwebhooks";
import * as svix from "svix";

const modules = path.join(import.meta.dirname, "node_modules");
const version = (name) => JSON.parse(fs.readFileSync(path.join(modules, name, "package.json"))).version;
const libraries = { standardwebhooks, svix };
const { CURRENT, PREVIOUS, CLOUDEVENTS } = process.env;
const secrets = { "/spec-kit": [CURRENT, PREVIOUS], "/cloudevents": [CLOUDEVENTS] };
const other = { "/spec-kit": CLOUDEVENTS, "/cloudevents": CURRENT };

let checks = 0;
let failures = 0;
const check = (name, what, problem) => {
  checks += 1;
  if (problem) failures += 1;
  console.log(problem ? "FAILED" : "ok    ", `npm ${name} ${version(name)}: ${what}`, problem ?? "");
};

// Accepted, refused, or the error that is neither.
const outcome = (name, secret, body, headers) => {
  const { Webhook, WebhookVerificationError } = libraries[name];
  try {
    const payload = new Webhook(secret).verify(body, headers);
    return isDeepStrictEqual(payload, JSON.parse(body)) ? "accepted" : "accepted as something else";
  } catch (error) {
    return error instanceof WebhookVerificationError ? "refused" : `an error: ${error}`;
  }
};

const tampered = (body, headers) => {
  const time = Number(headers["webhook-timestamp"]);
  const id = headers["webhook-id"];
  // The first character: at the end, two texts can be the same bytes.
  const forge = (token) => `v1,${token[3] === "A" ? "B" : "A"}${token.slice(4)}`;
  const forged = headers["webhook-signature"].split(" ").map(forge).join(" ");
  const without = (name) => Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name));
  return [
    ["another body", Buffer.from(body.toString().replaceAll("SPEC-KIT-065", "SPEC-KIT-066")), headers],
    ["a body with a space more", Buffer.concat([body, Buffer.from(" ")]), headers],
    ["another id", body, { ...headers, "webhook-id": `${id[0] === "0" ? "1" : "0"}${id.slice(1)}` }],
    ["another second", body, { ...headers, "webhook-timestamp": `${time - 1}` }],
    ["ten minutes earlier", body, { ...headers, "webhook-timestamp": `${time - 600}` }],
    ["ten minutes later", body, { ...headers, "webhook-timestamp": `${time + 600}` }],
    ["another signature", body, { ...headers, "webhook-signature": forged }],
    ...["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => [`no ${name}`, body, without(name)]),
  ];
};

const versions = Object.keys(libraries).map((name) => `${name} ${version(name)}`);
console.log("Node", process.version.slice(1), ...versions);
const folder = process.argv[2];
for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  const request = JSON.parse(fs.readFileSync(path.join(folder, file)));
  const body = Buffer.from(request.body, "base64");
  const headers = Object.fromEntries(Object.entries(request.headers).map(([key, value]) => [key.toLowerCase(), value]));
  const about = `${request.path.slice(1)} ${headers["x-speckit-event"]}`;
  for (const name of Object.keys(libraries)) {
    secrets[request.path].forEach((secret, index) => {
      const result = outcome(name, secret, body, headers);
      check(name, `${about}, secret ${index + 1}: accepted`, result === "accepted" ? null : result);
      for (const [what, otherBody, otherHeaders] of tampered(body, headers)) {
        const result = outcome(name, secret, otherBody, otherHeaders);
        check(name, `${about}, secret ${index + 1}: refused with ${what}`, result === "refused" ? null : result);
      }
    });
    const result = outcome(name, other[request.path], body, headers);
    check(name, `${about}: refused by another secret`, result === "refused" ? null : result);
  }
}
console.log(`${checks} checks, ${failures} failed`);
process.exitCode = failures === 0 && checks > 0 ? 0 : 1;
