// Package specnotify has the types of a payload. The payload of spec-notify, made from
// payload.schema.json. Later versions within 1.x add fields and values: ignore those that you
// do not know.
package specnotify

// What happened.
type Event struct {
	// What kind of event; also the X-SpecKit-Event header.
	Type string `json:"type"`

	// How it ended.
	Status string `json:"status,omitempty"`

	// Which stage, for a stage event, or of which stage the anomaly is.
	Stage string `json:"stage,omitempty"`

	// Which event this is: the same one seen twice has the same key.
	IdempotencyKey string `json:"idempotency_key"`

	// When the runtime accepted the event: RFC 3339 in UTC with milliseconds.
	Time string `json:"time"`

	// Orders the events of a SPEC: each has a greater one than all that were accepted before it.
	// Gaps mean nothing.
	Sequence int64 `json:"sequence"`

	// The key of the event that this one corrects: the same stage, told again with another status
	// because its consensus came later.
	Amends string `json:"amends,omitempty"`

	// Why the status is not success, one sentence each.
	Reasons []string `json:"reasons,omitempty"`
}

// The SPEC it happened to.
type Spec struct {
	// The SPEC's full id.
	ID string `json:"id"`

	// The repo's current branch; where detached the one that a CI service names, else HEAD; absent
	// outside a repo.
	Branch string `json:"branch,omitempty"`
}

// The checkout it comes from.
type Source struct {
	// owner/name as the git remote origin, else the first remote, has it; else the name of the
	// repo's folder.
	Repo string `json:"repo"`

	// The full id of the commit that was checked out; absent outside git, before the first commit,
	// and where only git itself could tell.
	Commit string `json:"commit,omitempty"`

	// The branch that was checked out, found as spec.branch is.
	Branch string `json:"branch,omitempty"`

	// The name of the machine; only where the config says show_host = true.
	Host string `json:"host,omitempty"`
}

// Of a workflow run of GitHub Spec Kit: which one.
type PipelineRun struct {
	// The run's id: specify workflow resume takes it.
	ID string `json:"id,omitempty"`

	// The folder whose .specify it stands in, relative to the repo; absent for the repo's root.
	Folder string `json:"folder,omitempty"`

	// The id of its workflow, where it is known.
	Workflow string `json:"workflow,omitempty"`

	// The step that the event is about, where there is one.
	Step string `json:"step,omitempty"`
}

// Of a run that waits at a gate: what it asks.
type PipelineGate struct {
	// The gate's step.
	Step string `json:"step,omitempty"`

	// What is asked, where it is known.
	Message string `json:"message,omitempty"`

	// The answers it takes.
	Options []string `json:"options,omitempty"`

	// The file that is to be reviewed, where there is one.
	ShowFile string `json:"showFile,omitempty"`
}

type PipelineStage struct {
	// Which stage.
	Stage string `json:"stage,omitempty"`

	// How it ended.
	Status string `json:"status,omitempty"`

	// Which try of the stage this was, from 1.
	Attempt *int64 `json:"attempt,omitempty"`

	// When it began, where known.
	StartedAt string `json:"startedAt,omitempty"`

	// When it ended, where known.
	CompletedAt string `json:"completedAt,omitempty"`

	// How long it took in milliseconds, where both times are known.
	DurationMs *int64 `json:"durationMs,omitempty"`
}

// The run it belongs to. Times are RFC 3339.
type Pipeline struct {
	// Which try of the stage this was, from 1; of a pipeline event, which run of the SPEC.
	Attempt *int64 `json:"attempt,omitempty"`

	// How many tries the host allows.
	MaxAttempts *int64 `json:"maxAttempts,omitempty"`

	// When it began, where the source knows it.
	StartedAt string `json:"startedAt,omitempty"`

	// When it ended.
	CompletedAt string `json:"completedAt,omitempty"`

	// Of a workflow run of GitHub Spec Kit: which one.
	Run *PipelineRun `json:"run,omitempty"`

	// Of a run that waits at a gate: what it asks.
	Gate *PipelineGate `json:"gate,omitempty"`

	// For a pipeline event: from the first stage's time to the last one's, in milliseconds.
	DurationMs *int64 `json:"durationMs,omitempty"`

	// For a pipeline event: every attempt of every stage of the run, in order.
	Stages []PipelineStage `json:"stages,omitempty"`
}

// What the run cost so far, where its telemetry or the host's summary of costs says.
type Cost struct {
	// In all, in US dollars.
	TotalUsd *float64 `json:"totalUsd,omitempty"`

	// What the host allows, in US dollars.
	BudgetUsd *float64 `json:"budgetUsd,omitempty"`

	// By stage, in US dollars.
	PerStage map[string]any `json:"perStage,omitempty"`
}

// For an anomaly: what is out of the ordinary.
type Anomaly struct {
	// Of a consensus conflict: the points, as the synthesis has them: texts or objects.
	Disagreements []any `json:"disagreements,omitempty"`

	// Of a cost: the threshold that was reached.
	ThresholdUsd *float64 `json:"thresholdUsd,omitempty"`

	// Of a cost: what the run cost so far.
	TotalUsd *float64 `json:"totalUsd,omitempty"`

	// Of a stall: the last sign of life, RFC 3339.
	Since string `json:"since,omitempty"`

	// Of a cost or a stall: which run of the SPEC.
	Run *int64 `json:"run,omitempty"`

	// What to do.
	Hint string `json:"hint,omitempty"`
}

type ConsensusAgent struct {
	// The agent's name.
	Agent string `json:"agent,omitempty"`

	// Its model.
	Model string `json:"model,omitempty"`

	// The model's release.
	ModelRelease string `json:"model_release,omitempty"`

	// How it was to reason.
	ReasoningMode string `json:"reasoning_mode,omitempty"`
}

// What the stage's agents agreed on.
type Consensus struct {
	// The verdict in the host's word: ok, degraded, hold, conflict.
	Status string `json:"status,omitempty"`

	// Who took part.
	Agents []ConsensusAgent `json:"agents,omitempty"`

	// What they agreed on, as the synthesis has it: texts or objects.
	Agreements []any `json:"agreements,omitempty"`

	// What they disagreed on, as the synthesis has it: texts or objects.
	Conflicts []any `json:"conflicts,omitempty"`

	// Why lists are missing that would take the event over its limit.
	Omitted string `json:"omitted,omitempty"`
}

// The task, for a task event.
type Task struct {
	// Its id in its list.
	ID string `json:"id"`

	// Its title.
	Title string `json:"title,omitempty"`

	// Its status as a word.
	Status string `json:"status,omitempty"`

	// What a check box has in brackets between its id and its title.
	Markers []string `json:"markers,omitempty"`
}

// Where to read more.
type Evidence struct {
	// Paths relative to the repo.
	Paths []string `json:"paths"`
}

// The list's tasks.
type Tasks struct {
	// How many of them are Done.
	Done *int64 `json:"done,omitempty"`

	// How many there are.
	Total *int64 `json:"total,omitempty"`
}

// The JSON body of every delivery in the spec-kit format. Changes within schemaVersion 1.x
// only add: consumers ignore what they do not know. An enum may get further values, and
// schemaVersion stays 1.0: do not refuse a payload for a value that is not listed here. What
// is required here stands in every payload; the rest stands where it is known.
type Payload struct {
	// Version of this shape.
	SchemaVersion string `json:"schemaVersion"`

	// What happened.
	Event Event `json:"event"`

	// The SPEC it happened to.
	Spec Spec `json:"spec"`

	// The checkout it comes from.
	Source Source `json:"source"`

	// The run it belongs to. Times are RFC 3339.
	Pipeline *Pipeline `json:"pipeline,omitempty"`

	// What the run cost so far, where its telemetry or the host's summary of costs says.
	Cost *Cost `json:"cost,omitempty"`

	// For a pipeline event: what is left to do, one sentence each.
	FollowUps []string `json:"followUps,omitempty"`

	// For an anomaly: what is out of the ordinary.
	Anomaly *Anomaly `json:"anomaly,omitempty"`

	// The guardrail's telemetry, its fields as they were written. Of a halt, error says what is
	// wrong with the file; notes says what had to be changed to make it JSON.
	Telemetry map[string]any `json:"telemetry,omitempty"`

	// What the stage's agents agreed on.
	Consensus *Consensus `json:"consensus,omitempty"`

	// The task, for a task event.
	Task *Task `json:"task,omitempty"`

	// Where to read more.
	Evidence *Evidence `json:"evidence,omitempty"`

	// The list's tasks.
	Tasks *Tasks `json:"tasks,omitempty"`

	// For a person who looks at the sample.
	Message string `json:"message,omitempty"`
}
