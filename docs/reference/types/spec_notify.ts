// The payload of spec-notify, made from payload.schema.json. Later versions within 1.x add
// fields and values: ignore those that you do not know.

/** What happened. */
export interface Event {
  /** What kind of event; also the X-SpecKit-Event header. */
  type: 
    | "spec-auto.stage.completed"
    | "spec-auto.pipeline.completed"
    | "spec-auto.pipeline.waiting"
    | "spec-kit.task.completed"
    | "spec-kit.tasklist.completed"
    | "spec-auto.anomaly.consensus_conflict"
    | "spec-auto.anomaly.cost_threshold"
    | "spec-auto.anomaly.stalled"
    | "spec-kit.webhook.test"
    | (string & {});
  /** How it ended. */
  status?: "success" | "failure" | "halt" | (string & {});
  /** Which stage, for a stage event, or of which stage the anomaly is. */
  stage?: 
    | "Constitution"
    | "Specify"
    | "Clarify"
    | "Plan"
    | "Checklist"
    | "Tasks"
    | "Analyze"
    | "Implement"
    | "Converge"
    | "Validate"
    | "Audit"
    | "Unlock"
    | (string & {});
  /** Which event this is: the same one seen twice has the same key. */
  idempotency_key: string;
  /** When the runtime accepted the event: RFC 3339 in UTC with milliseconds. */
  time: string;
  /**
   * Orders the events of a SPEC: each has a greater one than all that were accepted before it.
   * Gaps mean nothing.
   */
  sequence: number;
  /**
   * The key of the event that this one corrects: the same stage, told again with another status
   * because its consensus came later.
   */
  amends?: string;
  /** Why the status is not success, one sentence each. */
  reasons?: string[];
}

/** The SPEC it happened to. */
export interface Spec {
  /** The SPEC's full id. */
  id: string;
  /**
   * The repo's current branch; where detached the one that a CI service names, else HEAD; absent
   * outside a repo.
   */
  branch?: string;
}

/** The checkout it comes from. */
export interface Source {
  /**
   * owner/name as the git remote origin, else the first remote, has it; else the name of the
   * repo's folder.
   */
  repo: string;
  /**
   * The full id of the commit that was checked out; absent outside git, before the first commit,
   * and where only git itself could tell.
   */
  commit?: string;
  /** The branch that was checked out, found as spec.branch is. */
  branch?: string;
  /** The name of the machine; only where the config says show_host = true. */
  host?: string;
}

/** Of a workflow run of GitHub Spec Kit: which one. */
export interface PipelineRun {
  /** The run's id: specify workflow resume takes it. */
  id?: string;
  /** The folder whose .specify it stands in, relative to the repo; absent for the repo's root. */
  folder?: string;
  /** The id of its workflow, where it is known. */
  workflow?: string;
  /** The step that the event is about, where there is one. */
  step?: string;
}

/** Of a run that waits at a gate: what it asks. */
export interface PipelineGate {
  /** The gate's step. */
  step?: string;
  /** What is asked, where it is known. */
  message?: string;
  /** The answers it takes. */
  options?: string[];
  /** The file that is to be reviewed, where there is one. */
  showFile?: string;
}

export interface PipelineStage {
  /** Which stage. */
  stage?: string;
  /** How it ended. */
  status?: string;
  /** Which try of the stage this was, from 1. */
  attempt?: number;
  /** When it began, where known. */
  startedAt?: string;
  /** When it ended, where known. */
  completedAt?: string;
  /** How long it took in milliseconds, where both times are known. */
  durationMs?: number;
}

/** The run it belongs to. Times are RFC 3339. */
export interface Pipeline {
  /** Which try of the stage this was, from 1; of a pipeline event, which run of the SPEC. */
  attempt?: number;
  /** How many tries the host allows. */
  maxAttempts?: number;
  /** When it began, where the source knows it. */
  startedAt?: string;
  /** When it ended. */
  completedAt?: string;
  /** Of a workflow run of GitHub Spec Kit: which one. */
  run?: PipelineRun;
  /** Of a run that waits at a gate: what it asks. */
  gate?: PipelineGate;
  /** For a pipeline event: from the first stage's time to the last one's, in milliseconds. */
  durationMs?: number;
  /** For a pipeline event: every attempt of every stage of the run, in order. */
  stages?: PipelineStage[];
}

/** What the run cost so far, where its telemetry or the host's summary of costs says. */
export interface Cost {
  /** In all, in US dollars. */
  totalUsd?: number;
  /** What the host allows, in US dollars. */
  budgetUsd?: number;
  /** By stage, in US dollars. */
  perStage?: Record<string, unknown>;
}

/** For an anomaly: what is out of the ordinary. */
export interface Anomaly {
  /** Of a consensus conflict: the points, as the synthesis has them: texts or objects. */
  disagreements?: unknown[];
  /** Of a cost: the threshold that was reached. */
  thresholdUsd?: number;
  /** Of a cost: what the run cost so far. */
  totalUsd?: number;
  /** Of a stall: the last sign of life, RFC 3339. */
  since?: string;
  /** Of a cost or a stall: which run of the SPEC. */
  run?: number;
  /** What to do. */
  hint?: string;
}

export interface ConsensusAgent {
  /** The agent's name. */
  agent?: string;
  /** Its model. */
  model?: string;
  /** The model's release. */
  model_release?: string;
  /** How it was to reason. */
  reasoning_mode?: string;
}

/** What the stage's agents agreed on. */
export interface Consensus {
  /** The verdict in the host's word: ok, degraded, hold, conflict. */
  status?: string;
  /** Who took part. */
  agents?: ConsensusAgent[];
  /** What they agreed on, as the synthesis has it: texts or objects. */
  agreements?: unknown[];
  /** What they disagreed on, as the synthesis has it: texts or objects. */
  conflicts?: unknown[];
  /** Why lists are missing that would take the event over its limit. */
  omitted?: string;
}

/** The task, for a task event. */
export interface Task {
  /** Its id in its list. */
  id: string;
  /** Its title. */
  title?: string;
  /** Its status as a word. */
  status?: string;
  /** What a check box has in brackets between its id and its title. */
  markers?: string[];
}

/** Where to read more. */
export interface Evidence {
  /** Paths relative to the repo. */
  paths: string[];
}

/** The list's tasks. */
export interface Tasks {
  /** How many of them are Done. */
  done?: number;
  /** How many there are. */
  total?: number;
}

/**
 * The JSON body of every delivery in the spec-kit format. Changes within schemaVersion 1.x
 * only add: consumers ignore what they do not know. An enum may get further values, and
 * schemaVersion stays 1.0: do not refuse a payload for a value that is not listed here. What
 * is required here stands in every payload; the rest stands where it is known.
 */
export interface Payload {
  /** Version of this shape. */
  schemaVersion: "1.0";
  /** What happened. */
  event: Event;
  /** The SPEC it happened to. */
  spec: Spec;
  /** The checkout it comes from. */
  source: Source;
  /** The run it belongs to. Times are RFC 3339. */
  pipeline?: Pipeline;
  /** What the run cost so far, where its telemetry or the host's summary of costs says. */
  cost?: Cost;
  /** For a pipeline event: what is left to do, one sentence each. */
  followUps?: string[];
  /** For an anomaly: what is out of the ordinary. */
  anomaly?: Anomaly;
  /**
   * The guardrail's telemetry, its fields as they were written. Of a halt, error says what is
   * wrong with the file; notes says what had to be changed to make it JSON.
   */
  telemetry?: Record<string, unknown>;
  /** What the stage's agents agreed on. */
  consensus?: Consensus;
  /** The task, for a task event. */
  task?: Task;
  /** Where to read more. */
  evidence?: Evidence;
  /** The list's tasks. */
  tasks?: Tasks;
  /** For a person who looks at the sample. */
  message?: string;
}
