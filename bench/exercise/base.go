package exercise

import (
	"context"
	"fmt"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/cluster/pause"
)

// Base notes what the INBOX of each of the target's accounts holds, for a history that begins with mail in it. It asks one node after the other
// until one answers or ctx ends.
func Base(ctx context.Context, t load.Target, h *history.History) error {
	for _, a := range t.Accounts {
		name := history.MailboxName(a.Address, "INBOX")
		for i := 0; ; i++ {
			err := baseThrough(t, t.Nodes[i%len(t.Nodes)], a, name, h)
			if err == nil {
				break
			}
			if !pause.For(ctx, idlePause) {
				return fmt.Errorf("first reading of %s: %w", name, err)
			}
		}
	}
	return nil
}

func baseThrough(t load.Target, n load.Node, a load.Account, name string, h *history.History) error {
	s, err := dialIMAP(t, n, a, finalTime)
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.note(h, history.Op{Client: "base", Node: n.ID, Kind: history.Base, Mailbox: name}, "INBOX", false)
	return err
}
