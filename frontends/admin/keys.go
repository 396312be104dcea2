package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"

	"hongyan/cluster/command"
	"hongyan/cluster/custody"
)

// keyList is the answer of /api/v1/keys.
type keyList struct {
	Nodes []custody.Report `json:"nodes"`
}

// keys lists master keys.
func (s *session) keys() command.Command {
	var node string
	return command.Command{
		Name: "keys", Summary: "the master keys of each node, by name, and how many files each wraps",
		Flags:   "  --node NODE      only this one\n",
		Example: "hongyan admin keys --dir .hongyan",
		Define:  func(fs *flag.FlagSet) { fs.StringVar(&node, "node", node, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var l keyList
			if err := s.call(ctx, "GET", "/api/v1/keys?node="+url.QueryEscape(node), nil, &l); err != nil {
				return err
			}
			return errors.Join(s.print(out, l, func() error { return l.print(out) }), l.failures(false))
		},
	}
}

// rotateKeys rotates master keys, asking again until every file is wrapped by the newest.
func (s *session) rotateKeys() command.Command {
	var node string
	var noNewKey bool
	return command.Command{
		Name: "keys rotate", Summary: "wrap every node's keys by a new master key; mail stays as it is",
		Flags: "  --node NODE      only this one\n" +
			"  --no-new-key     wrap by the newest key that is there: end a rotation that was interrupted\n",
		Example: "hongyan admin keys rotate --dir .hongyan\nhongyan admin keys rotate --node south-china-1 --no-new-key",
		Define: func(fs *flag.FlagSet) {
			fs.StringVar(&node, "node", node, "")
			fs.BoolVar(&noNewKey, "no-new-key", noNewKey, "")
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			l, err := s.rotate(ctx, node, !noNewKey)
			if err != nil {
				return err
			}
			return errors.Join(s.print(out, l, func() error { return l.print(out) }), l.failures(true))
		},
	}
}

func (s *session) rotate(ctx context.Context, node string, newKey bool) (*keyList, error) {
	for before := -1; ; newKey = false {
		l := new(keyList)
		if err := s.call(ctx, "POST", "/api/v1/keys/rotate", map[string]any{"node": node, "new_key": newKey}, l); err != nil {
			return nil, err
		}
		left := 0
		for _, n := range l.Nodes {
			left += n.Left
		}
		if left == 0 || left == before {
			return l, nil
		}
		before = left
	}
}

// failures is what a node could not do. That files are wrapped by older keys is one for a rotation only.
func (l *keyList) failures(rotated bool) error {
	var errs []error
	for _, n := range l.Nodes {
		if n.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", n.Node, n.Error))
		} else if rotated && n.Left > 0 {
			errs = append(errs, fmt.Errorf("%s: %d files are still wrapped by older keys", n.Node, n.Left))
		}
	}
	return errors.Join(errs...)
}

func (l *keyList) print(out io.Writer) error {
	var rows [][]string
	for _, n := range l.Nodes {
		var remarks []string
		if n.Plain > 0 {
			remarks = append(remarks, fmt.Sprintf("%d volumes in the clear", n.Plain))
		}
		if n.PlainRest {
			remarks = append(remarks, "index and logs in the clear")
		}
		if n.Left > 0 {
			remarks = append(remarks, fmt.Sprintf("%d files are wrapped by older keys", n.Left))
		}
		if n.Error != "" {
			remarks = append(remarks, "failed")
		}
		if len(n.Keys) == 0 {
			rows = append(rows, []string{n.Node, "-", "-", strings.Join(remarks, ", ")})
		}
		for i, k := range n.Keys {
			remark := "not needed any more"
			switch {
			case i == len(n.Keys)-1:
				remark = strings.Join(append([]string{"newest"}, remarks...), ", ")
			case k.Files > 0:
				remark = "still needed"
			}
			rows = append(rows, []string{n.Node, k.Key, fmt.Sprint(k.Files), remark})
		}
	}
	return command.Table(out, "NODE KEY FILES REMARKS", rows)
}
