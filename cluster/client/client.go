// Package client is the only door from frontends and bench into the cluster: find a recipient, take
// a message in, list and change mailboxes, read bytes, watch for changes.
//
// It finds each shard's leader and follows it when it moves, retries commands under one
// request id so that a retry is applied once, and does both inside the caller's deadline. What a
// caller gets is therefore either the result, or one of the errors below; a lost node behind the
// door is a pause. Reads are served by the nearest replica once that has applied all that the
// caller may expect: what was written, read or woken for through this door always, and everybody's acknowledged writes
// for those methods whose comment says "strong".
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
	"hongyan/cluster/lease"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/textsearch"
	"hongyan/cluster/transport"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// What a frontend must tell apart. ErrUnavailable means "later": 4xx in SMTP, NO [UNAVAILABLE] in IMAP.
var (
	ErrUnavailable    = errors.New("temporarily unavailable")
	ErrBadCredentials = errors.New("bad credentials")
	ErrNoUser         = errors.New("no such user")
	ErrNotLocal       = errors.New("domain is not local")
	ErrNoMailbox      = errors.New("no such mailbox")
	ErrExists         = errors.New("mailbox exists")
	ErrHasChildren    = errors.New("mailbox has children")
	ErrInvalidName    = errors.New("invalid name")
	ErrInvalidHash    = errors.New("invalid password hash")
	ErrLimit          = errors.New("over a limit")
	ErrNoMessage      = errors.New("message has been expunged")
	ErrInUse          = lease.ErrInUse
	ErrNoRight        = errors.New("no right to do this")
)

// errCondemned asks for the bytes to be put again.
var errCondemned = errors.New("the volume that the bytes were put in is being collected")

// The values that pass through the door. Frontends name them by these aliases and never reach below.
type (
	// Mailbox is a folder with its counts, as SELECT and STATUS need them.
	Mailbox = index.Mailbox
	// Message is one entry of a mailbox without its bytes.
	Message = index.Message
	// Flags are a message's system flags and keywords.
	Flags = index.Flags
	// FlagOp says how StoreFlags combines the given flags with a message's own.
	FlagOp = index.FlagOp
	// Want says which parts of a Message a caller needs.
	Want = index.Want
	// Changes is what happened to a mailbox since a modseq.
	Changes = index.Changes
	// FlagChange is a message's flags after a change.
	FlagChange = index.FlagChange
	// Ref names a message's bytes.
	Ref = volume.Ref
	// Summary is what was learned of a message when it was taken in.
	Summary = message.Summary
)

// Account is a local mailbox owner.
type Account struct {
	ID      uint64
	Address string // canonical: lower case, with its domain
	Shard   uint32 // the shard that holds its mailboxes
	Home    string // home region
	// Detail of the address that it was found by (RFC 5233): mail goes to the folder of that name, if there is one.
	Detail string
	// Guest is the account that acts in this one (RFC 4314), 0 if that is the owner himself. What it may not do ends in ErrNoRight, or in ErrNoMailbox if it may not
	// even know of the mailbox.
	Guest uint64
}

// owned is the account as its owner has it.
func (a Account) owned() Account {
	a.Guest = 0
	return a
}

// operationTimeout bounds a call whose context has no deadline of its own, and how long any call looks for a shard's leader:
// a shard that has found none in several times the longest election has no majority, and the caller is better told than kept.
const operationTimeout = 10 * time.Second

// Config is what a Client is made of.
type Config struct {
	Net        *transport.Net
	Router     *shard.Router
	Host       *shard.Host
	Directory  *directory.Service
	Volumes    *replica.Manager
	Text       *textsearch.Service
	FS         vfs.FS
	SpoolDir   string // for drafts too large for memory
	SpoolKeep  uint64 // bytes of disk that drafts leave free
	MaxMessage int64  // bytes
	// Dictionary is what small messages are compressed with at present; nil is none.
	Dictionary func() *volume.Dictionary
	// Mender looks into messages that are not where their entries say; nil, or one that is nil: nobody does.
	Mender func() Mender
	Clock  *clock.Clock
	Log    *slog.Logger
}

// Client is one node's door. Safe for concurrent use.
type Client struct {
	cfg     Config
	hub     *hub
	readers *readers
	login   *logins
	places  places
	leases  *lease.Service

	mu     sync.Mutex        // guards tokens
	tokens map[uint32]uint64 // per shard, the latest entry that was written or seen through this door
}

// New makes the door and registers what it answers for others: queries and watches of the shards that this node
// has replicas of.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, login: newLogins(), tokens: make(map[uint32]uint64)}
	c.hub = newHub(cfg.Net, cfg.Router, cfg.Host, c.reached, c.places.of, cfg.Log)
	c.readers = newReaders(cfg.Volumes)
	c.leases = lease.New(cfg.Net, leased{c}, cfg.Log)
	cfg.Net.Handle(methodQuery, c.serveQuery)
	cfg.Net.Handle(methodWatch, c.hub.serve)
	return c
}

// Start begins to follow the shards that this node has no replica of, to look after what its replicas may not show yet, and to renew leases. Close ends it.
func (c *Client) Start() {
	c.hub.start()
	c.readers.start()
	c.leases.Start()
}

// Close ends the watches.
func (c *Client) Close() {
	c.leases.Close()
	c.readers.close()
	c.hub.close()
}

// Publish tells the door what a local replica of a shard changed; nil events mean everything.
func (c *Client) Publish(shard uint32, events []mailbox.Event) { c.hub.publish(shard, events) }

// MaxMessage is the largest message in bytes that the cluster takes.
func (c *Client) MaxMessage() int64 { return c.cfg.MaxMessage }

// Read streams n raw bytes of a message from off (n may reach past the end), verified as they pass.
func (c *Client) Read(ctx context.Context, ref Ref, off, n uint64) (io.ReadCloser, error) {
	r, err := c.cfg.Volumes.Read(ctx, ref, off, n)
	if err != nil {
		return nil, unavailable(err)
	}
	return r, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// bounded gives ctx a deadline if it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, operationTimeout)
}

// refusalOf turns a deterministic refusal into this package's error. Of one because the account has moved, shard and at say where it is.
func refusalOf(code mailbox.Code, text string, shard uint32, at uint64) error {
	kinds := map[mailbox.Code]error{
		mailbox.NoMailbox: ErrNoMailbox, mailbox.Exists: ErrExists, mailbox.InvalidName: ErrInvalidName,
		mailbox.Limit: ErrLimit, mailbox.HasChildren: ErrHasChildren, mailbox.Condemned: errCondemned,
		mailbox.NoMessage: ErrNoMessage, mailbox.NoRight: ErrNoRight,
	}
	switch code {
	case mailbox.OK:
		return nil
	case mailbox.Moved:
		return &index.MovedError{Shard: shard, At: at}
	case mailbox.OverQuota:
		return &QuotaError{Reason: text}
	}
	if kind, ok := kinds[code]; ok {
		return fmt.Errorf("%w: %s", kind, text)
	}
	return fmt.Errorf("mailbox command refused with code %d: %s", code, text)
}

// change commits a command at an account's shard and remembers how far this door's later reads must be.
func (c *Client) change(ctx context.Context, number uint32, cmd *mailbox.Command) (*mailbox.Result, error) {
	return c.changeAs(ctx, number, shard.NewRequestID(), cmd)
}

// changeAs is change under a request id that the caller gives.
func (c *Client) changeAs(ctx context.Context, number uint32, id shard.RequestID, cmd *mailbox.Command) (*mailbox.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	body, err := cmd.Encode()
	if err != nil {
		return nil, err
	}
	class := shard.ForPeople
	if cmd.Deliver != nil {
		class = shard.Bulk
	}
	level := cmd.Level()
	if now := c.cfg.Directory.Level(); level > now {
		return nil, unavailable(fmt.Errorf("the cluster is at feature level %v, and this needs %v, which comes when all nodes are updated", now, level))
	}
	b, at, err := c.cfg.Router.ProposeAs(ctx, number, id, level, body, class)
	if err != nil {
		return nil, unavailable(err)
	}
	c.reached(number, at)
	r, err := mailbox.DecodeResult(b)
	if err != nil {
		return nil, err
	}
	r.Entry = at
	return r, refusalOf(r.Code, r.Message, r.Shard, r.At)
}

// reached notes that a caller has seen a shard's state at an entry: later answers must not be older, whichever replica gives
// them.
func (c *Client) reached(shard uint32, at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[shard] = max(c.tokens[shard], at)
}

func (c *Client) token(shard uint32) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[shard]
}
