package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// watchEvery is how often a node that was wiped is looked at.
const watchEvery = 500 * time.Millisecond

// wipe has a node that is down lose its disk: all data, but not what it is told at its start. The node is noted as wiped first, and until it serves.
func (s *supervisor) wipe(id string) error {
	s.broken.Lock() // so nobody starts it
	defer s.broken.Unlock()
	p, err := s.crew.Load().process(id)
	if err != nil {
		return err
	}
	if st := p.status().State; st != stateDown {
		return fmt.Errorf("node %s is %s: first `hongyan dev kill %s`", id, st, id)
	}
	if err := s.setWiped(id, true); err != nil {
		return err
	}
	if err := empty(p.node.dir); err != nil {
		return fmt.Errorf("node %s has lost only a part of its disk: %w; wipe it again", id, err)
	}
	if v := s.crew.Load().disks[id]; v != nil {
		return v.Sync()
	}
	return nil
}

func (s *supervisor) setWiped(id string, wiped bool) error {
	return s.change(func(c *crew) error {
		if place := c.plan.roster.seat(id); place != nil { // else it was removed meanwhile
			place.Wiped = wiped
		}
		return nil
	})
}

// empty leaves what an operator would write onto a new disk, and the log.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the node's folder: %w", err)
	}
	var errs []error
	for _, e := range entries {
		switch e.Name() {
		case "node.yaml", "node.pem", "node.key", "node.log", "node.log.1":
		default:
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// watchWiped takes note when a wiped node serves, from when on a start of it waits for that again. It ends with the process.
func (s *supervisor) watchWiped(p *process) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for s.api.ready(s.ctx, p.node.http()) != "" {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if p.status().State == stateDown {
			return
		}
	}
	if err := s.setWiped(p.node.ID, false); err != nil {
		s.o.Log.Error("node serves again after its disk was wiped", "node", p.node.ID, "error", err)
		return
	}
	s.o.Log.Info("node serves again after its disk was wiped", "node", p.node.ID)
}
