// Package report holds what a run of the bench found, judges it against objectives, and shows it: as JSON for programs, as
// Markdown for a change's description and as one HTML file for people.
//
// The JSON is the report; the other two are views of it and can be made from it again. Its schema is described in docs/bench.md.
// Times are seconds, sizes bytes, unless a field says otherwise.
package report

import "time"

// Schema names the version of the JSON. A field may be added under the same name; another meaning needs another number.
const Schema = "hongyan-bench/1"

// Report is one run: what was measured on which machine with which settings, and how it was judged.
type Report struct {
	Schema   string    `json:"schema"`
	Scenario string    `json:"scenario"` // such as delivery or all
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // that the whole run took
	Version  string    `json:"version"` // of the program that measured
	Machine  Machine   `json:"machine"`
	Settings []Setting `json:"settings"` // of the whole run; in the order they are shown
	Sections []Section `json:"sections"` // one a scenario
	Verdicts []Verdict `json:"verdicts"` // one an objective
	Passed   bool      `json:"passed"`   // every objective that was checked holds, and no section failed
}

// Machine is where it was measured.
type Machine struct {
	OS          string  `json:"os"`     // such as linux/amd64
	Kernel      string  `json:"kernel"` // release
	CPU         string  `json:"cpu"`    // model
	Cores       int     `json:"cores"`
	MemoryBytes uint64  `json:"memory_bytes"`
	Filesystem  string  `json:"filesystem"`    // that the nodes' data lies on, such as ext4
	FsyncSecs   float64 `json:"fsync_seconds"` // median of a 10 KiB append with fdatasync, one after the other
	LoadBefore  float64 `json:"load_before"`   // average of one minute when the run began
}

// Setting is a choice that the figures depend on.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Section is what one scenario found.
type Section struct {
	Scenario  string    `json:"scenario"`
	Title     string    `json:"title"`
	Summary   string    `json:"summary,omitempty"` // a sentence or two: what was done, and what came out
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Settings  []Setting `json:"settings,omitempty"`
	Metrics   []Metric  `json:"metrics,omitempty"`
	Latencies []Latency `json:"latencies,omitempty"`
	Charts    []Chart   `json:"charts,omitempty"`
	Tables    []Table   `json:"tables,omitempty"`
	Notes     []string  `json:"notes,omitempty"`
	// Violations of what was promised, each with the shortest history that shows it. One makes the report fail.
	Violations []string `json:"violations,omitempty"`
	// Failed says why the scenario could not be finished. It makes the report fail.
	Failed string `json:"failed,omitempty"`
}

// Better says which way a metric improves.
type Better string

// Directions of metrics.
const (
	Lower  Better = "lower"
	Higher Better = "higher"
	Info   Better = "" // neither: a fact
)

// Metric is one figure. Its ID is unique in the report and stays the same from run to run, such as delivery.lmtp.c8.rate.
type Metric struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"` // for people, such as "deliveries a second, 8 connections"
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // s, B, 1/s, B/s, ratio, % or a noun such as messages
	Better Better  `json:"better,omitempty"`
	// Samples are the same figure from repeated runs or slices of the run, from which comparisons learn the noise.
	Samples []float64 `json:"samples,omitempty"`
}

// Latency is a distribution of times.
type Latency struct {
	ID     string       `json:"id"`
	Name   string       `json:"name"`
	Count  int64        `json:"count"`
	Mean   float64      `json:"mean"` // seconds, as all that follow
	Max    float64      `json:"max"`
	Points []Percentile `json:"points"` // ascending, from 0 to 100
}

// Percentile says that Percent of all times were at most Seconds.
type Percentile struct {
	Percent float64 `json:"percent"`
	Seconds float64 `json:"seconds"`
}

// Chart is a picture over the section's time: lines that share a unit, and marks where something was done to the system.
type Chart struct {
	Title string `json:"title"`
	Unit  string `json:"unit"`
	Log   bool   `json:"log,omitempty"` // logarithmic values
	Lines []Line `json:"lines"`
	Marks []Mark `json:"marks,omitempty"`
}

// Line is a series of values; At and Value have the same length.
type Line struct {
	Name  string    `json:"name"`
	At    []float64 `json:"at"` // seconds since the section began
	Value []float64 `json:"value"`
}

// Mark is an event: a fault, or its end.
type Mark struct {
	At    float64 `json:"at"` // seconds since the section began
	Until float64 `json:"until,omitempty"`
	Label string  `json:"label"`
}

// Table is for what is neither of the above. Numbers are formatted already.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Note    string     `json:"note,omitempty"`
}

// Verdict is an objective and what became of it.
type Verdict struct {
	Metric string  `json:"metric"` // its ID
	Name   string  `json:"name"`
	Row    string  `json:"row,omitempty"` // of the requirements, such as C2
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	Floor  float64 `json:"floor"`         // the promise
	Aim    float64 `json:"aim,omitempty"` // what we want to reach; 0 when there is none
	Better Better  `json:"better"`
	Result Result  `json:"result"`
	Note   string  `json:"note,omitempty"` // why, where the figures do not say it
}

// Result of an objective.
type Result string

// Results: an objective whose metric was not measured in this run is not checked, which is no failure.
const (
	Missed    Result = "missed"
	Held      Result = "held"      // the floor holds
	Excelled  Result = "excelled"  // the aim holds too
	Unchecked Result = "unchecked" // not measured in this run
)
