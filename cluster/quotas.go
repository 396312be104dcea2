package cluster

import (
	"context"
	"errors"
	"strings"

	"hongyan/cluster/client"
	"hongyan/cluster/directory"
	"hongyan/cluster/wire"
)

// Quota reports that of an account, or of a domain, by its name.
func (n *Node) Quota(ctx context.Context, name string) (*client.QuotaReport, error) {
	if !strings.Contains(name, "@") {
		return n.domainQuota(ctx, name)
	}
	a, err := n.client.Resolve(ctx, name)
	if errors.Is(err, client.ErrNoUser) || errors.Is(err, client.ErrNotLocal) {
		return nil, wire.Errorf(wire.NotFound, "quota of %s: there is no such account", name)
	}
	if err != nil {
		return nil, err
	}
	l, err := n.directory.LimitsNow(ctx, a.Address)
	if err != nil {
		return nil, err
	}
	q, err := n.client.Quota(ctx, a)
	if err != nil {
		return nil, err
	}
	return &client.QuotaReport{Account: &client.AccountQuota{
		Address: a.Address, Bytes: l.Limits.Bytes, Messages: l.Limits.Messages, Own: l.Own, UsedBytes: q.Used.Bytes, UsedMessages: q.Used.Messages,
	}}, nil
}

func (n *Node) domainQuota(ctx context.Context, name string) (*client.QuotaReport, error) {
	q, err := n.directory.QuotaOf(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &client.DomainQuota{
		Name: strings.ToLower(name), Bytes: q.Default.Bytes, Messages: q.Default.Messages, TotalBytes: q.Total.Bytes, TotalMessages: q.Total.Messages,
		Permanent: q.Permanent,
	}
	if out.TotalBytes+out.TotalMessages > 0 {
		sum := q.Allotted()
		out.AllottedBytes, out.AllottedMessages = sum.Bytes, sum.Messages
	}
	return &client.QuotaReport{Domain: out}, nil
}

// SetQuota changes what is given of the quota of an account, or of a domain, by its name. wire.ErrInvalid if a total would be exceeded.
func (n *Node) SetQuota(ctx context.Context, name string, c client.QuotaChange) error {
	limits := directory.ChangeLimits{Bytes: c.Bytes, Messages: c.Messages}
	total := directory.ChangeLimits{Bytes: c.TotalBytes, Messages: c.TotalMessages}
	account := strings.Contains(name, "@")
	switch {
	case account && (total != directory.ChangeLimits{} || c.Permanent != nil):
		return wire.Errorf(wire.Invalid, "quota of %s: a total, and whether mail is refused for good, are a domain's", name)
	case !account && c.Follow:
		return wire.Errorf(wire.Invalid, "quota of %s: only an account follows a default", name)
	case account:
		return n.directory.SetAccountQuota(ctx, directory.SetAccountQuota{Address: name, Limits: limits, Follow: c.Follow})
	}
	return n.directory.SetDomainQuota(ctx, directory.SetDomainQuota{Domain: name, Default: limits, Total: total, Permanent: c.Permanent})
}
