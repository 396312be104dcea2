package report

import (
	"bytes"
	"fmt"
	"strings"

	"hongyan/bench/report/units"
)

// Markdown shows the report for a change's description or a terminal: the verdict first, pictures left out.
func Markdown(r *Report) []byte {
	var w markdown
	w.printf("# %s\n\n", line(r.headline()))
	w.printf("hongyan bench %s. %s\n\n", line(r.Scenario), line(when(r.Started, r.Seconds)))
	w.list(r.reasons())
	w.verdicts(r.Verdicts)
	for i := range r.Sections {
		w.section(&r.Sections[i])
	}
	w.printf("## Machine and settings\n\n")
	w.settings(r.facts())
	return append(bytes.TrimRight(w.Bytes(), "\n"), '\n')
}

// markdown writes GitHub's dialect. Text from outside is escaped, so that it cannot become a heading, a link or HTML.
type markdown struct{ bytes.Buffer }

func (w *markdown) printf(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func (w *markdown) verdicts(all []Verdict) {
	if len(all) == 0 {
		return
	}
	w.printf("## Objectives\n\n")
	var rows [][]string
	unchecked := 0
	for _, v := range all {
		if v.Result == Unchecked {
			unchecked++
			continue
		}
		name := v.Name
		if v.Row != "" {
			name += " (" + v.Row + ")"
		}
		result := string(v.Result)
		if v.Note != "" {
			result += ": " + v.Note
		}
		rows = append(rows, []string{name, v.value(), v.bound(v.Floor), v.aim(), result})
	}
	w.table([]string{"objective", "value", "floor", "aim", "verdict"}, rows, 1, 2, 3)
	if unchecked > 0 {
		w.printf("%s not checked: this run did not measure what they ask for.\n\n", plural(unchecked, "objective"))
	}
}

func (w *markdown) section(s *Section) {
	w.printf("## %s\n\n", line(s.Title))
	if s.Failed != "" {
		w.printf("**Not finished:** %s\n\n", line(s.Failed))
	}
	if s.Summary != "" {
		w.printf("%s\n\n", line(s.Summary))
	}
	for _, v := range s.Violations {
		w.printf("**Violation of what is promised**\n\n")
		w.code(v)
	}
	if len(s.Metrics) > 0 {
		var rows [][]string
		for _, m := range s.Metrics {
			rows = append(rows, []string{m.Name, units.Format(m.Value, m.Unit), m.ID})
		}
		w.table([]string{"figure", "value", "ID"}, rows, 1)
	}
	if len(s.Latencies) > 0 {
		var rows [][]string
		for i := range s.Latencies {
			rows = append(rows, append([]string{s.Latencies[i].Name}, s.Latencies[i].latencyCells()...))
		}
		w.table(latencyColumns(), rows, 1, 2, 3, 4, 5, 6, 7)
	}
	for _, t := range s.Tables {
		w.printf("### %s\n\n", line(t.Title))
		w.table(t.Columns, t.Rows)
		if t.Note != "" {
			w.printf("%s\n\n", line(t.Note))
		}
	}
	w.list(s.Notes)
	w.settings(s.Settings)
}

func latencyColumns() []string {
	out := []string{"times"}
	for _, p := range shownPercents() {
		out = append(out, fmt.Sprintf("p%g", p))
	}
	return append(out, "max", "mean", "count")
}

func (w *markdown) settings(all []Setting) {
	if len(all) == 0 {
		return
	}
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{s.Name, s.Value})
	}
	w.table([]string{"setting", "value"}, rows)
}

func (w *markdown) list(lines []string) {
	for _, l := range lines {
		w.printf("- %s\n", line(l))
	}
	if len(lines) > 0 {
		w.printf("\n")
	}
}

// table aligns the columns that are named by number to the right.
func (w *markdown) table(columns []string, rows [][]string, right ...int) {
	if len(columns) == 0 {
		return
	}
	align := make([]string, len(columns))
	for i := range align {
		align[i] = "---"
	}
	for _, i := range right {
		align[i] = "---:"
	}
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = line(c)
	}
	w.printf("| %s |\n| %s |\n", strings.Join(cells, " | "), strings.Join(align, " | "))
	for _, row := range rows {
		for i := range cells {
			cells[i] = ""
			if i < len(row) {
				cells[i] = line(row[i])
			}
		}
		w.printf("| %s |\n", strings.Join(cells, " | "))
	}
	w.printf("\n")
}

// code shows text as it is, inside a fence that is longer than any in it.
func (w *markdown) code(s string) {
	fence := "```"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	w.printf("%s\n%s\n%s\n\n", fence, strings.TrimRight(s, "\n"), fence)
}

// line puts text into one line in which nothing has a meaning.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	var b strings.Builder
	for i, r := range s {
		switch {
		case strings.ContainsRune("\\`*[]<|", r), r == '&', r == '#' && i == 0, r == '_' && !inWord(s, i):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// inWord tells a_b, which GitHub leaves alone, from _emphasis_.
func inWord(s string, i int) bool {
	letter := func(c byte) bool { return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }
	return i > 0 && i+1 < len(s) && letter(s[i-1]) && letter(s[i+1])
}
