package offline

import (
	"context"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/command"
)

// volumeLine is one copy of a volume.
type volumeLine struct {
	Volume  string    `json:"volume"`
	Dir     string    `json:"dir"` // or which fragments were found
	Records uint64    `json:"records"`
	Bytes   int64     `json:"bytes"`
	Torn    int64     `json:"torn_bytes,omitempty"` // behind the last whole record: cut at the next start
	Damaged uint64    `json:"damaged_records,omitempty"`
	Class   uint8     `json:"class"`
	Primary string    `json:"primary"`
	Created time.Time `json:"created"`
	Error   string    `json:"error,omitempty"` // the copy cannot be opened
}

// list shows every copy.
func (s *session) list() command.Command {
	return command.Command{
		Name: "list", Args: "DATA…", Summary: "every volume with its records, bytes and damage",
		Example: "hongyan volume list .hongyan/south-china-1 .hongyan/north-china-1",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			var lines []volumeLine
			err := s.each(ctx, words, func(f found) error {
				line := volumeLine{Volume: f.id.String(), Dir: f.where}
				if f.err != nil {
					line.Error = f.err.Error()
				} else {
					h, st := f.Header(), f.Stats()
					line.Records, line.Bytes, line.Torn, line.Damaged = st.Records, st.Bytes, st.Cut, st.Damaged
					line.Class, line.Primary, line.Created = h.Class, h.Primary, time.Unix(h.Created, 0).UTC()
				}
				lines = append(lines, line)
				return nil
			})
			if err != nil {
				return err
			}
			if s.asJSON {
				return command.PrintJSON(out, lines)
			}
			return printList(out, lines)
		},
	}
}

func printList(out io.Writer, lines []volumeLine) error {
	var rows [][]string
	for _, l := range lines {
		state := "whole"
		switch {
		case l.Error != "":
			state = l.Error
		case l.Damaged > 0:
			state = fmt.Sprintf("%d records damaged", l.Damaged)
		case l.Torn > 0:
			state = fmt.Sprintf("torn tail of %d bytes", l.Torn)
		}
		rows = append(rows, []string{l.Volume, fmt.Sprint(l.Records), fmt.Sprint(l.Bytes), l.Created.Format(time.DateTime), l.Primary, l.Dir, state})
	}
	return command.Table(out, "VOLUME RECORDS BYTES CREATED PRIMARY DIRECTORY STATE", rows)
}
