package scrub

import (
	"context"
	"slices"
	"sync"
	"time"

	"hongyan/engine/volume"
)

// Methods on the transport. Their values are CBOR maps with integer keys; keys are added, never reused.
const (
	methodDigest = "scrub.digest" // what did you find in your copy? (step 4)
	methodRanges = "scrub.ranges" // read your copy and say each range's digest
	methodReport = "scrub.report" // for an operator who asks another node
	methodStart  = "scrub.start"  // verify now
)

// Finding is something that was wrong with a copy, and what was done.
type Finding struct {
	Time   int64     `cbor:"1,keyasint" json:"time"` // unix seconds
	Volume volume.ID `cbor:"2,keyasint" json:"volume"`
	Record uint64    `cbor:"3,keyasint,omitempty" json:"record,omitempty"` // the first; 0: no record of which the number is known
	Start  int64     `cbor:"4,keyasint,omitempty" json:"start"`            // offsets in the file
	End    int64     `cbor:"5,keyasint,omitempty" json:"end"`
	What   string    `cbor:"6,keyasint" json:"what"`
	Mended bool      `cbor:"7,keyasint,omitempty" json:"mended"`
	From   string    `cbor:"8,keyasint,omitempty" json:"from,omitempty"` // node whose copy mended it, or differs
	// Records is how many that follow each other, Differs that this and From's copy are whole and not the same.
	Records uint64 `cbor:"9,keyasint,omitempty" json:"records,omitempty"`
	Differs bool   `cbor:"10,keyasint,omitempty" json:"differs,omitempty"`
}

// Damaged is a copy that could not be mended yet.
type Damaged struct {
	Volume  volume.ID `cbor:"1,keyasint" json:"volume"`
	Records uint64    `cbor:"2,keyasint" json:"records"`
	Checked int64     `cbor:"3,keyasint" json:"checked"` // unix seconds
}

// Report is the health of one node's copies.
type Report struct {
	Node    string `cbor:"1,keyasint" json:"node"`
	Error   string `cbor:"2,keyasint,omitempty" json:"error,omitempty"`   // why there is no report
	Every   int64  `cbor:"3,keyasint,omitempty" json:"every_seconds"`     // period
	Rate    int64  `cbor:"4,keyasint,omitempty" json:"bytes_per_second"`  // bound on reading
	Copies  int    `cbor:"5,keyasint,omitempty" json:"copies"`            // whole sealed ones here
	Bytes   int64  `cbor:"6,keyasint,omitempty" json:"bytes"`             // of these
	Current int    `cbor:"7,keyasint,omitempty" json:"checked_in_period"` // of these
	Oldest  int64  `cbor:"8,keyasint,omitempty" json:"oldest_check"`      // unix seconds; 0 while one was never verified

	Running volume.ID `cbor:"9,keyasint,omitempty" json:"running,omitempty"` // the copy that is being read
	Done    int64     `cbor:"10,keyasint,omitempty" json:"running_done,omitempty"`
	Length  int64     `cbor:"11,keyasint,omitempty" json:"running_length,omitempty"`
	Waiting int       `cbor:"12,keyasint,omitempty" json:"waiting"` // copies that are due

	Totals   Totals    `cbor:"13,keyasint" json:"since_start"`
	Damaged  []Damaged `cbor:"14,keyasint,omitempty" json:"damaged"`
	Findings []Finding `cbor:"15,keyasint,omitempty" json:"findings"` // the last, oldest first
}

// Totals count since the node started.
type Totals struct {
	Copies     uint64 `cbor:"1,keyasint,omitempty" json:"copies"` // verified to the end
	Bytes      uint64 `cbor:"2,keyasint,omitempty" json:"bytes"`  // read
	Found      uint64 `cbor:"3,keyasint,omitempty" json:"damaged_records"`
	Mended     uint64 `cbor:"4,keyasint,omitempty" json:"mended_records"`
	Written    uint64 `cbor:"5,keyasint,omitempty" json:"mended_bytes"`
	Compared   uint64 `cbor:"6,keyasint,omitempty" json:"compared"` // with another copy's digest
	Mismatches uint64 `cbor:"7,keyasint,omitempty" json:"mismatches"`
	Missing    uint64 `cbor:"8,keyasint,omitempty" json:"missing_files"` // gone, cut or replaced
	Failures   uint64 `cbor:"9,keyasint,omitempty" json:"failures"`      // checks that did not come to their end
}

const (
	reportWait = 5 * time.Second
)

type reportRequest struct{}

type startRequest struct {
	Volume volume.ID `cbor:"1,keyasint,omitempty"` // 0: all
}

type startReply struct {
	Copies int `cbor:"1,keyasint,omitempty"`
}

func (s *Scrubber) serveReport(context.Context, string, *reportRequest) (*Report, error) {
	r := s.Report()
	return &r, nil
}

func (s *Scrubber) serveStart(_ context.Context, _ string, req *startRequest) (*startReply, error) {
	return &startReply{Copies: s.StartNow(req.Volume)}, nil
}

// Report describes this node's copies.
func (s *Scrubber) Report() Report {
	now := s.cfg.Clock.Now()
	copies := s.cfg.Copies.Copies()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{Node: s.cfg.ID, Every: int64(s.cfg.Every / time.Second), Rate: s.cfg.Rate, Copies: len(copies), Totals: s.totals,
		Running: s.running, Done: s.done, Length: s.length, Findings: slices.Clone(s.findings)}
	r.Oldest = now.Unix()
	for _, e := range copies {
		r.Bytes += e.Length
		k := s.marks[e.ID]
		if k == nil {
			r.Oldest = 0
			continue
		}
		if now.Unix()-k.Checked <= r.Every {
			r.Current++
		}
		r.Oldest = min(r.Oldest, k.Checked)
		if k.Damaged > 0 {
			r.Damaged = append(r.Damaged, Damaged{e.ID, k.Damaged, k.Checked})
		}
		if !s.due(k).After(now) {
			r.Waiting++
		}
	}
	return r
}

// Reports asks every node that keeps mail.
func (s *Scrubber) Reports(ctx context.Context) []Report {
	return ask(ctx, s, func(ctx context.Context, node string) Report {
		var r Report
		if err := s.cfg.Net.Call(ctx, node, methodReport, &reportRequest{}, &r); err != nil {
			return Report{Node: node, Error: err.Error()}
		}
		return r
	})
}

// Started is a node's answer to StartEverywhere.
type Started struct {
	Node   string `json:"node"`
	Copies int    `json:"copies"`
	Error  string `json:"error,omitempty"`
}

// StartEverywhere has a volume verified now by every node that holds it, or all volumes if id is 0.
func (s *Scrubber) StartEverywhere(ctx context.Context, id volume.ID) []Started {
	return ask(ctx, s, func(ctx context.Context, node string) Started {
		var r startReply
		if err := s.cfg.Net.Call(ctx, node, methodStart, &startRequest{Volume: id}, &r); err != nil {
			return Started{Node: node, Error: err.Error()}
		}
		return Started{Node: node, Copies: r.Copies}
	})
}

// ask asks all nodes at once, each with a deadline.
func ask[T any](ctx context.Context, s *Scrubber, f func(ctx context.Context, node string) T) []T {
	ctx, stop := context.WithTimeout(ctx, reportWait)
	defer stop()
	nodes := s.cfg.Nodes()
	out := make([]T, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() { out[i] = f(ctx, node) })
	}
	wg.Wait()
	return out
}
