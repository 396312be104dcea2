// Package config reads and writes the file that describes one node: who it is, where its data lies,
// what it listens on and who its peers are.
//
// It owns the file's format and nothing else. A file is either taken whole or refused: an unknown key, a
// wrong type or a value that cannot work is an *Error with the file, the line and what was expected, and all
// of a file's mistakes are reported at once. What Load returns needs no further check.
//
// A crash leaves nothing behind; Write replaces a file by a rename.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
)

// Role is something that a node does for the cluster.
type Role string

// A node has one of the roles or both.
const (
	Storage  Role = "storage"  // keeps volumes and shards
	Frontend Role = "frontend" // talks to mail clients; keeps nothing it could not lose
)

// Limits and defaults. A mailbox shard is a Raft group; their number is fixed when a cluster is made.
const (
	DefaultShards        = 6
	DefaultMaxMessage    = 100<<20 + 1<<20 // 100 MiB and room for its headers
	DefaultDiskReserve   = 256 << 20
	DefaultScrubInterval = 14 * 24 * 3600 // seconds
	DefaultScrubRate     = 32 << 20

	DefaultCheckpointSeconds = 900
	DefaultCheckpointChanges = 100_000
	DefaultCheckpointRate    = 64 << 10
	DefaultDictionarySeconds = 600
	DefaultFullTextRate      = 32 << 20

	maxFile    = 1 << 20
	maxShards  = 1024
	maxPeers   = 256
	maxMessage = 4 << 30
)

// Node is one node's configuration.
type Node struct {
	ID       string `yaml:"id"`
	Region   string `yaml:"region"`
	Roles    []Role `yaml:"roles"`
	Hostname string `yaml:"hostname,omitempty"` // how it greets mail clients; the id when absent
	Data     string `yaml:"data"`               // folder of everything it keeps

	RPC       RPC       `yaml:"rpc"`
	TLS       NodeTLS   `yaml:"tls"`
	Peers     []Peer    `yaml:"peers,omitempty"` // the other nodes of the cluster
	Shards    int       `yaml:"shards,omitempty"`
	Join      bool      `yaml:"join,omitempty"` // the cluster lives: this node founds nothing and waits until it is let in
	Listeners Listeners `yaml:"listeners,omitempty"`
	ServerTLS ServerTLS `yaml:"server_tls,omitempty"`

	Encryption *Encryption `yaml:"encryption,omitempty"` // of what storage keeps; absent: it is in the clear

	AdminTokenSHA256 string `yaml:"admin_token_sha256,omitempty"` // hex; without it the admin API is closed
	Scrub            Scrub  `yaml:"scrub,omitempty"`
	MaxMessageBytes  int64  `yaml:"max_message_bytes,omitempty"`
	DiskReserveBytes int64  `yaml:"disk_reserve_bytes,omitempty"` // below this much free space a node takes no new mail
	DiskHangSeconds  int64  `yaml:"disk_hang_seconds,omitempty"`  // a node whose log cannot be written to for longer ends

	Compaction Compaction `yaml:"compaction,omitempty"`
	Placement  Placement  `yaml:"placement,omitempty"`

	Checkpoint Checkpoint `yaml:"checkpoint,omitempty"`
	Dictionary Dictionary `yaml:"dictionary,omitempty"`
	Cold       *Cold      `yaml:"cold,omitempty"`
	FullText   FullText   `yaml:"full_text,omitempty"`

	File string `yaml:"-"` // from where the node reads the addresses of others again while it runs; "" is nowhere

	Build string `yaml:"-"` // version of the program that runs the node, which it tells the others

	EarlyFrom time.Duration `yaml:"-"` // as in replica.Config; tests, whose nodes are all near, set it
	Slots     int           `yaml:"-"` // as in volume.SetOptions; tests, which make many volumes and write little to each, set it
}

// Dictionary says how often a storage node looks whether small messages would become smaller with a dictionary of what mail has
// in common at present.
type Dictionary struct {
	IntervalSeconds int64 `yaml:"interval_seconds,omitempty"`
}

// FullText is about the index that searches for text use.
type FullText struct {
	Off            bool  `yaml:"off,omitempty"`              // this node keeps none: searches ask others, or read messages
	BytesPerSecond int64 `yaml:"bytes_per_second,omitempty"` // of mail that are read to be indexed
}

// Checkpoint says how often the state of shards is saved into volumes, from where lost indexes are rebuilt.
type Checkpoint struct {
	IntervalSeconds int64 `yaml:"interval_seconds,omitempty"`
	Changes         int64 `yaml:"changes,omitempty"`          // a shard that changed so often is saved sooner
	BytesPerSecond  int64 `yaml:"bytes_per_second,omitempty"` // that a shard's checkpoints may cost on average
}

// RPC is the one private, mutually authenticated port between nodes.
type RPC struct {
	Listen    string   `yaml:"listen"`
	Advertise string   `yaml:"advertise,omitempty"` // host:port where other nodes reach it; absent: where it listens
	Allow     []string `yaml:"allow,omitempty"`
}

// NodeTLS names the files that authenticate this node to its peers, and them to it.
type NodeTLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Compaction says how the space of deleted mail comes back.
type Compaction struct {
	IntervalSeconds int64 `yaml:"interval_seconds,omitempty"`    // between two rounds through the volumes
	GraceSeconds    int64 `yaml:"grace_seconds,omitempty"`       // after a volume was closed
	CloseSeconds    int64 `yaml:"close_after_seconds,omitempty"` // an open volume with mail in it is closed two thirds to all of that time after it was opened
	GarbagePercent  int64 `yaml:"garbage_percent,omitempty"`     // of a volume that must be dead for it to be compacted
	BytesPerSecond  int64 `yaml:"bytes_per_second,omitempty"`    // that compaction writes on this node
}

// DefaultDiskHang is in seconds: longer than disks are away that come back, such as one whose path fails over.
const DefaultDiskHang = 60

// DefaultLostAfter is in seconds: a restart or a longer repair moves nothing.
const DefaultLostAfter = 1800

// Placement says when what a node had is made again elsewhere.
type Placement struct {
	LostAfterSeconds int64 `yaml:"lost_after_seconds,omitempty"` // a node that is down so long counts as lost
}

// ServerTLS names the certificate that mail clients see.
type ServerTLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Encryption says where the master keys come from: a file, or a command that asks a key service (docs/operations.md).
type Encryption struct {
	MasterKeyFile string   `yaml:"master_key_file,omitempty"`
	Command       []string `yaml:"command,omitempty"`
}

// Peer is another node: how to reach it, and what it is.
type Peer struct {
	ID     string `yaml:"id"`
	Region string `yaml:"region"`
	Roles  []Role `yaml:"roles"`
	RPC    string `yaml:"rpc"`
}

// Listeners are the doors for clients. An absent one is closed.
type Listeners struct {
	SMTP  *Listener `yaml:"smtp,omitempty"`
	LMTP  *Listener `yaml:"lmtp,omitempty"`
	IMAP  *Listener `yaml:"imap,omitempty"`
	IMAPS *Listener `yaml:"imaps,omitempty"`
	POP3  *Listener `yaml:"pop3,omitempty"`
	POP3S *Listener `yaml:"pop3s,omitempty"`
	HTTP  *Listener `yaml:"http,omitempty"`
}

// Scrub says how the copies of mail on this node are proved to be whole.
type Scrub struct {
	IntervalSeconds int64 `yaml:"interval_seconds,omitempty"` // each copy is read once in this time
	BytesPerSecond  int64 `yaml:"bytes_per_second,omitempty"` // that are read for it at most
}

// Listener is an address and the networks that may connect to it.
type Listener struct {
	Address string   `yaml:"address"`
	Allow   []string `yaml:"allow,omitempty"`
}

// Prefixes is the parsed list of networks that may connect.
func (l *Listener) Prefixes() []netip.Prefix { return prefixes(l.Allow) }

// Prefixes is the parsed list of networks that other nodes may connect from.
func (r RPC) Prefixes() []netip.Prefix { return prefixes(r.Allow) }

// Has reports whether the node has the role.
func (n *Node) Has(r Role) bool { return slices.Contains(n.Roles, r) }

// Inside are the networks that a listener admits which is not meant for the world: loopback and
// private addresses (RFC 1918, RFC 4193). Everywhere is all others as well.
func Inside() []string {
	return []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}
}

// Everywhere admits every address.
func Everywhere() []string { return []string{"0.0.0.0/0", "::/0"} }

// named lists the listeners with their keys in the file; inside says that by default only inner networks may connect.
func (l *Listeners) named() []namedListener {
	return []namedListener{
		{"smtp", l.SMTP, false}, {"lmtp", l.LMTP, true}, {"imap", l.IMAP, false}, {"imaps", l.IMAPS, false},
		{"pop3", l.POP3, false}, {"pop3s", l.POP3S, false}, {"http", l.HTTP, true},
	}
}

type namedListener struct {
	name string
	*Listener
	inside bool
}

// files are those that the node reads besides its own, with their keys. One that is not absolute lies where the configuration does.
func (n *Node) files() []named {
	all := []named{
		{"tls.ca", &n.TLS.CA}, {"tls.cert", &n.TLS.Cert}, {"tls.key", &n.TLS.Key},
		{"server_tls.cert", &n.ServerTLS.Cert}, {"server_tls.key", &n.ServerTLS.Key},
	}
	if n.Encryption != nil {
		all = append(all, named{"encryption.master_key_file", &n.Encryption.MasterKeyFile})
	}
	return all
}

type named struct {
	key  string
	path *string
}

// setDefaults fills what the file may leave out.
func (n *Node) setDefaults() {
	if n.Hostname == "" {
		n.Hostname = n.ID
	}
	if n.Shards == 0 {
		n.Shards = DefaultShards
	}
	if n.MaxMessageBytes == 0 {
		n.MaxMessageBytes = DefaultMaxMessage
	}
	if n.DiskReserveBytes == 0 {
		n.DiskReserveBytes = DefaultDiskReserve
	}
	if n.DiskHangSeconds == 0 {
		n.DiskHangSeconds = DefaultDiskHang
	}
	n.Compaction.setDefaults()
	if n.Placement.LostAfterSeconds == 0 {
		n.Placement.LostAfterSeconds = DefaultLostAfter
	}
	if n.Scrub.IntervalSeconds == 0 {
		n.Scrub.IntervalSeconds = DefaultScrubInterval
	}
	if n.Scrub.BytesPerSecond == 0 {
		n.Scrub.BytesPerSecond = DefaultScrubRate
	}
	if len(n.RPC.Allow) == 0 {
		n.RPC.Allow = Inside()
	}
	n.Checkpoint.setDefaults()
	if n.Dictionary.IntervalSeconds == 0 {
		n.Dictionary.IntervalSeconds = DefaultDictionarySeconds
	}
	n.Cold.setDefaults()
	if n.FullText.BytesPerSecond == 0 {
		n.FullText.BytesPerSecond = DefaultFullTextRate
	}
	for _, l := range n.Listeners.named() {
		switch {
		case l.Listener == nil || len(l.Allow) > 0:
		case l.inside:
			l.Allow = Inside()
		default:
			l.Allow = Everywhere()
		}
	}
}

func (c *Checkpoint) setDefaults() {
	if c.IntervalSeconds == 0 {
		c.IntervalSeconds = DefaultCheckpointSeconds
	}
	if c.Changes == 0 {
		c.Changes = DefaultCheckpointChanges
	}
	if c.BytesPerSecond == 0 {
		c.BytesPerSecond = DefaultCheckpointRate
	}
}

func (c *Compaction) setDefaults() {
	for _, d := range []struct {
		value *int64
		is    int64
	}{{&c.IntervalSeconds, 600}, {&c.GraceSeconds, 3600}, {&c.CloseSeconds, 86_400}, {&c.GarbagePercent, 30}, {&c.BytesPerSecond, 64 << 20}} {
		if *d.value == 0 {
			*d.value = d.is
		}
	}
}

// Load reads a node's file. What is wrong with it comes back as one *Error per mistake, joined.
func Load(path string) (*Node, error) {
	b, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, b)
}

// Check reads a node's file as Load does, and tries to open each file that it names.
func Check(path string) (*Node, error) {
	b, err := Read(path)
	if err != nil {
		return nil, err
	}
	n, c, err := parse(path, b)
	if err != nil {
		return nil, err
	}
	for _, f := range n.files() {
		if *f.path == "" {
			continue
		}
		if err := canRead(*f.path); err != nil {
			c.fail(f.key, "expected a file that can be read: %v", err)
		}
	}
	return n, errors.Join(c.found...)
}

func canRead(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = f.Read(make([]byte, 1)) // a folder can be opened
	return errors.Join(err, f.Close())
}

// Read gives a configuration file's bytes, for Parse.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	b, err := readAtMost(f, maxFile)
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return b, nil
}

// Write saves the node's file, for its owner's eyes only.
func (n *Node) Write(path string) error {
	b, err := yaml.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode configuration of %s: %w", n.ID, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write configuration %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace configuration %s: %w", filepath.Base(path), err)
	}
	return nil
}
