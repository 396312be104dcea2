package scenario

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/report"
)

// sides are the target and, where there is one, its peer.
func (e *Env) sides() []*Env {
	if e.Peer == nil {
		return []*Env{e}
	}
	return []*Env{e, e.Peer}
}

// inTurns measures the target for that time. With a peer each has two turns of half the time, so that both see the machine's moods.
func (e *Env) inTurns(took time.Duration, f func(side *Env, took time.Duration) error) error {
	if e.Peer == nil {
		return f(e, took)
	}
	for range 2 {
		for _, side := range e.sides() {
			if err := f(side, took/2); err != nil {
				return fmt.Errorf("%s: %w", side.Target.Name, err)
			}
		}
	}
	return nil
}

// id is that of a figure of one side, such as reading.fetch, or reading.peer.fetch for the peer's.
func (e *Env) id(side *Env, scenario, name string) string {
	if side == e {
		return scenario + "." + name
	}
	return scenario + ".peer." + name
}

// peerRatios adds, for each figure of the target that the peer has too, how many times as good the target's is. Above one is better for the target,
// whether more or less of the figure is. which chooses figures by their ID without the scenario, and gives what of the ID stands before .peer_ratio,
// and what was done, for people.
func (e *Env) peerRatios(s *report.Section, scenario string, which func(name string) (short, what string)) {
	if e.Peer == nil {
		return
	}
	var found []report.Metric
	for _, ours := range s.Metrics {
		name := strings.TrimPrefix(ours.ID, scenario+".")
		i := slices.IndexFunc(s.Metrics, func(m report.Metric) bool { return m.ID == scenario+".peer."+name })
		short, what := which(name)
		if i < 0 || short == "" {
			continue
		}
		theirs := s.Metrics[i]
		m := metric(scenario+"."+short+".peer_ratio", fmt.Sprintf("%s: times as good as %s", what, e.Peer.Target.Name), 0, "ratio", report.Higher)
		if m.Value = goodness(ours, ours.Value, theirs.Value); math.IsInf(m.Value, 0) || math.IsNaN(m.Value) {
			continue // one of them is nothing
		}
		for i := range min(len(ours.Samples), len(theirs.Samples)) {
			if v := goodness(ours, ours.Samples[i], theirs.Samples[i]); !math.IsInf(v, 0) && !math.IsNaN(v) {
				m.Samples = append(m.Samples, v)
			}
		}
		found = append(found, m)
	}
	s.Metrics = append(s.Metrics, found...)
}

func goodness(m report.Metric, ours, theirs float64) float64 {
	if m.Better == report.Lower {
		return theirs / ours
	}
	return ours / theirs
}

// some are those of the recorder's metrics whose last parts are named, and its failures by class.
func some(r *load.Recorder, id string, names ...string) (out []report.Metric) {
	for _, m := range r.Metrics(id) {
		name := strings.TrimPrefix(m.ID, id+".")
		if slices.Contains(names, name) || strings.HasPrefix(name, "errors.") {
			out = append(out, m)
		}
	}
	return out
}

// failed adds the share of operations that failed, and what noteFailures does.
func failed(s *report.Section, id, what string, recs ...*load.Recorder) (tries, failures int64) {
	for _, r := range recs {
		f := r.Figures()
		tries, failures = tries+f.Successes+f.Failures, failures+f.Failures
	}
	if tries > 0 {
		s.Metrics = append(s.Metrics, metric(id, what, float64(failures)/float64(tries), "ratio", report.Lower))
	}
	noteFailures(s, recs...)
	return tries, failures
}

// noteFailures adds a note for each kind of operation that failed, with the first error.
func noteFailures(s *report.Section, recs ...*load.Recorder) {
	for _, r := range recs {
		f := r.Figures()
		for _, class := range load.Classes() {
			if n := f.Errors[class]; n > 0 {
				s.Notes = append(s.Notes, fmt.Sprintf("%s: %d failed (%s), the first with: %s", f.Name, n, class, f.Examples[class]))
			}
		}
	}
}

// quiet are n accounts that the load of other scenarios touches least, skip of them left out: the skew of recipients favours the first ones. Fewer
// when there are not so many.
func (e *Env) quiet(skip, n int) []load.Account {
	all := e.Target.Accounts
	if skip+n <= len(all) {
		return all[len(all)-skip-n : len(all)-skip]
	}
	return all[:min(n, len(all))]
}

// imapNodes are the numbers of the nodes that serve IMAP.
func imapNodes(t load.Target) (out []int) {
	for i, n := range t.Nodes {
		if n.IMAP != "" || n.IMAPS != "" && t.TLS != nil {
			out = append(out, i)
		}
	}
	return out
}
