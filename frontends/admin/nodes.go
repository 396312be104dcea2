package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
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

// nodeWord is the word of a command about one node.
func nodeWord(words []string) (string, error) {
	if len(words) != 1 {
		return "", command.Usagef("expected the id of one node, got %q", words)
	}
	return words[0], nil
}

func (s *session) nodes() command.Command {
	return ask(s, "node list", "the nodes of the cluster: weights, states, and what each keeps", "GET", "/api/v1/nodes", nil, printNodes)
}

func printNodes(out io.Writer, l *nodeList) error {
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
			id, err := nodeWord(words)
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

// anywayFlag is of commands that could make a domain's policy impossible.
const anywayFlag = "  --anyway         also if a domain's policy cannot be held then: its mail goes to the node all the same, if that is up\n"

func (s *session) weighNode() command.Command {
	var c mover.NodeChange
	return command.Command{
		Name: "node weight", Args: "NODE WEIGHT", Summary: "change a node's share of new mail and of shards; 0 gives it none",
		Flags:   anywayFlag,
		Example: "hongyan admin node weight south-china-1 20 --dir .hongyan",
		Define:  func(fs *flag.FlagSet) { fs.BoolVar(&c.Anyway, "anyway", c.Anyway, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) != 2 {
				return command.Usagef("expected the id of a node and its weight, got %q", words)
			}
			n, err := weight(words[1])
			if err != nil {
				return command.Usagef("weight %q: %v", words[1], err)
			}
			c.Weight = &n
			if err := s.call(ctx, "PATCH", nodePath(words[0]), c, nil); err != nil {
				return err
			}
			if n > 0 {
				return s.say(out, words[0], "%s has its new weight\n")
			}
			var l nodeList
			if err := s.call(ctx, "GET", "/api/v1/nodes", nil, &l); err != nil {
				return err
			}
			return s.say(out, words[0], "%s gets nothing new"+butFor(l.Nodes)+"\n")
		},
	}
}

// butFor says when a node of weight 0 gets something new all the same: at once, if fewer than two others take mail.
func butFor(nodes []mover.NodeStatus) string {
	var take []string
	for _, n := range nodes {
		if slices.Contains(n.Roles, "storage") && (n.State == "active" || n.State == "replaced") && n.Weight > 0 {
			take = append(take, n.ID)
		}
	}
	switch len(take) {
	case 0:
		return " but what it has to: no node that stays weighs anything, and mail goes to all of these alike"
	case 1:
		return " but what it has to: only " + take[0] + " weighs anything, and every message wants two nodes"
	}
	return ""
}

// drainPoll is how often a drain is looked at.
const drainPoll = time.Second

func (s *session) drainNode() command.Command {
	var wait, anyway bool
	return command.Command{
		Name: "node drain", Args: "NODE", Summary: "move everything that a node keeps to others; it gets nothing new",
		Flags:   "  --wait           return when it is safe to switch off\n" + anywayFlag,
		Example: "hongyan admin node drain south-china-1 --wait --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			fs.BoolVar(&wait, "wait", wait, "")
			fs.BoolVar(&anyway, "anyway", anyway, "")
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := nodeWord(words)
			if err != nil {
				return err
			}
			yes := true
			if err := s.call(ctx, "PATCH", nodePath(id), mover.NodeChange{Draining: &yes, Anyway: anyway}, nil); err != nil {
				return err
			}
			if !wait {
				var l nodeList
				if err := s.call(ctx, "GET", "/api/v1/nodes", nil, &l); err != nil {
					return err
				}
				if why := cannotEnd(l.Nodes); why != "" {
					return s.say(out, id, "%s is to leave, and keeps what it has for now: "+why+"\n")
				}
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
		i := slices.IndexFunc(l.Nodes, func(n mover.NodeStatus) bool { return n.ID == id })
		switch {
		case i < 0:
			return fmt.Errorf("%s is no member any more: somebody else removed it", id)
		case l.Nodes[i].Empty:
			return nil
		case !drains(&l.Nodes[i]):
			return fmt.Errorf("%s is %s now: somebody else ended the drain", id, l.Nodes[i].State)
		}
		if why := cannotEnd(l.Nodes); why != "" {
			return fmt.Errorf("%s cannot empty itself: %s; it goes on when there are more, or `hongyan admin node activate %s` ends it", id, why, id)
		}
		select {
		case <-time.After(drainPoll):
		case <-ctx.Done():
			return fmt.Errorf("%s is not empty yet: %w", id, ctx.Err())
		}
	}
}

// drains says that a node is to leave. One that is lost or replaced as well tells so beside its state.
func drains(n *mover.NodeStatus) bool { return n.Drain || n.State == "draining" }

// cannotEnd says why drains cannot come to their end, "" if nothing is known that keeps them from it.
func cannotEnd(nodes []mover.NodeStatus) string {
	var stay []string
	for _, n := range nodes {
		if slices.Contains(n.Roles, "storage") && !drains(&n) && n.State != "lost" {
			stay = append(stay, n.ID)
		}
	}
	switch len(stay) {
	case 0:
		return "every node that keeps mail is to leave, and two have to stay"
	case 1:
		return "of the nodes that keep mail only " + stay[0] + " would stay, and every message and shard wants two"
	}
	return ""
}

func (s *session) undrainNode() command.Command {
	no := false
	return s.oneNode("node activate", "end a drain: the node gets its share again", "PATCH", "", mover.NodeChange{Draining: &no}, "%s is active\n")
}

func (s *session) removeNode() command.Command {
	return s.oneNode("node remove", "end the membership of a node that keeps nothing any more", "DELETE", "", nil, "%s is no member any more\n")
}

func (s *session) replaceNode() command.Command {
	return command.Command{
		Name: "node replace", Args: "NODE", Summary: "take a node that runs with other data than it is known with for the member: its data is made anew",
		Example: "hongyan admin node replace south-china-1 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := nodeWord(words)
			if err != nil {
				return err
			}
			var reply struct {
				ID    string `json:"id"`
				Known bool   `json:"known,omitempty"`
			}
			if err := s.call(ctx, "POST", nodePath(id)+"/replace", map[string]any{}, &reply); err != nil {
				return err
			}
			return s.print(out, reply, func() error {
				text := "is taken with its new data; its replicas and copies are made anew"
				if reply.Known {
					text = "runs with the data that it is known with: there is nothing to replace"
				}
				_, err := fmt.Fprintln(out, id, text)
				return err
			})
		},
	}
}

// oneNode makes a command that is one request about a node; suffix follows the node in the path.
func (s *session) oneNode(name, summary, method, suffix string, body any, done string) command.Command {
	return command.Command{
		Name: name, Args: "NODE", Summary: summary,
		Example: "hongyan admin " + name + " south-china-1 --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			id, err := nodeWord(words)
			if err != nil {
				return err
			}
			if err := s.call(ctx, method, nodePath(id)+suffix, body, nil); err != nil {
				return err
			}
			return s.say(out, id, done)
		},
	}
}

func (s *session) placement() command.Command {
	return ask(s, "placement", "which replicas of shards are about to move, and why some do not", "GET", "/api/v1/placement", nil, printPlacement)
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
	text := func(out io.Writer, _ *map[string]bool) error {
		_, err := fmt.Fprintln(out, done)
		return err
	}
	return ask(s, "placement "+name, summary, "PUT", "/api/v1/placement", map[string]bool{"paused": paused}, text)
}
