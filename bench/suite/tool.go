package suite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hongyan/bench/history"
	"hongyan/bench/report"
	"hongyan/bench/scenario"
	"hongyan/cluster/command"
)

// Run executes `hongyan bench ARGS`.
func (s *Suite) Run(ctx context.Context, args []string) error {
	var f flags
	tool := command.Tool{Name: "bench", Summary: "Measures a mail server, ours or another, and drills a cluster of ours. Exit status 0 only when every objective that was checked holds."}
	all := scenario.All()
	for _, sc := range all {
		tool.Commands = append(tool.Commands, f.command(sc.Name, sc.Summary, func(ctx context.Context) error { return s.measure(ctx, &f, sc.Name, []scenario.Scenario{sc}) }))
	}
	tool.Commands = append(tool.Commands,
		f.command("all", "every scenario in turn", func(ctx context.Context) error { return s.measure(ctx, &f, "all", all) }),
		command.Command{
			Name: "compare", Args: "A B", Summary: "two reports: ratios, and which differences exceed the noise; exit status 1 when something became worse",
			Flags: compareFlags, Example: "hongyan bench compare before/report.json after/report.json", Define: f.defineCompare,
			Run: func(_ context.Context, words []string, out io.Writer) error { return f.compare(words, out) },
		},
		command.Command{
			Name: "check", Args: "FILE", Summary: "holds a saved history against the rules again",
			Example: "hongyan bench check hongyan-bench/history-chaos.jsonl",
			Run:     func(ctx context.Context, words []string, out io.Writer) error { return check(ctx, words, out) },
		},
		command.Command{
			Name: "render", Args: "FILE", Summary: "makes report.md and report.html of a report.json again",
			Example: "hongyan bench render hongyan-bench/report.json",
			Run:     func(_ context.Context, words []string, out io.Writer) error { return render(words, out) },
		},
	)
	return tool.Run(ctx, args, s.Out)
}

// command is one that takes the flags of every scenario and no words.
func (f *flags) command(name, summary string, run func(context.Context) error) command.Command {
	help := scenarioFlags
	if name == "capacity" || name == "all" {
		help += scenario.PlanningFlags
	}
	return command.Command{
		Name: name, Summary: summary, Flags: help, Example: "hongyan bench " + name + " --report out\nhongyan bench " + name + " --dir .hongyan --report out",
		Define: f.define,
		Run: func(ctx context.Context, words []string, _ io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			return run(ctx)
		},
	}
}

const compareFlags = `  --out FOLDER         writes comparison.md and comparison.html there too
`

func (f *flags) defineCompare(fs *flag.FlagSet) { fs.StringVar(&f.out, "out", "", "") }

func (f *flags) compare(words []string, out io.Writer) error {
	if len(words) != 2 {
		return command.Usagef("expected two reports")
	}
	a, err := report.Read(words[0])
	if err != nil {
		return err
	}
	b, err := report.Read(words[1])
	if err != nil {
		return err
	}
	c := report.Compare(a, b)
	if _, err := fmt.Fprint(out, c.Text()); err != nil {
		return fmt.Errorf("print comparison: %w", err)
	}
	if f.out != "" {
		if err := c.Write(f.out); err != nil {
			return err
		}
	}
	if c.Worse() {
		return fmt.Errorf("%s is worse than %s beyond the noise", words[1], words[0])
	}
	return nil
}

func check(ctx context.Context, words []string, out io.Writer) (err error) {
	if len(words) != 1 {
		return command.Usagef("expected one file")
	}
	file, err := os.Open(words[0])
	if err != nil {
		return fmt.Errorf("open history: %w", err)
	}
	h, err := history.Load(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read history %s: %w", words[0], err)
	}
	found := h.Check(ctx, history.CheckOptions{})
	for _, v := range found {
		if _, err := fmt.Fprintln(out, v.String()); err != nil {
			return fmt.Errorf("print violation: %w", err)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%d rules are broken in %d operations", len(found), h.Len())
	}
	_, err = fmt.Fprintf(out, "%d operations on %d mailboxes, %d messages owed: every rule holds\n", h.Len(), len(h.Mailboxes()), h.Acknowledged())
	return err
}

func render(words []string, out io.Writer) error {
	if len(words) != 1 {
		return command.Usagef("expected one report")
	}
	r, err := report.Read(words[0])
	if err != nil {
		return err
	}
	dir := words[0]
	if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
		dir = filepath.Dir(dir)
	}
	if err := report.Write(dir, r); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", filepath.Join(dir, "report.html"))
	return err
}
