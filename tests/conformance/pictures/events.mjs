// One event of each kind of message, in the payload's shape: `node events.mjs OUT` writes OUT/<message>.json.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const out = process.argv[2];
const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();
const spec = { id: "SPEC-KIT-065-add-webhook-notifications" };
const failed = (name) => `scenario \`${name}\` is failed, not passed or skipped`;
const scenarios = ["login keeps the cart", "retry after 429", "dead letter is replayed"];
const evidence = (stage) => ({ paths: [`evidence/spec-${stage}_2026-01-02T03-04-05Z-667.json`, "evidence/report.html"] });

const stage = (name, status, reasons, more = {}) => ({
    event: { type: "spec-auto.stage.completed", stage: name, status, reasons },
    spec,
    pipeline: { attempt: 2, maxAttempts: 3, startedAt: ago(3), completedAt: ago(0.5), durationMs: 150_000 },
    evidence: evidence(name.toLowerCase()),
    ...more,
});

const ended = (stage, status, attempt, durationMs) => ({ stage, status, attempt, durationMs });
const run = (status, stages, more = {}) => ({
    event: { type: "spec-auto.pipeline.completed", status, ...more.event },
    spec,
    pipeline: { attempt: 1, startedAt: ago(45), completedAt: ago(0), durationMs: 2_700_000, stages },
    cost: { totalUsd: 4.366 },
    followUps: more.followUps ?? [],
});
const begun = [ended("Plan", "success", 1, 150_000), ended("Tasks", "success", 1, 42_000), ended("Implement", "success", 1, 1_320_000)];
const left = ["task T7 (Retry budget per subscription) is In Progress, not Done", "task T9 (Docs for rotation) is Open, not Done"];
const unreadable = "the file is not valid JSON: expected `,` or `}` at line 17 column 111";
const late = stage("Plan", "failure", ["baseline.status is failed, not passed or skipped"]);
late.pipeline = { ...late.pipeline, startedAt: ago(2000), completedAt: ago(1995) };
const anomaly = (name, stage, anomaly, more = {}) => ({ event: { type: `spec-auto.anomaly.${name}`, stage }, spec, anomaly, ...more });

const events = {
    "01-stage-success": { ...stage("Plan", "success", []), pipeline: { attempt: 1, maxAttempts: 3, durationMs: 150_000 } },
    "02-stage-failure": stage("Validate", "failure", scenarios.map(failed), {
        telemetry: { scenarios: Array.from({ length: 12 }, (_, n) => ({ name: `s${n}`, status: "passed" })) },
    }),
    "03-stage-failure-words": stage("Implement", "failure", ["lock_status is unlocked, not locked", "hook_status is failed, not ok"]),
    "04-stage-halt": stage("Plan", "halt", ["the consensus is a conflict: 2 points of disagreement"], {
        consensus: { status: "conflict", conflicts: ["a queue per subscription or one shared file", "whether retries count against the budget"] },
    }),
    "05-stage-late": late,
    "06-scenarios": stage("Validate", "failure", [...scenarios, ...Array.from({ length: 9 }, (_, n) => `checkout step ${n + 1}`)].map(failed).concat([
        "hal.summary.status is failed: graphql_ping, healthz",
    ])),
    "07-unreadable": stage("Audit", "halt", [unreadable], { telemetry: { error: unreadable } }),
    "08-run-success": run("success", [
        ...begun, ended("Validate", "failure", 1, 310_000), ended("Validate", "success", 2, 290_000), ended("Audit", "success", 1, 90_000),
        ended("Unlock", "success", 1, 5000),
    ], { followUps: ["Audit: the consensus is degraded", ...left] }),
    "09-run-failure": run("failure", [
        ...begun, ended("Validate", "failure", 1, 310_000), ended("Validate", "failure", 2, 290_000), ended("Validate", "failure", 3, 280_000),
    ], { event: { reasons: scenarios.map(failed) }, followUps: [...scenarios.map((name) => `Validate: ${failed(name)}`), ...left] }),
    "10-waiting": {
        event: { type: "spec-auto.pipeline.waiting", status: "halt", reasons: ["the run waits for a person at gate review-plan"] },
        spec: { id: "002-kanban" },
        pipeline: {
            attempt: 1, startedAt: ago(30), run: { id: "6f9a3c73", workflow: "speckit", step: "review-plan" },
            gate: { step: "review-plan", message: "Review the plan", options: ["approve", "reject"], showFile: "specs/002-kanban/plan.md" },
        },
    },
    "11-conflict": anomaly("consensus_conflict", "Plan", {
        disagreements: [
            { point: "where retries wait", positions: { claude: "a queue each", gpt_pro: "one shared file" } },
            "whether retries count against the budget",
        ],
        hint: "read the synthesis, settle the points with the agents' owners, and run the stage again",
    }, { evidence: evidence("plan") }),
    "12-cost": anomaly("cost_threshold", "Implement", {
        thresholdUsd: 5, totalUsd: 6.02, run: 2, hint: "look at what the run's stages cost so far, and stop it if that is not meant",
    }, { cost: { totalUsd: 6.02, perStage: { plan: 0.9, implement: 4.8, tasks: 0.32 } } }),
    "13-stalled": anomaly("stalled", "Implement", {
        since: ago(40), run: 1, hint: "look whether what follows Implement still works, and start it again where it does not",
    }),
    "14-task": {
        event: { type: "spec-kit.task.completed" }, spec, task: { id: "T7", title: "Retry budget per subscription & back-off", status: "Done" },
        tasks: { done: 7, total: 12 }, evidence: { paths: ["SPEC.md"] },
    },
    "15-task-list": {
        event: { type: "spec-kit.tasklist.completed" }, spec: { id: "002-kanban" }, tasks: { done: 12, total: 12 },
        evidence: { paths: ["specs/002-kanban/tasks.md"] },
    },
};

mkdirSync(out, { recursive: true });
for (const [name, event] of Object.entries(events)) writeFileSync(join(out, `${name}.json`), JSON.stringify(event));
