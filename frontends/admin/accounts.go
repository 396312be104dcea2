package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"

	"hongyan/cluster/command"
)

// checked is what POST /api/v1/accounts/{address}/check says.
type checked struct {
	Address  string   `json:"address"`
	Folders  int      `json:"folders"`
	Messages uint64   `json:"messages"`
	Found    []wrong  `json:"found"`
	Next     *onwards `json:"next,omitempty"`
}

type onwards struct {
	Folder uint32 `json:"folder"`
	UID    uint32 `json:"uid"`
}

// wrong is one contradiction.
type wrong struct {
	Folder string `json:"folder"`
	UID    uint32 `json:"uid,omitempty"`
	What   string `json:"what"`
	Done   string `json:"done,omitempty"`
	Proved bool   `json:"proved"`
	Mended bool   `json:"mended,omitempty"`
}

func (w *wrong) row() []string {
	uid, state := "-", "proved"
	if w.UID > 0 {
		uid = fmt.Sprint(w.UID)
	}
	switch {
	case w.Mended:
		state = "mended"
	case !w.Proved:
		state = "not known"
	}
	if w.Done == "" {
		return []string{w.Folder, uid, state, w.What}
	}
	return []string{w.Folder, uid, state, w.What + ": " + w.Done}
}

// checkAccount looks for entries that contradict what is stored.
func (s *session) checkAccount() command.Command {
	var repair bool
	return command.Command{
		Name: "account check", Args: "ADDRESS", Summary: "hold an account's folders against its messages, and these against what is stored; mend what contradicts",
		Flags:   "  --repair         mend what is proved to be wrong; without it nothing is changed\n",
		Example: "hongyan admin account check u0001@example.test --dir .hongyan\nhongyan admin account check u0001@example.test --repair --server http://10.0.0.1:8080 --token TOKEN",
		Define:  func(fs *flag.FlagSet) { fs.BoolVar(&repair, "repair", repair, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) != 1 {
				return command.Usagef("expected one address")
			}
			all, err := s.checkAll(ctx, words[0], repair)
			if err != nil {
				return err
			}
			if err := s.print(out, all, func() error { return printChecked(out, all) }); err != nil {
				return err
			}
			return all.verdict(repair)
		},
	}
}

// checkAll asks part after part.
func (s *session) checkAll(ctx context.Context, address string, repair bool) (*checked, error) {
	all := &checked{Address: address, Found: []wrong{}}
	for after := (onwards{}); ; {
		var part checked
		body := map[string]any{"repair": repair, "after": after}
		if err := s.call(ctx, "POST", "/api/v1/accounts/"+url.PathEscape(address)+"/check", body, &part); err != nil {
			return nil, err
		}
		all.Folders += part.Folders
		all.Messages += part.Messages
		all.Found = append(all.Found, part.Found...)
		if part.Next == nil {
			return all, nil
		}
		if *part.Next == after {
			return nil, fmt.Errorf("the check of %s does not get on behind UID %d of folder %d", address, after.UID, after.Folder)
		}
		after = *part.Next
	}
}

func printChecked(out io.Writer, c *checked) error {
	if _, err := fmt.Fprintf(out, "%s: %d messages in %d folders, %d contradictions\n", c.Address, c.Messages, c.Folders, len(c.Found)); err != nil || len(c.Found) == 0 {
		return err
	}
	var rows [][]string
	for i := range c.Found {
		rows = append(rows, c.Found[i].row())
	}
	return command.Table(out, "FOLDER UID STATE WHAT", rows)
}

// verdict is an error if something is left.
func (c *checked) verdict(repair bool) error {
	left := 0
	for _, w := range c.Found {
		if !w.Mended {
			left++
		}
	}
	switch {
	case left == 0:
		return nil
	case repair:
		return fmt.Errorf("%d contradictions are left", left)
	}
	return fmt.Errorf("%d contradictions; with --repair what is proved is mended", left)
}
