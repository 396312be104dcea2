package textsearch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/pause"
	"hongyan/engine/fulltext"
	"hongyan/engine/index"
)

// sweepPause is after each of so many accounts, so that a sweep takes a part of a core at most.
const (
	sweepChunk = 50
	sweepPause = 5 * time.Millisecond
)

// sweep has every mailbox of a shard indexed that is not up to date, and drops what is not there any more.
func (s *Service) sweep(ctx context.Context, number uint32) error {
	accounts, err := s.accounts(number)
	if err != nil {
		return err
	}
	for i, account := range accounts {
		for !s.queue.room() && ctx.Err() == nil && !s.cfg.DB.Damaged() {
			pause.For(ctx, lookEvery)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.account(number, account); err != nil {
			return err
		}
		if i%sweepChunk == sweepChunk-1 {
			pause.For(ctx, sweepPause)
		}
	}
	return s.dropGone(ctx, number)
}

// accounts lists those that have folders in a shard.
func (s *Service) accounts(number uint32) (list []uint64, err error) {
	g, ok := s.cfg.Host.Group(number)
	if !ok {
		return nil, nil
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	err = v.Residents(func(r index.Resident) error {
		if r.Exists {
			list = append(list, r.Account)
		}
		return nil
	})
	return list, err
}

// account has those of an account's mailboxes indexed that are not up to date.
func (s *Service) account(number uint32, account uint64) (err error) {
	g, ok := s.cfg.Host.Group(number)
	if !ok {
		return nil
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	err = v.Readable(account)
	var boxes []index.Mailbox
	if err == nil {
		boxes, err = v.Mailboxes(account)
	}
	var moved *index.MovedError
	if gone(err) || errors.As(err, &moved) {
		return nil // dropGone sees to it
	}
	for _, b := range boxes {
		m := fulltext.Mailbox{Shard: number, Account: account, ID: b.ID}
		was, stateErr := s.cfg.DB.State(m)
		if stateErr != nil {
			return stateErr
		}
		if b.UIDNext > 1 && (was.UIDValidity != b.UIDValidity || was.Through+1 < b.UIDNext) {
			s.queue.add(old, m, time.Now())
		} else if was.Messages > 2*uint64(b.Messages)+8 {
			s.tending.add(m)
		}
	}
	return err
}

// dropGone forgets mailboxes that the shard has no more.
func (s *Service) dropGone(ctx context.Context, number uint32) (err error) {
	var known []fulltext.Mailbox
	err = s.cfg.DB.States(number, func(st fulltext.State) error {
		known = append(known, st.Mailbox)
		return ctx.Err()
	})
	g, ok := s.cfg.Host.Group(number)
	if err != nil || !ok {
		return err
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	for _, m := range known {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, err := mailboxIn(v, m)
		switch {
		case gone(err):
			if err := s.cfg.DB.Drop(m); err != nil {
				return err
			}
		case err != nil:
			var moved *index.MovedError
			if errors.As(err, &moved) { // on its way
				continue
			}
			return fmt.Errorf("look for %v: %w", m, err)
		}
	}
	return nil
}
