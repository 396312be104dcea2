package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hongyan/cluster/command"
)

const (
	patience  = 60 * time.Second // the node gives each request 30 s
	aliveWait = 2 * time.Second
	maxReply  = 64 << 20
)

// endpoint is where the API answers.
type endpoint struct {
	server string
	token  string
}

// endpoints are the nodes to ask, in order. Flags go before the environment; a development cluster has several.
func (s *session) endpoints() ([]endpoint, error) {
	if s.dir != "" {
		return ofDirectory(s.dir)
	}
	server, token := s.server, s.token
	if server == "" {
		server = s.getenv("HONGYAN_SERVER")
	}
	if token == "" {
		token = s.getenv("HONGYAN_TOKEN")
	}
	if server == "" || token == "" {
		return nil, command.Usagef("expected --server URL and --token TOKEN (or HONGYAN_SERVER and HONGYAN_TOKEN), or --dir DIR of a development cluster")
	}
	if u, err := url.Parse(server); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, command.Usagef("%q: expected --server URL, or HONGYAN_SERVER, such as http://10.0.0.1:8080", server)
	}
	return []endpoint{{strings.TrimRight(server, "/"), token}}, nil
}

// ofDirectory reads what `hongyan dev` wrote.
func ofDirectory(dir string) ([]endpoint, error) {
	path := filepath.Join(dir, "cluster.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no cluster runs in %s (start one with `hongyan dev --dir %s`)", dir, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's description: %w", err)
	}
	var c struct {
		Nodes []struct {
			HTTP string `json:"http"`
			PID  int    `json:"pid"`
		} `json:"nodes"`
		Token string `json:"admin_token"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var out []endpoint
	for _, n := range c.Nodes {
		if n.PID != 0 {
			out = append(out, endpoint{n.HTTP, c.Token})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no node of the cluster in %s runs", dir)
	}
	return out, nil
}

// call sends a request with an optional JSON body and decodes the answer into reply, which may be nil. A node that
// cannot be reached is followed by the next.
func (s *session) call(ctx context.Context, method, path string, body, reply any) error {
	ends, err := s.endpoints()
	if err != nil {
		return err
	}
	var raw []byte
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var failed error
	for _, e := range ends {
		if len(ends) > 1 {
			if err := e.alive(ctx); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		code, b, err := e.send(ctx, method, path, raw)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		return decode(method+" "+e.server+path, code, b, reply)
	}
	return failed
}

// alive asks a node that is not the only one whether it answers: one that is frozen takes a request and keeps it.
func (e endpoint) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aliveWait)
	defer cancel()
	_, _, err := e.send(ctx, http.MethodGet, "/healthz", nil)
	return err
}

func (e endpoint) send(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.server+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+e.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err // names method and address already
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return 0, nil, fmt.Errorf("read the answer of %s: %w", e.server, err)
	}
	return res.StatusCode, b, nil
}

// decode reads an answer, or the reason that a refusal gives.
func decode(what string, code int, b []byte, reply any) error {
	if code/100 != 2 {
		var refusal struct {
			Error string `json:"error"`
		}
		if err := json.Unmarshal(b, &refusal); err != nil || refusal.Error == "" {
			refusal.Error = http.StatusText(code)
		}
		return fmt.Errorf("%s: %d: %s", what, code, refusal.Error)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(b, reply); err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, err)
	}
	return nil
}
