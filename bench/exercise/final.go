package exercise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/cluster/pause"
)

// finalTime is for the next message of a reading with all bytes; finalAtOnce are the accounts read side by side through each node.
const (
	finalTime   = time.Minute
	finalAtOnce = 8
)

// Final reads every mailbox of a history, with the bytes of all messages, through every node at the same time, and notes the readings. A node that
// cannot be connected to is left out, one that says "later" is asked again until ctx ends. The error says through which nodes mailboxes could
// not be read although they were up, or that none was.
func Final(ctx context.Context, t load.Target, h *history.History) error {
	accounts := map[string]load.Account{}
	for _, a := range t.Accounts {
		accounts[a.Address] = a
	}
	names := slices.DeleteFunc(h.Mailboxes(), func(name string) bool {
		address, _ := history.SplitMailbox(name)
		return accounts[address] == load.Account{}
	})
	results := make([]error, len(t.Nodes))
	var reading sync.WaitGroup
	for i, n := range t.Nodes {
		reading.Go(func() { results[i] = finalThrough(ctx, t, n, accounts, names, h) })
	}
	reading.Wait()
	var failures error
	served := 0
	for _, err := range results {
		var unreachable *net.OpError
		switch {
		case err == nil:
			served++
		case errors.As(err, &unreachable) && unreachable.Op == "dial":
		default:
			failures = errors.Join(failures, err)
		}
	}
	if failures == nil && served == 0 {
		failures = errors.New("no node can be connected to")
	}
	if failures != nil {
		return fmt.Errorf("last reading of %s: %w", t.Name, failures)
	}
	return nil
}

// finalThrough reads all mailboxes through one node, several accounts side by side: every body that lies in another region takes a round trip.
func finalThrough(ctx context.Context, t load.Target, n load.Node, accounts map[string]load.Account, names []string, h *history.History) error {
	folders := map[string][]string{}
	for _, name := range names {
		address, _ := history.SplitMailbox(name)
		folders[address] = append(folders[address], name)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(finalAtOnce)
	for address, names := range folders {
		g.Go(func() error { return finalAccount(ctx, t, n, accounts[address], names, h) })
	}
	return g.Wait()
}

// finalAccount reads the mailboxes of one account through one node.
func finalAccount(ctx context.Context, t load.Target, n load.Node, a load.Account, names []string, h *history.History) error {
	var s *session
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	for _, name := range names {
		_, folder := history.SplitMailbox(name)
		for {
			var err error
			if s == nil || s.dead {
				if s != nil {
					s.close()
				}
				s, err = dialIMAP(t, n, a, finalTime)
			}
			if err == nil {
				_, err = s.note(h, history.Op{Client: "final", Node: n.ID, Kind: history.Read, Mailbox: name}, folder, true)
			}
			if err == nil {
				break
			}
			var unreachable *net.OpError
			if errors.As(err, &unreachable) && unreachable.Op == "dial" || !pause.For(ctx, idlePause) {
				return err
			}
		}
	}
	return nil
}
