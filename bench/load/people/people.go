// Package people has simulated users: each keeps a connection, does what its kind of program does, and thinks in between.
//
// Profiles, with their mean think times, which are exponential, from a seed, and divided by Options.Speed:
//
//	phone      keeps INBOX in IDLE; on a notice fetches the new messages' headers at once; opens three of ten, 5 s later, and marks them as read
//	desktop    every 60 s: STATUS of up to ten mailboxes, then the list of what is new in INBOX, its bodies (ten at most a round), \Seen
//	searcher   every 45 s: the newest 50, a search (two of three in the subject, one in the text), and the body of one that was found
//	pop3       every 300 s: connect, log in, STAT, UIDL, RETR of what is new (20 at most), DELE of it in one of four polls, QUIT
//	bulk       every 2 s: a message to 1 to 20 accounts by SMTP, or LMTP where the target has no SMTP
//
// A user waits for an answer before thinking on, as people do, so each alone is a closed loop; thousands that know nothing of each
// other come close to an open one. An action's latency runs from when the user wanted it, that is from the end of the thinking. The delay of a
// notice runs from when the message was due to be sent, which its header says (load.StampHeader), to when the server told.
//
// After a failure a user comes back in 1 s, then 2 s, up to 30 s, each time half at random, at the node that the policy says.
//
// Memory: a user is a goroutine, and an IMAP session over TLS with its reader and IDLE goroutines: TestHongyan prints what that is, about
// 60 kB. What users fetch is dropped at once. All share one TLS configuration and none resumes a session of TLS, since they stand for as many devices.
package people

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
	"hongyan/cluster/pause"
)

// Profile is a kind of user.
type Profile string

// Profiles.
const (
	Phone    Profile = "phone"
	Desktop  Profile = "desktop"
	Searcher Profile = "searcher"
	POP3     Profile = "pop3"
	Bulk     Profile = "bulk"
)

// Profiles are all of them, in the order in which they are started and shown.
func Profiles() []Profile { return []Profile{Phone, Desktop, Searcher, POP3, Bulk} }

// Mix says how many users of each profile there are.
type Mix map[Profile]int

// Everyday is a mix of n users: 60 % phones, 25 % desktops, 5 % searchers, 9 % POP3 users, 1 % bulk senders.
func Everyday(n int) Mix {
	m := Mix{Desktop: n * 25 / 100, Searcher: n * 5 / 100, POP3: n * 9 / 100, Bulk: n / 100}
	m[Phone] = n - m[Desktop] - m[Searcher] - m[POP3] - m[Bulk]
	return m
}

// Options of a crowd. Mix and For must be set; a mix with Bulk needs a Corpus.
type Options struct {
	Mix    Mix
	For    time.Duration // from the start of the ramp
	Ramp   time.Duration // over which users appear, evenly: a login costs a server a password hash
	Speed  float64       // divides think times; 1 when zero
	Seed   uint64
	Policy load.Policy // Failover when empty
	Corpus *load.Corpus
	Skew   *load.Skew // of bulk mail's recipients; even when nil
	// Journal notes bulk mail; may be nil.
	Journal  send.Journal
	Read     read.Options
	Recorder load.RecorderOptions
}

// maxUsers bounds a mistyped mix.
const maxUsers = 100_000

// Crowd is the users of one run.
type Crowd struct {
	t      load.Target
	o      Options
	users  []*user
	sender *send.Sender // nil without bulk senders
	online atomic.Int64
	serial atomic.Int64 // of bulk mail

	// By action; each profile has those that it does.
	logins                         map[Profile]*load.Recorder
	notice, headers, open          *load.Recorder // phone
	sync, list, search, poll, bulk *load.Recorder
}

// user is one simulated person with one program. Its own goroutine uses it.
type user struct {
	c       *Crowd
	number  int
	profile Profile
	account load.Account
	rng     *rand.Rand
	picker  *load.Picker
	last    string // newest message of the POP3 user's last visit
}

// New makes a crowd. User n has account n modulo the target's accounts. Nobody connects yet.
func New(t load.Target, o Options) (*Crowd, error) {
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.Policy == "" {
		o.Policy = load.Failover
	}
	if o.For <= 0 || o.Ramp < 0 || o.Ramp > o.For || o.Speed < 0 {
		return nil, fmt.Errorf("crowd: %v with a ramp of %v at speed %g: want a ramp inside the run and a positive speed", o.For, o.Ramp, o.Speed)
	}
	if len(t.Accounts) == 0 {
		return nil, fmt.Errorf("crowd: target %s has no accounts", t.Name)
	}
	c := &Crowd{t: t, o: o, logins: map[Profile]*load.Recorder{}}
	for _, p := range Profiles() {
		for range o.Mix[p] {
			if len(c.users) == maxUsers {
				return nil, fmt.Errorf("crowd: more than %d users", maxUsers)
			}
			if err := c.join(p); err != nil {
				return nil, err
			}
		}
	}
	if len(c.users) == 0 {
		return nil, errors.New("crowd: the mix has no users")
	}
	if err := c.prepareBulk(); err != nil {
		return nil, err
	}
	c.makeRecorders()
	return c, nil
}

func (c *Crowd) join(p Profile) error {
	n := len(c.users)
	picker, err := load.NewPicker(c.o.Policy, len(c.t.Nodes), n)
	if err != nil {
		return fmt.Errorf("crowd: %w", err)
	}
	c.users = append(c.users, &user{c: c, number: n, profile: p, account: c.t.Accounts[n%len(c.t.Accounts)], picker: picker,
		rng: rand.New(rand.NewPCG(c.o.Seed, uint64(n)))})
	return nil
}

func (c *Crowd) prepareBulk() error {
	n := c.o.Mix[Bulk]
	if n == 0 {
		return nil
	}
	if c.o.Corpus == nil {
		return errors.New("crowd: bulk senders need a corpus")
	}
	if c.o.Skew == nil {
		var err error
		if c.o.Skew, err = load.NewSkew(len(c.t.Accounts), 0, c.o.Seed); err != nil {
			return fmt.Errorf("crowd: %w", err)
		}
	}
	protocol := send.LMTP
	for _, node := range c.t.Nodes {
		if node.SMTP != "" {
			protocol = send.SMTP
		}
	}
	var err error
	c.sender, err = send.New(c.t, send.Options{Protocol: protocol, Workers: n, Policy: c.o.Policy, Journal: c.o.Journal})
	if err != nil {
		return fmt.Errorf("crowd: %w", err)
	}
	return nil
}

// makeRecorders makes those that the mix needs.
func (c *Crowd) makeRecorders() {
	rec := func(name string) *load.Recorder { return load.NewRecorder(name, c.o.Recorder) }
	for _, p := range Profiles() {
		if c.o.Mix[p] == 0 {
			continue
		}
		if p != Bulk && p != POP3 {
			c.logins[p] = rec(string(p) + ": log in")
		}
		switch p {
		case Phone:
			c.notice, c.headers, c.open = rec("phone: notice of new mail"), rec("phone: fetch headers"), rec("phone: open message")
		case Desktop:
			c.sync = rec("desktop: sync")
		case Searcher:
			c.list, c.search = rec("searcher: newest 50"), rec("searcher: search and open")
		case POP3:
			c.poll = rec("pop3: poll")
		case Bulk:
			c.bulk = rec("bulk: send")
		}
	}
}

// Recorders are one for each action of each profile in the mix.
func (c *Crowd) Recorders() []*load.Recorder {
	var all []*load.Recorder
	for _, p := range Profiles() {
		all = append(all, c.logins[p])
		switch p {
		case Phone:
			all = append(all, c.notice, c.headers, c.open)
		case Desktop:
			all = append(all, c.sync)
		case Searcher:
			all = append(all, c.list, c.search)
		case POP3:
			all = append(all, c.poll)
		case Bulk:
			all = append(all, c.bulk)
		}
	}
	kept := all[:0]
	for _, r := range all {
		if r != nil {
			kept = append(kept, r)
		}
	}
	return kept
}

// Online is how many IMAP sessions are logged in now.
func (c *Crowd) Online() int { return int(c.online.Load()) }

// Run lets the users live until the time is over or ctx ends. What they have begun then has ten seconds to end.
func (c *Crowd) Run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.o.For)
	defer cancel()
	work, free := load.WithGrace(ctx, 0)
	defer free()
	var wg sync.WaitGroup
	begin := time.Now()
	order := rand.New(rand.NewPCG(c.o.Seed, 0x6f726465)).Perm(len(c.users)) // profiles mixed
	for i, n := range order {
		due := begin.Add(time.Duration(float64(c.o.Ramp) * float64(i) / float64(len(order))))
		if !pause.For(ctx, time.Until(due)) {
			break
		}
		wg.Go(func() { c.users[n].live(ctx, work) })
	}
	wg.Wait()
	if c.sender != nil {
		c.sender.Close()
	}
}
