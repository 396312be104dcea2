package scenario

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress tells a person on a terminal what runs, how long still, and how fast it goes. On a terminal one line is kept up to date; elsewhere a line
// is written at each step and every ten seconds.
type Progress struct {
	out      io.Writer
	terminal bool
	every    time.Duration

	mu       sync.Mutex // guards what follows, and orders the writes
	scenario string
	number   string // such as 2/9
	began    time.Time
	takes    time.Duration // of the scenario, as estimated
	step     string
	rate     func() string
	shown    int // characters of the line that stands there
	quit     chan struct{}
	gone     chan struct{}
}

const (
	redraw = 500 * time.Millisecond
	repeat = 10 * time.Second
)

// NewProgress writes to out, which is a terminal or not, until Close.
func NewProgress(out io.Writer, terminal bool) *Progress {
	p := &Progress{out: out, terminal: terminal, every: repeat, quit: make(chan struct{}), gone: make(chan struct{})}
	if terminal {
		p.every = redraw
	}
	go p.loop()
	return p
}

// Close ends it, with the last line left as it is.
func (p *Progress) Close() {
	close(p.quit)
	<-p.gone
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.shown > 0 {
		fmt.Fprintln(p.out)
	}
}

// Begin says that a scenario begins, the i-th of n, and how long it should take.
func (p *Progress) Begin(name string, i, n int, takes time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scenario, p.number, p.began, p.takes = name, fmt.Sprintf("%d/%d", i, n), time.Now(), takes
	p.step, p.rate = "", nil
}

// Step says what is done now.
func (p *Progress) Step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.rate = fmt.Sprintf(format, args...), nil
	p.draw()
}

// Rate gives the words behind the step while it lasts, such as "1,204/s".
func (p *Progress) Rate(f func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = f
}

// Say writes a line that stays.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *Progress) loop() {
	defer close(p.gone)
	t := time.NewTicker(p.every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.quit:
			return
		}
	}
}

// draw shows the line; p.mu is held. What cannot be written is not shown, and nothing else comes of it.
func (p *Progress) draw() {
	if p.scenario == "" {
		return
	}
	line := fmt.Sprintf("[%s] %s  %s", p.number, p.scenario, clock(time.Since(p.began)))
	if left := p.takes - time.Since(p.began); p.takes > 0 && left > 0 {
		line += fmt.Sprintf(", %s to go", clock(left))
	}
	if p.step != "" {
		line += "  " + p.step
	}
	if p.rate != nil {
		line += "  " + p.rate()
	}
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	n := len([]rune(line))
	fmt.Fprint(p.out, "\r", line, strings.Repeat(" ", max(p.shown-n, 0)))
	p.shown = n
}

func (p *Progress) wipe() {
	if p.terminal && p.shown > 0 {
		fmt.Fprint(p.out, "\r", strings.Repeat(" ", p.shown), "\r")
		p.shown = 0
	}
}

// clock is a time as minutes and seconds.
func clock(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
