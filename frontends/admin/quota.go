package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"hongyan/cluster/client"
	"hongyan/cluster/command"
)

func quotaPath(name string) string { return "/api/v1/quotas/" + url.PathEscape(name) }

func (s *session) quotaShow() command.Command {
	return command.Command{
		Name: "quota show", Args: "ADDRESS|DOMAIN", Summary: "what an account may hold and holds; what a domain's accounts may hold, each and together",
		Example: "hongyan admin quota show u0001@example.test --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) != 1 {
				return command.Usagef("expected one address or domain")
			}
			return s.showQuota(ctx, words[0], out)
		},
	}
}

func (s *session) showQuota(ctx context.Context, name string, out io.Writer) error {
	q := new(client.QuotaReport)
	if err := s.call(ctx, "GET", quotaPath(name), nil, q); err != nil {
		return err
	}
	return s.print(out, q, func() error { return printQuota(out, q) })
}

func printQuota(out io.Writer, q *client.QuotaReport) error {
	if a := q.Account; a != nil {
		from := "domain"
		if a.Own {
			from = "account"
		}
		return command.Table(out, "ACCOUNT USED-BYTES BYTES USED-MESSAGES MESSAGES LIMITS-OF", [][]string{{
			a.Address, fmt.Sprint(a.UsedBytes), limit(a.Bytes), fmt.Sprint(a.UsedMessages), limit(a.Messages), from,
		}})
	}
	d := q.Domain
	if d == nil {
		return errors.New("the answer has no quota: update this program to the cluster's version")
	}
	reply := "452"
	if d.Permanent {
		reply = "552"
	}
	return command.Table(out, "DOMAIN EACH-BYTES EACH-MESSAGES ALLOTTED-BYTES TOTAL-BYTES ALLOTTED-MESSAGES TOTAL-MESSAGES WHEN-FULL", [][]string{{
		d.Name, limit(d.Bytes), limit(d.Messages), allotted(d.AllottedBytes, d.TotalBytes), limit(d.TotalBytes),
		allotted(d.AllottedMessages, d.TotalMessages), limit(d.TotalMessages), reply,
	}})
}

func limit(n uint64) string {
	if n == 0 {
		return "any"
	}
	return fmt.Sprint(n)
}

// allotted is counted only under a total.
func allotted(n, total uint64) string {
	if total == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func (s *session) quotaSet() command.Command {
	var c client.QuotaChange
	return command.Command{
		Name: "quota set", Args: "ADDRESS|DOMAIN", Summary: "change how much an account may hold, or each account of a domain and all together",
		Flags: "  --bytes N           such as 500M or 20G, or none; of a domain: each account that has no limits of its own\n" +
			"  --messages N        or none\n" +
			"  --follow            an account: its domain's limits again, in place of its own\n" +
			"  --total-bytes N     a domain: what its accounts' limits may add up to, or none\n" +
			"  --total-messages N  or none\n" +
			"  --when-full REPLY   a domain: 452 has senders try again (the default), 552 refuses mail for good\n",
		Example: "hongyan admin quota set example.test --bytes 10G --total-bytes 5T --dir .hongyan\nhongyan admin quota set u0001@example.test --bytes 50G --messages none --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			amount := func(name string, to **uint64) {
				fs.Func(name, "", func(v string) error {
					n, err := parseAmount(v)
					*to = &n
					return err
				})
			}
			amount("bytes", &c.Bytes)
			amount("messages", &c.Messages)
			amount("total-bytes", &c.TotalBytes)
			amount("total-messages", &c.TotalMessages)
			fs.BoolVar(&c.Follow, "follow", c.Follow, "")
			fs.Func("when-full", "", func(v string) error {
				if v != "452" && v != "552" {
					return errors.New("expected 452 or 552")
				}
				forGood := v == "552"
				c.Permanent = &forGood
				return nil
			})
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			switch {
			case len(words) != 1:
				return command.Usagef("expected one address or domain")
			case c == (client.QuotaChange{}):
				return command.Usagef("expected what to change, such as --bytes 10G")
			}
			if err := s.call(ctx, "PATCH", quotaPath(words[0]), &c, nil); err != nil {
				return err
			}
			return s.showQuota(ctx, words[0], out)
		},
	}
}

// parseAmount reads a number, in multiples of 1024 with K, M, G or T behind it, or none.
func parseAmount(v string) (uint64, error) {
	if v == "none" {
		return 0, nil
	}
	shift := 0
	if i := strings.IndexByte("KMGT", last(v)); i >= 0 {
		v, shift = v[:len(v)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n == 0 || n > 1<<60>>shift {
		return 0, errors.New("expected none, or 1 to 2^60, in multiples of 1024 with K, M, G or T behind the number")
	}
	return n << shift, nil
}

func last(v string) byte {
	if v == "" {
		return 0
	}
	return v[len(v)-1]
}
