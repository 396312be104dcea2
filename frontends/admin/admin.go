// Package admin is `hongyan admin`, the operator's tool: it asks any node's HTTP API and prints what it says.
//
// It keeps nothing. A command is a file of its own with a function that gives a command.Command; Run lists them. Every
// command has --json and an example in its help, and ends without an error only when what it was asked for is done.
package admin

import (
	"context"
	"flag"
	"io"

	"hongyan/cluster/command"
)

// session is one run of the tool: where the API is, and how to print.
type session struct {
	server string // base URL
	token  string
	dir    string // of a development cluster
	asJSON bool
	getenv func(string) string
}

const commonFlags = `  --server URL     HTTP address of any node; HONGYAN_SERVER if absent
  --token TOKEN    admin token; HONGYAN_TOKEN if absent
  --dir DIR        take both from the development cluster that runs in DIR
  --json           print JSON
`

// Run executes `hongyan admin ARGS`.
func Run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	s := &session{getenv: getenv}
	t := &command.Tool{
		Name: "admin", Summary: "hongyan admin: look at a running cluster and change it, through any node's HTTP API.",
		Flags: commonFlags, Define: s.define,
		Commands: []command.Command{
			s.status(), s.volumes(), s.checkpoint(), s.scrub(), s.scrubStart(), s.keys(), s.rotateKeys(), s.textIndexes(), s.rebuildTextIndex(),
			s.domains(), s.domainPolicy(), s.quotaShow(), s.quotaSet(), s.checkAccount(),
			s.nodes(), s.joinNode(), s.weighNode(), s.drainNode(), s.undrainNode(), s.removeNode(), s.replaceNode(), s.placement(),
			s.moveAccounts(), s.moves(), s.cancelMoves(), s.addShard(),
			s.pausePlacement("pause", "nothing moves by itself until it is resumed", "placement is paused", true),
			s.pausePlacement("resume", "replicas and copies move again", "placement goes on", false),
			s.upgrade(),
			s.holdUpgrade("hold", "the cluster's feature level stays where it is, so that nodes can go back to the program from before", true),
			s.holdUpgrade("release", "the feature level rises once every node knows the next one", false),
			s.recover(),
		},
	}
	return t.Run(ctx, args, out)
}

// define adds the flags that every command has. It is called twice, before and behind the command's name.
func (s *session) define(fs *flag.FlagSet) {
	fs.StringVar(&s.server, "server", s.server, "")
	fs.StringVar(&s.token, "token", s.token, "")
	fs.StringVar(&s.dir, "dir", s.dir, "")
	fs.BoolVar(&s.asJSON, "json", s.asJSON, "")
}

// ask makes a command without words of its own: it sends one request, with body unless that is nil, and prints the answer, for people by text.
func ask[T any](s *session, name, summary, method, path string, body any, text func(out io.Writer, answer *T) error) command.Command {
	return command.Command{
		Name: name, Summary: summary, Example: "hongyan admin " + name + " --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			answer := new(T)
			if err := s.call(ctx, method, path, body, answer); err != nil {
				return err
			}
			return s.print(out, answer, func() error { return text(out, answer) })
		},
	}
}

// print writes v as JSON, or as text for people.
func (s *session) print(out io.Writer, v any, text func() error) error {
	if s.asJSON {
		return command.PrintJSON(out, v)
	}
	return text()
}
