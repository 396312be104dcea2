package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"

	"hongyan/bench/report/plot"
	"hongyan/bench/report/units"
)

//go:embed page.html
var pageTemplate string

//go:embed style.css
var styleSheet string

const (
	wide, narrow = 820.0, 330.0 // of pictures, in CSS pixels; the style sheet shows one of the two
	bulletWidth  = 210.0
	maxMarks     = 60 // that are listed below a chart
	maxCards     = 8
)

// HTML shows the report as one file that needs nothing else: no network, no script.
func HTML(r *Report) ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "report", newPage(r)); err != nil {
		return nil, fmt.Errorf("write the report's page: %w", err)
	}
	return b.Bytes(), nil
}

// page is what the template shows.
type page struct {
	Style     template.CSS
	Report    *Report
	Headline  string
	When      string
	Reasons   []string
	Cards     []card
	Verdicts  []verdictRow
	Unchecked []Verdict
	Sections  []sectionView
	Facts     []Setting
}

// card is a headline figure.
type card struct {
	Name, Value, Bound string
	Result             Result
}

type verdictRow struct {
	Verdict
	Shown, FloorText, AimText string
	Bar                       template.HTML
}

type sectionView struct {
	*Section
	Anchor  string
	When    string
	State   Result // the worst of its verdicts; empty when it has none
	Metrics []metricRow
	Charts  []picture
	Latency *picture
	Columns []string
	Rows    []latencyRow
	Tables  []tableView
}

type tableView struct {
	Title, Note string
	Columns     []cell
	Rows        [][]cell
}

type cell struct{ Text, Class string }

type metricRow struct{ ID, Name, Value string }

type latencyRow struct {
	Name  string
	Cells []string
}

// picture is a plot in two widths with its legend.
type picture struct {
	Title        string
	Wide, Narrow template.HTML
	Legend       []legend
	Marks        []string
	MoreMarks    int
}

type legend struct {
	Style int
	Name  string
}

func newPage(r *Report) *page {
	p := &page{
		Style: template.CSS(styleSheet), Report: r, Headline: r.headline(), When: when(r.Started, r.Seconds),
		Reasons: r.reasons(), Cards: cards(r), Facts: r.facts(),
	}
	for i, v := range r.Verdicts {
		if v.Result == Unchecked {
			p.Unchecked = append(p.Unchecked, v)
			continue
		}
		row := verdictRow{Verdict: v, Shown: v.value(), FloorText: v.bound(v.Floor), AimText: v.aim()}
		if v.Note == "" {
			bullet := plot.Bullet{
				ID: "o" + strconv.Itoa(i), Title: v.Name, Unit: v.Unit, Value: v.Value, Floor: v.Floor, Aim: v.Aim,
				Higher: v.Better == Higher, Class: string(classOf(v.Result)),
			}
			row.Bar = template.HTML(bullet.SVG(bulletWidth))
		}
		p.Verdicts = append(p.Verdicts, row)
	}
	slices.SortStableFunc(p.Verdicts, func(a, b verdictRow) int { return missedFirst(a.Result) - missedFirst(b.Result) })
	for i := range r.Sections {
		p.Sections = append(p.Sections, viewSection(r, i))
	}
	return p
}

func missedFirst(r Result) int {
	if r == Missed {
		return 0
	}
	return 1
}

// classOf lets no text of the report become a class of the page.
func classOf(r Result) Result {
	switch r {
	case Missed, Held, Excelled:
		return r
	}
	return Unchecked
}

// cards picks the figures that stand at the top: what was missed, then one objective of each kind in turn.
func cards(r *Report) []card {
	var out []card
	taken := make(map[int]bool)
	take := func(i int) {
		v := r.Verdicts[i]
		taken[i] = true
		out = append(out, card{Name: v.Name, Value: v.value(), Bound: v.bound(v.Floor), Result: classOf(v.Result)})
	}
	for i, v := range r.Verdicts {
		if v.Result == Missed && len(out) < maxCards {
			take(i)
		}
	}
	for added := true; added; {
		added = false
		kinds := make(map[string]bool)
		for i, v := range r.Verdicts {
			if len(out) < maxCards && !taken[i] && v.Result != Unchecked && !kinds[firstPart(v.Metric)] {
				kinds[firstPart(v.Metric)] = true
				take(i)
				added = true
			}
		}
	}
	if len(out)%4 == 1 && len(out) > 4 {
		out = out[:len(out)-1] // a lone card in a row looks forgotten
	}
	return out
}

func viewSection(r *Report, i int) sectionView {
	s := &r.Sections[i]
	id := "s" + strconv.Itoa(i)
	view := sectionView{Section: s, Anchor: id, When: when(s.Started, s.Seconds), State: r.state(s)}
	for _, m := range s.Metrics {
		view.Metrics = append(view.Metrics, metricRow{m.ID, m.Name, units.Format(m.Value, m.Unit)})
	}
	for j, c := range s.Charts {
		view.Charts = append(view.Charts, drawChart(c, id+"c"+strconv.Itoa(j)))
	}
	for _, t := range s.Tables {
		view.Tables = append(view.Tables, viewTable(t))
	}
	if len(s.Latencies) > 0 {
		drawn := drawLatencies(s.Latencies, id+"l")
		view.Latency, view.Columns = &drawn, latencyColumns()
		for j := range s.Latencies {
			view.Rows = append(view.Rows, latencyRow{s.Latencies[j].Name, s.Latencies[j].latencyCells()})
		}
	}
	return view
}

// viewTable aligns columns of figures to the right and lets long text wrap.
func viewTable(t Table) tableView {
	const long = 44 // letters
	out := tableView{Title: t.Title, Note: t.Note}
	classes := make([]string, len(t.Columns))
	for i := range t.Columns {
		figures := i > 0 && len(t.Rows) > 0
		for _, row := range t.Rows {
			figures = figures && (i >= len(row) || isFigure(row[i]))
			if i < len(row) && len([]rune(row[i])) > long {
				classes[i] = "long"
			}
		}
		if figures && classes[i] == "" {
			classes[i] = "n"
		}
	}
	for i := range t.Columns {
		if classes[i] == "" && slices.Contains(classes, "long") {
			classes[i] = "wrap"
		}
		out.Columns = append(out.Columns, cell{t.Columns[i], classes[i]})
	}
	for _, row := range t.Rows {
		cells := make([]cell, len(t.Columns))
		for i := range cells {
			cells[i].Class = classes[i]
			if i < len(row) {
				cells[i].Text = row[i]
			}
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

func isFigure(s string) bool {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "under "), "× ")
	return s == "" || s == "–" || strings.ContainsAny(s[:1], "0123456789-")
}

// state is the worst that was said of a section.
func (r *Report) state(s *Section) Result {
	if s.Failed != "" || len(s.Violations) > 0 {
		return Missed
	}
	var worst Result
	for _, m := range s.Metrics {
		for _, v := range r.Verdicts {
			switch {
			case v.Metric != m.ID:
			case v.Result == Missed:
				return Missed
			case v.Result == Held || worst == "":
				worst = classOf(v.Result)
			}
		}
	}
	return worst
}

func drawChart(c Chart, id string) picture {
	p := plot.Time{Title: c.Title, Unit: c.Unit, Log: c.Log}
	out := picture{Title: c.Title}
	for i, l := range c.Lines {
		p.Series = append(p.Series, plot.Series{Name: l.Name, X: l.At, Y: l.Value})
		out.Legend = append(out.Legend, legend{i % plot.Styles, l.Name})
	}
	for i, m := range c.Marks {
		p.Spans = append(p.Spans, plot.Span{From: m.At, To: m.Until, Label: m.Label})
		if i < maxMarks {
			out.Marks = append(out.Marks, m.Label+", "+m.times())
		}
	}
	out.MoreMarks = len(c.Marks) - len(out.Marks)
	p.ID = id + "w"
	out.Wide = template.HTML(p.SVG(wide))
	p.ID = id + "n"
	out.Narrow = template.HTML(p.SVG(narrow))
	return out
}

func (m Mark) times() string {
	if m.Until > m.At {
		return units.Seconds(m.At) + " to " + units.Seconds(m.Until)
	}
	return "at " + units.Seconds(m.At)
}

func drawLatencies(all []Latency, id string) picture {
	p := plot.Percentiles{Title: "Times by percentile"}
	out := picture{Title: p.Title}
	for i, l := range all {
		d := plot.Distribution{Series: plot.Series{Name: l.Name}, Count: l.Count}
		for _, q := range l.Points {
			d.X, d.Y = append(d.X, q.Percent), append(d.Y, q.Seconds)
		}
		if n := len(d.X); l.Count > 0 && (n == 0 || d.X[n-1] < 100) {
			d.X, d.Y = append(d.X, 100), append(d.Y, l.Max)
		}
		p.Distributions = append(p.Distributions, d)
		out.Legend = append(out.Legend, legend{i % plot.Styles, l.Name})
	}
	p.ID = id + "w"
	out.Wide = template.HTML(p.SVG(wide))
	p.ID = id + "n"
	out.Narrow = template.HTML(p.SVG(narrow))
	return out
}
