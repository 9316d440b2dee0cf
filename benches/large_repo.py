"""What a `serve` costs in a large repo of GitHub Spec Kit, and how soon it tells of a change.

large_repo.py SPEC_NOTIFY [RUNS [LISTS]]. Makes a repo with so many run folders (5,000) and task lists (500, of 60 boxes),
starts a `serve` in it and prints figures: start-up, memory, CPU at rest, and from the last write to the request.
"""

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROGRAM = os.path.realpath(sys.argv[1])
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
LISTS = int(sys.argv[3]) if len(sys.argv) > 3 else 500
BOXES = 60
WORKFLOW = "workflow:\n  id: speckit\nsteps:\n- {id: plan, command: speckit.plan}\n"
arrived = {}


class Caught(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        at = time.time()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        arrived.setdefault(body["event"]["idempotency_key"], at)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def line(event, **more):
    at = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06}+00:00"
    return json.dumps({"timestamp": stamp, "event": event, **more}) + "\n"


class Repo:
    def __init__(self, folder, port):
        self.folder, self.attempts = Path(folder), {}
        subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
        self.write(".spec-kit/config.toml", f'[spec_ops.webhooks]\nenabled = true\nspool_dir = "spool"\n'
                   f'max_concurrency = 16\n[[spec_ops.webhooks.subscriptions]]\nid = "one"\n'
                   f'url = "http://127.0.0.1:{port}/"\nsecret_env = "SECRET"\n')
        self.write(".specify/feature.json", '{"feature_directory": "specs/900-all"}')
        for run in range(RUNS):
            self.stage(run)
        for number in range(LISTS):
            self.write(self.list(number), "".join(f"- [ ] T{box:03} Part {box}\n" for box in range(BOXES)))

    def write(self, path, text):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def list(self, number):
        return f"specs/{number:03}-x/tasks.md"

    def stage(self, run):
        """A stage of a run: its key, and when its last line was written."""
        folder = f".specify/workflows/runs/{run:08x}"
        if run not in self.attempts:
            self.write(f"{folder}/workflow.yml", WORKFLOW)
            self.write(f"{folder}/state.json", json.dumps({"run_id": f"{run:08x}", "status": "running"}))
        attempt = self.attempts[run] = self.attempts.get(run, 0) + 1
        with open(self.folder / folder / "log.jsonl", "a") as log:
            log.write(line("step_started", step_id="plan", type="command"))
            log.write(line("step_completed", step_id="plan", status="completed"))
        return f"900-all:plan:attempt-{attempt}:{run:08x}", time.time()

    def tick(self, number, box):
        """A box of a list: its key, and when the list was written. None where it is ticked."""
        path = self.folder / self.list(number)
        before = path.read_text()
        after = before.replace(f"- [ ] T{box:03}", f"- [x] T{box:03}")
        if before == after:
            return None
        path.write_text(after)
        return f"{number:03}-x:{self.list(number)}#T{box:03}:done-1", time.time()


def arrive(made, seconds=60):
    end = time.time() + seconds
    while time.time() < end and not all(key in arrived for key, _ in made):
        time.sleep(0.002)


def report(what, made):
    made = [one for one in made if one]
    arrive(made)
    waits = sorted((arrived[key] - at) * 1000 for key, at in made if key in arrived)
    p50, p95 = waits[len(waits) // 2], waits[len(waits) * 95 // 100]
    lost = len(made) - len(waits)
    print(f"{what}: {len(waits)}, p50 {p50:.0f} ms, p95 {p95:.0f} ms, most {waits[-1]:.0f} ms"
          + (f", NOT TOLD: {lost}" if lost else ""), flush=True)


def one_by_one(what, change, count=40):
    made = []
    for n in range(count):
        made.append(change(n))
        arrive([one for one in made[-1:] if one])
    report(what, made)


def steady(repo, rate, seconds, first_box):
    """So many changes a second: half of them stages of 200 runs, half boxes of all lists."""
    made, began = [], time.time()
    for n in range(rate * seconds // 2):
        made.append(repo.stage(n * 17 % min(RUNS, 200)))
        made.append(repo.tick(n * 7 % LISTS, first_box + n // LISTS))
        time.sleep(max(0, began + 2 * (n + 1) / rate - time.time()))
    report(f"{rate} changes a second", made)


def figures(repo, serve, began):
    while not (repo.folder / "spool" / "watch.jsonl").exists():
        time.sleep(0.002)
    print(f"start-up, the baseline taken: {time.time() - began:.2f} s")
    arrive([repo.tick(0, BOXES - 1)])
    print(f"start-up, a change told: {time.time() - began:.2f} s")

    def used():
        found = Path(f"/proc/{serve.pid}/stat").read_text().split()
        return (int(found[13]) + int(found[14])) / os.sysconf("SC_CLK_TCK")

    def memory():
        found = Path(f"/proc/{serve.pid}/status").read_text()
        return int(found.split("VmRSS:")[1].split()[0]) / 1024

    time.sleep(3)
    before = used()
    time.sleep(20)
    print(f"at rest: {(used() - before) * 5:.1f} % of a core, {memory():.1f} MiB", flush=True)
    one_by_one("a line of a log that was there", lambda n: repo.stage(n * 37 % RUNS))
    one_by_one("a new run's first stage", lambda n: repo.stage(RUNS + n))
    one_by_one("a box", lambda n: repo.tick(n * 13 % LISTS, 0))
    steady(repo, 20, 20, 1)
    steady(repo, 100, 20, 10)
    report("all lists at once", [repo.tick(number, 30) for number in range(LISTS)])
    report("1,000 logs at once", [repo.stage(RUNS - 1 - n) for n in range(min(RUNS, 1000))])
    print(f"after all that: {memory():.1f} MiB")


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Caught)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        repo = Repo(folder, server.server_address[1])
        began = time.time()
        environment = {**os.environ, "SECRET": "x" * 40}
        serve = subprocess.Popen([PROGRAM, "serve"], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            figures(repo, serve, began)
        finally:
            serve.terminate()
            serve.wait()


main()
