package history

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// shrinker looks for the shortest history that shows why a message has none that the model allows. What it leaves out must not be able to
// explain what is left:
//
//  1. A reading may go: without it there is less to explain. The last one stays that the operations up to then cannot explain.
//  2. Flags may go when the message's being there, or one flag alone, shows the violation.
//  3. An operation may go only if it still is one when the operation is free to have had its effect or none, within its interval: then
//     it does not matter. One that is merely dropped could have been the reason.
//
// Until the search has used up its patience; then the rest stays. The idea of removing halves first is Zeller's delta debugging.
type shrinker struct {
	p     model
	all   []*input
	bits  *bitTable
	until time.Time
	ctx   context.Context

	left []*input // by call
}

// illegal says for sure that no order exists.
func (s *shrinker) illegal(p *model, ins []*input) bool {
	left := time.Until(s.until)
	if left <= 0 || s.ctx.Err() != nil {
		return false
	}
	return p.explain(ins, left) == porcupine.Illegal
}

func (s *shrinker) run() {
	s.left = slices.Clone(s.all)
	s.prefix()
	s.readings()
	s.weaken(func(last *input) { last.blind = true })
	if s.last() != nil && s.last().blind {
		s.weaken(func(last *input) { last.lenient = true })
	}
	s.project()
	s.relax()
	s.readings()
}

// prefix drops every reading behind the first that breaks it.
func (s *shrinker) prefix() {
	var readings []*input
	for _, in := range s.left {
		if in.act == actShow {
			readings = append(readings, in)
		}
	}
	without := func(n int) []*input { // all readings behind the first n
		later := readings[n:]
		return slices.DeleteFunc(slices.Clone(s.left), func(in *input) bool { return in.act == actShow && slices.Contains(later, in) })
	}
	low, high := 0, len(readings) // high readings are illegal
	for low+1 < high {
		if middle := (low + high) / 2; s.illegal(&s.p, without(middle)) {
			high = middle
		} else {
			low = middle
		}
	}
	s.left = without(high)
}

// readings drops those but the last that are not needed, many at a time first.
func (s *shrinker) readings() {
	for size := len(s.left); size > 0; size /= 2 {
		for from := 0; from < len(s.left); {
			to := min(from+size, len(s.left))
			var fewer []*input
			last := s.last()
			for i, in := range s.left {
				if i < from || i >= to || in.act != actShow || in == last {
					fewer = append(fewer, in)
				}
			}
			if len(fewer) < len(s.left) && s.illegal(&s.p, fewer) {
				s.left = fewer
			} else {
				from = to
			}
		}
	}
}

// last is the reading that cannot be explained.
func (s *shrinker) last() *input {
	var last *input
	for _, in := range s.left {
		if in.act == actShow {
			last = in
		}
	}
	return last
}

// weaken has the last reading say less, if that cannot be explained either.
func (s *shrinker) weaken(change func(*input)) {
	last := s.last()
	if last == nil {
		return
	}
	less := *last
	change(&less)
	trial := slices.Clone(s.left)
	trial[slices.Index(trial, last)] = &less
	if s.illegal(&s.p, trial) {
		s.left = trial
	}
}

// project is step 2.
func (s *shrinker) project() {
	try := func(mask uint32) bool {
		p := s.p
		p.mask = mask
		if !s.illegal(&p, s.left) {
			return false
		}
		s.p = p
		return true
	}
	if try(0) {
		return
	}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if try(bit) {
			return
		}
	}
}

// relax is step 3. What had an effect at some time or never needs no place in the table.
func (s *shrinker) relax() {
	for i, in := range s.left {
		if in.act == actShow || in.optional {
			continue
		}
		free := *in
		free.optional = true
		trial := slices.Clone(s.left)
		trial[i] = &free
		if s.illegal(&s.p, trial) {
			s.left = trial
		}
	}
}

// visible are the operations that show the violation.
func (s *shrinker) visible() []*Op {
	var out []*Op
	for _, in := range s.left {
		if !in.optional {
			out = append(out, in.op)
		}
	}
	return out
}

// name finds the rule that is broken, and a line about it.
func (s *shrinker) name(id string) (rule, text string) {
	last := s.last()
	if last == nil {
		return "undecided", id + " has no order that can be explained, and the search for the reason took too long"
	}
	where := "through " + last.op.Node
	switch {
	case s.passes():
		return "stale", fmt.Sprintf("%s is shown %s as it had been, and later as it should be", id, where)
	case !last.blind:
		return "flags", fmt.Sprintf("%s is shown %s with other flags than operations leave it with: look at %s", id, where,
			strings.Join(s.bits.names(s.p.mask), " "))
	case last.lenient:
		return "resurrected", fmt.Sprintf("%s is there %s after it was gone", id, where)
	}
	return "lost", fmt.Sprintf("%s was acknowledged and is not there %s", id, where)
}

// passes says whether only some readings are wrong, and one after them is right.
func (s *shrinker) passes() bool {
	const most = 20
	rest := shrinker{p: s.p, bits: s.bits, until: s.until, ctx: s.ctx, left: slices.Clone(s.all)}
	rest.p.mask = ^uint32(0)
	for range most {
		all := rest.left
		rest.prefix()
		wrong := rest.last()
		if wrong == nil {
			return false
		}
		rest.left = slices.DeleteFunc(slices.Clone(all), func(in *input) bool { return in == wrong })
		if !rest.illegal(&rest.p, rest.left) {
			return slices.ContainsFunc(rest.left, func(in *input) bool { return in.act == actShow && in.call > wrong.ret })
		}
	}
	return false
}
