package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"hongyan/cluster/command"
	"hongyan/cluster/recovery"
)

// recoverPoll is how often a recovery is looked at, shownMail how many messages of a shard are printed.
const (
	recoverPoll = 500 * time.Millisecond
	shownMail   = 20
	shownAddr   = 5
)

// recoveryState is the answer of /api/v1/recover.
type recoveryState struct {
	Job  *recovery.Job  `json:"job"`
	Plan *recovery.Plan `json:"plan"`
}

func (s *session) recover() command.Command {
	var lost, shards string
	var yes, settled bool
	return command.Command{
		Name: "recover", Summary: "have shards go on that have lost their majority for ever, from what is left of them; without --yes only say how",
		Flags: "  --lost NODE,…    nodes that never come back with what they had; all voters that do not answer must be named\n" +
			"  --shard N,…      only these shards; all that need it if absent\n" +
			"  --settled        messages that an earlier recovery listed have been seen to: volumes are collected again\n" +
			"  --yes            do it\n",
		Example: "hongyan admin recover --dir .hongyan\nhongyan admin recover --lost north-1,overseas-1 --yes --dir .hongyan",
		Define: func(fs *flag.FlagSet) {
			fs.StringVar(&lost, "lost", "", "")
			fs.StringVar(&shards, "shard", "", "")
			fs.BoolVar(&settled, "settled", false, "")
			fs.BoolVar(&yes, "yes", false, "")
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			if !yes {
				return s.showPlan(ctx, out)
			}
			req, err := recoveryRequest(lost, shards)
			if err != nil {
				return err
			}
			req.Settled = settled
			return s.runRecovery(ctx, req, out)
		},
	}
}

func recoveryRequest(lost, shards string) (req recovery.Request, err error) {
	if req.Lost = splitList(lost); len(req.Lost) == 0 {
		return req, command.Usagef("--yes needs --lost: the nodes that are lost for ever. Without --yes the command says which those have to be")
	}
	for _, word := range splitList(shards) {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return req, command.Usagef("--shard %q: expected numbers with commas between", shards)
		}
		req.Shards = append(req.Shards, uint32(n))
	}
	return req, nil
}

func splitList(v string) []string {
	return strings.FieldsFunc(v, func(c rune) bool { return c == ',' || c == ' ' })
}

func (s *session) showPlan(ctx context.Context, out io.Writer) error {
	var st recoveryState
	if err := s.call(ctx, "GET", "/api/v1/recover", nil, &st); err != nil {
		return err
	}
	return s.print(out, st, func() error {
		if st.Plan == nil {
			_, err := fmt.Fprintf(out, "a recovery is under way: %s\n", st.Job.Step)
			return err
		}
		return printPlan(out, st.Plan)
	})
}

func printPlan(out io.Writer, p *recovery.Plan) error {
	var rows [][]string
	needed := 0
	for _, sh := range p.Shards {
		if sh.State != recovery.Lives {
			needed++
		}
		rows = append(rows, []string{fmt.Sprint(sh.Shard), string(sh.State), sh.Survivor, entryOf(&sh), timeOf(sh.Time), fmt.Sprint(sh.Accounts), sh.Why})
	}
	if err := command.Table(out, "SHARD STATE SURVIVOR LAST-ENTRY OF-TIME ACCOUNTS WHY", rows); err != nil {
		return err
	}
	if needed == 0 {
		_, err := fmt.Fprintln(out, "\nEvery shard has a majority: nothing is to be recovered.")
		return err
	}
	fmt.Fprintln(out, "\nWhat came after a survivor's last entry and only the others had is lost: mail as far as no volume that is left has it, and every flag, move, expunge,")
	fmt.Fprintln(out, "folder and account of that time. Clients download everything again, for UIDVALIDITY changes. Bring a node back instead if that is at all possible.")
	for _, sh := range p.Shards {
		if sh.State != recovery.Lives && len(sh.Addresses) > 0 {
			shown := sh.Addresses[:min(len(sh.Addresses), shownAddr)]
			fmt.Fprintf(out, "shard %d: %d accounts: %s%s\n", sh.Shard, sh.Accounts, strings.Join(shown, " "), map[bool]string{true: " … (--json has more)"}[len(shown) < sh.Accounts])
		}
	}
	others := slices.DeleteFunc(slices.Clone(p.Silent), func(id string) bool { return slices.Contains(p.Lost, id) })
	if len(others) > 0 {
		fmt.Fprintf(out, "\n%s need not be given up, and do not answer: what only their volumes have is not found. Bring them back first, or name them in --lost, too, if they are lost for ever.\n",
			strings.Join(others, ", "))
	}
	if len(p.Lost) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nIf %s never come back with what they had, switch them off for good, and: hongyan admin recover --lost %s --yes\n",
		strings.Join(p.Lost, " and "), strings.Join(p.Lost, ","))
	return err
}

func entryOf(s *recovery.ShardPlan) string {
	if s.Last == 0 {
		return ""
	}
	text := fmt.Sprintf("%d/%d", s.LastTerm, s.Last)
	if s.Short {
		text += " (lacks some)"
	}
	return text
}

func timeOf(at int64) string {
	if at == 0 {
		return ""
	}
	return time.Unix(at, 0).UTC().Format(time.DateTime)
}

// runRecovery begins one and returns when it has ended.
func (s *session) runRecovery(ctx context.Context, req recovery.Request, out io.Writer) error {
	job := new(recovery.Job)
	if err := s.call(ctx, "POST", "/api/v1/recover", req, job); err != nil {
		return err
	}
	started, step := job.Started, ""
	for !job.Done {
		if job.Step != step && !s.asJSON {
			step = job.Step
			fmt.Fprintln(out, step)
		}
		select {
		case <-time.After(recoverPoll):
		case <-ctx.Done():
			return fmt.Errorf("the recovery goes on without being watched: %w", ctx.Err())
		}
		var st recoveryState
		if err := s.call(ctx, "GET", "/api/v1/recover", nil, &st); err != nil {
			return err
		}
		if st.Job == nil || st.Job.Started != started {
			return fmt.Errorf("the node that did it answers no more, or was restarted: give the command again")
		}
		job = st.Job
	}
	if err := s.print(out, job, func() error { return printJob(out, job) }); err != nil {
		return err
	}
	if job.Error != "" {
		return fmt.Errorf("the recovery did not come to its end, give it again: %s", job.Error)
	}
	return nil
}

func printJob(out io.Writer, job *recovery.Job) error {
	var rows [][]string
	for _, sh := range job.Shards {
		rows = append(rows, []string{fmt.Sprint(sh.Shard), sh.Survivor, entryOf(&sh.ShardPlan), timeOf(sh.Time), fmt.Sprint(sh.Entered), fmt.Sprint(sh.Expunged),
			fmt.Sprint(len(sh.Open) + sh.More), sh.Notes})
	}
	if err := command.Table(out, "SHARD SURVIVOR LAST-ENTRY OF-TIME PUT-BACK EXPUNGED OPEN NOTES", rows); err != nil {
		return err
	}
	for _, sh := range job.Shards {
		for i, m := range sh.Open {
			if i == shownMail {
				fmt.Fprintf(out, "shard %d: … (--json has more)\n", sh.Shard)
				break
			}
			fmt.Fprintf(out, "shard %d: account %d, %s, arrived %s, in %s/%d: %s\n", sh.Shard, m.Account, m.Mailbox, timeOf(m.Arrived), m.Volume, m.Record, m.Why)
		}
	}
	if job.Entered > 0 {
		fmt.Fprintf(out, "%d volumes were entered that the directory did not know.\n", job.Entered)
	}
	if len(job.Bytes) > 0 {
		fmt.Fprintf(out, "Of %d volumes no copy is left: their messages are listed and cannot be read: %v\n", len(job.Bytes), job.Bytes)
	}
	if slices.ContainsFunc(job.Shards, func(sh recovery.ShardResult) bool { return len(sh.Open) > 0 }) {
		fmt.Fprintln(out, "Of the messages above it is not certain that they were never in a folder: `hongyan volume dump` gives their bytes. Nothing is collected until you say --settled.")
	}
	if job.Notes != "" {
		fmt.Fprintln(out, job.Notes)
	}
	if job.Notes != "" || slices.ContainsFunc(job.Shards, func(sh recovery.ShardResult) bool { return sh.Notes != "" }) {
		fmt.Fprintln(out, "Not everything was looked through. Bring back what is named, and give the command again; or say --settled if that is lost, too. Nothing is collected until then.")
	}
	if job.Error == "" {
		text := "Recovered."
		if len(job.Lost) > 0 {
			text += " " + strings.Join(job.Lost, ", ") + " are given up: empty their disks, or let other nodes join."
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
	return nil
}
