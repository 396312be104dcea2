package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// name is what ids and regions look like: they become folder names, host names and certificate names.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName reports whether s may be a node's id or a region.
func ValidName(s string) bool { return name.MatchString(s) }

const nameWant = "expected a name of a-z, 0-9 and inner hyphens, at most 63 long, got %q"

// values judges what decoded well.
func (c *checker) values(n *Node) {
	c.name("id", n.ID)
	c.name("region", n.Region)
	c.roles("roles", n.Roles)
	if !validHost(n.Hostname) {
		c.fail("hostname", "expected a host name, got %q", n.Hostname)
	}
	c.present("data", n.Data, "a folder")
	c.address("rpc.listen", n.RPC.Listen)
	if n.RPC.Advertise != "" {
		c.reachable("rpc.advertise", n.RPC.Advertise)
	}
	c.networks("rpc.allow", n.RPC.Allow)
	c.present("tls.ca", n.TLS.CA, "a file")
	c.present("tls.cert", n.TLS.Cert, "a file")
	c.present("tls.key", n.TLS.Key, "a file")
	c.peers(n)
	c.listeners(n)
	c.encryption(n.Encryption)
	c.between("shards", int64(n.Shards), 1, maxShards)
	c.between("max_message_bytes", n.MaxMessageBytes, 1<<10, maxMessage)
	c.between("disk_reserve_bytes", n.DiskReserveBytes, 1, 1<<50)
	c.between("disk_hang_seconds", n.DiskHangSeconds, 1, 86_400)
	c.between("placement.lost_after_seconds", n.Placement.LostAfterSeconds, 1, 1<<31)
	c.cold(n.Cold, n.Compaction)
	c.between("scrub.interval_seconds", n.Scrub.IntervalSeconds, 60, 366*24*3600)
	c.between("scrub.bytes_per_second", n.Scrub.BytesPerSecond, 1<<20, 1<<40)
	c.between("checkpoint.interval_seconds", n.Checkpoint.IntervalSeconds, 1, 30*24*3600)
	c.between("checkpoint.changes", n.Checkpoint.Changes, 1, 1<<40)
	c.between("checkpoint.bytes_per_second", n.Checkpoint.BytesPerSecond, 1<<10, 1<<40)
	c.between("full_text.bytes_per_second", n.FullText.BytesPerSecond, 1<<16, 1<<40)
	c.between("dictionary.interval_seconds", n.Dictionary.IntervalSeconds, 1, 30*24*3600)
	c.between("compaction.interval_seconds", n.Compaction.IntervalSeconds, 1, 1<<31)
	c.between("compaction.grace_seconds", n.Compaction.GraceSeconds, 1, 1<<31)
	c.between("compaction.close_after_seconds", n.Compaction.CloseSeconds, 1, 1<<31)
	c.between("compaction.garbage_percent", n.Compaction.GarbagePercent, 1, 100)
	c.between("compaction.bytes_per_second", n.Compaction.BytesPerSecond, 1<<16, 1<<40)
	if s := n.AdminTokenSHA256; s != "" {
		if b, err := hex.DecodeString(s); err != nil || len(b) != 32 {
			c.fail("admin_token_sha256", "expected 64 hexadecimal digits")
		}
	}
}

func (c *checker) encryption(e *Encryption) {
	if e == nil {
		return
	}
	if (e.MasterKeyFile == "") == (len(e.Command) == 0) {
		c.fail("encryption", "expected either master_key_file, a file, or command, a list of a program and its arguments")
	}
	if len(e.Command) > 0 && e.Command[0] == "" {
		c.fail("encryption.command[0]", "expected a program, got nothing")
	}
}

func (c *checker) peers(n *Node) {
	if len(n.Peers) > maxPeers {
		c.fail("peers", "expected at most %d, got %d", maxPeers, len(n.Peers))
		return
	}
	seen := map[string]bool{n.ID: true}
	for i, p := range n.Peers {
		key := fmt.Sprintf("peers[%d]", i)
		c.name(key+".id", p.ID)
		if seen[p.ID] {
			c.fail(key+".id", "expected the other nodes, each once, got %q again", p.ID)
		}
		seen[p.ID] = true
		c.name(key+".region", p.Region)
		c.roles(key+".roles", p.Roles)
		c.reachable(key+".rpc", p.RPC)
	}
}

func (c *checker) listeners(n *Node) {
	doors := []door{{"rpc.listen", n.RPC.Listen}}
	for _, l := range n.Listeners.named() {
		if l.Listener == nil {
			continue
		}
		key := "listeners." + l.name
		c.address(key+".address", l.Address)
		for _, d := range doors {
			if meet(d.address, l.Address) {
				c.fail(key+".address", "expected an address of its own, got %q, where %s (%q) listens", l.Address, d.key, d.address)
			}
		}
		doors = append(doors, door{key, l.Address})
		c.networks(key+".allow", l.Allow)
		if l.name != "http" && !n.Has(Frontend) {
			c.fail(key, "expected the role %q in roles, or no such listener", Frontend)
		}
	}
	if len(doors) > 1 && n.Has(Frontend) {
		c.present("server_tls.cert", n.ServerTLS.Cert, "a file")
		c.present("server_tls.key", n.ServerTLS.Key, "a file")
	}
}

// door is an address that the node listens at, and the key that says so.
type door struct{ key, address string }

// meet reports whether only one of two doors could be opened. An address without a host is on all interfaces.
func meet(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	numberA, _ := strconv.ParseUint(portA, 10, 16) // 0 is judged elsewhere
	numberB, _ := strconv.ParseUint(portB, 10, 16)
	return errA == nil && errB == nil && numberA == numberB && numberA != 0 && (anyHost(hostA) || anyHost(hostB) || strings.EqualFold(hostA, hostB))
}

func anyHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func (c *checker) present(key, value, what string) {
	if value == "" {
		c.fail(key, "expected %s, got nothing", what)
	}
}

func (c *checker) name(key, value string) {
	if !ValidName(value) {
		c.fail(key, nameWant, value)
	}
}

func (c *checker) between(key string, value, low, high int64) {
	if value < low || value > high {
		c.fail(key, "expected %d to %d, got %d", low, high, value)
	}
}

func (c *checker) roles(key string, roles []Role) {
	if len(roles) == 0 {
		c.fail(key, "expected a list of %q, %q or both, got nothing", Storage, Frontend)
	}
	for i, r := range roles {
		at := fmt.Sprintf("%s[%d]", key, i)
		if r != Storage && r != Frontend {
			c.fail(at, "expected %q or %q, got %q", Storage, Frontend, r)
		}
		if slices.Contains(roles[:i], r) {
			c.fail(at, "expected each role once, got %q again", r)
		}
	}
}

// reachable judges an address that nodes dial.
func (c *checker) reachable(key, value string) {
	if !ValidAddress(value) {
		c.fail(key, "expected HOST:PORT that can be dialled, got %q", value)
	}
}

// address judges one that this node listens at, on all interfaces if it has no host.
func (c *checker) address(key, value string) {
	if !ValidAddress(value) && !(strings.HasPrefix(value, ":") && ValidAddress("localhost"+value)) {
		c.fail(key, "expected HOST:PORT, got %q", value)
	}
}

// ValidAddress reports whether value is a host, by name or IP address, and a port that can be dialled.
func ValidAddress(value string) bool {
	host, port, err := net.SplitHostPort(value)
	p, perr := strconv.ParseUint(port, 10, 16)
	_, ipErr := netip.ParseAddr(host)
	return err == nil && perr == nil && p != 0 && host != "" && (ipErr == nil || validHost(host))
}

func (c *checker) networks(key string, list []string) {
	for i, s := range list {
		if _, err := netip.ParsePrefix(s); err != nil {
			c.fail(fmt.Sprintf("%s[%d]", key, i), "expected a network such as 10.0.0.0/8 or ::1/128, got %q", s)
		}
	}
}

// prefixes parses what networks has checked.
func prefixes(list []string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// validHost takes names of dotted labels (RFC 1123 section 2.1), any case.
func validHost(s string) bool { return len(s) <= 253 && hostname.MatchString(s) }

var hostname = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)
