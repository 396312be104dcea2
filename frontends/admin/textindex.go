package admin

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/command"
)

// textIndex is what GET /api/v1/text-index says of one node.
type textIndex struct {
	Node      string  `json:"node"`
	Error     string  `json:"error"`
	Off       bool    `json:"off"`
	Shards    int     `json:"shards"`
	Mailboxes uint64  `json:"mailboxes"`
	Messages  uint64  `json:"messages"`
	Waiting   int     `json:"waiting"`
	Lag       float64 `json:"lag_seconds"`
	Bytes     uint64  `json:"bytes"`
	Paused    bool    `json:"paused"`
}

func (n *textIndex) row() []string {
	state := "indexes"
	switch {
	case n.Error != "":
		return []string{n.Node, "no report: " + n.Error}
	case n.Off:
		return []string{n.Node, "off"}
	case n.Paused:
		state = "DISK NEARLY FULL"
	case n.Waiting == 0:
		state = "up to date"
	}
	lag := time.Duration(n.Lag * float64(time.Second)).Round(100 * time.Millisecond)
	return []string{n.Node, state, fmt.Sprint(n.Shards), fmt.Sprint(n.Mailboxes), fmt.Sprint(n.Messages), fmt.Sprintf("%d MiB", n.Bytes>>20), fmt.Sprint(n.Waiting), lag.String()}
}

// textIndexes shows the full-text indexes.
func (s *session) textIndexes() command.Command {
	return command.Command{
		Name: "text-index", Summary: "the full-text index of each node: what is in it, and what waits",
		Example: "hongyan admin text-index --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			return s.showTextIndexes(ctx, out, "GET", "/api/v1/text-index", nil)
		},
	}
}

// rebuildTextIndex has full-text indexes made anew.
func (s *session) rebuildTextIndex() command.Command {
	var node string
	return command.Command{
		Name: "text-index rebuild", Summary: "throw the full-text index away and index all mail again; until then searches read messages",
		Flags:   "  --node NODE      only this one\n",
		Example: "hongyan admin text-index rebuild --node south-china-1 --dir .hongyan",
		Define:  func(fs *flag.FlagSet) { fs.StringVar(&node, "node", node, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			return s.showTextIndexes(ctx, out, "POST", "/api/v1/text-index/rebuild", map[string]string{"node": node})
		},
	}
}

func (s *session) showTextIndexes(ctx context.Context, out io.Writer, method, path string, body any) error {
	var raw struct {
		Nodes json.RawMessage `json:"nodes"`
	}
	if err := s.call(ctx, method, path, body, &raw); err != nil {
		return err
	}
	var nodes []textIndex
	if err := json.Unmarshal(raw.Nodes, &nodes); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var rows [][]string
	var failed []error
	for _, n := range nodes {
		rows = append(rows, n.row())
		if n.Error != "" {
			failed = append(failed, fmt.Errorf("%s: %s", n.Node, n.Error))
		}
	}
	err := s.print(out, raw.Nodes, func() error {
		return command.Table(out, "NODE STATE SHARDS MAILBOXES MESSAGES SIZE WAITING LAG", rows)
	})
	return errors.Join(append(failed, err)...)
}
