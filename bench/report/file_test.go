package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestWriteAndReadAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	r := sample(t)
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{HTMLFile, JSONFile, MarkdownFile}; !slices.Equal(names, want) {
		t.Errorf("the folder has %v, want %v", names, want)
	}
	for _, path := range []string{dir, filepath.Join(dir, JSONFile)} {
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(got); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: read something else than was written (%v)", path, err)
		}
	}
	if err := Write(dir, r); err != nil {
		t.Errorf("over an older report: %v", err)
	}
}

func TestDecodeIsStrictAboutTheSchemaOnly(t *testing.T) {
	var schema *SchemaError
	for in, want := range map[string]string{
		`{}`:                            "no schema field",
		`{"schema":"hongyan-bench/2"}`:  "use the hongyan that wrote it",
		`[]`:                            "not the JSON of a report",
		`{"schema":"hongyan-bench/1"`:   "not the JSON of a report",
		`{"schema":"hongyan-bench/1"}x`: "not the JSON of a report",
		`{"schema":"hongyan-bench/1","sections":[{"charts":[{"lines":[{"at":[1],"value":[]}]}]}]}`: "has 1 times and 0 values",
		`{"schema":"hongyan-bench/1","sections":[{"metrics":[{"id":"a"},{"id":"a"}]}]}`:            "an ID names one figure",
	} {
		if _, err := Decode([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", in, want, err)
		}
	}
	if _, err := Decode([]byte(`{"schema":"x"}`)); !errors.As(err, &schema) || schema.Got != "x" {
		t.Errorf("want a SchemaError, got %v", err)
	}
	if r, err := Decode([]byte(`{"schema":"hongyan-bench/1","scenario":"idle","of a later version":{"a":[1]}}`)); err != nil || r.Scenario != "idle" {
		t.Errorf("a field of a later version: %v", err)
	}
	if _, err := Decode(bytes.Repeat([]byte(" "), maxFile+1)); err == nil {
		t.Error("read a file of any size")
	}
}

func TestNoNumberStaysOut(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	r := &Report{
		Seconds: nan, Machine: Machine{FsyncSecs: inf, LoadBefore: nan}, Verdicts: []Verdict{{Metric: "m", Value: inf, Floor: nan, Aim: nan}},
		Sections: []Section{{
			Seconds: inf, Metrics: []Metric{{ID: "m", Value: nan}, {ID: "n", Value: 1, Samples: []float64{1, nan, 2}}},
			Latencies: []Latency{{ID: "l", Mean: nan}, {ID: "k", Points: []Percentile{{50, inf}, {nan, 1}, {99, 2}}}},
			Charts:    []Chart{{Lines: []Line{{At: []float64{1, nan, 3, 4}, Value: []float64{1, 2, inf}}}, Marks: []Mark{{At: nan}, {At: 1, Until: inf}, {At: 1}}}},
		}},
	}
	dir := t.TempDir()
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := got.Sections[0]
	if len(s.Metrics) != 1 || !slices.Equal(s.Metrics[0].Samples, []float64{1, 2}) || len(s.Latencies) != 1 || len(s.Latencies[0].Points) != 1 ||
		len(s.Charts[0].Lines[0].At) != 1 || len(s.Charts[0].Marks) != 1 {
		t.Errorf("kept %+v", s)
	}
	if want := []string{"metric m was not a finite number and is left out", "latency l was not a finite number and is left out"}; !slices.Equal(s.Notes, want) {
		t.Errorf("notes: %q", s.Notes)
	}
	if r.Sections[0].Notes != nil || len(r.Sections[0].Metrics) != 2 || len(r.Sections[0].Charts[0].Lines[0].At) != 4 {
		t.Error("the caller's report was changed")
	}
}

func TestAnIDNamesOneFigure(t *testing.T) {
	r := &Report{Sections: []Section{{Title: "one", Metrics: []Metric{{ID: "x"}}}, {Title: "two", Metrics: []Metric{{ID: "x"}}}}}
	if err := Write(t.TempDir(), r); err == nil || !strings.Contains(err.Error(), `metric "x" is in section "one" and again in "two"`) {
		t.Errorf("got %v", err)
	}
}

// TestSchema holds the JSON Schema against a report, and against the fields of the types, both ways.
func TestSchema(t *testing.T) {
	compiled, err := jsonschema.NewCompiler().Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := json.Marshal(finite(&Report{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{b, empty} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(v); err != nil {
			t.Error(err)
		}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.Replace(b, []byte(`"passed"`), []byte(`"past"`), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if compiled.Validate(v) == nil {
		t.Error("the schema takes a report that does not say whether it passed")
	}
	text, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/bench.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range fields(reflect.TypeFor[Report]()) {
		if !bytes.Contains(text, []byte(`"`+name+`": {`)) {
			t.Errorf("schema.json does not have %s", name)
		}
		if !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("docs/bench.md does not explain %s", name)
		}
	}
}

// fields are the JSON names of a type and of those in it.
func fields(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Slice:
		return fields(t.Elem())
	case reflect.Struct:
		if t.PkgPath() == "time" {
			return nil
		}
		var out []string
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			out = append(append(out, name), fields(t.Field(i).Type)...)
		}
		return out
	}
	return nil
}

func FuzzDecode(f *testing.F) {
	b, err := json.Marshal(Report{Schema: Schema, Sections: []Section{sampleFailover(time.Unix(1e9, 0))}, Verdicts: []Verdict{{Metric: "a", Result: Missed}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"hongyan-bench/1","sections":[{"tables":[{"columns":[],"rows":[["a"]]}],"latencies":[{"points":[{"percent":100,"seconds":-1}]}]}]}`))
	f.Add([]byte(`{"schema":"hongyan-bench/1","sections":[{"charts":[{"log":true,"lines":[{"at":[1e308,-1e308],"value":[1e-320,1e308]}],"marks":[{"at":-5,"until":1e300}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		objectives, err := DefaultObjectives()
		if err != nil {
			t.Fatal(err)
		}
		if err := Judge(r, objectives, nil); err != nil {
			t.Fatal(err)
		}
		page, err := HTML(r)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(page, []byte("NaN")) && !bytes.Contains(b, []byte("NaN")) {
			t.Error("the page has a number that is none")
		}
		Markdown(r)
		c := Compare(r, r)
		if c.Worse() {
			t.Error("a report is worse than itself")
		}
		c.Text()
	})
}
