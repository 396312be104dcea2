package suite

import (
	"fmt"
	"io"
	"os"
	"strings"

	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

// terminal says whether somebody looks on.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// digest is the report in a screenful: what each scenario says of itself, and the objectives.
func digest(r *report.Report) string {
	var b strings.Builder
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "\n%s  %s\n", s.Scenario, s.Summary)
		if s.Failed != "" {
			fmt.Fprintf(&b, "  FAILED  %s\n", s.Failed)
		}
		for _, v := range s.Violations {
			fmt.Fprintf(&b, "  VIOLATION  %s\n", v)
		}
	}
	b.WriteString("\n")
	for _, v := range r.Verdicts {
		if v.Result == report.Unchecked {
			continue
		}
		aim := ""
		if v.Aim != 0 {
			aim = ", aim " + units.Format(v.Aim, v.Unit)
		}
		fmt.Fprintf(&b, "  %-9s %-46s %12s  (floor %s%s)\n", v.Result, v.Metric, units.Format(v.Value, v.Unit), units.Format(v.Floor, v.Unit), aim)
	}
	return b.String()
}
