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
	"time"

	"hongyan/cluster/command"
	"hongyan/cluster/mover"
)

// nodeList is the answer of /api/v1/nodes.
type nodeList struct {
	Nodes []mover.NodeStatus `json:"nodes"`
}

func nodePath(id string) string { return "/api/v1/nodes/" + url.PathEscape(id) }

// oneNode is the word of a command about one node.
func oneNode(words []string) (string, error) {
	if len(words) != 1 {
		return "", command.Usagef("expected the id of one node, got %q", words)
	}
	return words[0], nil
}

func (s *session) nodes() command.Command {
	return command.Command{
		Name: "node list", Summary: "the nodes of the cluster: weights, states, and what each keeps",
		Example: "hongyan admin node list --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var l nodeList
			if err := s.call(ctx, "GET", "/api/v1/nodes", nil, &l); err != nil {
				return err
			}
			return s.print(out, l, func() error { return l.print(out) })
		},
	}
}

func (l *nodeList) print(out io.Writer) error {
	var rows [][]string
	for _, n := range l.Nodes {
		up, keeps := "down", ""
		if n.Up {
			up = "up"
		}
		if n.Empty {
			keeps = "nothing: safe to switch off"
		} else {
			keeps = fmt.Sprintf("%d replicas, %d copies, %d fragments, %d MiB", n.Replicas, n.Copies, n.Fragments, n.Bytes>>20)
		}
		rows = append(rows, []string{n.ID, n.Region, strings.Join(n.Roles, ","), n.Address, fmt.Sprint(n.Weight), n.State, up, keeps})
	}
	return command.Table(out, "NODE REGION ROLES ADDRESS WEIGHT STATE UP KEEPS", rows)
}

func (s *session) joinNode() command.Command {
	in := mover.NewNode{Weight: 10}
	var roles string
	return command.Command{
		Name: "node join", Args: "NODE", Summary: "let a node into the cluster; start it with `join: true` in its configuration, before or after",
		Flags: "  --region REGION  where it is\n" +
			"  --zone ZONE      and in which part of that, if they fail apart\n" +
			"  --address H:P    where the other nodes reach its port for nodes\n" +
			"  --roles LIST     storage,frontend if absent\n" +
			"  --weight N       its share of new mail and of shards, against the others' weights; 10 if absent\n",
		Example: "hongyan admin node join south-china-2 --region south-china --address 10.0.1.12:7701 --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Region, "region", in.Region, "")
			fs.StringVar(&in.Zone, "zone", in.Zone, "")
			fs.StringVar(&in.Address, "address", in.Address, "")
			fs.StringVar(&roles, "roles", "storage,frontend", "")
			fs.Func("weight", "", func(v string) (err error) {
				in.Weight, err = weight(v)
				return err
			})
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := oneNode(words)
			if err != nil {
				return err
			}
			in.ID, in.Roles = id, strings.Split(roles, ",")
			if in.Region == "" || in.Address == "" {
				return command.Usagef("a node needs --region and --address")
			}
			if err := s.call(ctx, "PUT", nodePath(id), in, nil); err != nil {
				return err
			}
			return s.say(out, id, "%s is a member; it gets its share of shards by and by, and of new mail at once\n")
		},
	}
}

func weight(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return 0, errors.New("expected a whole number from 0 on")
	}
	return uint32(n), nil
}

// say prints what was done to a node.
func (s *session) say(out io.Writer, id, format string) error {
	return s.print(out, map[string]string{"id": id}, func() error {
		_, err := fmt.Fprintf(out, format, id)
		return err
	})
}

func (s *session) weighNode() command.Command {
	return command.Command{
		Name: "node weight", Args: "NODE WEIGHT", Summary: "change a node's share of new mail and of shards; 0 gives it none",
		Example: "hongyan admin node weight south-china-1 20 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) != 2 {
				return command.Usagef("expected the id of a node and its weight, got %q", words)
			}
			n, err := weight(words[1])
			if err != nil {
				return command.Usagef("weight %q: %v", words[1], err)
			}
			if err := s.call(ctx, "PATCH", nodePath(words[0]), mover.NodeChange{Weight: &n}, nil); err != nil {
				return err
			}
			return s.say(out, words[0], "%s has its new weight\n")
		},
	}
}

// drainPoll is how often a drain is looked at.
const drainPoll = time.Second

func (s *session) drainNode() command.Command {
	var wait bool
	return command.Command{
		Name: "node drain", Args: "NODE", Summary: "move everything that a node keeps to others; it gets nothing new",
		Flags:   "  --wait           return when it is safe to switch off\n",
		Example: "hongyan admin node drain south-china-1 --wait --dir .hongyan",
		Define:  func(fs *flag.FlagSet) { fs.BoolVar(&wait, "wait", wait, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := oneNode(words)
			if err != nil {
				return err
			}
			yes := true
			if err := s.call(ctx, "PATCH", nodePath(id), mover.NodeChange{Draining: &yes}, nil); err != nil {
				return err
			}
			if !wait {
				return s.say(out, id, "%s empties itself; `hongyan admin node list` says when it is safe to switch off\n")
			}
			if err := s.awaitEmpty(ctx, id); err != nil {
				return err
			}
			return s.say(out, id, "%s keeps nothing: it is safe to switch off\n")
		},
	}
}

func (s *session) awaitEmpty(ctx context.Context, id string) error {
	for {
		var l nodeList
		if err := s.call(ctx, "GET", "/api/v1/nodes", nil, &l); err != nil {
			return err
		}
		for _, n := range l.Nodes {
			if n.ID == id && n.Empty {
				return nil
			}
			if n.ID == id && n.State != "draining" {
				return fmt.Errorf("%s is %s now: somebody else ended the drain", id, n.State)
			}
		}
		select {
		case <-time.After(drainPoll):
		case <-ctx.Done():
			return fmt.Errorf("%s is not empty yet: %w", id, ctx.Err())
		}
	}
}

func (s *session) undrainNode() command.Command {
	return command.Command{
		Name: "node activate", Args: "NODE", Summary: "end a drain: the node gets its share again",
		Example: "hongyan admin node activate south-china-1 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := oneNode(words)
			if err != nil {
				return err
			}
			no := false
			if err := s.call(ctx, "PATCH", nodePath(id), mover.NodeChange{Draining: &no}, nil); err != nil {
				return err
			}
			return s.say(out, id, "%s is active\n")
		},
	}
}

func (s *session) removeNode() command.Command {
	return command.Command{
		Name: "node remove", Args: "NODE", Summary: "end the membership of a node that keeps nothing any more",
		Example: "hongyan admin node remove south-china-1 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := oneNode(words)
			if err != nil {
				return err
			}
			if err := s.call(ctx, "DELETE", nodePath(id), nil, nil); err != nil {
				return err
			}
			return s.say(out, id, "%s is no member any more\n")
		},
	}
}

func (s *session) replaceNode() command.Command {
	return command.Command{
		Name: "node replace", Args: "NODE", Summary: "take a node that runs with other data than it is known with for the member: its data is made anew",
		Example: "hongyan admin node replace south-china-1 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := oneNode(words)
			if err != nil {
				return err
			}
			if err := s.call(ctx, "POST", nodePath(id)+"/replace", map[string]any{}, nil); err != nil {
				return err
			}
			return s.say(out, id, "%s is taken with its new data; its replicas and copies are made anew\n")
		},
	}
}

func (s *session) placement() command.Command {
	return command.Command{
		Name: "placement", Summary: "which replicas of shards are about to move, and why some do not",
		Example: "hongyan admin placement --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var p mover.Placement
			if err := s.call(ctx, "GET", "/api/v1/placement", nil, &p); err != nil {
				return err
			}
			return s.print(out, p, func() error { return printPlacement(out, &p) })
		},
	}
}

func printPlacement(out io.Writer, p *mover.Placement) error {
	if p.Paused {
		fmt.Fprintln(out, "paused: nothing moves until `hongyan admin placement resume`")
	}
	if len(p.Steps) == 0 {
		_, err := fmt.Fprintln(out, "every replica is where it should be")
		return err
	}
	var rows [][]string
	for _, st := range p.Steps {
		rows = append(rows, []string{fmt.Sprint(st.Shard), st.Step, st.Node, p.Failures[st.Shard]})
	}
	if p.More {
		rows = append(rows, []string{"…", "", "", ""})
	}
	return command.Table(out, "SHARD STEP NODE LAST-FAILURE", rows)
}

// pausePlacement makes the commands that stop and resume what moves.
func (s *session) pausePlacement(name, summary, done string, paused bool) command.Command {
	return command.Command{
		Name: "placement " + name, Summary: summary,
		Example: "hongyan admin placement " + name + " --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			body := map[string]bool{"paused": paused}
			if err := s.call(ctx, "PUT", "/api/v1/placement", body, nil); err != nil {
				return err
			}
			return s.print(out, body, func() error {
				_, err := fmt.Fprintln(out, done)
				return err
			})
		},
	}
}
