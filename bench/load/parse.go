package load

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"hongyan/bench/lab"
)

// maxAccounts bounds what a mistyped --count can ask of memory.
const maxAccounts = 10_000_000

// ParseTarget makes a target of URLs such as lmtp://127.0.0.1:24 and imaps://127.0.0.1:993. Schemes: smtp, lmtp, imap, imaps, pop3, pop3s; a
// missing port is the standard one. URLs with the same host name are one node. tlsConfig may be nil unless a scheme ends in s;
// with it, imap upgrades by STARTTLS where the server offers that.
func ParseTarget(name string, urls []string, accounts []Account, tlsConfig *tls.Config) (Target, error) {
	t := Target{Name: name, Accounts: accounts, TLS: tlsConfig}
	byHost := map[string]int{}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return Target{}, fmt.Errorf("read target: %w", err)
		}
		host := u.Hostname()
		if host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
			return Target{}, fmt.Errorf("read target %q: want scheme://host:port and nothing else", raw)
		}
		i, ok := byHost[host]
		if !ok {
			i = len(t.Nodes)
			byHost[host] = i
			t.Nodes = append(t.Nodes, Node{ID: host})
		}
		if err := t.Nodes[i].serve(u, tlsConfig != nil); err != nil {
			return Target{}, fmt.Errorf("read target %q: %w", raw, err)
		}
	}
	if len(t.Nodes) == 0 {
		return Target{}, errors.New("read target: no URL given; one is needed, such as lmtp://127.0.0.1:24")
	}
	return t, nil
}

// serve notes that the node serves the URL's protocol.
func (n *Node) serve(u *url.URL, withTLS bool) error {
	var field *string
	var port string
	switch u.Scheme {
	case "smtp":
		field, port = &n.SMTP, "25"
	case "lmtp":
		field, port = &n.LMTP, "24"
	case "imap":
		field, port = &n.IMAP, "143"
	case "imaps":
		field, port = &n.IMAPS, "993"
	case "pop3":
		field, port = &n.POP3, "110"
	case "pop3s":
		field, port = &n.POP3S, "995"
	default:
		return fmt.Errorf("scheme %q: want smtp, lmtp, imap, imaps, pop3 or pop3s", u.Scheme)
	}
	if *field != "" {
		return fmt.Errorf("%s is given twice for host %s; give each node a host name of its own", u.Scheme, u.Hostname())
	}
	if !withTLS && (field == &n.IMAPS || field == &n.POP3S) {
		return fmt.Errorf("%s needs TLS settings", u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	*field = net.JoinHostPort(u.Hostname(), port)
	return nil
}

// NumberedAccounts makes accounts 1 to count of a pattern such as u%04d@example.test:secret, whose password may have a number too.
func NumberedAccounts(pattern string, count int) ([]Account, error) {
	address, password, ok := strings.Cut(pattern, ":")
	if !ok || !strings.Contains(address, "@") {
		return nil, fmt.Errorf("accounts %q: want address:password, such as u%%04d@example.test:secret", pattern)
	}
	if count < 1 || count > maxAccounts {
		return nil, fmt.Errorf("accounts %q: a count of %d is not between 1 and %d", pattern, count, maxAccounts)
	}
	accounts := make([]Account, count)
	for i := range accounts {
		accounts[i] = Account{Address: numbered(address, i+1), Password: numbered(password, i+1)}
		if strings.Contains(accounts[i].Address, "%!") {
			return nil, fmt.Errorf("accounts %q: only one number, such as %%04d, can be filled in", pattern)
		}
	}
	if count > 1 && accounts[0].Address == accounts[1].Address {
		return nil, fmt.Errorf("accounts %q: the address needs a number, such as %%04d, for %d accounts", pattern, count)
	}
	return accounts, nil
}

func numbered(pattern string, n int) string {
	if !strings.Contains(pattern, "%") {
		return pattern
	}
	return fmt.Sprintf(pattern, n)
}

// ReadAccounts reads a file of lines "address password". Empty lines and those that begin with # are skipped.
func ReadAccounts(path string) (accounts []Account, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.Contains(fields[0], "@") {
			return nil, fmt.Errorf("read accounts: %s:%d: want an address and a password with a space between", path, n)
		}
		if len(accounts) == maxAccounts {
			return nil, fmt.Errorf("read accounts: %s:%d: more than %d accounts", path, n, maxAccounts)
		}
		accounts = append(accounts, Account{Address: fields[0], Password: fields[1]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read accounts: %s: %w", path, err)
	}
	if len(accounts) == 0 {
		return nil, fmt.Errorf("read accounts: %s has none", path)
	}
	return accounts, nil
}

// TrustFile makes TLS settings that trust the certificates in a PEM file and expect serverName; when that is empty, the host dialled.
func TrustFile(path, serverName string) (*tls.Config, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificate authority: %s has no certificate in PEM form", path)
	}
	return &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS12}, nil
}

// FromCluster is a cluster of the lab with all its nodes as they were when it was read. Its certificates name localhost.
func FromCluster(c *lab.Cluster) (Target, error) {
	roots, err := TrustFile(c.CA, "localhost")
	if err != nil {
		return Target{}, err
	}
	if len(c.Nodes) == 0 {
		return Target{}, errors.New("the cluster has no nodes")
	}
	t := Target{Name: "hongyan", TLS: roots}
	for _, n := range c.Nodes {
		t.Nodes = append(t.Nodes, Node{ID: n.ID, Region: n.Region,
			SMTP: n.SMTP, LMTP: n.LMTP, IMAP: n.IMAP, IMAPS: n.IMAPS, POP3: n.POP3, POP3S: n.POP3S})
	}
	for _, a := range c.Accounts {
		t.Accounts = append(t.Accounts, Account(a))
	}
	return t, nil
}
