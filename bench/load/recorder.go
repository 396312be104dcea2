package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Recorder keeps the outcomes of one kind of operation. It is safe for concurrent use: one mutex, held twice an operation. BenchmarkRecorder
// takes 0.2 to 0.8 µs an operation with all cores at it, so 50,000 a second cost one to four percent of a core and seldom meet.
//
// Demand, which a stall needs: it begins with an operation that is scheduled while none waits, and ends with a success after which none
// waits. A failure does not end it, since somebody still did not get what they wanted.
type Recorder struct {
	name  string
	began time.Time

	mu       sync.Mutex // guards what follows
	whole    *hdrhistogram.Histogram
	slices   series
	waiting  int       // operations that have begun and not ended
	since    time.Time // when the present demand began, or the last success under it; zero without demand
	first    time.Time // demand
	success  [2]time.Time
	last     time.Time // outcome of any kind
	failures map[Class]int64
	examples map[Class]string
	stall    Stall
	marks    []Mark
	open     int // marks whose First is not known yet
}

// Stall is a time without success under demand.
type Stall struct {
	Began time.Time
	For   time.Duration
}

// Mark is a moment at which something was done to the target.
type Mark struct {
	Label string
	At    time.Time
	// First is when the first success ended that was started after At; zero when there was none.
	First time.Time
	// Stall is the longest time without success under demand, between At and the next mark.
	Stall time.Duration
}

// ToFirst is the time from the mark to the first success that was started after it; ok is false when there was none.
func (m Mark) ToFirst() (d time.Duration, ok bool) { return m.First.Sub(m.At), !m.First.IsZero() }

// RecorderOptions may be left empty.
type RecorderOptions struct {
	Began time.Time     // of the section of the report, to which charts refer; now when zero
	Slice time.Duration // of the time series; one second when zero, 100 ms suits failovers
}

// Bounds: longer latencies count as the longest, further marks are not kept.
const (
	longestLatency = time.Hour
	maxMarks       = 1000
)

// NewRecorder makes a recorder; name is for people, such as "LMTP delivery".
func NewRecorder(name string, o RecorderOptions) *Recorder {
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	if o.Slice <= 0 {
		o.Slice = time.Second
	}
	return &Recorder{name: name, began: o.Began, slices: newSeries(o.Slice), failures: map[Class]int64{}, examples: map[Class]string{},
		whole: hdrhistogram.New(1, longestLatency.Microseconds(), 3)}
}

// Name is what the recorder was made with.
func (r *Recorder) Name() string { return r.name }

// Op is an operation that was begun. It must be ended exactly once.
type Op struct {
	r         *Recorder
	scheduled time.Time
	started   time.Time
}

// Begin notes that an operation starts now that was due at scheduled.
func (r *Recorder) Begin(scheduled time.Time) Op {
	op := Op{r: r, scheduled: scheduled, started: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.demand(scheduled)
	r.waiting++
	return op
}

// demand notes that something was due at that time. The caller holds mu.
func (r *Recorder) demand(scheduled time.Time) {
	if r.since.IsZero() { // what was due before the last success began to be missed after it
		r.since = later(scheduled, r.success[1])
	}
	if r.first.IsZero() {
		r.first = scheduled
	}
}

// End notes the outcome: success when err is nil.
func (o Op) End(err error) {
	now, r := time.Now(), o.r
	class := Class("")
	if err != nil {
		class = Classify(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	if err != nil {
		r.fail(now, class, err.Error())
		return
	}
	r.succeed(now, o.scheduled, o.started)
}

// Observe notes a success that others caused: something due at from was seen at that time, such as a notice of new mail.
func (r *Recorder) Observe(from, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.demand(from)
	r.succeed(at, from, from)
}

// Refuse notes that an operation was due which nobody could try, since all workers were busy.
func (r *Recorder) Refuse(scheduled time.Time) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.demand(scheduled)
	r.fail(now, Refused, "all workers that the run may have were busy")
}

// Fail notes an operation that failed without having been begun, such as one that was owed when the run ended.
func (r *Recorder) Fail(scheduled time.Time, err error) {
	now, class := time.Now(), Classify(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.demand(scheduled)
	r.fail(now, class, err.Error())
}

func (r *Recorder) fail(now time.Time, class Class, text string) {
	r.failures[class]++
	if _, ok := r.examples[class]; !ok {
		r.examples[class] = text
	}
	r.last = later(r.last, now)
	r.slices.at(now.Sub(r.began)).failures++
}

func (r *Recorder) succeed(now, scheduled, started time.Time) {
	took := min(max(now.Sub(scheduled), 0), longestLatency)
	_ = r.whole.RecordValue(took.Microseconds()) // fails only above longestLatency
	r.slices.at(now.Sub(r.began)).successes++
	r.slices.took(took)
	if r.success[0].IsZero() {
		r.success[0] = now
	}
	r.success[1] = later(r.success[1], now)
	r.last = later(r.last, now)
	r.endStall(now)
	r.since = time.Time{}
	if r.waiting > 0 {
		r.since = now
	}
	if r.open > 0 {
		r.resolve(now, started)
	}
}

// endStall takes the time from the begin of demand, or the last success under it, until now as a stall.
func (r *Recorder) endStall(now time.Time) {
	if r.since.IsZero() {
		return
	}
	if d := now.Sub(r.since); d > r.stall.For {
		r.stall = Stall{Began: r.since, For: d}
	}
	if n := len(r.marks); n > 0 {
		m := &r.marks[n-1]
		m.Stall = max(m.Stall, now.Sub(later(r.since, m.At)))
	}
}

// resolve notes a success as the first after each mark that has none and came before its start.
func (r *Recorder) resolve(now, started time.Time) {
	for i := len(r.marks) - 1; i >= 0; i-- {
		if m := &r.marks[i]; m.First.IsZero() && started.After(m.At) {
			m.First = now
			r.open--
		}
	}
}

// Mark notes that something is done to the target now. Recovery is then seen in Figures' marks.
func (r *Recorder) Mark(label string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.marks) == maxMarks {
		return
	}
	if n := len(r.marks); n > 0 && !r.since.IsZero() { // what stands still now belongs to both
		m := &r.marks[n-1]
		m.Stall = max(m.Stall, now.Sub(later(r.since, m.At)))
	}
	r.marks = append(r.marks, Mark{Label: label, At: now})
	r.open++
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
