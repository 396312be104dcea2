package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// The names of a report's files in its folder.
const (
	JSONFile     = "report.json"
	MarkdownFile = "report.md"
	HTMLFile     = "report.html"
)

const maxFile = 64 << 20 // bytes of JSON that are read

// SchemaError says that a file is a report that this program cannot read, or no report at all.
type SchemaError struct {
	Got string // what its schema field says
}

func (e *SchemaError) Error() string {
	if e.Got == "" {
		return "not a report of hongyan bench: it has no schema field"
	}
	return fmt.Sprintf("schema %q, and this program reads %q: use the hongyan that wrote it, or measure again", e.Got, Schema)
}

// Write puts the report into the folder, which it makes, as report.json, report.md and report.html. Each file is there whole or not
// at all. Figures that are not finite numbers cannot be in JSON: they are left out, and a note of their section says which.
func Write(dir string, r *Report) error {
	clean := finite(r)
	if err := unique(clean); err != nil {
		return err
	}
	b, err := json.MarshalIndent(clean, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if len(b) >= maxFile {
		return fmt.Errorf("the report has %d bytes of JSON, and only %d would be read again: keep fewer points in its charts", len(b), maxFile)
	}
	page, err := HTML(clean)
	if err != nil {
		return err
	}
	return writeAll(dir, named{JSONFile, append(b, '\n')}, named{MarkdownFile, Markdown(clean)}, named{HTMLFile, page})
}

// Write puts the comparison into the folder, which it makes, as comparison.md and comparison.html.
func (c *Comparison) Write(dir string) error {
	page, err := c.HTML()
	if err != nil {
		return err
	}
	return writeAll(dir, named{"comparison.md", c.Markdown()}, named{"comparison.html", page})
}

// named is a file of a folder.
type named struct {
	name string
	b    []byte
}

func writeAll(dir string, files ...named) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the report's folder: %w", err)
	}
	for _, f := range files {
		if err := replace(filepath.Join(dir, f.name), f.b); err != nil {
			return err
		}
	}
	return nil
}

// replace is not fsynced: a report that a power cut takes is measured again.
func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("put the report in its place: %w", err)
	}
	return nil
}

// Read gives the report in a file, or in a folder's report.json. Fields that it does not know are passed over; another schema is a
// *SchemaError.
func Read(path string) (*Report, error) {
	if s, err := os.Stat(path); err == nil && s.IsDir() {
		path = filepath.Join(path, JSONFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	r, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Decode reads a report's JSON. What it returns is complete enough for everything else here: lines have as many times as values, and
// metrics have one ID each.
func Decode(b []byte) (*Report, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes, which no report is", maxFile)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("not the JSON of a report: %w", err)
	}
	if head.Schema != Schema {
		return nil, &SchemaError{Got: head.Schema}
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("not the JSON of a report: %w", err)
	}
	for _, s := range r.Sections {
		for _, c := range s.Charts {
			for _, l := range c.Lines {
				if len(l.At) != len(l.Value) {
					return nil, fmt.Errorf("line %q of chart %q has %d times and %d values", l.Name, c.Title, len(l.At), len(l.Value))
				}
			}
		}
	}
	return &r, unique(&r)
}

// Find gives the metric with the ID, or nil when it was not measured.
func (r *Report) Find(id string) *Metric {
	for i := range r.Sections {
		for j := range r.Sections[i].Metrics {
			if m := &r.Sections[i].Metrics[j]; m.ID == id {
				return m
			}
		}
	}
	return nil
}

func unique(r *Report) error {
	seen := make(map[string]string)
	for _, s := range r.Sections {
		for _, m := range s.Metrics {
			if other, ok := seen[m.ID]; ok {
				return fmt.Errorf("metric %q is in section %q and again in %q: an ID names one figure of a report", m.ID, other, s.Title)
			}
			seen[m.ID] = s.Title
		}
	}
	return nil
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// finite copies the report without what is no number.
func finite(r *Report) *Report {
	out := *r
	out.Schema = Schema
	out.Seconds, out.Machine.FsyncSecs, out.Machine.LoadBefore = number(r.Seconds), number(r.Machine.FsyncSecs), number(r.Machine.LoadBefore)
	out.Settings = append([]Setting{}, r.Settings...)
	out.Sections = make([]Section, len(r.Sections))
	for i := range r.Sections {
		out.Sections[i] = finiteSection(r.Sections[i])
	}
	out.Verdicts = make([]Verdict, len(r.Verdicts))
	for i, v := range r.Verdicts {
		v.Value, v.Floor, v.Aim = number(v.Value), number(v.Floor), number(v.Aim)
		out.Verdicts[i] = v
	}
	return &out
}

func number(v float64) float64 {
	if isFinite(v) {
		return v
	}
	return 0
}

func finiteSection(s Section) Section {
	left := func(what string) {
		s.Notes = append(s.Notes[:len(s.Notes):len(s.Notes)], what+" was not a finite number and is left out")
	}
	s.Seconds = number(s.Seconds)
	metrics := s.Metrics
	s.Metrics = nil
	for _, m := range metrics {
		if !isFinite(m.Value) {
			left("metric " + m.ID)
			continue
		}
		m.Samples = only(m.Samples)
		s.Metrics = append(s.Metrics, m)
	}
	latencies := s.Latencies
	s.Latencies = nil
	for _, l := range latencies {
		if !isFinite(l.Mean) || !isFinite(l.Max) {
			left("latency " + l.ID)
			continue
		}
		points := l.Points
		l.Points = []Percentile{}
		for _, p := range points {
			if isFinite(p.Percent) && isFinite(p.Seconds) {
				l.Points = append(l.Points, p)
			}
		}
		s.Latencies = append(s.Latencies, l)
	}
	s.Charts = append([]Chart(nil), s.Charts...)
	for i := range s.Charts {
		s.Charts[i] = finiteChart(s.Charts[i])
	}
	return s
}

func only(values []float64) []float64 {
	var out []float64
	for _, v := range values {
		if isFinite(v) {
			out = append(out, v)
		}
	}
	return out
}

// finiteChart drops the points and marks that have no place, and what a line's times and values do not have in common.
func finiteChart(c Chart) Chart {
	lines, marks := c.Lines, c.Marks
	c.Lines, c.Marks = []Line{}, nil
	for _, l := range lines {
		kept := Line{Name: l.Name, At: []float64{}, Value: []float64{}}
		for i := range min(len(l.At), len(l.Value)) {
			if isFinite(l.At[i]) && isFinite(l.Value[i]) {
				kept.At, kept.Value = append(kept.At, l.At[i]), append(kept.Value, l.Value[i])
			}
		}
		c.Lines = append(c.Lines, kept)
	}
	for _, m := range marks {
		if isFinite(m.At) && isFinite(m.Until) {
			c.Marks = append(c.Marks, m)
		}
	}
	return c
}
