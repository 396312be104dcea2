package lab

import (
	"errors"

	"hongyan/bench/relay"
)

// Shape is how bytes move on the way from one node to another.
type Shape = relay.Shape

// CutOptions say how to cut. The zero value lets nothing through in either direction and keeps connections open.
type CutOptions struct {
	OneWay bool `json:"one_way,omitempty"` // only what moves from A to B is stopped
	Reset  bool `json:"reset,omitempty"`   // connections are reset, also those that are made later
}

var errNoRelay = errors.New("this cluster was started with --no-relay: its nodes dial one another, and nothing lies between them")

// cut stops traffic between two nodes or regions, or with an empty b between a and all others.
func (s *supervisor) cut(a, b string, o CutOptions) error {
	if s.o.NoRelay {
		return errNoRelay
	}
	if o.OneWay && o.Reset {
		return errors.New("a reset ends both directions of a connection: expected one of --one-way and --reset")
	}
	there, back, err := s.crew.Load().plan.ways(a, b)
	if err != nil {
		return err
	}
	kind := relay.Hole
	if o.Reset {
		kind = relay.Reset
	}
	if !o.OneWay {
		there = append(there, back...)
	}
	for _, w := range there {
		if err := s.net.Cut(w.from.ID, w.to.ID, kind); err != nil {
			return err
		}
	}
	return nil
}

// link changes both ways between two nodes or regions. Without a shape they are as --wan says.
func (s *supervisor) link(a, b string, shape *Shape) error {
	if s.o.NoRelay {
		return errNoRelay
	}
	there, back, err := s.crew.Load().plan.ways(a, b)
	if err != nil {
		return err
	}
	for _, w := range append(there, back...) {
		next := s.o.WAN.between(w.from.Region, w.to.Region)
		if shape != nil {
			next = *shape
		}
		if err := s.net.Shape(w.from.ID, w.to.ID, next); err != nil {
			return err
		}
	}
	return nil
}
