package offline

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/checkpoint"
	"hongyan/cluster/command"
	"hongyan/cluster/mailbox"
	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// recordLine is one record as it is shown.
type recordLine struct {
	Record     uint64           `json:"record"`
	Kind       string           `json:"kind"`
	Length     uint64           `json:"length"`
	Sealed     bool             `json:"encrypted"`
	Hash       string           `json:"hash,omitempty"` // SHA-256; of an encrypted record a MAC
	State      string           `json:"state,omitempty"`
	Message    *mailbox.Origin  `json:"message,omitempty"`
	Checkpoint *checkpoint.Meta `json:"checkpoint,omitempty"`
}

// inspected is a volume as it is shown.
type inspected struct {
	Volume     string       `json:"volume"`
	Generation uint32       `json:"generation"`
	Encrypted  bool         `json:"encrypted"`
	Primary    string       `json:"primary"`
	Copies     []string     `json:"copies"`
	Created    time.Time    `json:"created"`
	Bytes      int64        `json:"bytes"`
	Records    []recordLine `json:"records"`
}

func kindName(k volume.Kind) string {
	switch k {
	case volume.KindMessage:
		return "message"
	case volume.KindCheckpoint:
		return "checkpoint"
	case volume.KindDictionary:
		return "dictionary"
	}
	return fmt.Sprint(uint8(k))
}

// inspect shows the records of a volume, or one.
func (s *session) inspect() command.Command {
	return command.Command{
		Name: "inspect", Args: "VOLUME[/RECORD] DATA…", Summary: "the records of a volume, or all that one record says of itself",
		Example: "hongyan volume inspect 1f .hongyan/south-china-1 --master-key .hongyan/master.key\nhongyan volume inspect 1f/12 .hongyan/south-china-1 --json",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) < 2 {
				return command.Usagef("expected VOLUME or VOLUME/RECORD, and data directories")
			}
			t, err := parseTarget(words[0])
			if err != nil {
				return err
			}
			return s.find(ctx, t, words[1:], func(o *opened) error {
				shown := look(o, t.record)
				if s.asJSON {
					return command.PrintJSON(out, shown)
				}
				return printInspected(out, shown)
			})
		},
	}
}

// look reads what a volume says; record 0 means all records.
func look(o *opened, record uint64) *inspected {
	h, st := o.Header(), o.Stats()
	shown := &inspected{Volume: h.ID.String(), Generation: h.Generation, Encrypted: h.Encrypted, Primary: h.Primary, Copies: h.Copies,
		Created: time.Unix(h.Created, 0).UTC(), Bytes: st.Bytes}
	first, last := record, record
	if record == 0 {
		first, last = 1, max(st.Records, h.Records)
	}
	for n := first; n <= last; n++ {
		line, err := lookRecord(o, n)
		if record == 0 && errors.Is(err, volume.ErrNotFound) {
			continue // compacted away
		}
		if err != nil {
			line.State = err.Error()
		}
		shown.Records = append(shown.Records, line)
	}
	return shown
}

func lookRecord(o *opened, n uint64) (recordLine, error) {
	line := recordLine{Record: n}
	info, err := o.Stat(n)
	if err != nil {
		return line, err
	}
	line.Kind, line.Length, line.Sealed, line.Hash = kindName(info.Kind), info.Length, info.Sealed, hex.EncodeToString(info.Hash[:])
	if info, err = o.Get(n); err != nil {
		if errors.Is(err, keys.ErrDestroyed) {
			err = errors.New("erased: its key was destroyed")
		}
		return line, err
	}
	switch info.Kind {
	case volume.KindMessage:
		line.Message = new(mailbox.Origin)
		err = codec.Unmarshal(info.Meta, line.Message)
	case volume.KindCheckpoint:
		var m checkpoint.Meta
		m, err = checkpoint.DecodeMeta(info.Meta)
		line.Checkpoint = &m
	}
	return line, err
}

func printInspected(out io.Writer, v *inspected) error {
	if _, err := fmt.Fprintf(out, "volume %s generation %d, %d bytes, made %s by %s, copies %v, encrypted %v\n",
		v.Volume, v.Generation, v.Bytes, v.Created.Format(time.DateTime), v.Primary, v.Copies, v.Encrypted); err != nil {
		return err
	}
	var rows [][]string
	for _, r := range v.Records {
		what := r.State
		switch {
		case r.Message != nil:
			what = fmt.Sprintf("from <%s> at %s to %v", r.Message.From, time.Unix(r.Message.Date, 0).UTC().Format(time.DateTime), r.Message.Targets)
		case r.Checkpoint != nil:
			what = fmt.Sprintf("shard %d, entry %d, part %d", r.Checkpoint.Shard, r.Checkpoint.Applied, r.Checkpoint.Part)
		}
		rows = append(rows, []string{fmt.Sprint(r.Record), r.Kind, fmt.Sprint(r.Length), what})
	}
	return command.Table(out, "RECORD KIND LENGTH WHAT", rows)
}
