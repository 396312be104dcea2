package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hongyan/cluster/client"
	"hongyan/cluster/mover"
)

// Domain and Password of every account of the lab.
const (
	Domain   = "example.test"
	Password = "secret"
)

const (
	// MaxAccounts is the largest number of accounts that the lab makes.
	MaxAccounts = 1_000_000

	maxReply       = 64 << 20
	accountsAtOnce = 48               // of which a third at each of three nodes: a node serves 16 calls at once
	apiPatience    = 20 * time.Second // how long a refused or failed call is tried again
)

// api talks to the nodes' HTTP listeners.
type api struct {
	token string
	http  *http.Client
}

func newAPI(token string) (*api, error) {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("unusual default HTTP transport")
	}
	t = t.Clone()
	t.Proxy = nil // the nodes are on this machine
	t.MaxIdleConnsPerHost = accountsAtOnce
	return &api{token, &http.Client{Transport: t, Timeout: 10 * time.Second}}, nil
}

// ready is empty when the node serves, or says why it does not.
func (a *api) ready(ctx context.Context, base string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	code, body, err := a.call(ctx, http.MethodGet, base+"/readyz", nil)
	switch {
	case err != nil:
		return err.Error()
	case code != http.StatusOK:
		return fmt.Sprintf("readyz says %d: %s", code, firstLine(body))
	}
	return ""
}

// answers is empty when the node answers at all.
func (a *api) answers(ctx context.Context, base string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, _, err := a.call(ctx, http.MethodGet, base+"/healthz", nil); err != nil {
		return err.Error()
	}
	return ""
}

// isMember asks the nodes in turn, until one answers, whether the cluster counts a node among its members.
func (a *api) isMember(ctx context.Context, nodes []string, id string) (bool, error) {
	err := errors.New("none runs")
	for _, base := range nodes {
		var code int
		var body []byte
		if code, body, err = a.call(ctx, http.MethodGet, base+"/api/v1/nodes", nil); err != nil {
			continue
		}
		var list struct {
			Nodes []mover.NodeStatus `json:"nodes"`
		}
		if err = json.Unmarshal(body, &list); code != http.StatusOK || err != nil {
			err = errors.Join(fmt.Errorf("list nodes: %d: %s", code, firstLine(body)), err)
			continue
		}
		return slices.ContainsFunc(list.Nodes, func(n mover.NodeStatus) bool { return n.ID == id }), nil
	}
	return false, fmt.Errorf("no node says who is in the cluster: %w", err)
}

// letIn makes a node a member of the cluster. It may be one already: an earlier call may have done it and failed all the same.
func (a *api) letIn(ctx context.Context, nodes []string, n mover.NewNode) error {
	in, err := a.isMember(ctx, nodes, n.ID)
	if err != nil || in {
		return err
	}
	if err = a.put(ctx, nodes, "/api/v1/nodes/"+url.PathEscape(n.ID), n); err != nil {
		if in, again := a.isMember(ctx, nodes, n.ID); again == nil && in {
			return nil
		}
	}
	return err
}

// status is what one node knows of the cluster.
func (a *api) status(ctx context.Context, base string) (json.RawMessage, error) {
	code, body, err := a.call(ctx, http.MethodGet, base+"/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK || !json.Valid(body) {
		return nil, fmt.Errorf("status: %d: %s", code, firstLine(body))
	}
	return body, nil
}

// ensureAccounts makes the domain, and those accounts that are missing, through all nodes in turn.
// It returns all that there are: never fewer than want, and more when an earlier start asked for more.
func (a *api) ensureAccounts(ctx context.Context, nodes []string, home string, want int) ([]Account, error) {
	if err := a.put(ctx, nodes, "/api/v1/domains/"+Domain, map[string]string{"home_region": home}); err != nil {
		return nil, err
	}
	there, err := a.addresses(ctx, nodes[0])
	if err != nil {
		return nil, err
	}
	for want < MaxAccounts && there[address(want)] {
		want++
	}
	// One hash for all: each costs a tenth of a second, and the password is no secret.
	hash, err := client.HashPassword(Password)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(accountsAtOnce)
	accounts := make([]Account, want)
	for i := range accounts {
		accounts[i] = Account{address(i), Password}
		if there[address(i)] {
			continue
		}
		g.Go(func() error {
			at := i % len(nodes)
			turn := append(append([]string(nil), nodes[at:]...), nodes[:at]...)
			return a.put(ctx, turn, "/api/v1/accounts/"+url.PathEscape(address(i)), map[string]string{"password_hash": hash})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return accounts, nil
}

// address is the account with number i, counted from 0.
func address(i int) string { return fmt.Sprintf("u%04d@%s", i+1, Domain) }

// addresses are all accounts that a node knows of.
func (a *api) addresses(ctx context.Context, base string) (map[string]bool, error) {
	code, body, err := a.call(ctx, http.MethodGet, base+"/api/v1/accounts", nil)
	if err != nil {
		return nil, err
	}
	var list struct {
		Accounts []string `json:"accounts"`
	}
	if err := json.Unmarshal(body, &list); code != http.StatusOK || err != nil {
		return nil, errors.Join(fmt.Errorf("list accounts: %d: %s", code, firstLine(body)), err)
	}
	there := make(map[string]bool, len(list.Accounts))
	for _, s := range list.Accounts {
		there[s] = true
	}
	return there, nil
}

// put writes a resource, which is the same however often it is done; a node that cannot take it now is followed by the next.
func (a *api) put(ctx context.Context, nodes []string, path string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	deadline := time.Now().Add(apiPatience)
	for try := 0; ; try++ {
		code, body, err := a.call(ctx, http.MethodPut, nodes[try%len(nodes)]+path, b)
		switch {
		case err == nil && code/100 == 2:
			return nil
		case err == nil && code/100 == 4 && code != http.StatusTooManyRequests:
			return fmt.Errorf("put %s: %d: %s", path, code, firstLine(body))
		case err == nil:
			err = fmt.Errorf("%d: %s", code, firstLine(body))
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("put %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *api) call(ctx context.Context, method, url string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := a.http.Do(req)
	if err != nil {
		return 0, nil, err // names method and address already
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return 0, nil, fmt.Errorf("read reply to %s %s: %w", method, url, err)
	}
	return res.StatusCode, b, nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b[:min(len(b), 200)])), "\n")
	return line
}
