package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hongyan/cluster/config"
)

// Cluster is what cluster.json says: how to reach a cluster that runs. Protocols that are not built are absent, and so
// is the pid of a node that is down.
type Cluster struct {
	Nodes      []Member  `json:"nodes"`
	Accounts   []Account `json:"accounts"`
	CA         string    `json:"ca"`
	Supervisor int       `json:"supervisor"`               // pid of the process that keeps it
	Settle     int64     `json:"settle_seconds,omitempty"` // see Options; 0: the lab's own times
	AdminToken string    `json:"admin_token"`
}

// Member is one node of the cluster. One without the role of a frontend has no addresses for mail: they are empty.
type Member struct {
	ID     string `json:"id"`
	Region string `json:"region"`
	PID    int    `json:"pid,omitempty"`
	Data   string `json:"data"`
	SMTP   string `json:"smtp"`
	LMTP   string `json:"lmtp"`
	IMAP   string `json:"imap"`
	IMAPS  string `json:"imaps"`
	POP3   string `json:"pop3"`
	POP3S  string `json:"pop3s"`
	HTTP   string `json:"http"`
	RPC    string `json:"rpc"`
}

// Account is somebody who can log in.
type Account struct {
	Address  string `json:"address"`
	Password string `json:"password"`
}

func clusterFile(dir string) string { return filepath.Join(dir, "cluster.json") }

// Read gives the cluster that runs in dir. An error that is fs.ErrNotExist means that none is ready there.
func Read(dir string) (*Cluster, error) {
	b, err := os.ReadFile(clusterFile(dir))
	if err != nil {
		return nil, fmt.Errorf("read description of the cluster: %w", err)
	}
	var c Cluster
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("read %s: %w", clusterFile(dir), err)
	}
	return &c, nil
}

// describe is the cluster as it is now.
func (s *supervisor) describe() *Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.describeLocked()
}

func (s *supervisor) describeLocked() *Cluster {
	c := &Cluster{Accounts: s.accounts, CA: filepath.Join(s.o.Dir, "ca.pem"), AdminToken: s.token, Supervisor: os.Getpid(), Settle: int64(s.o.Settle / time.Second)}
	now := s.crew.Load()
	for _, p := range now.procs {
		n := p.node
		if now.half(n.ID) != "" {
			continue
		}
		m := Member{ID: n.ID, Region: n.Region, PID: p.status().PID, Data: n.dir, HTTP: n.http(), RPC: n.addr(1)}
		if n.does(config.Frontend) {
			m.SMTP, m.LMTP, m.IMAP, m.IMAPS, m.POP3, m.POP3S = n.addr(25), n.addr(24), n.addr(43), n.addr(93), n.addr(10), n.addr(95)
		}
		c.Nodes = append(c.Nodes, m)
	}
	return c
}

// publish writes cluster.json if the cluster has become ready, and again after each change.
func (s *supervisor) publish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shown {
		return nil
	}
	b, err := json.MarshalIndent(s.describeLocked(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode description of the cluster: %w", err)
	}
	return replaceFile(clusterFile(s.o.Dir), append(b, '\n'))
}

// unpublish removes cluster.json for good.
func (s *supervisor) unpublish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = false
	return removeCluster(s.o.Dir)
}

func removeCluster(dir string) error {
	if err := os.Remove(clusterFile(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove description of an ended cluster: %w", err)
	}
	return nil
}

// replaceFile puts b in the place of the file, readable by its owner only, so that readers see the old or the new file.
// It is not fsynced: after a power cut no cluster runs that it could describe.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}
