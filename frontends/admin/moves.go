package admin

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"hongyan/cluster/command"
	"hongyan/cluster/relocate"
)

// movePoll is how often moves are looked at by who waits for them.
const movePoll = time.Second

func (s *session) moveAccounts() command.Command {
	var in relocate.Order
	var file string
	var wait bool
	return command.Command{
		Name: "account move", Args: "[ADDRESS…]", Summary: "move accounts to another home region or shard, while they are in use",
		Flags: "  --file FILE      addresses, one a line; - is standard input\n" +
			"  --domain DOMAIN  all accounts of a domain\n" +
			"  --from N         all accounts of a shard\n" +
			"  --home REGION    to the least filled shards of a region\n" +
			"  --shard N        to a shard\n" +
			"  --wait           return when none moves any more\n",
		Example: "hongyan admin account move --domain example.cn --home north-china --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			fs.StringVar(&file, "file", file, "")
			fs.StringVar(&in.Domain, "domain", in.Domain, "")
			fs.Func("from", "", shardNumber(&in.From))
			fs.StringVar(&in.Home, "home", in.Home, "")
			fs.Func("shard", "", shardNumber(&in.Shard))
			fs.BoolVar(&wait, "wait", wait, "")
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			in.Addresses = words
			if file != "" {
				lines, err := readLines(file)
				if err != nil {
					return err
				}
				in.Addresses = append(in.Addresses, lines...)
			}
			if (in.Shard == 0) == (in.Home == "") {
				return command.Usagef("expected either --home or --shard")
			}
			var reply struct {
				Planned uint64 `json:"planned"`
			}
			if err := s.call(ctx, "POST", "/api/v1/moves", in, &reply); err != nil {
				return err
			}
			if wait {
				if err := s.awaitMoves(ctx); err != nil {
					return err
				}
			}
			return s.print(out, reply, func() error {
				text := "accounts are to move; the others are there or on their way: `hongyan admin account moves` says how far they are"
				if wait {
					text = "accounts have moved"
				}
				_, err := fmt.Fprintf(out, "%d %s\n", reply.Planned, text)
				return err
			})
		},
	}
}

// shardNumber reads the number of a mailbox shard.
func shardNumber(to *uint32) func(v string) error {
	return func(v string) error {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n == 0 {
			return errors.New("expected the number of a shard, 1 or more")
		}
		*to = uint32(n)
		return nil
	}
}

// maxLines bounds a file of addresses.
const maxLines = 1_000_000

func readLines(path string) (lines []string, err error) {
	in := os.Stdin
	if path != "-" {
		if in, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("read addresses: %w", err)
		}
		defer in.Close()
	}
	for sc := bufio.NewScanner(in); ; {
		if !sc.Scan() {
			return lines, sc.Err()
		}
		if line := strings.TrimSpace(sc.Text()); line != "" {
			lines = append(lines, line)
		}
		if len(lines) > maxLines {
			return nil, fmt.Errorf("%s has more than %d addresses", path, maxLines)
		}
	}
}

func (s *session) awaitMoves(ctx context.Context) error {
	for {
		var st relocate.Status
		if err := s.call(ctx, "GET", "/api/v1/moves", nil, &st); err != nil {
			return err
		}
		if st.Waiting == 0 {
			return nil
		}
		if st.Paused {
			return fmt.Errorf("%d accounts are still to move, and placement is paused", st.Waiting)
		}
		select {
		case <-time.After(movePoll):
		case <-ctx.Done():
			return fmt.Errorf("%d accounts are still to move: %w", st.Waiting, ctx.Err())
		}
	}
}

func (s *session) moves() command.Command {
	return ask(s, "account moves", "the accounts that are on their way to another shard, and how many accounts each shard has", "GET", "/api/v1/moves", nil, printMoves)
}

func printMoves(out io.Writer, st *relocate.Status) error {
	var rows [][]string
	for _, sh := range st.Shards {
		state := ""
		if sh.Founding {
			state = "is being founded"
		}
		rows = append(rows, []string{fmt.Sprint(sh.Number), sh.Home, fmt.Sprint(sh.Accounts), state})
	}
	if err := command.Table(out, "SHARD HOME ACCOUNTS STATE", rows); err != nil {
		return err
	}
	if st.Paused {
		fmt.Fprintln(out, "paused: no move is begun until `hongyan admin placement resume`")
	}
	fmt.Fprintf(out, "%d accounts are to move\n", st.Waiting)
	if st.Waiting == 0 {
		return nil
	}
	rows = nil
	for _, m := range st.Moves {
		rows = append(rows, []string{m.Address, fmt.Sprint(m.From), fmt.Sprint(m.To), m.Home, moveState(&m), m.Failure})
	}
	if st.Waiting > len(st.Moves) {
		rows = append(rows, []string{"…", "", "", "", "", ""})
	}
	return command.Table(out, "ACCOUNT FROM TO HOME STATE LAST-FAILURE", rows)
}

func moveState(m *relocate.Move) string {
	switch {
	case m.Moved:
		return "moved, tidying up"
	case m.Cancel:
		return "canceled"
	case m.Fence > 0:
		return "moves"
	}
	return "waits"
}

func (s *session) cancelMoves() command.Command {
	return command.Command{
		Name: "account stay", Args: "[ADDRESS…]", Summary: "call off moves of accounts, all if none is named",
		Example: "hongyan admin account stay --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			var reply struct {
				Canceled uint64 `json:"canceled"`
			}
			body := map[string][]string{"addresses": words}
			if err := s.call(ctx, "POST", "/api/v1/moves/cancel", body, &reply); err != nil {
				return err
			}
			return s.print(out, reply, func() error {
				_, err := fmt.Fprintf(out, "%d moves are called off, unless they come to their end this moment\n", reply.Canceled)
				return err
			})
		},
	}
}

func (s *session) addShard() command.Command {
	var home string
	return command.Command{
		Name: "shard add", Summary: "add a mailbox shard at home in a region",
		Flags:   "  --home REGION    whose nodes lead it\n",
		Example: "hongyan admin shard add --home south-china --dir .hongyan",
		Define:  func(fs *flag.FlagSet) { fs.StringVar(&home, "home", home, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 || home == "" {
				return command.Usagef("expected --home REGION and nothing else")
			}
			var reply struct {
				Number uint32 `json:"number"`
			}
			if err := s.call(ctx, "POST", "/api/v1/shards", map[string]string{"home": home}, &reply); err != nil {
				return err
			}
			return s.print(out, reply, func() error {
				_, err := fmt.Fprintf(out, "shard %d is being founded; new accounts of %s come to it, others by `hongyan admin account move`\n", reply.Number, home)
				return err
			})
		},
	}
}
