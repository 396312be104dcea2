package admin

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"hongyan/cluster/command"
)

// volumeRow is a line of the volume table.
type volumeRow struct {
	ID      uint64   `json:"id"`
	State   string   `json:"state"`
	Primary string   `json:"primary"`
	Copies  []string `json:"copies"`
	Class   uint8    `json:"class"`
	Length  int64    `json:"length"`
	Policy  string   `json:"policy"`
}

// volumes lists the volume table.
func (s *session) volumes() command.Command {
	return command.Command{
		Name: "volumes", Args: "[ID…]", Summary: "the volume table: states, copies, lengths",
		Example: "hongyan admin volumes --dir .hongyan\nhongyan admin volumes 000000000000001f --server http://10.0.0.1:8080 --token TOKEN --json",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			var only []uint64
			for _, w := range words {
				id, err := strconv.ParseUint(w, 16, 64)
				if err != nil {
					return command.Usagef("%q is not a volume's id, such as 000000000000001f", w)
				}
				only = append(only, id)
			}
			_, v, err := s.ask(ctx)
			if err != nil {
				return err
			}
			rows := slices.DeleteFunc(v.Volumes, func(r volumeRow) bool { return len(only) > 0 && !slices.Contains(only, r.ID) })
			if len(only) > 0 && len(rows) == 0 {
				return fmt.Errorf("%s has no such volume in its table", v.Node)
			}
			return s.print(out, rows, func() error { return printVolumes(out, rows) })
		},
	}
}

func printVolumes(out io.Writer, list []volumeRow) error {
	var rows [][]string
	for _, r := range list {
		class, length := "small", "-"
		if r.Class != 0 {
			class = "bulk"
		}
		if r.State != "open" {
			length = fmt.Sprint(r.Length)
		}
		rows = append(rows, []string{fmt.Sprintf("%016x", r.ID), r.State, class, length, strings.Join(r.Copies, " "), r.Policy})
	}
	return command.Table(out, "VOLUME STATE CLASS BYTES COPIES POLICY", rows)
}
