package lab

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"hongyan/bench/disk"
	"hongyan/cluster/clock"
	"hongyan/cluster/supervise"
)

// Restart says what happens to a node that died by itself.
type Restart string

// The two policies.
const (
	OnFailure Restart = "on-failure" // it is started again, each time a little later
	Never     Restart = "never"      // it stays down until told
)

// ExecWord is the word with which this program is to call disk.Exec with the words that follow: a node comes about so when its fsyncs are
// to pass the lab.
const ExecWord = "lab-exec"

type verb string

// What a process can be told.
const (
	verbStart  verb = "start"
	verbStop   verb = "stop"
	verbKill   verb = "kill"
	verbPause  verb = "pause"
	verbResume verb = "resume"
	verbClock  verb = "clock"
	verbEnd    verb = "end" // stop, and refuse to start from then on; the supervisor's own
)

// States of a process as status shows them.
const (
	stateDown    = "down"
	stateRunning = "running"
	statePaused  = "paused"
	stateWaiting = "waiting" // died, will be started again
)

const (
	backoffMin = 200 * time.Millisecond
	backoffMax = 5 * time.Second
	ranWell    = 10 * time.Second // a process that lived this long starts over with the shortest wait
	maxLog     = 16 << 20
)

// ProcessStatus is what the supervisor knows of a node's process.
type ProcessStatus struct {
	State    string    `json:"state"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`            // deaths that nobody asked for
	LastExit string    `json:"last_exit,omitempty"` // such as "signal: killed", or "exit status 1: " and what the node noted

	Clock time.Duration `json:"clock,omitempty"` // by how much its clock is wrong on purpose, in nanoseconds
}

// process keeps one node's process. Its goroutine owns the child; all others send it requests.
type process struct {
	node     node
	policy   Restart
	program  string // that the node is; "" is this process's own
	spawn    func(*exec.Cmd) error
	gate     *disk.Gate // before its fsyncs; nil without --disk-faults
	changed  func()     // called by the goroutine after each change of the status
	log      *slog.Logger
	requests chan request
	quit     chan struct{}
	gone     chan struct{}

	child   *exec.Cmd     // nil while it does not run
	line    io.Writer     // to its standard input
	offset  time.Duration // of its clock
	exited  chan string
	began   time.Time
	wanted  bool // it should run; a death is a failure
	final   bool // it shall not start again
	backoff time.Duration
	again   <-chan time.Time // fires when a dead one is to be started again
	overdue <-chan time.Time // fires when a stop has taken too long
	waiting []chan<- error   // stop and kill requests that are answered at its end

	mu  sync.Mutex // guards pub
	pub ProcessStatus
}

type request struct {
	verb    verb
	reply   chan<- error
	offset  time.Duration // for verbClock
	program string        // for verbStart: another one from now on, unless ""
}

var errNotRunning = errors.New("is not running")

func newProcess(n node, s *supervisor) *process {
	p := &process{
		node: n, policy: s.o.Restart, program: s.o.Program, log: s.o.Log.With("node", n.ID),
		spawn: func(c *exec.Cmd) error { return s.spawn.start(c, syscall.SIGKILL) },
		changed: func() {
			if err := s.publish(); err != nil {
				s.o.Log.Error("cluster.json is out of date", "error", err)
			}
		},
		requests: make(chan request), quit: make(chan struct{}), gone: make(chan struct{}),
		backoff: backoffMin,
		pub:     ProcessStatus{State: stateDown, Since: time.Now()},
	}
	if s.o.DiskFaults {
		p.gate = disk.NewGate(p.log)
	}
	go p.loop()
	return p
}

// do tells the process something and returns once that is done: for stop and kill, once it has ended.
func (p *process) do(v verb) error { return p.request(request{verb: v}) }

// setClock makes its clock wrong by so much.
func (p *process) setClock(offset time.Duration) error {
	return p.request(request{verb: verbClock, offset: offset})
}

func (p *process) request(r request) error {
	reply := make(chan error, 1)
	r.reply = reply
	select {
	case p.requests <- r:
		return <-reply
	case <-p.gone:
		return errNotRunning
	}
}

// close ends the goroutine. The child must have been stopped.
func (p *process) close() {
	close(p.quit)
	<-p.gone
}

func (p *process) status() ProcessStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pub
}

// show changes the public status.
func (p *process) show(change func(*ProcessStatus)) {
	p.mu.Lock()
	change(&p.pub)
	p.pub.Since = time.Now()
	p.mu.Unlock()
	p.changed()
}

func (p *process) loop() {
	defer close(p.gone)
	for {
		select {
		case r := <-p.requests:
			p.handle(r)
		case how := <-p.exited:
			p.ended(how)
		case <-p.again:
			p.again = nil
			if err := p.launch(); err != nil {
				p.failed(err.Error())
			}
		case <-p.overdue:
			p.overdue = nil
			p.log.Warn("node did not stop in time and is killed", "waited", stopOne.String())
			p.signal(syscall.SIGKILL)
		case <-p.quit:
			return
		}
	}
}

func (p *process) handle(r request) {
	switch r.verb {
	case verbStart:
		r.reply <- p.start(r.program)
	case verbStop, verbKill, verbEnd:
		p.final = p.final || r.verb == verbEnd
		p.end(r)
	case verbClock:
		p.offset = r.offset
		p.show(func(s *ProcessStatus) { s.Clock = r.offset })
		if p.child == nil {
			r.reply <- nil // it will learn at its start
			return
		}
		r.reply <- p.tellTime()
	case verbPause, verbResume:
		r.reply <- p.freeze(r.verb == verbPause)
	}
}

func (p *process) start(program string) error {
	if program != "" && p.child != nil {
		return errors.New("runs: it takes another program when it is stopped first")
	}
	if p.final {
		return errors.New("is not started: the cluster is stopping")
	}
	if p.child != nil && p.status().State == statePaused {
		return errors.New("is paused (see `hongyan dev resume`)")
	}
	if p.child != nil && !p.wanted {
		return errors.New("is about to end (see `hongyan dev status`)")
	}
	p.wanted, p.again = true, nil
	if p.child != nil {
		return nil
	}
	p.backoff = backoffMin
	if program != "" {
		p.program = program
	}
	return p.launch()
}

// end stops or kills, and keeps the node down.
func (p *process) end(r request) {
	p.wanted = false
	if p.child == nil {
		if p.again == nil {
			r.reply <- errNotRunning
			return
		}
		p.again = nil
		p.show(func(s *ProcessStatus) { s.State = stateDown })
		r.reply <- nil
		return
	}
	p.waiting = append(p.waiting, r.reply)
	if r.verb == verbKill {
		p.signal(syscall.SIGKILL)
		return
	}
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // a paused process hears nothing else
	p.overdue = time.After(stopOne)
}

func (p *process) freeze(on bool) error {
	st := p.status().State
	switch {
	case p.child == nil:
		return errNotRunning
	case on && st == statePaused:
		return errors.New("is paused already")
	case !on && st != statePaused:
		return errors.New("is not paused")
	case on:
		p.signal(syscall.SIGSTOP)
		p.show(func(s *ProcessStatus) { s.State = statePaused })
	default:
		p.signal(syscall.SIGCONT)
		p.show(func(s *ProcessStatus) { s.State = stateRunning })
	}
	return nil
}

// signal fails only when the process has ended by itself, which exited then reports.
func (p *process) signal(sig syscall.Signal) {
	if err := p.child.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.log.Error("signal node", "signal", sig.String(), "error", err)
	}
}

// launch starts the child. It learns of this process's end by its standard input, whose other end only we hold.
func (p *process) launch() error {
	exe, err := p.program, error(nil)
	if exe == "" {
		exe, err = os.Executable()
	}
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	out, err := openLog(p.node.logFile())
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, "node", "--config", p.node.configFile(), "--supervised")
	cmd.Stdout, cmd.Stderr = out, out
	line, err := cmd.StdinPipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make pipe to node: %w", err), out.Close())
	}
	if err := errors.Join(p.begin(cmd), out.Close()); err != nil {
		return fmt.Errorf("start node %s: %w", p.node.ID, err)
	}
	exited := make(chan string, 1)
	p.child, p.line, p.exited, p.began = cmd, line, exited, time.Now()
	go func() {
		err := cmd.Wait() // closes our end of the pipe too
		if cmd.ProcessState != nil {
			exited <- cmd.ProcessState.String()
			return
		}
		exited <- fmt.Sprint(err)
	}()
	p.log.Info("node started", "pid", cmd.Process.Pid)
	p.show(func(s *ProcessStatus) { s.State, s.PID = stateRunning, cmd.Process.Pid })
	if p.offset != 0 { // a machine's clock stays wrong
		return p.tellTime()
	}
	return nil
}

// tellTime makes the node's clock as wrong as it shall be. The pipe has room for far more lines than anybody types at a paused node.
func (p *process) tellTime() error {
	if _, err := io.WriteString(p.line, clock.Line(p.offset)); err != nil {
		return fmt.Errorf("does not hear of the time: %w", err)
	}
	return nil
}

// begin spawns the child, behind its gate if it has one.
func (p *process) begin(cmd *exec.Cmd) error {
	if p.gate == nil {
		return p.spawn(cmd)
	}
	ours, theirs, err := disk.Pair()
	if err != nil {
		p.log.Warn("fsyncs of this node cannot be held", "error", err)
		return p.spawn(cmd)
	}
	cmd.Args = append([]string{cmd.Path, ExecWord}, cmd.Args...)
	cmd.ExtraFiles = []*os.File{theirs}
	if err := errors.Join(p.spawn(cmd), theirs.Close()); err != nil {
		return errors.Join(err, ours.Close())
	}
	go p.gate.Follow(ours) // ends with the child
	return nil
}

// ended takes note that the child is gone, for whatever reason.
func (p *process) ended(how string) {
	p.child, p.exited, p.overdue = nil, nil, nil
	if time.Since(p.began) >= ranWell {
		p.backoff = backoffMin
	}
	if p.wanted {
		if why := supervise.Ended(p.node.dir, p.status().PID); why != "" {
			how += ": " + why
		}
		p.failed(how)
	} else {
		p.log.Info("node stopped", "reason", how)
		p.show(func(s *ProcessStatus) { s.State, s.PID, s.LastExit = stateDown, 0, how })
	}
	for _, reply := range p.waiting {
		reply <- nil
	}
	p.waiting = nil
}

// failed logs a death that nobody asked for, and what follows from it.
func (p *process) failed(how string) {
	if p.policy == Never {
		p.wanted = false
		p.log.Error("node died and stays down", "reason", how)
		p.show(func(s *ProcessStatus) { s.State, s.PID, s.LastExit, s.Restarts = stateDown, 0, how, s.Restarts+1 })
		return
	}
	p.log.Error("node died", "reason", how, "restart_in", p.backoff.String())
	p.again = time.After(p.backoff)
	p.backoff = min(2*p.backoff, backoffMax)
	p.show(func(s *ProcessStatus) { s.State, s.PID, s.LastExit, s.Restarts = stateWaiting, 0, how, s.Restarts+1 })
}

// openLog opens a node's log for appending, and sets a large one aside first, keeping one such.
func openLog(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("set log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
