package client

import (
	"context"
	"errors"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// What an account may hold stands in the directory and goes along with each command that adds to it; the shard decides. So a limit is exact to the
// message, also when deliveries and sessions in all regions fill the account at once.

// Limits are how much an account may hold; 0 is any number.
type Limits = index.Limits

// Usage is how much an account holds.
type Usage = index.Usage

// Quota is what an account may hold and what it holds.
type Quota struct {
	Limits
	Used Usage
}

// QuotaError is of an account that may not take more.
type QuotaError struct {
	// Permanent: its domain wants mail for it refused for good, else the sender is to try again.
	Permanent bool
	Reason    string
}

func (e *QuotaError) Error() string { return e.Reason }

// limits are those of an account now. What was known when its session began does not count.
func (c *Client) limits(ctx context.Context, a Account) (directory.Limited, error) {
	l, err := c.cfg.Directory.Limits(ctx, a.Address)
	if err != nil {
		return l, unavailable(err)
	}
	return l, nil
}

// carried are limits as a command carries them: none if there are none, so that it is the command that it always was.
func carried(l Limits) *Limits {
	if l == (Limits{}) {
		return nil
	}
	return &l
}

// marked tells of a refusal for quota whether the domain wants it for good.
func marked(err error, l directory.Limited) error {
	var over *QuotaError
	if errors.As(err, &over) {
		over.Permanent = l.Permanent
	}
	return err
}

// Quota is what an account may hold, and what it holds now. Strong.
func (c *Client) Quota(ctx context.Context, a Account) (q Quota, err error) {
	l, err := c.limits(ctx, a)
	if err != nil {
		return q, err
	}
	q.Limits = l.Limits
	q.Used, err = c.usage(ctx, a, true)
	return q, err
}

// usage is what an account holds, whoever asks; one that nobody has used yet, nothing.
func (c *Client) usage(ctx context.Context, a Account, strong bool) (Usage, error) {
	f, err := c.one(ctx, &mailbox.Query{Shard: a.Shard, Account: a.ID, Kind: mailbox.QueryUsage}, strong)
	switch {
	case errors.Is(err, ErrNoMailbox):
		return Usage{}, nil
	case err != nil:
		return Usage{}, err
	case f.Usage == nil:
		return Usage{}, unavailable(errors.New("a replica does not say what the account holds"))
	}
	return *f.Usage, nil
}

// Room says *QuotaError if an account, as its nearest replica has it, may not take a message of some bytes. It is a word ahead: what is sent is decided when it is
// there. Of accounts without limits it asks nobody.
func (c *Client) Room(ctx context.Context, a Account, bytes uint64) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	l, err := c.limits(ctx, a)
	if err != nil || l.Limits == (Limits{}) {
		return err
	}
	used, err := c.usage(ctx, a, false)
	if err != nil {
		return err
	}
	if err := l.Limits.Exceeded(used, Usage{Bytes: bytes, Messages: 1}); err != nil {
		return &QuotaError{Permanent: l.Permanent, Reason: err.Error()}
	}
	return nil
}

// QuotaReport is what operators see of the quota of an account or of a domain. 0 is no limit.
type QuotaReport struct {
	Account *AccountQuota `json:"account,omitempty"`
	Domain  *DomainQuota  `json:"domain,omitempty"`
}

// AccountQuota is an account's.
type AccountQuota struct {
	Address      string `json:"address"`
	Bytes        uint64 `json:"bytes"`
	Messages     uint64 `json:"messages"`
	Own          bool   `json:"own"` // else it follows its domain's default
	UsedBytes    uint64 `json:"used_bytes"`
	UsedMessages uint64 `json:"used_messages"`
}

// DomainQuota is a domain's. What is allotted is counted only while there is a total.
type DomainQuota struct {
	Name             string `json:"name"`
	Bytes            uint64 `json:"bytes"` // of each account that has no limits of its own
	Messages         uint64 `json:"messages"`
	TotalBytes       uint64 `json:"total_bytes"` // that its accounts may be allotted together
	TotalMessages    uint64 `json:"total_messages"`
	AllottedBytes    uint64 `json:"allotted_bytes"`
	AllottedMessages uint64 `json:"allotted_messages"`
	Permanent        bool   `json:"permanent"` // mail over quota is refused for good (552), else for now (452)
}

// QuotaChange changes what is given of the quota of an account or a domain; 0 is no limit.
type QuotaChange struct {
	Bytes    *uint64 `json:"bytes"` // of a domain: of each account that has none of its own
	Messages *uint64 `json:"messages"`
	Follow   bool    `json:"follow"` // an account: its domain's default again

	TotalBytes    *uint64 `json:"total_bytes"` // a domain
	TotalMessages *uint64 `json:"total_messages"`
	Permanent     *bool   `json:"permanent"`
}
