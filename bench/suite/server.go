package suite

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"hongyan/bench/load"
	"hongyan/bench/scenario"
	"hongyan/cluster/command"
)

// server describes a mail server that is not the lab's: by flags, or as the YAML file that --peer names.
type server struct {
	Name     string   `yaml:"name"`               // for the report
	Note     string   `yaml:"note,omitempty"`     // what a reader must know, such as "one copy, mail_fsync=optimized"
	Delivery string   `yaml:"delivery"`           // lmtp:// or smtp://
	IMAP     string   `yaml:"imap,omitempty"`     // imap:// or imaps://
	POP3     string   `yaml:"pop3,omitempty"`     // pop3:// or pop3s://
	Accounts string   `yaml:"accounts,omitempty"` // a pattern with a password, or a file
	Count    int      `yaml:"count,omitempty"`
	CA       string   `yaml:"ca,omitempty"`
	PIDs     []int    `yaml:"pids,omitempty"`
	Data     []string `yaml:"data,omitempty"`
}

const (
	defaultAccounts = "u%04d@example.test:secret"
	defaultCount    = 200
	maxPeerFile     = 64 << 10
)

const serverFlags = `  --target URL         a server of any kind: lmtp://HOST:PORT or smtp://HOST:PORT
  --imap URL           where the same server speaks it: imap:// (STARTTLS where it is offered) or imaps://
  --pop3 URL           pop3:// or pop3s://
  --accounts PATTERN   its accounts, such as 'u%04d@example.test:secret' for those from 1 to --count, or a file of "address password" lines
  --count N            how many there are (200)
  --ca FILE            certificates that it may show; without it any will do
  --name NAME          what the report calls it
  --pid N,…            its processes: what they and their children use is measured
  --data DIR,…         its folders: what they take is measured
`

func (s *server) define(fs *flag.FlagSet) {
	fs.StringVar(&s.Delivery, "target", "", "")
	fs.StringVar(&s.IMAP, "imap", "", "")
	fs.StringVar(&s.POP3, "pop3", "", "")
	fs.StringVar(&s.Accounts, "accounts", "", "")
	fs.IntVar(&s.Count, "count", 0, "")
	fs.StringVar(&s.CA, "ca", "", "")
	fs.StringVar(&s.Name, "name", "", "")
	fs.Var((*numbers)(&s.PIDs), "pid", "")
	fs.Var((*words)(&s.Data), "data", "")
}

// given says whether any flag names a server.
func (s *server) given() bool { return s.Delivery != "" || s.IMAP != "" || s.POP3 != "" }

// readServer reads the file of a peer, strictly.
func readServer(path string) (*server, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the peer's description: %w", err)
	}
	if len(b) > maxPeerFile {
		return nil, fmt.Errorf("read the peer's description: %s has %d bytes, expected at most %d", path, len(b), maxPeerFile)
	}
	s := new(server)
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(s); err != nil {
		return nil, fmt.Errorf("read the peer's description %s: %w", path, err)
	}
	if s.Delivery == "" || s.Name == "" {
		return nil, fmt.Errorf("read the peer's description %s: expected name and delivery", path)
	}
	return s, nil
}

// env makes it something that scenarios can work with.
func (s *server) env() (*scenario.Env, error) {
	pattern, count := s.Accounts, s.Count
	if pattern == "" {
		pattern = defaultAccounts
	}
	if count == 0 {
		count = defaultCount
	}
	accounts, err := load.NumberedAccounts(pattern, count)
	if !strings.Contains(pattern, ":") {
		accounts, err = load.ReadAccounts(pattern)
	}
	if err != nil {
		return nil, command.UsageError{Err: fmt.Errorf("--accounts: %w", err)}
	}
	secure := &tls.Config{InsecureSkipVerify: true} // a test server's certificate is often its own
	if s.CA != "" {
		if secure, err = load.TrustFile(s.CA, ""); err != nil {
			return nil, err
		}
	}
	var urls []string
	for _, u := range []string{s.Delivery, s.IMAP, s.POP3} {
		if u != "" {
			urls = append(urls, u)
		}
	}
	name := s.Name
	if name == "" {
		name = urls[0]
	}
	t, err := load.ParseTarget(name, urls, accounts, secure)
	if err != nil {
		return nil, command.UsageError{Err: err}
	}
	return &scenario.Env{Target: t, PIDs: s.PIDs, Data: s.Data, Note: s.Note}, nil
}

// numbers is a flag of whole numbers above 0, separated by commas.
type numbers []int

func (l *numbers) String() string { return fmt.Sprint([]int(*l)) }

func (l *numbers) Set(s string) error {
	*l = nil
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return errors.New("expected whole numbers above 0, separated by commas")
		}
		*l = append(*l, n)
	}
	return nil
}

// words is a flag of words separated by commas.
type words []string

func (l *words) String() string { return strings.Join(*l, ",") }

func (l *words) Set(s string) error {
	*l = strings.Split(s, ",")
	return nil
}
