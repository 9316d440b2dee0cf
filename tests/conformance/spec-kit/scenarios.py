"""Runs workflows with a real specify-cli under a real serve, and compares what is told with what happened.

scenarios.py SPECIFY SPEC_NOTIFY. Prints what each scenario told and how long after the log's line it came; exits 1 if
something is missing, too much or late.
"""

import http.server
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

SPECIFY, PROGRAM = sys.argv[1:3]
PATIENCE = 30
# After the line of its log, in seconds: an end or a stage, a gate that is paused; a gate at a terminal.
PROMPT, AT_A_TERMINAL = 1.0, 6.0

SHELL = """schema_version: "1.0"
workflow: {id: shell-demo, name: Shell, version: "1.0.0", author: me, description: shell steps and a gate}
inputs:
  end: {type: string, default: "true"}
steps:
  - {id: first, type: shell, run: "echo first"}
  - id: review
    type: gate
    message: "Review {{ steps.first.output.exit_code }}"
    options: [approve, reject]
    on_reject: abort
  - {id: last, type: shell, run: "{{ inputs.end }}"}
"""

STAGES = """schema_version: "1.0"
workflow: {id: stages, name: Stages, version: "1.0.0", author: me, description: command steps}
steps:
  - {id: specify, command: speckit.specify, integration: claude, input: {args: "a board"}}
  - id: plan
    command: speckit.plan
    integration: claude
    continue_on_error: true
    input: {args: fail}
  - id: review
    type: gate
    message: "Go on?"
    options: [approve, reject]
  - {id: tasks, command: speckit.tasks, integration: claude, input: {args: ""}}
"""

BRANCHES = """schema_version: "1.0"
workflow: {id: branches, name: Branches, version: "1.0.0", author: me, description: a branch, a loop and a fan-out}
steps:
  - {id: flaky, type: shell, run: "exit 3", continue_on_error: true}
  - id: branch
    type: if
    condition: "{{ steps.flaky.output.exit_code != 0 }}"
    then:
      - {id: repair, type: shell, run: "echo repaired"}
  - id: again
    type: do-while
    condition: "{{ steps.analyze.output.exit_code == 0 }}"
    max_iterations: 3
    steps:
      - {id: analyze, command: speckit.analyze, integration: claude, input: {args: ""}}
  - id: each
    type: fan-out
    items: "{{ ['a','b'] }}"
    step: {id: one, type: shell, run: "echo {{ item }}"}
"""

SLEEP = """schema_version: "1.0"
workflow: {id: sleeper, name: Sleeper, version: "1.0.0", author: me, description: a step that takes long}
steps:
  - {id: sleep, type: shell, run: "sleep 30"}
"""

CALLER = """schema_version: "1.0"
workflow: {id: caller, name: Caller, version: "1.0.0", author: me, description: calls another workflow}
steps:
  - {id: review, type: workflow, workflow: inner}
"""

INNER = """schema_version: "1.0"
workflow: {id: inner, name: Inner, version: "1.0.0", author: me, description: is called}
steps:
  - {id: checklist, command: speckit.checklist, integration: claude, input: {args: ""}}
  - {id: review, type: gate, message: "Inside?", options: [approve, reject]}
  - {id: plan, command: speckit.plan, integration: claude, input: {args: fail}}
"""

# What an agent would leave.
AGENT = """#!/bin/sh
case "$*" in
*specify*) mkdir -p specs/002-kanban && echo '{"feature_directory":"specs/002-kanban"}' >.specify/feature.json ;;
*plan*fail*) echo 'the agent gave up' >&2; exit 4 ;;
esac
"""


class Caught(http.server.BaseHTTPRequestHandler):
    deliveries = []

    def do_POST(self):
        arrived = time.time()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.deliveries.append((arrived, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


class Repo:
    def __init__(self, folder, port):
        self.folder, self.seen, self.failed = Path(folder), 0, False
        tools = self.folder / "tools"
        tools.mkdir()
        (tools / "claude").write_text(AGENT)
        (tools / "claude").chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SECRET": "x" * 40, "TERM": "dumb"}
        subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
        init = [SPECIFY, "init", "--here", "--force", "--integration", "claude", "--ignore-agent-tools", "--script", "sh"]
        ran = subprocess.run(init, cwd=folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (self.folder / ".spec-kit").mkdir()
        (self.folder / ".spec-kit" / "config.toml").write_text(
            f'[spec_ops.webhooks]\nenabled = true\nspool_dir = "spool"\n[[spec_ops.webhooks.subscriptions]]\n'
            f'id = "one"\nurl = "http://127.0.0.1:{port}/"\nsecret_env = "SECRET"\nmax_in_flight = 1\n'
        )
        for name, text in [("shell", SHELL), ("stages", STAGES), ("branches", BRANCHES), ("sleep", SLEEP), ("caller", CALLER), ("inner", INNER)]:
            (self.folder / f"{name}.yml").write_text(text)
        self.piped("add", "inner.yml")
        self.log = open(self.folder / "serve.log", "wb")
        self.serve = subprocess.Popen([PROGRAM, "serve"], cwd=folder, env=self.environment, stdout=self.log, stderr=self.log)
        self.wait("the baseline", lambda: (self.folder / "spool" / "watch.jsonl").exists())

    def wait(self, what, condition):
        end = time.time() + PATIENCE
        while not condition():
            if time.time() > end:
                raise TimeoutError(what)
            time.sleep(0.01)

    def runs(self):
        return {path.name for path in (self.folder / ".specify/workflows/runs").glob("*")}

    def piped(self, *arguments):
        """Without a terminal, to its end; the run's id."""
        before = self.runs()
        command = [SPECIFY, "workflow", *arguments]
        subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, stdin=subprocess.DEVNULL)
        return next(iter(self.runs() - before), None)

    def at_a_terminal(self, *arguments):
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(self.folder)
            os.execve(SPECIFY, [SPECIFY, "workflow", *arguments], self.environment)
        shown = bytearray()

        def read():
            try:
                while piece := os.read(terminal, 4096):
                    shown.extend(piece)
            except OSError:
                pass

        threading.Thread(target=read, daemon=True).start()
        return process, terminal, shown

    def expect(self, name, expected, run=None):
        """Waits for these events, `kind what status`, and that there are no others."""
        try:
            self.wait(name, lambda: len(Caught.deliveries) >= self.seen + len(expected))
        except TimeoutError:
            pass
        time.sleep(0.3)
        found = Caught.deliveries[self.seen :]
        self.seen = len(Caught.deliveries)
        told, late = [], []
        for arrived, body in found:
            event, pipeline = body["event"], body["pipeline"]
            key = event["idempotency_key"].split(":")
            told.append(f"{key[1]} {event['status']}" if len(key) == 3 else f"{key[1]}:{key[2]} {event['status']}")
            began = pipeline.get("completedAt") or pipeline["startedAt"]
            late.append(arrived - seconds(began))
            is_late = late[-1] > (AT_A_TERMINAL if event["type"].endswith("waiting") else PROMPT)
            if is_late or (run and pipeline["run"]["id"] != run):
                self.failed = True
                print(f"   LATE or of another run: {told[-1]} after {late[-1]:.3f} s")
        ok = told == expected
        self.failed |= not ok
        figures = ", ".join(f"{one} (+{wait:.3f} s)" for one, wait in zip(told, late))
        print(f"   {'ok  ' if ok else 'FAIL'} {name}: {figures or 'nothing'}")
        if not ok:
            print(f"        expected {expected}")
        return [body for _, body in found]

    def check(self, what, is_so):
        if not is_so:
            self.failed = True
            print(f"   FAIL {what}")

    def answer(self, name, word, expected, *arguments, gate):
        """A run that stands at a gate at its terminal until it is told; then a person answers."""
        process, terminal, shown = self.at_a_terminal(*arguments)
        bodies = self.expect(f"{name}, unanswered", [gate])
        if bodies:
            asked = bodies[0]["pipeline"]["gate"]
            self.check(f"what the gate asks: {asked}", asked["options"] == ["approve", "reject"])
        os.write(terminal, f"{word}\n".encode())
        os.waitpid(process, 0)
        os.close(terminal)
        return self.expect(f"{name}, {word}", expected)


def scenarios(repo):
    run = repo.piped("run", "shell.yml")
    paused = repo.expect("a gate without a terminal", ["gate-review-1 halt"], run)
    repo.check("the paused gate's message", paused and paused[0]["pipeline"]["gate"]["message"] == "Review 0")
    repo.answer("resumed at a terminal", "approve", ["pipeline:attempt-1 success"], "resume", run, gate="gate-review-2 halt")
    repo.answer("begun at a terminal", "reject", ["pipeline:attempt-1 halt"], "run", "shell.yml", gate="gate-review-1 halt")

    run = repo.piped("run", "shell.yml", "--input", "end=exit 7")
    repo.expect("a gate without a terminal", ["gate-review-1 halt"], run)
    process, terminal, shown = repo.at_a_terminal("resume", run)
    repo.wait("the prompt", lambda: b"Choose" in shown)
    os.write(terminal, b"1\n")
    os.waitpid(process, 0)
    os.close(terminal)
    failed = repo.expect("answered at once, then a step fails", ["pipeline:attempt-1 failure"], run)
    repo.check("the step and its error", failed and failed[0]["event"]["reasons"][0].startswith("step last: "))

    run = repo.piped("run", "stages.yml")
    stages = ["specify:attempt-1 success", "plan:attempt-1 failure", "gate-review-1 halt"]
    bodies = repo.expect("command steps, one of them continues on error", stages, run)
    repo.check("the SPEC", {body["spec"]["id"] for body in bodies} == {"002-kanban"})
    rest = ["tasks:attempt-1 success", "pipeline:attempt-1 success"]
    end = repo.answer("resumed at a terminal", "approve", rest, "resume", run, gate="gate-review-2 halt")
    repo.check("all stages in the end", end and len(end[-1]["pipeline"].get("stages", [])) == 3)

    run = repo.piped("run", "branches.yml")
    loop = [f"analyze:attempt-{n} success" for n in (1, 2, 3)]
    repo.expect("a branch, a loop and a fan-out", [*loop, "pipeline:attempt-1 success"], run)

    run = repo.piped("run", "caller.yml")
    if run is None:
        print("   --   this version calls no other workflows")
    else:
        bodies = repo.expect("a workflow that is called", ["checklist:attempt-1 success", "gate-review-1 halt"], run)
        repo.check("the gate of the inner one", bodies and bodies[-1]["pipeline"]["gate"].get("message") == "Inside?")
        rest = ["plan:attempt-1 failure", "pipeline:attempt-1 failure"]
        end = repo.answer("resumed at a terminal", "approve", rest, "resume", run, gate="gate-review-2 halt")
        repo.check("one reason, of the inner step", end and len(end[-1]["event"]["reasons"]) == 1)

    process, terminal, shown = repo.at_a_terminal("run", "sleep.yml")
    repo.wait("the step", lambda: b"sleep" in shown)
    time.sleep(0.5)
    os.write(terminal, b"\x03")
    os.waitpid(process, 0)
    os.close(terminal)
    repo.expect("interrupted at its terminal", ["interrupted-1 halt"])

    process, terminal, shown = repo.at_a_terminal("run", "sleep.yml")
    repo.wait("the step", lambda: b"sleep" in shown)
    time.sleep(0.5)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    time.sleep(2)
    repo.expect("killed in the middle of a step", [])


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Caught)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp()
    repo = Repo(folder, server.server_address[1])
    try:
        scenarios(repo)
    finally:
        repo.serve.terminate()
        code = repo.serve.wait()
        repo.log.close()
        log = (repo.folder / "serve.log").read_text()
    if code != 0 or " WARN " in log or repo.failed:
        print(log)
    shutil.rmtree(folder)
    sys.exit(1 if repo.failed or code != 0 else 0)


main()
