package scenario

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
)

// fillers is how many connections fill mailboxes before something is measured.
const fillers = 16

// count gives the number of messages in an account's inbox.
func (e *Env) count(ctx context.Context, a load.Account) (uint32, error) {
	s, err := e.login(ctx, imapNodes(e.Target)[0], a, read.Options{})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return s.Select(ctx, inbox)
}

const inbox = "INBOX"

// login opens a session with a node.
func (e *Env) login(ctx context.Context, node int, a load.Account, o read.Options) (*read.Session, error) {
	s, err := read.DialIMAP(ctx, e.Target, node, o)
	if err != nil {
		return nil, err
	}
	if err := s.Login(ctx, a); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// fill delivers mail by LMTP, or by SMTP where that is not there, until each account's inbox has at least that many messages.
func (e *Env) fill(ctx context.Context, p *Progress, accounts []load.Account, each, size int) error {
	var owed []string // an address for each message that is missing
	for _, a := range accounts {
		n, err := e.count(ctx, a)
		if err != nil {
			return fmt.Errorf("count the messages of %s: %w", a.Address, err)
		}
		for range each - int(n) {
			owed = append(owed, a.Address)
		}
	}
	if len(owed) == 0 {
		return nil
	}
	protocols := spoken(e.Target)
	if len(protocols) == 0 {
		return fmt.Errorf("fill mailboxes: %s has neither LMTP nor SMTP", e.Target.Name)
	}
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: e.Options.Seed, Size: size})
	if err != nil {
		return err
	}
	s, err := send.New(e.Target, send.Options{Protocol: send.Protocol(protocols[0]), Workers: fillers, Until: true, Patience: grace})
	if err != nil {
		return err
	}
	defer s.Close()
	p.Step("%s: fill %d mailboxes with %d messages", e.Target.Name, len(accounts), len(owed))
	rec := load.NewRecorder("filling", load.RecorderOptions{})
	var done atomic.Int64
	p.Rate(func() string { return fmt.Sprintf("%d of them, %.0f/s", done.Load(), rec.Live().Rate) })
	err = load.Closed{Workers: fillers, Count: len(owed), Grace: grace}.Run(ctx, rec, func(ctx context.Context, t load.Turn) error {
		defer done.Add(1)
		return s.Send(ctx, t.Worker, corpus.Message(t.N, time.Now(), owed[t.N*stride(len(owed))%len(owed)]))
	})
	if f := rec.Figures(); err == nil && f.Failures > 0 {
		err = fmt.Errorf("fill mailboxes of %s: %d of %d messages were not accepted: %v", e.Target.Name, f.Failures, len(owed), f.Examples)
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// stride is a step that visits each of n places once and neighbours far apart, so that the accounts fill at the same time.
func stride(n int) int {
	step := max(n*5/8, 1)
	for gcd(step, n) != 1 {
		step++
	}
	return step
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
