package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"strings"
	"text/tabwriter"
	"unicode"

	"hongyan/bench/report/units"
)

// headline is the comparison in one line.
func (c *Comparison) headline() string {
	n := make(map[Outcome]int)
	for _, x := range c.Changes {
		n[x.Outcome]++
	}
	var parts []string
	if len(c.Broken) > 0 {
		parts = append(parts, fmt.Sprintf("%d broken", len(c.Broken)))
	}
	for _, o := range []Outcome{Worsened, Improved, Neither, Same} {
		if n[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[o], o))
		}
	}
	if n[CannotTell] > 0 {
		parts = append(parts, fmt.Sprintf("%d that cannot be told", n[CannotTell]))
	}
	verdict := "Nothing got worse"
	if c.Worse() {
		verdict = "Worse"
	}
	if len(parts) == 0 {
		return verdict + ": the runs have no figure in common"
	}
	return verdict + ": " + strings.Join(parts, ", ")
}

func (c *Comparison) runs() [2]string {
	run := func(r *Report) string {
		return strings.TrimSpace(fmt.Sprintf("%s %s, %s", r.Scenario, r.Version, when(r.Started, r.Seconds)))
	}
	return [2]string{run(c.A), run(c.B)}
}

// method says in a line how changes are told from noise.
func method() string {
	return fmt.Sprintf("A figure is better or worse when it changed by %g %% at least and noise alone would give anything like it in fewer than %g %% of all comparisons "+
		"(Welch's t-test, corrected for the number of figures by Holm). It needs %d samples on each side. Samples from within one run do not see what differs between runs: "+
		"repeat a comparison whose outcome matters.", 100*MinEffect, 100*ErrorRate, MinSamples)
}

func (x Change) ratio() string {
	if x.Ratio == 0 {
		return "–"
	}
	return "× " + units.Number(x.Ratio)
}

func (x Change) chance() string {
	switch {
	case math.IsNaN(x.P):
		return "–"
	case x.P < 0.001:
		return "under 0.001"
	}
	return fmt.Sprintf("%.3f", x.P)
}

func (x Change) cells() []string {
	return []string{x.Name, units.Format(x.A, x.Unit), units.Format(x.B, x.Unit), x.ratio(), string(x.Outcome), x.chance()}
}

func comparisonColumns() []string { return []string{"figure", "A", "B", "B to A", "outcome", "p"} }

func orNone(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// ordered puts what matters first: worse, better, the rest.
func (c *Comparison) ordered() []Change {
	var out []Change
	for _, want := range []Outcome{Worsened, Improved, Neither, CannotTell, Same} {
		for _, x := range c.Changes {
			if x.Outcome == want {
				out = append(out, x)
			}
		}
	}
	return out
}

// Text shows the comparison on a terminal.
func (c *Comparison) Text() string {
	var b strings.Builder
	runs := c.runs()
	fmt.Fprintf(&b, "%s\n  A  %s\n  B  %s\n", clean(c.headline()), clean(runs[0]), clean(runs[1]))
	if len(c.Differ) > 0 {
		b.WriteString("\nThese circumstances differ, so the figures may too:\n")
		for _, d := range c.Differ {
			fmt.Fprintf(&b, "  %s: %s → %s\n", clean(d.Name), clean(orNone(d.A)), clean(orNone(d.B)))
		}
	}
	if len(c.Broken) > 0 {
		b.WriteString("\nBroken in B:\n")
		for _, s := range c.Broken {
			fmt.Fprintf(&b, "  %s\n", clean(s))
		}
	}
	if len(c.Changes) > 0 {
		b.WriteString("\n")
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, strings.Join(comparisonColumns(), "\t"))
		for _, x := range c.ordered() {
			cells := x.cells()
			for i := range cells {
				cells[i] = clean(cells[i])
			}
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
		if err := w.Flush(); err != nil {
			return b.String() // a strings.Builder has no errors to give
		}
	}
	for _, only := range []struct {
		name string
		ids  []string
	}{{"A", c.OnlyA}, {"B", c.OnlyB}} {
		if len(only.ids) > 0 {
			fmt.Fprintf(&b, "\nOnly in %s: %s\n", only.name, clean(strings.Join(only.ids, ", ")))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", method())
	return b.String()
}

// clean keeps control characters of a report away from the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Markdown shows the comparison in a change's description.
func (c *Comparison) Markdown() []byte {
	var w markdown
	runs := c.runs()
	w.printf("# %s\n\n", line(c.headline()))
	w.list([]string{"A: " + runs[0], "B: " + runs[1]})
	if len(c.Differ) > 0 {
		w.printf("**These circumstances differ, so the figures may too.**\n\n")
		w.table([]string{"circumstance", "A", "B"}, c.differing())
	}
	if len(c.Broken) > 0 {
		w.printf("## Broken in B\n\n")
		w.list(c.Broken)
	}
	var rows [][]string
	for _, x := range c.ordered() {
		rows = append(rows, x.cells())
	}
	if len(rows) > 0 {
		w.printf("## Figures\n\n")
		w.table(comparisonColumns(), rows, 1, 2, 3, 5)
	}
	w.list(c.unmatched())
	w.printf("%s\n\n", line(method()))
	return append(bytes.TrimRight(w.Bytes(), "\n"), '\n')
}

func (c *Comparison) differing() [][]string {
	var rows [][]string
	for _, d := range c.Differ {
		rows = append(rows, []string{d.Name, orNone(d.A), orNone(d.B)})
	}
	return rows
}

func (c *Comparison) unmatched() []string {
	var out []string
	if len(c.OnlyA) > 0 {
		out = append(out, "Only in A: "+strings.Join(c.OnlyA, ", "))
	}
	if len(c.OnlyB) > 0 {
		out = append(out, "Only in B: "+strings.Join(c.OnlyB, ", "))
	}
	return out
}

// HTML shows the comparison as one file in the looks of a report.
func (c *Comparison) HTML() ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var rows [][]string
	for _, x := range c.ordered() {
		rows = append(rows, x.cells())
	}
	view := struct {
		Style            template.CSS
		Headline, Method string
		Worse            bool
		Runs             [2]string
		Broken, Only     []string
		Differ, Changes  tableView
	}{
		Style: template.CSS(styleSheet), Headline: c.headline(), Method: method(), Worse: c.Worse(), Runs: c.runs(), Broken: c.Broken, Only: c.unmatched(),
		Differ:  viewTable(Table{Title: "Circumstances that differ", Columns: []string{"circumstance", "A", "B"}, Rows: c.differing()}),
		Changes: viewTable(Table{Title: "Figures", Columns: comparisonColumns(), Rows: rows}),
	}
	for _, row := range view.Changes.Rows {
		row[4].Class = map[Outcome]string{Worsened: "mark missed", Improved: "mark excelled"}[Outcome(row[4].Text)]
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "comparison", view); err != nil {
		return nil, fmt.Errorf("write the comparison's page: %w", err)
	}
	return b.Bytes(), nil
}
