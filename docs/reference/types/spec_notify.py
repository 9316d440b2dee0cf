"""The payload of spec-notify, made from payload.schema.json. Later versions within 1.x add
fields and values: ignore those that you do not know.

Needs Python 3.11 or later.
"""

from typing import Any, Literal, NotRequired, TypedDict


class Event(TypedDict):
    """What happened."""

    # What kind of event; also the X-SpecKit-Event header.
    type: Literal[
        "spec-auto.stage.completed",
        "spec-auto.pipeline.completed",
        "spec-auto.pipeline.waiting",
        "spec-kit.task.completed",
        "spec-kit.tasklist.completed",
        "spec-auto.anomaly.consensus_conflict",
        "spec-auto.anomaly.cost_threshold",
        "spec-auto.anomaly.stalled",
        "spec-kit.webhook.test",
    ] | str
    # How it ended.
    status: NotRequired[Literal["success", "failure", "halt"] | str]
    # Which stage, for a stage event, or of which stage the anomaly is.
    stage: NotRequired[Literal[
        "Constitution",
        "Specify",
        "Clarify",
        "Plan",
        "Checklist",
        "Tasks",
        "Analyze",
        "Implement",
        "Converge",
        "Validate",
        "Audit",
        "Unlock",
    ] | str]
    # Which event this is: the same one seen twice has the same key.
    idempotency_key: str
    # When the runtime accepted the event: RFC 3339 in UTC with milliseconds.
    time: str
    # Orders the events of a SPEC: each has a greater one than all that were accepted before it.
    # Gaps mean nothing.
    sequence: int
    # The key of the event that this one corrects: the same stage, told again with another status
    # because its consensus came later.
    amends: NotRequired[str]
    # Why the status is not success, one sentence each.
    reasons: NotRequired[list[str]]


class Spec(TypedDict):
    """The SPEC it happened to."""

    # The SPEC's full id.
    id: str
    # The repo's current branch; where detached the one that a CI service names, else HEAD; absent
    # outside a repo.
    branch: NotRequired[str]


class Source(TypedDict):
    """The checkout it comes from."""

    # owner/name as the git remote origin, else the first remote, has it; else the name of the
    # repo's folder.
    repo: str
    # The full id of the commit that was checked out; absent outside git, before the first commit,
    # and where only git itself could tell.
    commit: NotRequired[str]
    # The branch that was checked out, found as spec.branch is.
    branch: NotRequired[str]
    # The name of the machine; only where the config says show_host = true.
    host: NotRequired[str]


class PipelineRun(TypedDict):
    """Of a workflow run of GitHub Spec Kit: which one."""

    # The run's id: specify workflow resume takes it.
    id: NotRequired[str]
    # The folder whose .specify it stands in, relative to the repo; absent for the repo's root.
    folder: NotRequired[str]
    # The id of its workflow, where it is known.
    workflow: NotRequired[str]
    # The step that the event is about, where there is one.
    step: NotRequired[str]


class PipelineGate(TypedDict):
    """Of a run that waits at a gate: what it asks."""

    # The gate's step.
    step: NotRequired[str]
    # What is asked, where it is known.
    message: NotRequired[str]
    # The answers it takes.
    options: NotRequired[list[str]]
    # The file that is to be reviewed, where there is one.
    showFile: NotRequired[str]


class PipelineStage(TypedDict):
    # Which stage.
    stage: NotRequired[str]
    # How it ended.
    status: NotRequired[str]
    # Which try of the stage this was, from 1.
    attempt: NotRequired[int]
    # When it began, where known.
    startedAt: NotRequired[str]
    # When it ended, where known.
    completedAt: NotRequired[str]
    # How long it took in milliseconds, where both times are known.
    durationMs: NotRequired[int]


class Pipeline(TypedDict):
    """The run it belongs to. Times are RFC 3339."""

    # Which try of the stage this was, from 1; of a pipeline event, which run of the SPEC.
    attempt: NotRequired[int]
    # How many tries the host allows.
    maxAttempts: NotRequired[int]
    # When it began, where the source knows it.
    startedAt: NotRequired[str]
    # When it ended.
    completedAt: NotRequired[str]
    # Of a workflow run of GitHub Spec Kit: which one.
    run: NotRequired[PipelineRun]
    # Of a run that waits at a gate: what it asks.
    gate: NotRequired[PipelineGate]
    # For a pipeline event: from the first stage's time to the last one's, in milliseconds.
    durationMs: NotRequired[int]
    # For a pipeline event: every attempt of every stage of the run, in order.
    stages: NotRequired[list[PipelineStage]]


class Cost(TypedDict):
    """What the run cost so far, where its telemetry or the host's summary of costs says."""

    # In all, in US dollars.
    totalUsd: NotRequired[float]
    # What the host allows, in US dollars.
    budgetUsd: NotRequired[float]
    # By stage, in US dollars.
    perStage: NotRequired[dict[str, Any]]


class Anomaly(TypedDict):
    """For an anomaly: what is out of the ordinary."""

    # Of a consensus conflict: the points, as the synthesis has them: texts or objects.
    disagreements: NotRequired[list[Any]]
    # Of a cost: the threshold that was reached.
    thresholdUsd: NotRequired[float]
    # Of a cost: what the run cost so far.
    totalUsd: NotRequired[float]
    # Of a stall: the last sign of life, RFC 3339.
    since: NotRequired[str]
    # Of a cost or a stall: which run of the SPEC.
    run: NotRequired[int]
    # What to do.
    hint: NotRequired[str]


class ConsensusAgent(TypedDict):
    # The agent's name.
    agent: NotRequired[str]
    # Its model.
    model: NotRequired[str]
    # The model's release.
    model_release: NotRequired[str]
    # How it was to reason.
    reasoning_mode: NotRequired[str]


class Consensus(TypedDict):
    """What the stage's agents agreed on."""

    # The verdict in the host's word: ok, degraded, hold, conflict.
    status: NotRequired[str]
    # Who took part.
    agents: NotRequired[list[ConsensusAgent]]
    # What they agreed on, as the synthesis has it: texts or objects.
    agreements: NotRequired[list[Any]]
    # What they disagreed on, as the synthesis has it: texts or objects.
    conflicts: NotRequired[list[Any]]
    # Why lists are missing that would take the event over its limit.
    omitted: NotRequired[str]


class Task(TypedDict):
    """The task, for a task event."""

    # Its id in its list.
    id: str
    # Its title.
    title: NotRequired[str]
    # Its status as a word.
    status: NotRequired[str]
    # What a check box has in brackets between its id and its title.
    markers: NotRequired[list[str]]


class Evidence(TypedDict):
    """Where to read more."""

    # Paths relative to the repo.
    paths: list[str]


class Tasks(TypedDict):
    """The list's tasks."""

    # How many of them are Done.
    done: NotRequired[int]
    # How many there are.
    total: NotRequired[int]


class Payload(TypedDict):
    """The JSON body of every delivery in the spec-kit format. Changes within schemaVersion 1.x
    only add: consumers ignore what they do not know. An enum may get further values, and
    schemaVersion stays 1.0: do not refuse a payload for a value that is not listed here. What
    is required here stands in every payload; the rest stands where it is known."""

    # Version of this shape.
    schemaVersion: Literal["1.0"]
    # What happened.
    event: Event
    # The SPEC it happened to.
    spec: Spec
    # The checkout it comes from.
    source: Source
    # The run it belongs to. Times are RFC 3339.
    pipeline: NotRequired[Pipeline]
    # What the run cost so far, where its telemetry or the host's summary of costs says.
    cost: NotRequired[Cost]
    # For a pipeline event: what is left to do, one sentence each.
    followUps: NotRequired[list[str]]
    # For an anomaly: what is out of the ordinary.
    anomaly: NotRequired[Anomaly]
    # The guardrail's telemetry, its fields as they were written. Of a halt, error says what is
    # wrong with the file; notes says what had to be changed to make it JSON.
    telemetry: NotRequired[dict[str, Any]]
    # What the stage's agents agreed on.
    consensus: NotRequired[Consensus]
    # The task, for a task event.
    task: NotRequired[Task]
    # Where to read more.
    evidence: NotRequired[Evidence]
    # The list's tasks.
    tasks: NotRequired[Tasks]
    # For a person who looks at the sample.
    message: NotRequired[str]
