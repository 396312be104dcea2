package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMarkdownGolden(t *testing.T) {
	golden(t, "sample.md", Markdown(sample(t)))
}

func TestPage(t *testing.T) {
	page, err := HTML(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{
		`<html lang="en">`, `name="viewport"`, "prefers-color-scheme: dark", "@media print", `<h1>Not passed: 1 of 14 objectives missed, 1 violation, 1 section not finished</h1>`,
		"longest stall when a node freezes: 3.71 s, promised at most 3 s", "leader killed, 12 s to 16 s", "p99.99", "AMD EPYC 7763",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// It must need nothing else: no address of anything, no script from elsewhere.
	for _, bad := range []string{"http:", "https:", "src=", "@import", "url(", "NaN", "Inf", "%!"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if len(page) > 1<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	headings(t, text)
	ids(t, text)
	for _, svg := range regexp.MustCompile(`(?s)<svg class="(?:plot|bullet)".*?</svg>`).FindAllString(text, -1) {
		if !strings.Contains(svg, `role="img"`) || !strings.Contains(svg, "<title ") || !strings.Contains(svg, "<desc ") {
			t.Errorf("a picture without words: %.200s", svg)
		}
		wellFormed(t, svg)
	}
}

// headings looks that none is skipped on the way down.
func headings(t *testing.T, text string) {
	t.Helper()
	last := byte('0')
	for _, m := range regexp.MustCompile(`<h([1-6])`).FindAllStringSubmatch(text, -1) {
		if m[1][0] > last+1 {
			t.Errorf("a heading of level %s follows one of level %c", m[1], last)
		}
		last = m[1][0]
	}
}

// ids looks that each is there once and that what is named by one is there.
func ids(t *testing.T, text string) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if seen[m[1]] {
			t.Errorf("the id %s is there twice", m[1])
		}
		seen[m[1]] = true
	}
	for _, m := range regexp.MustCompile(` (?:href="#|aria-labelledby=")([^"]*)"`).FindAllStringSubmatch(text, -1) {
		for _, id := range strings.Fields(m[1]) {
			if !seen[id] {
				t.Errorf("nothing has the id %s", id)
			}
		}
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in %.300s", err, svg)
		}
	}
}

// TestNothingOfAReportBecomesMarkup puts the same attack into every string of a report.
func TestNothingOfAReportBecomesMarkup(t *testing.T) {
	const attack = `"><script>alert('x')</script>&<b a="` + "`|\n# h\n[l](javascript:1)" + `</style></title></desc>`
	r := sample(t)
	poison(reflect.ValueOf(r), attack)
	r.Verdicts[1].Result = Held
	r.Verdicts[0].Note = ""
	r.Verdicts[0].Result = Missed
	plain, err := HTML(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	page, err := HTML(r)
	if err != nil {
		t.Fatal(err)
	}
	comparison, err := Compare(r, r).HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{page, comparison} {
		if n, allowed := bytes.Count(p, []byte("<script")), bytes.Count(plain, []byte("<script")); n > allowed {
			t.Errorf("%d scripts", n)
		}
		for _, bad := range []string{"<b a=", "alert('x')", `"">`} {
			if i := bytes.Index(p, []byte(bad)); i >= 0 {
				t.Errorf("%q got through: %s", bad, p[max(0, i-200):i+50])
			}
		}
	}
	for _, md := range [][]byte{Markdown(r), Compare(r, r).Markdown()} {
		for i, l := range strings.Split(fences.ReplaceAllString(string(md), ""), "\n") {
			if strings.Contains(strings.ReplaceAll(l, `\<`, ""), "<") || strings.HasPrefix(l, "# h") || strings.Contains(l, "[l](") && !strings.Contains(l, `\[l\](`) {
				t.Errorf("line %d of the Markdown: %s", i+1, l)
			}
		}
	}
	if strings.ContainsAny(Compare(r, r).Text(), "\x1b\a") {
		t.Error("a control character reaches the terminal")
	}
}

var fences = regexp.MustCompile("(?s)(````*)\n.*?\n````*\n")

// poison sets every string that v reaches; IDs stay different.
func poison(v reflect.Value, attack string) {
	switch v.Kind() {
	case reflect.Pointer:
		poison(v.Elem(), attack)
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			return
		}
		for i := range v.NumField() {
			poison(v.Field(i), attack)
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), fmt.Sprint(attack, "\x1b[31m", i))
		}
	case reflect.String:
		v.SetString(attack + v.String())
	}
}

// TestOddReports draws what has hardly anything in it.
func TestOddReports(t *testing.T) {
	for name, r := range map[string]*Report{
		"empty":          {Passed: true},
		"only a section": {Sections: []Section{{Title: "x"}}},
		"empty parts":    {Sections: []Section{{Charts: []Chart{{}}, Latencies: []Latency{{}}, Tables: []Table{{}}, Metrics: []Metric{{}}}}},
		"one point":      {Sections: []Section{{Charts: []Chart{{Lines: []Line{{At: []float64{0}, Value: []float64{0}}}}, {Log: true, Lines: []Line{{At: []float64{1}, Value: []float64{1}}}}}, Latencies: []Latency{{Count: 1, Max: 1}}}}},
		"zeros, log":     {Sections: []Section{{Charts: []Chart{{Log: true, Lines: []Line{{At: []float64{0, 1}, Value: []float64{0, 0}}}}}}}},
		"negative":       {Sections: []Section{{Charts: []Chart{{Lines: []Line{{At: []float64{0, 1}, Value: []float64{-5, -3}}}, Marks: []Mark{{At: -1}, {At: 0.5, Until: 0.2}}}}}}},
		"huge and tiny":  {Sections: []Section{{Charts: []Chart{{Log: true, Lines: []Line{{At: []float64{0, 1e300}, Value: []float64{1e-300, 1e300}}}}}}}},
		"ragged table":   {Sections: []Section{{Tables: []Table{{Columns: []string{"a", "b"}, Rows: [][]string{{"1"}, {"1", "2", "3"}, nil}}}}}},
	} {
		page, err := HTML(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, bad := range []string{"NaN", "Inf", "%!"} {
			if i := bytes.Index(page, []byte(bad)); i >= 0 {
				t.Errorf("%s: %s", name, page[max(0, i-100):i+20])
			}
		}
		if len(Markdown(r)) == 0 {
			t.Errorf("%s: no Markdown", name)
		}
	}
}

// TestPointsAreBounded gives a chart a million points and looks at what is drawn.
func TestPointsAreBounded(t *testing.T) {
	l := Line{Name: "x"}
	for i := range 1_000_000 {
		l.At, l.Value = append(l.At, float64(i)), append(l.Value, float64(i%1000))
	}
	l.Value[123_456] = 9999 // the highest must stay
	page, err := HTML(&Report{Sections: []Section{{Charts: []Chart{{Unit: "B", Lines: []Line{l}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > 100_000 {
		t.Errorf("%d bytes for one line", len(page))
	}
	if !bytes.Contains(page, []byte(`values from 0 B to 10 kB`)) || !regexp.MustCompile(`points="[^"]*,12\.[0-9]`).Match(page) {
		t.Error("the highest value is not drawn")
	}
}
