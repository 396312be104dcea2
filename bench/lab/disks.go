package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hongyan/bench/disk"
)

// DiskKind is a fault of a node's disk.
type DiskKind string

// The faults. All but DiskFull are of its fsyncs and need --disk-faults; DiskFull needs --disk-size.
const (
	DiskOK       DiskKind = "ok"         // undoes all others
	DiskSlow     DiskKind = "slow"       // each fsync takes Delay longer
	DiskFailSync DiskKind = "fail-fsync" // each fsync fails with EIO
	DiskHang     DiskKind = "hang"       // no fsync returns
	DiskFull     DiskKind = "full"       // Left bytes remain
)

// DiskFault is what happens to a disk until the next.
type DiskFault struct {
	Kind  DiskKind      `json:"kind"`
	Delay time.Duration `json:"delay,omitempty"`
	Left  int64         `json:"left,omitempty"`
}

func (f DiskFault) String() string {
	switch {
	case f.Kind == DiskOK:
		return ""
	case f.Kind == DiskSlow:
		return fmt.Sprintf("%s by %v", f.Kind, f.Delay)
	case f.Kind == DiskFull && f.Left > 0:
		return fmt.Sprintf("%s but for %d bytes", f.Kind, f.Left)
	}
	return string(f.Kind)
}

// disks are the file systems of the nodes' own, by node; none without --disk-size.
type disks map[string]*disk.Volume

func (n node) image() string { return n.dir + ".img" }

// mountDisks gives each node its disk: of the size asked for, or as an earlier start made it. Those that could be mounted are returned
// also with an error.
func (p *plan) mountDisks(size int64) (disks, error) {
	made := slices.ContainsFunc(p.nodes, func(n node) bool {
		_, err := os.Stat(n.image())
		return !errors.Is(err, fs.ErrNotExist)
	})
	if size == 0 && !made {
		return nil, nil
	}
	if err := disk.Supported(); err != nil {
		return nil, err
	}
	all := make(disks)
	for _, n := range p.nodes {
		v, err := disk.Mount(n.image(), n.dir, size)
		if err != nil {
			return all, fmt.Errorf("disk of node %s: %w", n.ID, err)
		}
		all[n.ID] = v
		if err := v.Empty(); err != nil { // faults end with the cluster
			return all, fmt.Errorf("disk of node %s: %w", n.ID, err)
		}
	}
	return all, nil
}

// sync makes durable what the nodes need at a start, which the lab wrote and a power cut would take.
func (d disks) sync() error {
	for id, v := range d {
		if err := v.Sync(); err != nil {
			return fmt.Errorf("disk of node %s: %w", id, err)
		}
	}
	return nil
}

func (d disks) unmount() error {
	var errs []error
	for id, v := range d {
		if err := v.Unmount(); err != nil {
			errs = append(errs, fmt.Errorf("disk of node %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// reserve is the free space below which a node on a disk of so many bytes takes no mail; 0: the node's default.
func (p *plan) reserve(n node) int64 {
	fi, err := os.Stat(n.image())
	if err != nil {
		return 0
	}
	return min(fi.Size()/8, 256<<20)
}

// disk breaks a node's disk, or mends it.
func (s *supervisor) disk(id string, f DiskFault) error {
	s.broken.Lock()
	defer s.broken.Unlock()
	c := s.crew.Load()
	p, err := c.process(id)
	if err != nil {
		return err
	}
	v := c.disks[id]
	switch {
	case f.Kind == DiskFull && v == nil:
		return errors.New("a disk can be full only where each node has one of its own: start a cluster in a new folder with --disk-size 600MB, as root")
	case f.Kind == DiskFull && f.Left < 0:
		return fmt.Errorf("%d bytes left: expected 0 or more", f.Left)
	case f.Kind == DiskFull:
		return v.Fill(f.Left)
	}
	how := map[DiskKind]disk.Sync{DiskOK: disk.SyncOK, DiskSlow: disk.SyncSlow, DiskFailSync: disk.SyncFail, DiskHang: disk.SyncHang}
	sync, ok := how[f.Kind]
	if !ok {
		return fmt.Errorf("unknown fault of a disk %q: expected slow, fail-fsync, hang, full or ok", f.Kind)
	}
	if f.Kind != DiskOK && p.gate == nil {
		return errors.New("fsyncs pass the lab only with --disk-faults: start the cluster again with it")
	}
	if f.Kind == DiskOK && v != nil {
		err = v.Empty()
	}
	if p.gate != nil {
		err = errors.Join(err, p.gate.Set(sync, f.Delay))
	}
	return err
}

// diskFault is what is wrong with a node's disk, for people.
func (c *crew) diskFault(p *process) string {
	var out string
	if p.gate != nil {
		sync, delay := p.gate.State()
		out = DiskFault{Kind: DiskKind(sync), Delay: delay}.String()
	}
	if c.disks[p.node.ID] == nil {
		return out
	}
	if _, err := os.Stat(filepath.Join(p.node.dir, disk.Ballast)); err == nil {
		out = string(DiskFull) + map[bool]string{true: " and " + out}[out != ""]
	}
	return out
}

// powerCut takes the power from nodes, from all when none is named, and gives it back: what was not fsynced is lost.
//
// Steps: 1 freeze the processes, so that no more is acknowledged, 2 shut the file systems down without a flush, 3 kill the processes, 4
// mount what is on the disks, 5 start those that ran. Between 1 and 2 the kernel may still write back what it was about to.
func (s *supervisor) powerCut(ctx context.Context, ids []string, stayDown bool) error {
	ran, err := s.losePower(ids)
	if err != nil || stayDown {
		return err
	}
	for _, p := range ran {
		if err := p.do(verbStart); err != nil {
			return fmt.Errorf("node %s %w", p.node.ID, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for _, p := range ran {
		if _, err := s.awaitStarted(ctx, p, false); err != nil {
			return err
		}
	}
	return nil
}

// losePower is steps 1 to 4. It gives the processes that ran.
func (s *supervisor) losePower(ids []string) (ran []*process, err error) {
	s.broken.Lock()
	defer s.broken.Unlock()
	c := s.crew.Load()
	if c.disks == nil {
		return nil, errors.New("the power can be cut only where each node has a disk of its own: start a cluster in a new folder with --disk-size 600MB, as root")
	}
	procs := c.procs
	if len(ids) > 0 {
		procs = nil
		for _, id := range ids {
			p, err := c.process(id)
			if err != nil {
				return nil, err
			}
			procs = append(procs, p)
		}
	}
	for _, p := range procs {
		if p.status().State != stateDown {
			ran = append(ran, p)
		}
		_ = p.do(verbPause) // fails when it does not run, or is paused: good either way
	}
	for _, p := range procs {
		if err := c.disks[p.node.ID].Cut(); err != nil {
			return nil, err
		}
	}
	for _, p := range procs {
		_ = p.do(verbKill) // fails when it does not run
	}
	for _, p := range procs {
		if err := c.disks[p.node.ID].Restore(); err != nil {
			return nil, err
		}
	}
	return ran, nil
}
