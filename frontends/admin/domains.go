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

func (s *session) domains() command.Command {
	return ask(s, "domain list", "the domains, where the bytes of their mail may lie and in how many copies, and what is stored under which policy", "GET", "/api/v1/domains", nil,
		func(out io.Writer, l *client.Domains) error {
			return errors.Join(printDomains(out, l.Domains), printStored(out, l.Stored), printFollows(out, l.Follows))
		})
}

func (s *session) askDomains(ctx context.Context) (*client.Domains, error) {
	l := new(client.Domains)
	return l, s.call(ctx, "GET", "/api/v1/domains", nil, l)
}

func printDomains(out io.Writer, list []client.Domain) error {
	var rows [][]string
	for _, d := range list {
		state := "possible"
		if d.Impossible != "" {
			state = "NOT POSSIBLE " + d.Impossible
		}
		rows = append(rows, []string{d.Name, d.Home, fmt.Sprint(d.Copies), d.Survive, regionList(d.Regions), state})
	}
	return command.Table(out, "DOMAIN HOME COPIES SURVIVE REGIONS NOW", rows)
}

func printStored(out io.Writer, list []client.StoredUnder) error {
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{fmt.Sprint(u.Copies), u.Survive, regionList(u.Regions), fmt.Sprint(u.Volumes), fmt.Sprintf("%d MiB", u.Bytes>>20)})
	}
	return command.Table(out, "STORED-COPIES SURVIVE REGIONS VOLUMES SEALED", rows)
}

// printFollows says which shards have stored mail under another policy than its domain has now.
func printFollows(out io.Writer, list []client.Following) error {
	var rows [][]string
	for _, f := range list {
		if state := "not known yet"; !f.Looked || f.Waiting > 0 {
			if f.Waiting > 0 || f.Why != "" {
				state = fmt.Sprintf("%d volumes to go: %s", f.Waiting, f.Why)
			}
			rows = append(rows, []string{fmt.Sprint(f.Shard), f.Node, state})
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintf(out, "\nStored mail of all %d shards lies under the policies that its domains have now.\n", len(list))
		return err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return command.Table(out, "SHARD LEADER STORED-MAIL-FOLLOWS", rows)
}

func regionList(regions []string) string {
	if len(regions) == 0 {
		return "any"
	}
	return strings.Join(regions, ",")
}

func (s *session) domainPolicy() command.Command {
	var c client.PolicyChange
	changes := false
	given := func(set func(v string) error) func(v string) error {
		return func(v string) error {
			changes = true
			return set(v)
		}
	}
	return command.Command{
		Name: "domain policy", Args: "DOMAIN", Summary: "show where the bytes of a domain's mail may lie, or change it for new mail",
		Flags: "  --home REGION    home of accounts that are made from now on\n" +
			"  --survive WHAT   zone or region: what may be lost without the last copy\n" +
			"  --copies N       2 to 4\n" +
			"  --regions LIST   where bytes may lie, such as north-china,south-china, or any; elsewhere only index entries\n",
		Example: "hongyan admin domain policy example.test --regions north-china,south-china --copies 2 --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			fs.Func("home", "", given(func(v string) error { c.Home = &v; return nil }))
			fs.Func("survive", "", given(func(v string) error { c.Survive = v; return nil }))
			fs.Func("copies", "", given(func(v string) error {
				n, err := strconv.ParseUint(v, 10, 8)
				if err != nil || n == 0 {
					return errors.New("expected 2 to 4")
				}
				c.Copies = uint8(n)
				return nil
			}))
			fs.Func("regions", "", given(func(v string) error {
				list := []string{}
				if v != "any" {
					list = strings.Split(v, ",")
				}
				c.Regions = &list
				return nil
			}))
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) != 1 {
				return command.Usagef("expected the name of one domain, got %q", words)
			}
			if changes {
				if err := s.call(ctx, "PATCH", "/api/v1/domains/"+url.PathEscape(words[0]), &c, nil); err != nil {
					return err
				}
			}
			return s.showPolicy(ctx, words[0], changes, out)
		},
	}
}

func (s *session) showPolicy(ctx context.Context, name string, changed bool, out io.Writer) error {
	l, err := s.askDomains(ctx)
	if err != nil {
		return err
	}
	for _, d := range l.Domains {
		if d.Name != strings.ToLower(name) {
			continue
		}
		return s.print(out, d, func() error {
			if err := printDomains(out, []client.Domain{d}); err != nil || !changed {
				return err
			}
			_, err := fmt.Fprintln(out, "New mail follows this at once, stored mail in the background; `hongyan admin domain list` says how far that is.")
			return err
		})
	}
	return fmt.Errorf("%s is no domain of this cluster", name)
}
