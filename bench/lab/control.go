package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"hongyan/cluster/clock"
)

// The control protocol: a client connects to the folder's unix socket and sends one order, a line of JSON; the supervisor
// answers with one line once it is done, and closes.
type order struct {
	Verb string `json:"verb"`
	Node string `json:"node,omitempty"`

	A     string     `json:"a,omitempty"` // a node or region; so is B
	B     string     `json:"b,omitempty"`
	Cut   CutOptions `json:"cut,omitzero"`
	Shape *Shape     `json:"shape,omitempty"`

	Disk     DiskFault `json:"disk,omitzero"`
	Nodes    []string  `json:"nodes,omitempty"`
	Program  string    `json:"program,omitempty"` // with start
	StayDown bool      `json:"stay_down,omitempty"`

	Offset time.Duration `json:"offset,omitempty"`

	Add Addition `json:"add,omitzero"`
}

type answer struct {
	Error  string  `json:"error,omitempty"`
	Note   string  `json:"note,omitempty"` // done, but there is something to know
	Node   string  `json:"node,omitempty"` // that was added
	Status *Status `json:"status,omitempty"`
}

// Orders that are not about one node's process.
const (
	wordStatus   = "status"
	wordCut      = "cut"
	wordHeal     = "heal"
	wordLink     = "link"
	wordDisk     = "disk"
	wordPowerCut = "power-cut"
	wordAdd      = "add"
	wordRemove   = "remove"
	wordWipe     = "wipe"
	wordClock    = string(verbClock)
)

const (
	maxOrder  = 4 << 10
	maxAnswer = 16 << 20
	maxPath   = 100 // of a unix socket: the system's limit is 104 to 108 bytes

	orderWait   = 2 * time.Second // for an order to arrive, and for its answer to be taken
	controlWait = startWait + apiPatience + 25*time.Second
)

// socketPath is where the supervisor of dir listens: in dir, or, when that name is too long, in a folder of the
// user's own under the system's temporary one.
func socketPath(dir string) (string, error) {
	if path := filepath.Join(dir, "dev.sock"); len(path) <= maxPath {
		return path, nil
	}
	own := filepath.Join(os.TempDir(), fmt.Sprintf("hongyan-%d", os.Getuid()))
	if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make folder for control socket: %w", err)
	}
	fi, err := os.Lstat(own)
	if err != nil {
		return "", fmt.Errorf("look at folder for control socket: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ok || int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s: expected a folder of this user's own with mode 0700", own)
	}
	return filepath.Join(own, fmt.Sprintf("%x.sock", sha256.Sum256([]byte(dir)))[:24+len(".sock")]), nil
}

// control serves the socket.
type control struct {
	s    *supervisor
	l    net.Listener
	ctx  context.Context // of orders under way
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// listenControl is called under the folder's lock, so a socket that is there already belongs to nobody.
func (s *supervisor) listenControl() (*control, error) {
	path, err := socketPath(s.o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), l.Close())
	}
	c := &control{s: s, l: l}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.wg.Go(c.accept)
	return c, nil
}

func (c *control) close() error {
	c.stop()
	err := c.l.Close()
	c.wg.Wait()
	if err != nil {
		return fmt.Errorf("close control socket: %w", err)
	}
	return nil
}

func (c *control) accept() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.s.o.Log.Error("control socket", "error", err)
			}
			return
		}
		c.wg.Go(func() {
			if err := c.serve(conn); err != nil {
				c.s.o.Log.Warn("control connection", "error", err)
			}
		})
	}
}

func (c *control) serve(conn net.Conn) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(orderWait)); err != nil {
		return fmt.Errorf("bound control connection: %w", err)
	}
	var o order
	if err := readLine(conn, maxOrder, &o); err != nil {
		return err
	}
	var a answer
	if o.Verb == wordStatus {
		a.Status = c.s.status(c.ctx)
	} else if err := c.s.obey(c.ctx, &o, &a); err != nil {
		a.Error = err.Error()
	}
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(orderWait)); err != nil {
		return fmt.Errorf("bound control connection: %w", err)
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

func readLine(r io.Reader, limit int64, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, limit)).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read line of control protocol: %w", err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("read line of control protocol: %w", err)
	}
	return nil
}

// obey returns when the order is carried out.
func (s *supervisor) obey(ctx context.Context, o *order, a *answer) (err error) {
	switch o.Verb {
	case wordCut:
		return s.cut(o.A, o.B, o.Cut)
	case wordHeal:
		s.net.Heal()
		return nil
	case wordLink:
		return s.link(o.A, o.B, o.Shape)
	case wordDisk:
		return s.disk(o.Node, o.Disk)
	case wordPowerCut:
		return s.powerCut(ctx, o.Nodes, o.StayDown)
	case wordClock:
		return s.setClock(o.Node, o.Offset)
	case wordAdd:
		a.Node, err = s.add(ctx, o.Add)
	case wordRemove:
		err = s.remove(ctx, o.Node)
	case wordWipe:
		err = s.wipe(o.Node)
	default:
		a.Note, err = s.act(ctx, verb(o.Verb), o.Node, o.Program)
	}
	return err
}

// act does one thing to one node, and returns when it is done. What is started is another program from then on, unless program is "".
func (s *supervisor) act(ctx context.Context, v verb, id, program string) (note string, err error) {
	switch v {
	case verbStart, verbStop, verbKill, verbPause, verbResume:
	default:
		return "", fmt.Errorf("unknown order %q", v)
	}
	p, err := s.crew.Load().process(id)
	if err != nil {
		return "", err
	}
	s.broken.RLock()
	err = p.request(request{verb: v, program: program})
	s.broken.RUnlock()
	if err != nil {
		return "", fmt.Errorf("node %s %w", id, err)
	}
	if v != verbStart {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return s.awaitStarted(ctx, p, false)
}

// setClock makes a node's wall clock wrong, or with 0 right. It stays so when the node starts again.
func (s *supervisor) setClock(id string, offset time.Duration) error {
	if offset < -clock.MaxOffset || offset > clock.MaxOffset {
		return fmt.Errorf("clock wrong by %v: expected %v at most, either way", offset, clock.MaxOffset)
	}
	p, err := s.crew.Load().process(id)
	if err != nil {
		return err
	}
	if err := p.setClock(offset); err != nil {
		return fmt.Errorf("node %s %w", id, err)
	}
	return nil
}

// Act tells the supervisor of dir to start, stop, kill, pause or resume a node, and waits until that is done.
func Act(dir, verb, node string) error {
	_, err := ask(dir, order{Verb: verb, Node: node})
	return err
}

// GetStatus asks the supervisor of dir for everything it knows.
func GetStatus(dir string) (*Status, error) {
	a, err := ask(dir, order{Verb: wordStatus})
	if err != nil {
		return nil, err
	}
	if a.Status == nil {
		return nil, errors.New("the supervisor's answer has no status")
	}
	return a.Status, nil
}

func ask(dir string, o order) (a answer, err error) {
	real, err := realDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("no cluster in %s (start one with `hongyan dev --dir %s`)", dir, dir)
	}
	if err != nil {
		return a, err
	}
	path, err := socketPath(real)
	if err != nil {
		return a, err
	}
	conn, err := net.Dial("unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return a, fmt.Errorf("no cluster runs in %s (start one with `hongyan dev --dir %s`)", dir, dir)
	}
	if err != nil {
		return a, fmt.Errorf("reach the cluster in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(controlWait)); err != nil {
		return a, fmt.Errorf("bound control connection: %w", err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return a, fmt.Errorf("encode order: %w", err)
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return a, fmt.Errorf("send order: %w", err)
	}
	if err := readLine(conn, maxAnswer, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
