// Package command is what the tools on the command line have in common: commands with flags and help, mistakes in how they
// are called, tables and JSON.
//
// A tool is a list of commands, each a word or two. Flags stand before, between and after a command's words. Every command has
// --help, with an example. The package keeps no state.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// UsageError is a mistake in how a command was called: exit status 2.
type UsageError struct{ Err error }

func (u UsageError) Error() string { return u.Err.Error() }
func (u UsageError) Unwrap() error { return u.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Parse takes flags before, between and after the words of a command, and gives the words. No flag is called by a number, so -10m is a word.
func Parse(fs *flag.FlagSet, args []string) (words []string, err error) {
	fs.SetOutput(io.Discard)
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			if at := len(args) - len(fs.Args()) - 1; isNumber(args[at]) && err.Error() == "flag provided but not defined: "+args[at] {
				words, args = append(words, args[at]), fs.Args()
				continue
			}
			return nil, UsageError{fmt.Errorf("%s: %w; see `hongyan help`", fs.Name(), err)}
		}
		if args = fs.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	return words, nil
}

func isNumber(word string) bool {
	return len(word) > 1 && word[0] == '-' && word[1] >= '0' && word[1] <= '9'
}

// Command is one of a tool's.
type Command struct {
	Name    string              // one word or two, such as "volumes" or "keys rotate"
	Args    string              // what follows, for the help: "ID…"
	Summary string              // one line
	Flags   string              // the help of its flags, one a line, without those of the tool
	Example string              // one or more whole command lines
	Define  func(*flag.FlagSet) // adds its flags; may be nil
	// Run gets the words behind the name.
	Run func(ctx context.Context, words []string, out io.Writer) error
}

// Tool is a word of hongyan's with commands of its own.
type Tool struct {
	Name     string // "admin"
	Summary  string // a line or a few
	Flags    string // the help of the flags that all commands have
	Define   func(*flag.FlagSet)
	Commands []Command
}

// Run executes the command that args name.
func (t *Tool) Run(ctx context.Context, args []string, out io.Writer) error {
	early := t.flags(t.Name, nil)
	early.SetOutput(io.Discard)
	err := early.Parse(args) // stops at the first word
	if args = early.Args(); errors.Is(err, flag.ErrHelp) || err == nil && (len(args) == 0 || args[0] == "help") {
		return t.help(out)
	}
	if err != nil {
		return Usagef("%s: %w; see `hongyan %s help`", t.Name, err, t.Name)
	}
	c, rest := t.find(args)
	if c == nil {
		return Usagef("%s: unknown command %q; see `hongyan %s help`", t.Name, args[0], t.Name)
	}
	name := t.Name + " " + c.Name
	words, err := Parse(t.flags(name, c), rest)
	if errors.Is(err, flag.ErrHelp) {
		return t.helpOf(c, out)
	}
	if err != nil {
		return err
	}
	if err := c.Run(ctx, words, out); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// flags are the tool's and, unless c is nil, the command's.
func (t *Tool) flags(name string, c *Command) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	if t.Define != nil {
		t.Define(fs)
	}
	if c != nil && c.Define != nil {
		c.Define(fs)
	}
	return fs
}

// find gives the command whose name args begin with, the longest if there are several.
func (t *Tool) find(args []string) (found *Command, rest []string) {
	for i := range t.Commands {
		c := &t.Commands[i]
		name := strings.Fields(c.Name)
		if len(args) >= len(name) && slices.Equal(args[:len(name)], name) && (found == nil || len(c.Name) > len(found.Name)) {
			found, rest = c, args[len(name):]
		}
	}
	return found, rest
}

func (t *Tool) help(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n\n", t.Summary)
	for _, c := range t.Commands {
		fmt.Fprintf(w, "  hongyan %s %s\t%s\n", t.Name, strings.TrimSpace(c.Name+" "+c.Args), c.Summary)
	}
	fmt.Fprintf(w, "\nFlags of every command:\n%s\nMore about one: hongyan %s COMMAND --help\n", t.Flags, t.Name)
	return w.Flush()
}

func (t *Tool) helpOf(c *Command, out io.Writer) error {
	_, err := fmt.Fprintf(out, "hongyan %s %s\n\n%s\n\nFlags:\n%s%s\nExample:\n", t.Name, strings.TrimSpace(c.Name+" "+c.Args), c.Summary, c.Flags, t.Flags)
	for line := range strings.Lines(c.Example) {
		if err == nil {
			_, err = fmt.Fprintf(out, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return err
}

// PrintJSON writes v with a line of its own for each field.
func PrintJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Table writes rows under a heading, in columns.
func Table(out io.Writer, heading string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(strings.Fields(heading), "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
