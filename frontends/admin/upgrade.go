package admin

import (
	"context"
	"fmt"
	"io"

	"hongyan/cluster/command"
	"hongyan/cluster/upgrade"
)

func (s *session) upgrade() command.Command {
	return command.Command{
		Name: "upgrade", Summary: "which program each node runs, the cluster's feature level, and what that waits for",
		Example: "hongyan admin upgrade --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var u upgrade.Status
			if err := s.call(ctx, "GET", "/api/v1/upgrade", nil, &u); err != nil {
				return err
			}
			return s.print(out, u, func() error { return printUpgrade(out, &u) })
		},
	}
}

func printUpgrade(out io.Writer, u *upgrade.Status) error {
	var rows [][]string
	for _, n := range u.Nodes {
		build, knows, says := n.Build, fmt.Sprint(n.Knows), n.Why
		switch {
		case n.Knows == 0:
			build, knows = "-", "-"
		case build == "":
			build = "(before levels)"
		}
		if n.Holds {
			says = "holds the level"
		}
		if n.Lost {
			says = "lost; " + says
		}
		rows = append(rows, []string{n.ID, build, knows, says})
	}
	if err := command.Table(out, "NODE BUILD KNOWS-LEVEL", rows); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe cluster is at feature level %s.\n", u.Name)
	switch {
	case u.Next == 0:
		_, err := fmt.Fprintln(out, "No node knows a later one.")
		return err
	case len(u.Waits) == 0:
		_, err := fmt.Fprintf(out, "Every node knows level %d, which comes by itself in a moment.\n", u.Next)
		return err
	}
	fmt.Fprintf(out, "Level %d waits:\n", u.Next)
	for _, why := range u.Waits {
		if _, err := fmt.Fprintln(out, "  "+why); err != nil {
			return err
		}
	}
	return nil
}

// holdUpgrade makes the commands that hold the cluster's feature level and let it rise.
func (s *session) holdUpgrade(name, summary string, hold bool) command.Command {
	return command.Command{
		Name: "upgrade " + name, Summary: summary,
		Example: "hongyan admin upgrade " + name + " --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var u upgrade.Status
			if err := s.call(ctx, "PUT", "/api/v1/upgrade", map[string]bool{"hold": hold}, &u); err != nil {
				return err
			}
			return s.print(out, u, func() error { return printUpgrade(out, &u) })
		},
	}
}
